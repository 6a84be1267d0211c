"""The Flink job and the engine make the same counts of the same topic."""

import signal
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from bench_programs import BENCH, load, run
from flink.counting import Counting, compared, visits_between
from format.test_schemas import faults, schema
from kafka.cluster import until
from kafka.offline import run_offline
from kafka.serving import line
from model import Model

T = 1_468_244_340


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def assert_same_counts(counting: Counting, zone: str, visits: list[tuple[int, str]]) -> None:
    """Both publish what a dict of sets says; and the same under the same keys."""
    said = counting.served.catch_up("--timezone", zone)
    assert f"{len(visits):,} visits" in said, said
    model = Model(zone)
    known = cache(model.start)
    # Every bucket begins with a minute, so the calendar is asked once for each minute instead of for each visit.
    model.start = lambda granularity, time_s: known(granularity, time_s - time_s % 60)
    model.add([ts for ts, _ in visits], [uid for _, uid in visits])
    ours, theirs = counting.served.published(), counting.flink_published()
    assert theirs.buckets() == model.rows()
    assert compared(theirs) == compared(ours)
    rules = schema("record")
    assert [fault for one in theirs.last.values() for fault in faults(rules, one)] == []


@pytest.mark.flink
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/St_Johns"])
def test_both_count_the_same(counting: Counting, zone: str) -> None:
    """Over both changes of the clocks, the end of a year and of its ISO year, and a February; half-hour offsets."""
    visits = visits_between(at("2024-10-26T20:00"), at("2025-04-02T00:00"), 12_000, 400)
    counting.write(visits)
    counting.flink_to_the_end("--timezone", zone, "--checkpoints", str(counting.folder / "checkpoints"))
    assert_same_counts(counting, zone, visits)


@pytest.mark.soak
def test_both_count_two_million_the_same(counting: Counting) -> None:
    visits = visits_between(at("2024-10-26T20:00"), at("2024-10-27T20:00"), 2_000_000, 200_000)
    counting.write(visits)
    counting.flink_to_the_end("--timezone", "Europe/Berlin", "--memory-mb", "3072", limit_s=1_500)
    assert_same_counts(counting, "Europe/Berlin", visits)


ODD: tuple[tuple[bytes, bool, bool], ...] = (
    # value, whether uniqdb counts it, whether Flink does
    (line(str(T), "a"), True, True),
    (line(T + 0.5, "b"), True, True),
    (line(float(T), "c"), True, True),
    (line(T, 17), True, True),
    (line(T, "Ünïcode"), True, True),
    (line(T, "x" * 1_024), True, True),
    (line(T, "é" * 1_000), False, True),
    (line(T, True), False, True),
    (line(T, 1.5), False, True),
    (line(T, {"id": 1}), False, True),
    (line(T, ""), False, False),
    (line(T, None), False, False),
    (line(T, "x" * 1_025), False, False),
    (line("noon", "d"), False, False),
    (line(True, "e"), False, False),
    (line(None, "f"), False, False),
    (line(at("1999-12-31T23:59:59"), "g"), False, False),
    (line(at("2100-01-01T00:00"), "h"), False, False),
    (line(T * 1_000, "i"), False, False),
    (line(9_223_372_036_854_775_807, "j"), False, False),
    # A wrong clock within these bounds: only uniqdb asks what the other visits say.
    (line(at("2003-05-05T05:05"), "k"), False, True),
    (b"no json", False, False),
    (b'{"ts": 1468244340, "uid": ', False, False),
    (b"[1468244340]", False, False),
)


