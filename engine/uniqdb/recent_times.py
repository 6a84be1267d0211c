"""The last 1,000 plausible event times of a source: in order of arrival and sorted, and the limits they imply."""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uniqdb.errors import UsageError
from uniqdb.limits import (
    AHEAD_LIMIT_S,
    EVENT_LIMIT_S_MAX,
    JUMP_VISITS,
    LATE_LIMIT_S,
    RECENT_VISITS,
    SPARSE_SPANS,
    SPARSE_STEPS,
    WITNESSES,
)
from uniqdb.visit import I64Array

_LITTLE_ENDIAN_I64 = np.dtype("<i8")


@dataclass(frozen=True, slots=True)
class EventTimeLimits:
    """How far from the clock of its source a visit may lie and count at once, both ends inclusive, in seconds.

    Changes results. A sparse source has wider limits than these: `widened`.
    """

    ahead_limit_s: int = AHEAD_LIMIT_S
    late_limit_s: int = LATE_LIMIT_S

    def __post_init__(self) -> None:
        if not all(0 <= limit_s <= EVENT_LIMIT_S_MAX for limit_s in (self.ahead_limit_s, self.late_limit_s)):
            raise UsageError("a limit of event time is negative or too large", hint="give seconds, such as 600")

    def widened(self, ordered_s: Sequence[int] | I64Array) -> "EventTimeLimits":
        """These limits, or wider ones if the sorted times lie far apart. One pass over the times."""
        wide_s = sparse_limit_s(ordered_s)
        if wide_s <= self.ahead_limit_s and wide_s <= self.late_limit_s:
            return self
        return EventTimeLimits(max(self.ahead_limit_s, wide_s), max(self.late_limit_s, wide_s))


DEFAULT_LIMITS = EventTimeLimits()
"""600 s ahead, a day behind."""


def sparse_limit_s(ordered_s: Sequence[int] | I64Array) -> int:
    """The least limit for sorted recent times: 80 times their median step, or 4 times the median span of 20 visits.

    The span counts from 100 times on (before, a single wrong time could lie in every span); it is for visits in bursts,
    whose steps are short although 20 of them take days. Of two middle values the larger; 0 for fewer than two times.
    """
    times_s = np.asarray(ordered_s, np.int64)
    if len(times_s) < 2:
        return 0
    limit_s = SPARSE_STEPS * _median(np.diff(times_s))
    if len(times_s) < JUMP_VISITS:
        return limit_s
    return max(limit_s, SPARSE_SPANS * _median(times_s[WITNESSES - 1 :] - times_s[: 1 - WITNESSES]))


def _median(values_s: I64Array) -> int:
    middle = len(values_s) // 2
    return int(np.partition(values_s, middle)[middle])


def dense_span_s(limits: EventTimeLimits) -> int:
    """If a full set of recent times spans less than this, its limits are the configured ones: no sorting needed.

    Otherwise half of the steps would each be too long and together at least this long; or half of the spans of 20
    visits would, and each step lies in 19 of those at most.
    """
    limit_s = min(limits.ahead_limit_s, limits.late_limit_s)
    by_steps_s = (limit_s // SPARSE_STEPS + 1) * (RECENT_VISITS // 2)
    half_of_spans = (RECENT_VISITS - WITNESSES) // 2
    return min(by_steps_s, (limit_s // SPARSE_SPANS + 1) * half_of_spans // (WITNESSES - 1))


class RecentTimes:
    """The last 1,000 times (seconds), in order of arrival and sorted; and the last 100 of them, sorted.

    Two forms: an array in order of arrival, and lists for one visit after the other. Each is made from the other when
    it is asked for (about 50 us), so that neither kind of work pays for the other one.
    """

    def __init__(self, arrived_s: I64Array) -> None:
        self.arrived_s: deque[int] = deque()
        self.ordered_s: list[int] = []
        self.last_ordered_s: list[int] = []
        self._array: I64Array | None = arrived_s[-RECENT_VISITS:]

    def array(self) -> I64Array:
        """The times in order of arrival; not to be written to."""
        if self._array is None:
            self._array = np.array(self.arrived_s, np.int64)
        return self._array

    def replace(self, arrived_s: I64Array) -> None:
        """Other times instead, in order of arrival; the last 1,000 count."""
        self._array = arrived_s[-RECENT_VISITS:]

    def use_lists(self) -> None:
        """Before `push` and before the lists are read."""
        if self._array is not None:
            arrived = self._array.tolist()
            self.arrived_s = deque(arrived)
            self.ordered_s = sorted(arrived)
            self.last_ordered_s = sorted(arrived[-JUMP_VISITS:])
            self._array = None

    def push(self, time_s: int) -> None:
        """One more time; the oldest of 1,000 leaves. About 1 us. Only after `use_lists`, with no `array` since."""
        arrived, ordered, last = self.arrived_s, self.ordered_s, self.last_ordered_s
        arrived.append(time_s)
        insort(ordered, time_s)
        insort(last, time_s)
        if len(last) > JUMP_VISITS:
            del last[bisect_left(last, arrived[-JUMP_VISITS - 1])]
            if len(ordered) > RECENT_VISITS:
                del ordered[bisect_left(ordered, arrived.popleft())]

    def number_within(self, low_s: int, high_s: int) -> int:
        """How many of the times lie in ``[low_s, high_s]``."""
        return bisect_right(self.ordered_s, high_s) - bisect_left(self.ordered_s, low_s)


def packed_times(times_s: I64Array) -> bytes:
    """Little-endian 64-bit integers (persisted in the state of a source)."""
    return times_s.astype(_LITTLE_ENDIAN_I64).tobytes()


def unpacked_times(packed: bytes) -> I64Array:
    """The inverse of `packed_times`."""
    return np.frombuffer(packed, _LITTLE_ENDIAN_I64).astype(np.int64)
