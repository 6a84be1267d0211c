"""Write deploy/grafana/uniqdb.json, the dashboard of a running service.

Run it when metrics change: `.venv/bin/python tools/grafana_dashboard.py`. A test compares the file with what this says.
"""

import json
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "uniqdb.json"
WIDTH, HEIGHT, PER_ROW = 8, 7, 3
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WHERE = '{instance="$instance"}'

Query = tuple[str, str]
"""A PromQL expression, in which @ stands for the chosen instance, and the name of its line."""


def quantile(name: str, part: float) -> Query:
    return f"histogram_quantile({part}, sum by (le) (rate({name}_bucket@[5m])))", f"{part:.0%}"


ROWS: dict[str, list[tuple[str, str, list[Query]]]] = {
    "Now": [
        ("Records by what became of them", "ops", [("rate(uniqdb_records_total@[1m]) > 0", "{{verdict}}")]),
        (
            "Lag",
            "short",
            [("uniqdb_lag_records@", "all"), ("uniqdb_partition_lag_records@", "partition {{partition}}")],
        ),
        ("Behind the time", "s", [("uniqdb_lag_seconds@", "event time"), ("uniqdb_outbox_age_seconds@", "outbox")]),
    ],
    "Time": [
        (
            "Clocks",
            "dateTimeAsIso",
            [
                ("uniqdb_clock_timestamp_seconds@ * 1000", "store"),
                ("uniqdb_partition_clock_timestamp_seconds@ * 1000", "partition {{partition}}"),
            ],
        ),
        (
            "End of the last closed bucket",
            "dateTimeAsIso",
            [("uniqdb_last_final_end_timestamp_seconds@ * 1000", "{{granularity}}")],
        ),
        ("Open buckets", "short", [("uniqdb_open_buckets@", "{{granularity}}")]),
    ],
    "Latency": [
        (
            "Commits",
            "s",
            [quantile("uniqdb_commit_seconds", 0.5), quantile("uniqdb_commit_seconds", 0.99)],
        ),
        (
            "Transactions to Kafka",
            "s",
            [quantile("uniqdb_publish_seconds", 0.5), quantile("uniqdb_publish_seconds", 0.99)],
        ),
        (
            "Commits and published records",
            "ops",
            [
                ("rate(uniqdb_commit_seconds_count@[1m])", "commits"),
                ("rate(uniqdb_published_records_total@[1m])", "records"),
                ("rate(uniqdb_publish_failures_total@[1m])", "failures"),
            ],
        ),
    ],
    "What is wrong": [
        (
            "Late and skipped visits",
            "ops",
            [
                ("rate(uniqdb_visits_late_total@[5m])", "late, {{granularity}}"),
                ("rate(uniqdb_visits_skipped_total@[5m]) > 0", "skipped, {{granularity}}"),
            ],
        ),
        ("Quarantine", "short", [("uniqdb_quarantine_rows@", "rows"), ("uniqdb_held_visits@", "held")]),
        (
            "Waiting, and given up",
            "short",
            [("uniqdb_outbox_rows@", "outbox"), ("uniqdb_due_windows@", "due windows"), ("uniqdb_gaps@", "gaps")],
        ),
    ],
    "Store": [
        (
            "Bytes",
            "bytes",
            [
                ("uniqdb_store_file_bytes@", "file"),
                ("uniqdb_store_live_bytes@", "live"),
                ("uniqdb_store_disk_free_bytes@", "free on the disk"),
            ],
        ),
        ("Visitors", "short", [("uniqdb_store_uids@", "different visitors"), ("uniqdb_store_visits@", "visits")]),
        ("Ordinals used", "percentunit", [("uniqdb_store_ordinals_used_ratio@", "of 2^32")]),
    ],
    "Process": [
        ("Memory", "bytes", [("process_resident_memory_bytes@", "resident")]),
        ("Processor", "percentunit", [("rate(process_cpu_seconds_total@[1m])", "of one")]),
        (
            "Loop and Kafka",
            "short",
            [
                ("uniqdb_loop_age_seconds@", "seconds since the loop turned"),
                ("uniqdb_kafka_up@", "Kafka answers"),
                ("uniqdb_waits_for_room@", "waits for room"),
            ],
        ),
    ],
}


def panel(number: int, where: tuple[int, int], what: tuple[str, str, list[Query]]) -> dict[str, Any]:
    title, unit, queries = what
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"x": where[0], "y": where[1], "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": unit, "custom": {"fillOpacity": 8, "showPoints": "never"}},
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": expression.replace("@", WHERE),
                "legendFormat": name,
            }
            for index, (expression, name) in enumerate(queries)
        ],
    }


def variable(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "label": name, "refresh": 1, **more}


def dashboard() -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        place = {"x": 0, "y": y, "w": WIDTH * PER_ROW, "h": 1}
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": place})
        for column, what in enumerate(row):
            panels.append(panel(len(panels) + 1, (column * WIDTH, y + 1), what))
        y += 1 + HEIGHT
    query = "label_values(uniqdb_build_info, instance)"
    return {
        "uid": "uniqdb",
        "title": "uniqdb",
        "tags": ["uniqdb"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                variable("datasource", type="datasource", query="prometheus"),
                variable("instance", type="query", datasource=SOURCE, query=query),
            ]
        },
        "panels": panels,
    }


def text() -> str:
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text(), "utf-8")