@pytest.mark.flink
def test_a_late_visit_amends_and_odd_records_do_what_the_readme_says(counting: Counting) -> None:
    """A job that goes on, as on a cluster."""

    def last(key: str) -> dict[str, Any]:
        assert child.poll() is None, "the job has ended"
        if counting.prefix + "hour" not in counting.cluster.topics():
            return {"count": 0}
        return counting.flink_published().last.get(key, {"count": 0})

    hour = T - T % 3_600
    counting.write([(T + number, f"v{number}") for number in range(300)])
    with counting.flink() as child:
        until(lambda: last(f"hour|UTC|{hour}")["count"] == 300, 120)
        first = last(f"hour|UTC|{hour}")
        counting.write([(T + 7_200 + number, "later") for number in range(30)])
        counting.write([(T, "late")])
        until(lambda: last(f"hour|UTC|{hour}")["count"] == 301, 60)
        assert last(f"hour|UTC|{hour}")["revision"] > first["revision"]
        # The other compressions are read by other libraries.
        for codec, part in (("zstd", ODD[::2]), ("snappy", ODD[1::2])):
            producer = Producer(
                {"bootstrap.servers": counting.cluster.broker.bootstrap, "compression.type": codec, "log_level": 0}
            )
            for value, _, _ in part:
                producer.produce(counting.topic, value, partition=0)
            assert producer.flush(60) == 0
        counted = sum(theirs for *_, theirs in ODD)
        until(lambda: sum(one["visits"] for one in years(counting)) == 331 + counted, 60)
        child.send_signal(signal.SIGTERM)
        child.wait(60)
    assert child.returncode == 128 + signal.SIGTERM
    counting.served.catch_up()
    assert counting.served.visits() == 331 + sum(ours for _, ours, _ in ODD)


def years(counting: Counting) -> list[dict[str, Any]]:
    return [one for one in counting.flink_published().last.values() if one["granularity"] == "year"]


@pytest.mark.flink
def test_a_job_that_cannot_run_says_why(counting: Counting) -> None:
    with counting.flink("--input-topic", "no-such-topic") as child:
        said = child.communicate(timeout=60)[1]
    assert child.returncode == 66
    assert said.startswith("uniqdb: ")
    assert "no-such-topic" in said
    with counting.flink("--timezone", "Europe/Atlantis") as child:
        assert "there is no time zone 'Europe/Atlantis'" in child.communicate(timeout=60)[1]
    assert child.returncode == 2
    with counting.flink("--until-caught-up", "--jvm-option=-XX:NoSuchOption") as child:
        said = child.communicate(timeout=60)[1]
    assert child.returncode == 1
    assert "the Flink job failed: " in said
    assert "NoSuchOption" in said


@pytest.mark.flink
def test_the_bundle_is_what_the_image_copies(counting: Counting) -> None:
    folder = counting.folder / "out"
    with counting.flink("--bundle", str(folder)) as child:
        assert child.wait(60) == 0
    sql = (folder / "visits.sql").read_text("utf-8")
    assert f"'{counting.cluster.broker.bootstrap}'" in sql
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["flink-sql-connector-kafka-5.0.0-2.2.jar", "visits.sql", "zstd-jni-1.5.6-10.jar"]
    with counting.flink("--print") as child:
        assert child.wait(60) == 0


def figures_of_benchmark(*arguments: str) -> dict[str, float]:
    """At a tiny size: figures that mean nothing, and counts that agree."""
    out = run(BENCH / "flink.py", "--visits", "3000", "--parallelism", "1", "--memory-mb", "1024", *arguments)
    figure_of = load("machine").figure_of
    figures = dict(found for line in out.splitlines() if (found := figure_of(line)) is not None)
    assert figures["results_agree"] == 1
    assert figures["buckets"] > 0
    assert figures["flink_1_peak_mb"] > figures["uniqdb_peak_mb"] > 30
    return figures


@pytest.mark.flink
def test_the_benchmark_runs(flink_jars: Path) -> None:  # noqa: ARG001 - whoever lacks them skips it
    figures_of_benchmark()


@pytest.mark.soak
def test_the_benchmark_finds_a_checkpoint(flink_jars: Path) -> None:  # noqa: ARG001 - as above
    assert figures_of_benchmark("--state")["checkpoint_bytes_per_member"] > 20


@pytest.mark.flink
def test_without_network_and_cache_the_tests_are_skipped_aloud(tmp_path: Path) -> None:
    """The last line of the run says what was not tested and why; where CI is set, the run is red."""
    at_home, in_ci = run_offline(tmp_path, "-m", "flink", "-k", "both_count", "tests/flink/test_parity.py")
    last = at_home.strip().splitlines()[-1]
    assert last.startswith("Not compared with Flink, 2 skipped: no Flink: org.apache.flink:flink-sql-gateway")
    assert "no Flink: org.apache.flink:flink-sql-gateway:2.3.0 cannot be fetched" in in_ci
