"""What belongs to the Flink job fits together: statements, pins, and the files for a cluster, which no test can run."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from flink_job import CONNECTOR_JAR, FLINK_VERSION, GRANULARITIES, Job, local_config

from uniqdb.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
FLINK = ROOT / "flink"
RUNNER = "org.apache.flink.table.runtime.application.SqlDriver"
SCRIPT = "file:///opt/flink/sql/visits.sql"
TYPES: dict[str, type | tuple[type, ...]] = {
    **{"string": str, "integer": int, "boolean": bool, "object": dict, "array": list},
    "number": (int, float),
}


def columns(sql: str, table: str) -> list[str]:
    """The columns of a table, with their types, in order."""
    found = re.search(rf"CREATE TEMPORARY TABLE {table} \((.*?)\n\) WITH", sql, re.DOTALL)
    assert found is not None
    return [line.strip().replace("`", "").rstrip(",") for line in found[1].strip().splitlines()]


def faults(rule: dict[str, Any], value: Any, place: str = "spec") -> list[str]:
    """What is wrong with a value, by those words of an OpenAPI schema that the definition has."""
    if not isinstance(value, TYPES.get(rule.get("type", ""), object)):
        return [f"{place} is no {rule['type']}"]
    if value not in rule.get("enum", [value]):
        return [f"{place} cannot be {value}"]
    if isinstance(value, list) and "items" in rule:
        return [one for index, item in enumerate(value) for one in faults(rule["items"], item, f"{place}[{index}]")]
    found = []
    if isinstance(value, dict) and "properties" in rule:
        found = [f"{place}.{name} is not known" for name in value if name not in rule["properties"]]
        for name, inner in rule["properties"].items():
            found += faults(inner, value[name], f"{place}.{name}") if name in value else []
    return found


def test_the_statements_have_the_parameters_and_nothing_of_the_template() -> None:
    job = Job("a:1,b:2", "clicks", "per-", "America/Argentina/Buenos_Aires", True, 60, 3, 7)
    sql = job.sql()
    assert "$" not in sql
    for part in (
        *("'topic' = 'clicks'", "'properties.bootstrap.servers' = 'a:1,b:2'", "'scan.bounded.mode' = 'latest-offset'"),
        *("SET 'table.local-time-zone' = 'America/Argentina/Buenos_Aires'", "arrived_at) + 60\n", "'3 d'"),
        *("'topic' = 'per-minute;per-hour;per-day;per-week;per-month;per-year'", "CAST(7 AS BIGINT)"),
    ):
        assert part in sql, part
    for one in GRANULARITIES:
        assert f"'{one}|America/Argentina/Buenos_Aires'" in sql
    assert "'scan.bounded.mode' = 'unbounded'" in Job().sql()


@pytest.mark.parametrize(
    "job",
    [
        *(Job(timezone="Mars/Base"), Job(timezone="../../etc/passwd"), Job(input_topic="a'b"), Job(brokers="a;b")),
        *(Job(output_prefix=""), Job(brokers="$x"), Job(timezone="Europe/Berlin'--")),
    ],
)
def test_a_parameter_that_could_end_its_text_is_refused(job: Job) -> None:
    with pytest.raises(UsageError):
        job.sql()


def test_the_records_have_the_fields_of_the_schema() -> None:
    schema = json.loads((ROOT / "docs" / "record.schema.json").read_text("utf-8"))
    lines = columns(Job().sql(), "counts")
    values = {
        line.split()[0]: line.split()[1] for line in lines if not line.startswith(("topic ", "key_", "PRIMARY KEY"))
    }
    kinds = {"string": "STRING", "integer": "BIGINT", "boolean": "BOOLEAN"}
    assert values == {name: kinds[schema["properties"][name]["type"]] for name in schema["required"]}
    assert "PRIMARY KEY (key_bucket, key_start) NOT ENFORCED" in lines


def test_pins_are_sorted_and_whole() -> None:
    lines = (FLINK / "flink_jars.txt").read_text("utf-8").splitlines()
    assert all(re.fullmatch(r"[0-9a-f]{64}  [\w.-]+\.jar", line) for line in lines)
    names = [line.split()[1] for line in lines]
    assert names == sorted(names)
    assert CONNECTOR_JAR in names
    versions = {name.rpartition("-")[2] for name in names if name.startswith(("flink-table", "flink-runtime"))}
    assert versions == {f"{FLINK_VERSION}.jar"}


def test_a_local_cluster_shows_failures_and_keeps_its_files_together(tmp_path: Path) -> None:
    settings = yaml.safe_load(local_config(tmp_path, 2, tmp_path / "checkpoints"))
    assert settings["parallelism.default"] == "2"
    assert settings["restart-strategy.type"] == "none"
    assert settings["io.tmp.dirs"] == str(tmp_path)
    assert settings["execution.checkpointing.storage"] == "filesystem"
    assert settings["execution.checkpointing.dir"] == (tmp_path / "checkpoints").as_uri()
    assert not any("checkpointing" in name for name in yaml.safe_load(local_config(tmp_path, 1, None)))


def test_the_deployment_fits_the_operator() -> None:
    made = yaml.safe_load((FLINK / "flink-deployment.yaml").read_text("utf-8"))
    assert (made["apiVersion"], made["kind"]) == ("flink.apache.org/v1beta1", "FlinkDeployment")
    spec = made["spec"]
    rule = json.loads((ROOT / "tests/unit/flink_deployment.schema.json").read_text("utf-8"))
    assert faults(rule, spec) == []
    assert all(isinstance(value, str) for value in spec["flinkConfiguration"].values())
    assert spec["flinkVersion"] == "v" + "_".join(FLINK_VERSION.split(".")[:2])
    assert spec["image"].endswith(f":{FLINK_VERSION}")
    job = spec["job"]
    assert (job["entryClass"], job["args"]) == (RUNNER, ["--scriptUri", SCRIPT])
    assert job["jarURI"] == f"local:///opt/flink/opt/flink-sql-gateway-{FLINK_VERSION}.jar"
    slots = int(spec["flinkConfiguration"]["taskmanager.numberOfTaskSlots"])
    assert job["parallelism"] % slots == 0
    # What these rules find.
    assert faults(rule, {**spec, "flinkVersion": "v9_9"}) == ["spec.flinkVersion cannot be v9_9"]
    assert faults(rule, {**spec, "job": {**job, "parallelism": "4"}}) == ["spec.job.parallelism is no integer"]
    assert faults(rule, {"taskmanager": {}}) == ["spec.taskmanager is not known"]
    assert faults(rule, {"job": {"args": [1]}}) == ["spec.job.args[0] is no string"]


def test_the_compose_file_fits_the_other_one() -> None:
    ours = yaml.safe_load((FLINK / "docker-compose.yml").read_text("utf-8"))["services"]
    theirs = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    assert not ours.keys() & theirs.keys()
    for service in ours.values():
        assert set(service.get("depends_on", ())) <= ours.keys() | theirs.keys()
    assert ours["flink-topics"]["environment"] == theirs["topic"]["environment"]
    command = ours["jobmanager"]["command"]
    assert command == ["standalone-job", "--job-classname", RUNNER, "--scriptUri", SCRIPT]
    script = ours["flink-topics"]["command"][0]
    made = [f"{prefix}{one}" for prefix in re.findall(r"(\w+_)\$\$one", script) for one in GRANULARITIES]
    assert made == Job().output_topics()
    settings = yaml.safe_load(ours["taskmanager"]["environment"]["FLINK_PROPERTIES"])
    assert settings["jobmanager.rpc.address"] in ours
    assert int(settings["taskmanager.numberOfTaskSlots"]) >= int(settings["parallelism.default"])


def test_compose_itself_takes_both_files() -> None:
    program = shutil.which("docker")
    if program is None or subprocess.run([program, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker compose here")
    files = ["-f", "docker-compose.yml", "-f", "flink/docker-compose.yml"]
    checked = subprocess.run(
        [program, "compose", *files, "config", "--quiet"], cwd=ROOT, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_the_image_has_what_the_files_name() -> None:
    text = (FLINK / "Dockerfile").read_text("utf-8")
    assert f"FROM flink:{FLINK_VERSION}-java" in text
    assert SCRIPT.removeprefix("file://") in text
    assert "/opt/flink/lib/" in text
