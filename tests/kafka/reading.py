"""How the tests read a topic, and what must hold of all that was read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from kafka.cluster import Cluster, until
from uniqdb.stream.kafka_batch import PartitionBatch
from uniqdb.stream.kafka_source import KafkaSource


@contextmanager
def reading(
    cluster: Cluster, topic: str, positions: dict[int, int] | None = None, **more: Any
) -> Iterator[KafkaSource]:
    """A source; keywords other than `known` and `hooks` are settings."""
    own = {key: more.pop(key) for key in ("known", "hooks") if key in more}
    source = KafkaSource(cluster.settings(**more), topic, positions or {}, **own)
    try:
        yield source
    finally:
        source.close()


def read_to_end(source: KafkaSource, records_max: int = 10_000) -> list[PartitionBatch]:
    """All there is now: until every partition was read to its end offset."""
    found: list[PartitionBatch] = []
    ends = source.end_offsets()
    until(lambda: found.extend(source.poll(0.05, records_max)) or source.positions == ends)
    return found


def values(batches: list[PartitionBatch], partition: int = 0) -> list[bytes | None]:
    return [value for batch in batches if batch.partition == partition for value in batch.values]


def assert_seamless(batches: list[PartitionBatch], start: int, partition: int = 0) -> int:
    """Each batch begins where the one before ended, and accounts for each of its offsets; returns the end."""
    for batch in batches:
        if batch.partition == partition:
            assert batch.first_offset == start
            assert len(batch.offsets) == len(batch.values) == len(batch.timestamps_ms)
            assert batch.next_offset - batch.first_offset == len(batch.offsets) + batch.skipped
            assert (np.diff(batch.offsets, prepend=start - 1) > 0).all()
            start = batch.next_offset
    return start
