"""Alert rules, dashboard and the page about them speak of metrics that there are, and of all of them."""

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from uniqdb_cli.metrics import ALWAYS, CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
METRICS = {metric.name: metric for metric in (*ALWAYS, *CATALOGUE)}
OF_THE_PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total"}
DURATION = re.compile(r"(\d+(ms|[smhdwy]))+")


def rules() -> list[dict[str, Any]]:
    return yaml.safe_load(RULES.read_text("utf-8"))["groups"][0]["rules"]


def metrics_in(text: str) -> set[str]:
    """Names in an expression; of a histogram without the end of a sample."""
    found = set()
    for name in re.findall(r"\b(?:uniqdb|process)_[a-z_]+\b", text):
        base = re.sub("_(bucket|count|sum)$", "", name)
        found.add(base if base in METRICS and METRICS[base].kind == "histogram" else name)
    return found


def labels_in(text: str) -> set[str]:
    return set(re.findall(r"([a-z_]+)(?:=~|!~|!=|=)\"", text))


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_is_whole_and_speaks_of_metrics_that_there_are(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch("Uniqdb[A-Za-z]+", rule["alert"])
    assert "for" not in rule or DURATION.fullmatch(rule["for"])
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description"}
    assert all(isinstance(words, str) for words in rule["annotations"].values())
    assert metrics_in(rule["expr"]) <= METRICS.keys()
    assert metrics_in(rule["expr"]) or rule["alert"] == "UniqdbDown"
    assert labels_in(rule["expr"]) <= {"verdict", "job"}
    for opening, closing in ("()", "[]", "{}"):
        assert rule["expr"].count(opening) == rule["expr"].count(closing)


def test_the_rules_are_those_that_are_needed() -> None:
    assert list(yaml.safe_load(RULES.read_text("utf-8"))) == ["groups"]
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    spoken_of = set().union(*(metrics_in(rule["expr"]) for rule in rules()))
    assert {
        "uniqdb_lag_records",
        "uniqdb_clock_timestamp_seconds",
        "uniqdb_records_total",
        "uniqdb_outbox_age_seconds",
        "uniqdb_store_disk_free_bytes",
        "uniqdb_store_ordinals_used_ratio",
    } <= spoken_of
    assert next(rule for rule in rules() if rule["alert"] == "UniqdbOrdinals")["expr"].endswith("> 0.8")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_what_its_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "tools" / "grafana_dashboard.py"))
    assert script["PAGE"].read_text("utf-8") == script["text"](), "run tools/grafana_dashboard.py"


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    found = json.loads((ROOT / "deploy" / "grafana" / "uniqdb.json").read_text("utf-8"))
    panels = [one for one in found["panels"] if one["type"] != "row"]
    shown = set().union(*(metrics_in(target["expr"]) for one in panels for target in one["targets"]))
    assert shown <= METRICS.keys() | OF_THE_PROCESS
    assert len(shown) > 25
    assert len({one["id"] for one in found["panels"]}) == len(found["panels"])
    for one in panels:
        for target in one["targets"]:
            labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            known = set().union(*(METRICS[name].labels for name in metrics_in(target["expr"]) if name in METRICS))
            assert labels <= known
            assert '{instance="$instance"}' in target["expr"]


def test_the_page_explains_every_metric() -> None:
    text = (ROOT / "docs" / "operating.md").read_text("utf-8")
    rows = re.findall(r"^\| `(uniqdb_[a-z_]+)(?:{([a-z,]+)})?` \| (\w+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    found = {name: (kind, tuple(labels.split(",")) if labels else ()) for name, labels, kind, _, _ in rows}
    assert found == {name: (metric.kind, metric.labels) for name, metric in METRICS.items()}
    assert metrics_in(text) - METRICS.keys() <= OF_THE_PROCESS | {"process_start_time_seconds"}
    for rule in rules():
        assert f"`{rule['alert']}`" in text


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_names_follow_the_customs_of_prometheus(metric: Any) -> None:
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert (metric.latencies is not None) == (metric.kind == "histogram")
    assert metric.kind != "histogram" or metric.name.endswith("_seconds")
    assert metric.meaning
    assert not metric.meaning.endswith(".")
