"""Which offset must come next in each partition, and what to do with a record that has another one.

A record below it was handed out before and is trimmed. A jump forward is suspected at first: it is to be read once
more. If it is still there, Kafka has no record in between that is for us: the ends of transactions and the records of
undone ones take up offsets, and compaction removes records. From then on jumps of that partition are only counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from uniqdb.visit import I64Array


@dataclass(frozen=True, slots=True)
class Passed:
    """The records ``start`` to ``stop`` (exclusive) of those shown may be used; ``skipped`` offsets held none.

    ``jump`` is the range of offsets (end exclusive) that did not come and is to be read again.
    """

    start: int
    stop: int
    skipped: int = 0
    jump: tuple[int, int] | None = None


class OffsetFence:
    """The next offset of each partition. ``is_compacted``: jumps are nothing to wonder at."""

    def __init__(self, positions: Mapping[int, int], *, is_compacted: bool = False) -> None:
        self._is_compacted = is_compacted
        self._has_gaps: set[int] = set()
        self._suspected: dict[int, int] = {}
        self.next_offsets = dict(positions)
        """The first offset of each partition that was not handed out."""

    def admit(self, partition: int, offsets: I64Array) -> Passed:
        """Judge records by their offsets, which ascend; the next offset moves behind those that passed."""
        expected = self.next_offsets[partition]
        start = int(np.searchsorted(offsets, expected))
        if start == len(offsets):
            return Passed(start, start)
        fresh = offsets[start:]
        end = int(fresh[-1]) + 1
        if end - expected == len(fresh):
            self.next_offsets[partition] = end
            return Passed(start, len(offsets))
        before = np.empty_like(fresh)
        before[0], before[1:] = expected - 1, fresh[:-1]
        first = int(np.flatnonzero(fresh - before > 1)[0])
        jump = int(before[first]) + 1, int(fresh[first])
        if self._is_lawful(partition, jump[0]):
            self.next_offsets[partition] = end
            return Passed(start, len(offsets), skipped=end - expected - len(fresh))
        self.next_offsets[partition] = jump[0]
        return Passed(start, start + first, jump=jump)

    def reach_end(self, partition: int, end: int) -> Passed:
        """The partition was read up to ``end``, exclusive: its last offsets may hold no record."""
        expected = self.next_offsets[partition]
        if end <= expected:
            return Passed(0, 0)
        if self._is_lawful(partition, expected):
            self.next_offsets[partition] = end
            return Passed(0, 0, skipped=end - expected)
        return Passed(0, 0, jump=(expected, end))

    def _is_lawful(self, partition: int, jumped_from: int) -> bool:
        if self._is_compacted or partition in self._has_gaps:
            return True
        if self._suspected.get(partition) == jumped_from:
            self._has_gaps.add(partition)  # read a second time, and there it is again
            return True
        self._suspected[partition] = jumped_from
        return False
