"""What is closed: the clock of one source, and the clocks of topics and stores that follow from them.

The clock of a source is a time that its visits have reached: buckets that end before it (and the allowed lateness) are
closed. Nothing here reads a clock: every moment is an argument. Times are Unix seconds.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from uniqdb.limits import ARRIVAL_DELAY_S_MAX, IDLE_TIMEOUT_S, JUMP_VISITS, RECENT_VISITS, WITNESSES
from uniqdb.recent_times import EventTimeLimits
from uniqdb.visit import I64Array

CLOCK_NOT_STARTED = -(2**63)
"""Stands for the clock of a source that has none yet: lower than every end of a bucket."""


# ---------------------------------------------------------------- one source
def first_clock_s(ordered_s: Sequence[int], limits: EventTimeLimits) -> int:
    """Where the clock starts: the smallest of the sorted first times that lie within the ahead limit of their median.

    Of two middle times the earlier one is the median, here and for jumps: a clock that is behind closes too late,
    one that is ahead too early.
    """
    return ordered_s[bisect_left(ordered_s, _median(ordered_s) - limits.ahead_limit_s)]


def jumped_clock_s(last_ordered_s: Sequence[int], clock_s: int, limits: EventTimeLimits) -> int | None:
    """The median of those of the last 100 times that lie beyond the limits on one side, if more than 50 do."""
    half = JUMP_VISITS // 2
    if len(last_ordered_s) <= half:
        return None
    low_s, high_s = clock_s - limits.late_limit_s, clock_s + limits.ahead_limit_s
    if last_ordered_s[half] < low_s:
        return _median(last_ordered_s[: bisect_left(last_ordered_s, low_s)])
    if last_ordered_s[-half - 1] > high_s:
        return _median(last_ordered_s[bisect_right(last_ordered_s, high_s) :])
    return None


def stepped_clock_s(ordered_s: Sequence[int], clock_s: int, limits: EventTimeLimits) -> int:
    """Forward to the 20th largest of the recent times that are not beyond clock + ahead limit."""
    near = bisect_right(ordered_s, clock_s + limits.ahead_limit_s)
    return max(clock_s, ordered_s[near - WITNESSES]) if near >= WITNESSES else clock_s


def end_clock_s(ordered_s: Sequence[int], clock_s: int, limits: EventTimeLimits) -> int:
    """At the end of a source: forward to the newest recent time that is not beyond clock + ahead limit.

    Such a visit is accepted: it lies within the limits. One that is accepted for its company alone lies beyond them.
    """
    near = bisect_right(ordered_s, clock_s + limits.ahead_limit_s)
    return max(clock_s, ordered_s[near - 1]) if near else clock_s


def _median(ordered_s: Sequence[int]) -> int:
    return ordered_s[(len(ordered_s) - 1) // 2]


def carried_clock_s(recent_s: I64Array, floor_s: int) -> int:
    """The highest 20th largest of 1,000 consecutive times, at least ``floor_s``: an ordinary clock after them all.

    For times of which each may carry the clock. Cost: one comparison per time, and a sort of those above the floor.
    """
    above = np.flatnonzero(recent_s > floor_s)
    if len(above) < WITNESSES:
        return floor_s
    values_s = recent_s[above]
    if above[-1] - above[0] < RECENT_VISITS:
        return int(np.partition(values_s, -WITNESSES)[-WITNESSES])
    levels_s = np.unique(values_s)
    low, high = -1, len(levels_s)  # reached at `low` (the floor is), not at `high`
    while high - low > 1:
        level = (low + high) // 2
        at = above[values_s >= levels_s[level]]
        reached = len(at) >= WITNESSES and bool((at[WITNESSES - 1 :] - at[: 1 - WITNESSES] < RECENT_VISITS).any())
        low, high = (level, high) if reached else (low, level)
    return int(levels_s[low]) if low >= 0 else floor_s


# ---------------------------------------------------------------- live sources
def recent_delays_s(delays_s: I64Array, arrivals_s: I64Array, times_s: I64Array) -> I64Array:
    """The last 1,000 delays (arrival minus event time) after further plausible visits. One pass."""
    news_s = arrivals_s[-RECENT_VISITS:] - times_s[-RECENT_VISITS:]
    return np.concatenate([delays_s, news_s])[-RECENT_VISITS:]


def arrival_delay_s(delays_s: I64Array) -> int:
    """The 20th largest of the recent delays, at least 0; the largest if there are fewer: that closes later."""
    if not len(delays_s):
        return 0
    rank = WITNESSES if len(delays_s) >= WITNESSES else 1
    return max(0, int(np.partition(delays_s, -rank)[-rank]))


class Arrival(msgspec.Struct, frozen=True):
    """What a live partition knows about arrival. All in seconds.

    ``since_s`` is monotonic time since the last record arrived; ``last_s`` and ``largest_s`` are record timestamps.
    """

    wall_s: int
    last_s: int
    largest_s: int
    since_s: int
    caught_up: bool


def closing_clock_s(clock_s: int | None, arrival: Arrival, delay_s: int) -> int | None:
    """The clock by which a live partition closes buckets; it changes no verdict. None if there is none yet.

    Caught up: at least ``min(wall, last arrival + time since) - delay``, unless the delay is more than 60 s; so the
    last minute closes when traffic stops. Never above the largest arrival + the time since.
    """
    known = [] if clock_s is None else [clock_s]
    if arrival.caught_up and delay_s <= ARRIVAL_DELAY_S_MAX:
        known.append(min(arrival.wall_s, arrival.last_s + arrival.since_s) - delay_s)
    return min(max(known), arrival.largest_s + arrival.since_s) if known else None


def is_idle(caught_up: bool, silent_s: float, idle_timeout_s: float = IDLE_TIMEOUT_S) -> bool:
    """Whether a partition no longer holds back its topic: at its end and silent. A lagging one is never idle."""
    return caught_up and silent_s >= idle_timeout_s


class PartitionClock(msgspec.Struct, frozen=True):
    """A partition as its topic sees it. ``floor_s``: the topic's clock when it last ceased to be idle (or None)."""

    clock_s: int | None
    idle: bool = False
    floor_s: int | None = None


def topic_clock_s(partitions: Iterable[PartitionClock], before_s: int | None) -> int | None:
    """The minimum over the partitions that are not idle, each at least its floor; else, as ``before_s``.

    The floor keeps the topic's clock from going back when an idle partition returns; a jump back of a partition that
    was not idle takes the topic's clock along. A partition without a clock holds the topic's where it was.
    """
    clocks_s = []
    for one in partitions:
        if one.idle:
            continue
        if one.clock_s is None:
            return before_s
        clocks_s.append(one.clock_s if one.floor_s is None else max(one.clock_s, one.floor_s))
    return min(clocks_s) if clocks_s else before_s


def store_clock_s(open_s: Sequence[int | None], ended_s: Iterable[int]) -> int | None:
    """The minimum over open sources; with none open, the largest of the ended ones. None: nothing is closed."""
    if not open_s:
        return max(ended_s, default=None)
    started_s = [clock_s for clock_s in open_s if clock_s is not None]
    return min(started_s) if len(started_s) == len(open_s) else None
