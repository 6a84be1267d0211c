"""A day of traffic in half an hour: no memory that grows, no file that swells, no error, and every count right.

The long run: `pytest -m soak -s tests/kafka/test_service_day.py`; UNIQDB_TEST_DAY_MINUTES sets how many minutes of real
time it takes (30 are a whole day; fewer are the first part of it, at the same speed).
"""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from confluent_kafka import Producer

import uniqdb
from engines import assert_sound
from kafka.cluster import Cluster
from kafka.hurried import hurried_s
from kafka.scraping import Scraped, scraped
from kafka.serving import Served

DAY_S = 86_400
PER_S = 200
FACTOR = 48
"""Seconds of the day in one of ours."""
VISITORS = 300_000
MINUTES = float(os.environ.get("UNIQDB_TEST_DAY_MINUTES", "30"))
WARM_UP_PART = 1 / 3
SAMPLE_S = 10.0
HURRIED = Path(__file__).with_name("hurried.py")


@dataclass
class Day:
    """Visits of a day that ends about now: brokers refuse records of the future. Keeps what it has sent."""

    start_s: int = field(default_factory=lambda: int(time.time()) - DAY_S - 600)
    began_at_s: float = field(default_factory=time.monotonic)
    sent: list["np.ndarray[tuple[int], np.dtype[np.int64]]"] = field(default_factory=list)
    """Blocks of event time * VISITORS + visitor."""

    def send(self, cluster: Cluster, topic: str, seconds: float) -> None:
        producer = Producer(
            {"bootstrap.servers": cluster.broker.bootstrap, "linger.ms": 20, "compression.type": "lz4"}
            | {"queue.buffering.max.messages": 1_000_000}
        )
        rng, total = np.random.default_rng(3), 0
        while (passed_s := time.monotonic() - self.began_at_s) < seconds:
            due = int(passed_s * PER_S * FACTOR) - total
            now_s = hurried_s(self.start_s, self.began_at_s, FACTOR)
            # A visit arrives up to three seconds after it happened.
            times_s = (now_s - rng.uniform(0, 3, due)).astype(np.int64)
            visitors = rng.integers(0, VISITORS, due)
            for at_s, visitor in zip(times_s.tolist(), visitors.tolist(), strict=True):
                value = b'{"id":1,"ts":%d,"uid":"visitor-%08d"}' % (at_s, visitor)
                producer.produce(topic, value, partition=visitor % 2, timestamp=int(now_s * 1_000))
            self.sent.append(times_s * VISITORS + visitors)
            total += due
            producer.poll(0.05)
        assert producer.flush(60) == 0

    @contextmanager
    def running(self, cluster: Cluster, topic: str, seconds: float) -> Iterator[threading.Thread]:
        thread = threading.Thread(target=self.send, args=(cluster, topic, seconds))
        thread.start()
        try:
            yield thread
        finally:
            thread.join()

    def counts(self, length_s: int) -> dict[int, tuple[int, int]]:
        """Start of each bucket -> different visitors, visits."""
        everything = np.concatenate(self.sent)
        starts_s, visitors = everything // VISITORS // length_s * length_s, everything % VISITORS
        found, visits = np.unique(starts_s, return_counts=True)
        different = np.unique(np.unique(starts_s * VISITORS + visitors) // VISITORS, return_counts=True)[1]
        return {int(at): (int(a), int(b)) for at, a, b in zip(found, different, visits, strict=True)}


@dataclass
class Sample:
    """The service at one moment of real time. ``own_bytes`` is memory of its own, without the mapped file."""

    at_s: float
    own_bytes: int
    resident_bytes: int
    visits: float
    lag: float
    file_bytes: float
    live_bytes: float


def sample(service: Scraped, began_at_s: float) -> Sample | None:
    status = Path(f"/proc/{service.child.pid}/status")
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB", status.read_text(), re.MULTILINE)) if status.exists() else {}
    found = service.values()
    if "uniqdb_lag_records" not in found or () not in found["uniqdb_lag_records"]:
        return None
    names = "store_visits", "lag_records", "store_file_bytes", "store_live_bytes"
    values = (found[f"uniqdb_{name}"][()] for name in names)
    memory = (int(sizes.get(name, 0)) * 1_024 for name in ("RssAnon", "VmRSS"))
    return Sample(time.monotonic() - began_at_s, *memory, *values)


def shown(one: Sample) -> str:
    return (
        f"{one.at_s:6.0f} s: {one.visits:12,.0f} visits, lag {one.lag:9,.0f}, own {one.own_bytes / 1e6:6.1f} MB, "
        f"resident {one.resident_bytes / 1e6:6.1f} MB, file {one.file_bytes / 1e6:7.1f} MB, "
        f"live {one.live_bytes / 1e6:7.1f} MB ({one.file_bytes / one.live_bytes:.2f} times)"
    )


def serve_day(served: Served, minutes: float, interval_s: float) -> tuple[Day, list[Sample]]:
    """Serve so many minutes of it, and check what it came to."""
    served.cluster.create(served.topic, 2, message_timestamp_type="CreateTime")
    day, samples = Day(), []
    time_of_it = [str(number) for number in (day.start_s, day.began_at_s, FACTOR)]
    command = [sys.executable, str(HURRIED), *time_of_it, "serve-stream"]
    with (
        scraped(served, "--log-format", "json", command=command) as service,
        day.running(served.cluster, served.topic, 60 * minutes) as sending,
    ):
        while sending.is_alive():
            sending.join(interval_s)
            if (one := sample(service, day.began_at_s)) is not None:
                samples.append(one)
                print(shown(one), flush=True)
        total = sum(len(block) for block in day.sent)
        service.until("uniqdb_store_visits", lambda visits: visits == total)
        last = service.values()
        said = [json.loads(line) for line in service.stop().splitlines()]
    # On a machine with much else to do a question to the broker may time out; it is asked again.
    print("warnings:", [one["message"] for one in said if one["level"] == "warning"], flush=True)
    assert [one["event"] for one in said if one["level"] != "warning"] == ["metrics", "started", "summary", "stopped"]
    assert last["uniqdb_publish_failures_total"][()] == 0
    assert sum(last["uniqdb_records_total"].values()) == total
    assert last["uniqdb_partition_lag_records"].keys() == {("0",), ("1",)}
    with uniqdb.open(served.store, read_only=True) as db:
        for granularity, length_s in (("minute", 60), ("hour", 3_600), ("day", DAY_S)):
            found = {one.start_ts: (one.count, one.visits) for one in db.series(granularity)}
            assert found == day.counts(length_s)
    return day, samples


@pytest.fixture
def served(cluster: Cluster, topic: str, tmp_path: Path) -> Served:
    return Served(cluster, topic, tmp_path)


def test_six_minutes_of_a_day(served: Served) -> None:
    day, samples = serve_day(served, 0.125, 1.0)
    assert samples
    assert_sound(served.store)
    # Its minutes are closed and published as they pass, by a clock that runs 48 times as fast.
    published = served.published("minute").highest.values()
    finals = {one["start_ts"] for one in published if one["status"] == "final"}
    assert len(finals) >= 3
    assert finals <= day.counts(60).keys()


@pytest.mark.soak
def test_a_day(served: Served) -> None:
    _, samples = serve_day(served, MINUTES, SAMPLE_S)
    after = [one for one in samples if one.at_s >= 60 * MINUTES * WARM_UP_PART]
    per_group = max(len(after) // 10, 1)
    groups = [after[at : at + per_group] for at in range(0, len(after) - per_group + 1, per_group)]
    memory = [median(one.own_bytes for one in group) for group in groups]
    print("own memory, MB:", [round(one / 1e6, 1) for one in memory], flush=True)
    assert max(memory) <= 1.05 * memory[0]
    assert max(one.file_bytes / one.live_bytes for one in after) <= 2
    assert max(one.lag for one in after) < PER_S * FACTOR * 60
