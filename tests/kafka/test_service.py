"""`uniqdb serve-stream`: a topic counted and every count published, as an independent reader of the topics sees it."""

import gzip
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

import uniqdb
from kafka.cluster import Cluster
from kafka.serving import ROOT, Served, line
from model import Model
from uniqdb.stream.driver import ingest_file

T = 1_468_244_340
DAY_S = 86_400
DATA = ROOT.parent / "shared" / "data"
WINDOWS = (7, 30, 90, 180, 365)


@pytest.fixture
def served(cluster: Cluster, topic: str, tmp_path: Path) -> Served:
    return Served(cluster, topic, tmp_path)


def spread(cluster: Cluster, topic: str, lines: list[bytes], partitions: int) -> None:
    """By visitor, as a producer that keys by uid does it."""
    cluster.create(topic, partitions)
    for partition in range(partitions):
        cluster.write(topic, lines[partition::partitions], partition)


@pytest.mark.skipif(not DATA.is_dir(), reason="the recorded visits are not beside the project")
@pytest.mark.parametrize("partitions", [1, 4])
def test_recorded_visits_are_published_as_they_are_true(served: Served, partitions: int) -> None:
    lines = gzip.decompress((DATA / "visits_day.jsonl.gz").read_bytes()).splitlines()
    spread(served.cluster, served.topic, lines, partitions)
    truth = [json.loads(one) for one in (DATA / "visits_day.truth.jsonl").read_text().splitlines()[1:]]
    said = served.catch_up()
    assert "100,000 records" in said
    expected = {(one["granularity"], one["start_ts"]): (one["count"], one["visits"]) for one in truth}
    assert served.stored() == expected
    found = served.published()
    assert found.buckets() == expected
    assert found.last == found.highest


