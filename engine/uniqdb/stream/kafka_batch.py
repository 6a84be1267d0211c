"""What a Kafka source hands out: batches of records, and the gaps that a user accepted."""

from dataclasses import dataclass
from enum import StrEnum

from uniqdb.visit import I64Array

NO_TIMESTAMP_MS = -1
"""Stands where a message has no timestamp."""


@dataclass(frozen=True, slots=True, eq=False)
class PartitionBatch:
    """What one poll got from one partition: all records with offsets in [first_offset, next_offset), in order.

    ``skipped`` of these offsets hold no record for us: ends of transactions, undone or compacted records. So a batch
    can be without records and yet move the position. A value is None where a message has none. Timestamps are Unix
    milliseconds, -1 where there is none.
    """

    partition: int
    first_offset: int
    next_offset: int
    values: list[bytes | None]
    timestamps_ms: I64Array
    offsets: I64Array
    skipped: int = 0


class GapReason(StrEnum):
    """Why records were given up, each with the consent of the user."""

    RECREATED_TOPIC = "recreated_topic"
    LOST_OFFSETS = "lost_offsets"
    OTHER_CLUSTER = "other_cluster"


@dataclass(frozen=True, slots=True)
class Gap:
    """Reading goes on at ``resumed_at`` instead of ``expected``: what was or would have been between is not read."""

    partition: int
    expected: int
    resumed_at: int
    reason: GapReason
