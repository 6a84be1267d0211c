"""Every metric of a running service says what is so: under load, with bad records, behind its topic, without Kafka."""

import json
import re
import sys
import time
from pathlib import Path

import pytest

from cli.terminal import on_a_terminal
from kafka.cluster import Cluster
from kafka.scraping import Values, scraped
from kafka.serving import DYING, SERVE_STREAM, Served, line
from uniqdb.outbox import TRAILING_DAYS
from uniqdb_cli.metrics import ALWAYS, CATALOGUE

T = 1_468_244_340
DAY_S = 86_400
BAD = {
    "malformed": b"{",
    "not_an_object": b"[]",
    "no_ts": b'{"uid":"a"}',
    "no_uid": b'{"ts":1468244340}',
    "bad_ts": line("noon", "a"),
    "bad_uid": line(T, ["a"]),
    "no_value": None,
    "too_long": line(T, "a", more="x" * 70_000),
    "implausible": line(10**12, "a"),
}


@pytest.fixture
def served(cluster: Cluster, topic: str, tmp_path: Path) -> Served:
    return Served(cluster, topic, tmp_path)


def sample_names(found: Values) -> set[str]:
    return {re.sub("_(bucket|count|sum)$", "", name) for name in found if name.startswith("uniqdb_")}


def test_load_and_bad_records(served: Served) -> None:
    served.cluster.create(served.topic)
    served.cluster.write(served.topic, [line(T + number, f"u{number % 50}") for number in range(1_000)])
    began_at_s = time.time()
    with scraped(served) as service:
        service.until("uniqdb_records_total", lambda seen: seen == 1_000, "accepted")
        # Hours and coarser ones may be held back for ten seconds; the open minute is not published at all.
        service.until("uniqdb_published_records_total", lambda seen: seen >= 16)
        first = service.until("uniqdb_outbox_rows", lambda seen: seen == 1)
        assert sample_names(first) == {metric.name for metric in (*ALWAYS, *CATALOGUE)}
        counted = {name: values[()] for name, values in first.items() if () in values}
        assert counted["uniqdb_records_read_total"] == counted["uniqdb_store_visits"] == 1_000
        assert counted["uniqdb_store_uids"] == 50
        assert counted["uniqdb_store_ordinals_used_ratio"] == pytest.approx(50 / 2**32)
        assert counted["uniqdb_lag_records"] == first["uniqdb_partition_lag_records"]["0",] == 0
        assert (counted["uniqdb_kafka_up"], counted["uniqdb_reading_history"], counted["uniqdb_gaps"]) == (1, 0, 0)
        clock_s = counted["uniqdb_clock_timestamp_seconds"]
        assert T + 970 < clock_s == first["uniqdb_partition_clock_timestamp_seconds"]["0",] <= T + 999
        assert counted["uniqdb_lag_seconds"] == pytest.approx(time.time() - clock_s, abs=30)
        finals = first["uniqdb_last_final_end_timestamp_seconds"]
        assert finals["minute",] == (clock_s - 5) // 60 * 60
        assert finals["day",] == clock_s // DAY_S * DAY_S
        open_minutes = {at_s // 60 for at_s in range(T, T + 1_000) if at_s >= finals["minute",]}
        assert first["uniqdb_open_buckets"]["minute",] == len(open_minutes)
        assert first["uniqdb_open_buckets"]["year",] == 1
        assert counted["uniqdb_outbox_rows"] == len(open_minutes)
        assert counted["uniqdb_outbox_age_seconds"] == counted["uniqdb_due_windows"] == 0
        assert counted["uniqdb_store_commits"] == counted["uniqdb_commit_seconds_count"] > 1
        assert first["uniqdb_commit_seconds_bucket"]["+Inf",] == counted["uniqdb_commit_seconds_count"]
        assert 0 < counted["uniqdb_commit_seconds_sum"] < 60
        assert counted["uniqdb_publish_seconds_count"] >= 1
        assert counted["uniqdb_published_records_total"] >= 16
        assert counted["uniqdb_publish_failures_total"] == 0
        assert began_at_s - 1 <= counted["uniqdb_start_timestamp_seconds"]
        assert began_at_s - 1 <= counted["uniqdb_published_timestamp_seconds"] <= time.time()
        assert counted["uniqdb_store_file_bytes"] >= counted["uniqdb_store_live_bytes"] > 10_000
        assert counted["uniqdb_store_disk_free_bytes"] > 0
        assert counted["uniqdb_loop_age_seconds"] < 30
        assert service.get("/healthz")[0] == 200
        service.until_probe("/readyz", (200, "ready\n"))

        far = [line(T + 50 * DAY_S, "far"), line(T, "late"), line(T, "late")]
        served.cluster.write(served.topic, [*BAD.values(), *far])
        service.until("uniqdb_records_total", lambda seen: seen == 1_002, "accepted")
        published = counted["uniqdb_published_records_total"]
        then = service.until("uniqdb_published_records_total", lambda seen: seen >= published + len(BAD))
        verdicts = {labels[0]: number for labels, number in then["uniqdb_records_total"].items() if number}
        assert verdicts == {"accepted": 1_002, **dict.fromkeys(BAD, 1)}
        assert then["uniqdb_held_visits"][()] == 1
        assert then["uniqdb_visits_late_total"]["minute",] == 2
        assert then["uniqdb_visits_late_total"]["hour",] == 0
        assert set(then["uniqdb_visits_skipped_total"].values()) == {0}
        assert then["uniqdb_quarantine_rows"][()] == len(BAD)
        assert then["uniqdb_store_commits"][()] > counted["uniqdb_store_commits"]
        assert then["uniqdb_partition_idle"]["0",] == 0
        service.stop()


def test_a_backlog_is_lag_until_it_is_read(served: Served) -> None:
    served.cluster.create(served.topic, 2)
    for partition in range(2):
        visits = [line(T + number // 100, f"u{number % 997}") for number in range(120_000)]
        served.cluster.write(served.topic, visits, partition)
    with scraped(served, UNIQDB_IDLE_TIMEOUT_S="1") as service:
        seen = [service.until("uniqdb_lag_records", lambda lag: lag > 0)]
        while seen[-1]["uniqdb_lag_records"][()] > 0:
            seen.append(service.values())
            time.sleep(0.05)
        service.until("uniqdb_partition_idle", bool, "1")
        service.stop()
    lags = [found["uniqdb_lag_records"][()] for found in seen]
    assert lags == sorted(lags, reverse=True)
    assert 0 < lags[0] <= 240_000
    assert all(sum(found["uniqdb_partition_lag_records"].values()) == found["uniqdb_lag_records"][()] for found in seen)
    assert seen[-1]["uniqdb_reading_history"][()] == 0


def test_history_and_an_outage_in_the_middle_of_it(served: Served, tmp_path: Path) -> None:
    """A service that reads old visits slowly, from what it has fetched: its finals wait when the broker is gone."""
    (tmp_path / "kafka.ini").write_text("[kafka]\ntransaction.timeout.ms = 4000\n")
    served.cluster.create(served.topic)
    hours = 72
    served.cluster.write(served.topic, [line(T + number * 720, f"u{number % 50}") for number in range(5 * hours)])
    slowly = [sys.executable, str(DYING), "slowly", "0", "serve-stream"]
    options = "--log-format", "json", "--kafka-config", str(tmp_path / "kafka.ini")
    with scraped(served, *options, command=slowly) as service:
        service.until("uniqdb_reading_history", lambda seen: seen == 1)
        assert service.get("/readyz") == (200, "reading history\n")
        # A day has ended; its windows wait until the end of the topic, for what is read may change them again.
        closed = service.until("uniqdb_due_windows", lambda seen: seen >= len(TRAILING_DAYS))
        assert closed["uniqdb_due_windows"][()] % len(TRAILING_DAYS) == 0
        assert closed["uniqdb_reading_history"][()] == 1
        served.cluster.broker.kill()
        service.until_probe("/readyz", (503, "Kafka does not answer\n"))
        gone = service.until("uniqdb_kafka_up", lambda seen: seen == 0)
        age_s = gone["uniqdb_outbox_age_seconds"][()]
        for _ in range(2):  # it rises, and goes on rising
            later = service.until("uniqdb_outbox_age_seconds", lambda seen, age_s=age_s: seen > age_s)
            age_s = later["uniqdb_outbox_age_seconds"][()]
        failed = service.until("uniqdb_publish_failures_total", lambda seen: seen >= 1)
        assert failed["uniqdb_outbox_rows"][()] >= 1
        for name in ("uniqdb_published_records_total", "uniqdb_published_timestamp_seconds"):
            assert failed.get(name) == gone.get(name)
        assert service.get("/healthz")[0] == 200
        served.cluster.broker.restart()
        service.until("uniqdb_reading_history", lambda seen: seen == 0)
        done = service.until("uniqdb_due_windows", lambda seen: seen == 0)
        assert done["uniqdb_store_visits"][()] == 5 * hours
        done = service.until("uniqdb_outbox_age_seconds", lambda seen: seen == 0)
        assert done["uniqdb_published_records_total"][()] > sum(gone["uniqdb_published_records_total"].values())
        service.until_probe("/readyz", (200, "ready\n"))
        said = [json.loads(one) for one in service.stop().splitlines()]
    assert [one["event"] for one in said if one["event"] != "kafka"] == ["metrics", "started", "summary", "stopped"]
    assert {one["level"] for one in said if one["event"] == "kafka"} == {"warning"}
    windows = served.published("trailing").highest
    assert len(windows) == 3 * len(TRAILING_DAYS)
    assert {one["status"] for one in windows.values()} == {"final"}


def test_ten_thousand_bad_records_make_a_small_log(served: Served) -> None:
    """In which no uid stands, and no part of a record."""
    served.cluster.create(served.topic)
    bad = [line("noon", f"secretive-{number}", note="payload-in-here") for number in range(10_000)]
    served.cluster.write(served.topic, bad)
    now = int(time.time())
    served.cluster.write(served.topic, [line(now, f"secretive-{number}") for number in range(100)])
    with scraped(served, "--log-format", "json") as service:
        service.until("uniqdb_published_records_total", lambda number: number >= 10_005)
        service.until("uniqdb_records_total", lambda number: number == 100, "accepted")
        said = service.stop()
    assert len(said) < 20_000
    assert "secretive" not in said
    assert "payload" not in said
    lines = [json.loads(one) for one in said.splitlines()]
    assert all({"time", "level", "event", "message"} <= one.keys() for one in lines)
    assert [one["event"] for one in lines if one["event"] != "kafka"] == ["metrics", "started", "summary", "stopped"]
    assert lines[-2]["refused"] == 10_000


def test_on_a_terminal_a_line_says_how_it_goes(served: Served) -> None:
    served.cluster.create(served.topic)
    served.cluster.write(served.topic, [line(T + number, f"u{number}") for number in range(1_000)])
    with on_a_terminal([*SERVE_STREAM, *served.where()], served.environment) as terminal:
        terminal.until("visits/s, lag 0, clock 2016-07-11T13:55:")
        terminal.until("last published")
        terminal.press(b"\x03")
        assert terminal.end() == 0
        assert "Stopped; start it again to go on." in terminal.text
        assert "Traceback" not in terminal.text
