"""The client's messages taken apart, column by column, without a line of Python per message."""

from operator import itemgetter

import numpy as np
from confluent_kafka import Message

from uniqdb.stream.kafka_batch import PartitionBatch
from uniqdb.visit import I64Array


def by_partition(records: list[Message]) -> dict[int, list[Message]]:
    """The records of each partition, in their order."""
    numbers = np.fromiter(map(Message.partition, records), np.int64, len(records))
    if not len(records) or (numbers == numbers[0]).all():
        return {int(numbers[0]): records} if records else {}
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    stops = [*starts[1:].tolist(), len(order)]
    return {
        int(numbers[order[start]]): [records[index] for index in order[start:stop].tolist()]
        for start, stop in zip(starts.tolist(), stops, strict=True)
    }


def offsets_of(records: list[Message]) -> I64Array:
    """The offsets, which ascend: where none is left out the first and the last one tell all."""
    if records:
        first, last = records[0].offset() or 0, records[-1].offset() or 0
        if last - first == len(records) - 1:
            return np.arange(first, last + 1)
    return np.fromiter(map(Message.offset, records), np.int64, len(records))


def batch_of(
    partition: int, covered: tuple[int, int], records: list[Message], offsets: I64Array, skipped: int
) -> PartitionBatch:
    """A batch of records with these offsets; ``covered``: its first and its next offset."""
    # Where there is no timestamp the client says -1, as we do.
    times_ms = np.fromiter(map(itemgetter(1), map(Message.timestamp, records)), np.int64, len(records))
    return PartitionBatch(
        partition,
        *covered,
        list(map(Message.value, records)),
        times_ms,
        offsets,
        skipped,
    )