def forty_days() -> tuple[list[tuple[int, str]], Model]:
    """Visits of 40 days, three of which nobody came on."""
    rng = Random(4)
    visits = [
        (T + day * DAY_S + rng.randrange(DAY_S // 2), f"v{rng.randrange(60)}")
        for day in range(40)
        for _ in range(30)
        if day not in (7, 8, 21)
    ]
    visits.sort()
    model = Model()
    model.add([ts for ts, _ in visits], [uid for _, uid in visits])
    return visits, model


def test_trailing_windows_of_every_closed_day(served: Served) -> None:
    visits, model = forty_days()
    served.cluster.create(served.topic)
    first, rest = visits[:700], visits[700:]
    served.cluster.write(served.topic, [line(*one) for one in first])
    served.catch_up()
    # The service is down over several days' ends.
    served.cluster.write(served.topic, [line(*one) for one in rest])
    served.catch_up()
    found = served.published("trailing").highest
    begin = date(2016, 7, 11)
    closed = [begin + timedelta(day) for day in range(39)]
    assert len(found) == 5 * len(closed)
    for day in closed:
        for days in WINDOWS:
            record = found[f"window|UTC|{days}d|{day}"]
            end_s = model.midnight(day + timedelta(1))
            union = model.union(model.midnight(day - timedelta(days - 1)), end_s)
            assert (record["count"], record["status"]) == (len(union), "final"), (day, days)
            assert (record["window"], record["as_of"], record["end_ts"]) == (f"{days}d", str(day), end_s)
    assert served.published("trailing").messages == 5 * len(closed)


def test_a_late_visit_amends_bucket_and_windows(served: Served) -> None:
    visits, _ = forty_days()
    served.cluster.create(served.topic)
    served.cluster.write(served.topic, [line(*one) for one in visits])
    served.catch_up()
    before = served.published()
    late_s = visits[-1][0] - 26 * 3_600
    served.cluster.write(served.topic, [line(late_s, "late")])
    served.catch_up()
    found = served.published()
    minute = found.highest[f"minute|UTC|{late_s // 60 * 60}"]
    assert minute["status"] == "amended"
    day = date.fromtimestamp(late_s)
    window = found.highest[f"window|UTC|7d|{day}"]
    old = before.highest[f"window|UTC|7d|{day}"]
    assert (window["count"], window["revision"], window["status"]) == (old["count"] + 1, 2, "amended")
    assert found.last == found.highest


def test_what_is_no_visit_goes_to_quarantine_and_its_topic(served: Served) -> None:
    good = [line(T + number, f"v{number % 7}") for number in range(200)]
    bad: list[Any] = [None, b"", b"{bad", line("noon", "v"), line(T, ""), line(T, "x", pad="p" * 5_000_000)]
    bad += [b'{"ts":1468244340,"uid":"\xff"}', line(T + 90 * DAY_S, "alone"), b"[1]", b"  "]
    fine = b'{\n  "ts": 1468244345,\n  "uid": "pretty"\n}'
    served.cluster.create(served.topic, max_message_bytes=10_000_000)
    served.cluster.write(served.topic, [*good[:100], *bad, fine, *good[100:]])
    assert "10 refused" in served.catch_up()
    model = Model()
    model.add([T + n for n in range(200)] + [1468244345], [f"v{n % 7}" for n in range(200)] + ["pretty"])
    assert served.stored() == model.rows()
    assert served.published().buckets() == model.rows()
    letters = {one["position"]: (one["reason"], one["source"]) for one in served.dead_letters()}
    reasons = ["no_value", "no_value", "malformed", "bad_ts", "bad_uid", "too_long", "bad_uid", "implausible"]
    source = f"{served.topic}/0"
    expected = dict(enumerate([(reason, source) for reason in [*reasons, "not_an_object", "no_value"]], start=100))
    expected[107] = ("ahead", source)
    assert letters == expected


def test_a_second_run_does_nothing_twice(served: Served) -> None:
    spread(served.cluster, served.topic, [line(T + number, f"v{number % 9}") for number in range(500)], 3)
    served.catch_up()
    before = served.stored(), served.published()
    assert "0 records" in served.catch_up()
    assert (served.stored(), served.published()) == before


def test_it_follows_the_topic_and_ends_when_asked(served: Served) -> None:
    served.cluster.create(served.topic, 2)
    with served.start() as child:
        served.cluster.write(served.topic, [line(T + number, "a") for number in range(50)])
        served.cluster.write(served.topic, [line(T + number, "b") for number in range(50)], 1)
        wait_for(lambda: (served.store / "MANIFEST").exists() and len(served.stored()) > 0)
        asked_at_s = time.monotonic()
        child.send_signal(signal.SIGTERM)
        said = child.communicate(timeout=60)[1]
    assert time.monotonic() - asked_at_s < 30
    assert child.returncode == 0, said
    assert served.stored()[("minute", T)] == (2, 100)
    assert served.published("hour").buckets() == {("hour", T - T % 3600): (2, 100)}
    served.catch_up()
    assert served.published().buckets() == served.stored()


def test_it_refuses_in_one_line(served: Served) -> None:
    served.cluster.create(served.topic)
    served.cluster.write(served.topic, [line(T + number, "a") for number in range(50)])
    served.catch_up()
    assert "was begun with --ts-field ts, not at" in served.catch_up("--ts-field", "at", code=65)
    served.cluster.recreate(served.topic)
    said = served.catch_up(code=65)
    assert "--accept-recreated-topic" in said
    served.cluster.write(served.topic, [line(T + 4_000 + number, "b") for number in range(50)])
    assert "given up" in served.catch_up("--accept-recreated-topic")
    hour = served.published("hour").highest[f"hour|UTC|{(T + 4_000) // 3600 * 3600}"]
    assert (hour["count"], hour["complete"]) == (1, False)


def wait_for(is_so: Callable[[], bool], limit_s: float = 60) -> None:
    end_at_s = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end_at_s
        time.sleep(0.1)


def publish_trailing(served: Served, *arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "uniqdb_cli", "publish-trailing", "--store", str(served.store), *arguments]
    command += ["--bootstrap-servers", served.cluster.broker.bootstrap]
    done = subprocess.run(command, env=served.environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr


def test_windows_of_a_day_that_is_not_over(served: Served) -> None:
    visits, model = forty_days()
    served.cluster.create(served.topic)
    served.cluster.write(served.topic, [line(*one) for one in visits[:-20]])
    served.catch_up()
    with uniqdb.open(served.store, read_only=True) as db, db.snapshot() as snapshot:
        today = snapshot.answers.zone.local_date(snapshot.completeness().clock_s or 0)
    assert publish_trailing(served) == "5 trailing windows published.\n"
    found = served.published("trailing").highest
    for days in WINDOWS:
        record = found[f"window|UTC|{days}d|{today}"]
        assert (record["status"], record["revision"], record["complete"]) == ("provisional", 1, False)
    assert publish_trailing(served, "--as-of", "2016-08-01") == "0 trailing windows published.\n"
    tomorrow_s = visits[-1][0] + DAY_S
    more = [(tomorrow_s + number, "x") for number in range(60)]
    served.cluster.write(served.topic, [line(*one) for one in [*visits[-20:], *more]])
    served.catch_up()
    model.add([ts for ts, _ in more], [uid for _, uid in more])
    found = served.published("trailing").highest
    for days in WINDOWS:
        record = found[f"window|UTC|{days}d|{today}"]
        assert (record["status"], record["revision"]) == ("final", 2)
        assert record["count"] == len(model.union(record["start_ts"], record["end_ts"]))
    assert "is no date" in publish_trailing(served, "--as-of", "someday", code=2)


def test_a_store_that_files_feed_publishes_its_windows_and_later_everything(served: Served, tmp_path: Path) -> None:
    visits, model = forty_days()
    file = tmp_path / "visits.jsonl"
    file.write_bytes(b"".join(line(*one) + b"\n" for one in visits))
    with uniqdb.open(served.store) as db:
        ingest_file(db, file)
    assert publish_trailing(served) == f"{5 * 40 + 5} trailing windows published.\n"
    served.cluster.create(served.topic)
    served.catch_up()
    assert served.published().buckets() == model.rows() == served.stored()


def uniqdb_command(served: Served, *arguments: str) -> str:
    command = [sys.executable, "-m", "uniqdb_cli", *arguments, "--store", str(served.store)]
    done = subprocess.run(command, env=served.environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_requests_while_it_serves(served: Served) -> None:
    visits, model = forty_days()
    served.cluster.create(served.topic)
    alone = (T - 300 * DAY_S, "alone")
    crowd = [(visits[-1][0] + number // 10, f"w{number % 13}") for number in range(1_200)]
    served.cluster.write(served.topic, [line(*one) for one in [*visits, alone, *crowd]])
    with served.start() as child:
        wait_for(lambda: (served.store / "MANIFEST").exists() and '"too_late":1' in served.info().replace(" ", ""))
        assert uniqdb_command(served, "quarantine", "accept", "--reason", "too_late") == "1 visit counted.\n"
        said = publish_trailing(served)
        assert said.endswith(" trailing windows published.\n")
        assert int(said.split()[0]) >= 5
        reset = uniqdb_command(served, "clock", "reset", f"{served.topic}/0")
        assert "has no clock now" in reset
        more = [(crowd[-1][0] + 60 + number, "after") for number in range(40)]
        served.cluster.write(served.topic, [line(*one) for one in more])
        day = f"{date.fromtimestamp(crowd[-1][0])}"
        wait_for(lambda: f"window|UTC|30d|{day}" in served.published("trailing").highest)
        wait_for(lambda: json.loads(served.info())["visits"] == len(visits) + 1 + len(crowd) + len(more))
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=60)[1]
    assert child.returncode == 0, said
    everything = [alone, *crowd, *more]
    model.add([ts for ts, _ in everything], [uid for _, uid in everything])
    served.catch_up()
    assert served.stored() == model.rows()
    found = served.published()
    assert found.buckets() == model.rows()
    assert found.last == found.highest
