"""A topic that both count: uniqdb into topics of its own, the Flink job into others."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

from kafka.cluster import Cluster
from kafka.serving import Published, Served, line
from model import GRANULARITIES

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 2
COMPARED = ("granularity", "datetime", "count", "visits", "start_ts", "end_ts", "timezone", "epoch")
"""The fields of a record that must be the same; status, completeness and revision cannot be."""
# Starting is most of what a small job does; so is compiling.
_SMALL = ["--jvm-option=-XX:TieredStopAtLevel=1", "--memory-mb", "1024"]


class Counting:
    """The topic, made with two partitions, and the two that count it."""

    def __init__(self, cluster: Cluster, topic: str, folder: Path) -> None:
        self.cluster, self.topic, self.folder = cluster, topic, folder
        self.served = Served(cluster, topic, folder)
        self.prefix = f"{topic}-flink-"
        cluster.create(topic, PARTITIONS)

    def write(self, visits: Sequence[tuple[int, str]]) -> None:
        """By visitor, as a producer that keys by uid does it."""
        for partition in range(PARTITIONS):
            lines = [line(ts, uid) for ts, uid in visits if crc32(uid.encode()) % PARTITIONS == partition]
            self.cluster.write(self.topic, lines, partition)

    @contextmanager
    def flink(self, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
        """The job, running until the block ends; it does not outlive a test that fails."""
        command = [sys.executable, str(ROOT / "flink" / "run.py"), "--bootstrap-servers"]
        command += [self.cluster.broker.bootstrap, "--input-topic", self.topic, "--output-prefix", self.prefix]
        child = subprocess.Popen(
            [*command, *_SMALL, *arguments], stderr=subprocess.PIPE, text=True, env=self.served.environment
        )
        try:
            yield child
        finally:
            child.terminate()
            child.communicate(timeout=60)

    def flink_to_the_end(self, *arguments: str, limit_s: int = 240) -> None:
        with self.flink("--until-caught-up", "--time-limit-s", str(limit_s), *arguments) as child:
            said = child.communicate(timeout=limit_s + 60)[1]
            assert child.returncode == 0, said

    def flink_published(self) -> Published:
        """What Flink's topics hold. Revisions rise, so the last record of a key is its newest; nothing is deleted."""
        found = Published({}, {}, 0)
        for granularity in GRANULARITIES:
            for message in self.cluster.read_all(self.prefix + granularity):
                key, value = message.key().decode(), message.value()
                assert value is not None, f"{key} was deleted"
                record = json.loads(value)
                assert record["granularity"] == granularity
                assert record["revision"] > found.last.get(key, {"revision": 0})["revision"]
                found.last[key] = found.highest[key] = record
                found.messages += 1
        return found


def compared(published: Published) -> dict[str, dict[str, Any]]:
    """By key, what must be the same."""
    records = {key: one for key, one in published.highest.items() if one["granularity"] != "window"}
    return {key: {name: one[name] for name in COMPARED} for key, one in records.items()}


def visits_between(begin_s: int, end_s: int, number: int, visitors: int) -> list[tuple[int, str]]:
    """Evenly spread, in the order in which they arrive: three of ten come up to half an hour late."""
    rng, span_s = Random(number), end_s - begin_s
    made = []
    for index in range(number):
        ts = begin_s + index * span_s // number
        delay_s = rng.randrange(1_800) if rng.random() < 0.3 else 0
        made.append((ts + delay_s, ts, f"v{rng.randrange(visitors)}"))
    return [(ts, uid) for _, ts, uid in sorted(made)]
