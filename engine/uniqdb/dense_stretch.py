"""A stretch of dense, honest visits judged as arrays: what provably goes the ordinary way is not looked at singly.

The visits are cut into blocks of 100, the last of which may have fewer. For each block there is a lower bound of the
clock at its beginning (the 20th largest time of the block before it) and an upper bound at its end (the largest time so
far). A stretch is the longest run of blocks for which the bounds prove, whatever the clock does between them, that

- every visit lies within the limits when it comes, and stays there for the 100 visits in which it could help a jump;
- each of the recent times may carry the clock from the beginning, or not before the end;
- no held visit comes within the limits, gets company, or expires.

Then every visit is accepted, there is no jump, and the clock is the highest 20th largest of 1,000 consecutive times.
"""

import msgspec
import numpy as np
import numpy.typing as npt

from uniqdb.clock import carried_clock_s
from uniqdb.limits import JUMP_VISITS, LIMITS_EVERY_VISITS, RECENT_VISITS, WITNESSES
from uniqdb.recent_times import EventTimeLimits, dense_span_s
from uniqdb.visit import I64Array

BoolArray = npt.NDArray[np.bool_]

_BLOCK = JUMP_VISITS
_NEVER_S = 2**62
_NEVER_REACHED_S = -_NEVER_S
STRETCH_VISITS_MAX = 16_384
"""Of so many visits at most the bounds are computed at once. Speed only."""
LATE_FRACTION_MAX = 1 / 16
"""With more candidates for an exact clock than this it is faster to look at every visit."""


class Standing(msgspec.Struct, frozen=True):
    """Where a judge stands before the stretch. ``held_s`` ascending; all but the numbers of visits in seconds."""

    configured: EventTimeLimits
    limits: EventTimeLimits
    clock_s: int
    visit_number: int
    held_s: list[int]
    first_expiry: int | None


class Stretch(msgspec.Struct, frozen=True):
    """All of the first visits, as many as ``clock_before_s`` is long, are accepted; clock and limits after them."""

    clock_s: int
    limits: EventTimeLimits
    clock_before_s: I64Array


class _Limits(msgspec.Struct, frozen=True):
    """The limits inside a stretch: the least and the largest, and what they are from each hundredth visit on."""

    ahead_s: tuple[int, int]
    late_s: tuple[int, int]
    steps: list[tuple[int, EventTimeLimits]]
    visits: int


def dense_stretch(recent_s: I64Array, times_s: I64Array, standing: Standing, lateness_s: int) -> Stretch | None:
    """The longest provable stretch at the beginning of ``times_s``, or None. ``recent_s``: the full 1,000 before it.

    ``lateness_s``: see `Judged.clock_before_s`. Cost: a few passes, and 30 us for each visit that comes after its
    minute may have been closed.
    """
    visits = min(len(times_s), STRETCH_VISITS_MAX)
    if standing.first_expiry is not None:
        visits = min(visits, standing.first_expiry - standing.visit_number - 1)
    all_s = np.concatenate([recent_s, times_s[: max(visits, 0)]])
    limits = _limits_inside(all_s, standing)
    if limits.visits < _BLOCK:
        return None
    carriers = recent_s <= standing.clock_s + limits.ahead_s[0]
    highest_s = max(int(recent_s[carriers].max(initial=_NEVER_REACHED_S)), standing.clock_s)
    times_s, starts = times_s[: limits.visits], np.arange(0, limits.visits, _BLOCK)
    lowest_s, largest_s = np.minimum.reduceat(times_s, starts), np.maximum.reduceat(times_s, starts)
    floor_s = np.maximum.accumulate(np.concatenate([[standing.clock_s], _reached_s(times_s)]))
    ceiling_s = np.maximum.accumulate(np.maximum(largest_s, highest_s))
    fine = _proved((lowest_s, largest_s), (floor_s[: len(starts)], ceiling_s), limits, standing)
    fine &= ceiling_s + limits.ahead_s[1] < int(recent_s[~carriers].min(initial=_NEVER_S))
    blocks = len(starts) if fine.all() else int(fine.argmin())
    visits = min(blocks * _BLOCK, limits.visits)
    last_s = recent_s[-JUMP_VISITS:]
    beyond = (last_s > standing.clock_s + limits.ahead_s[0]) | (last_s < ceiling_s[0] - limits.late_s[0])
    if not blocks or np.count_nonzero(beyond) > JUMP_VISITS // 2:
        return None
    all_s = all_s[1 : RECENT_VISITS + visits]
    all_s[: RECENT_VISITS - 1][~carriers[1:]] = _NEVER_REACHED_S
    before_s = _clocks_before(all_s, floor_s[:blocks], highest_s, lateness_s)
    if before_s is None:
        return None
    after = [standing.limits, *(one for visit, one in limits.steps if visit <= visits)][-1]
    return Stretch(carried_clock_s(all_s, int(floor_s[visits // _BLOCK])), after, before_s)


def _reached_s(times_s: I64Array) -> I64Array:
    """The 20th largest time of each whole block."""
    blocked_s = times_s[: len(times_s) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    return np.partition(blocked_s, _BLOCK - WITNESSES, axis=1)[:, _BLOCK - WITNESSES]


def _limits_inside(all_s: I64Array, standing: Standing) -> _Limits:
    """The limits at each hundredth visit. While visits are held they must not change: the stretch ends before."""
    visits = len(all_s) - RECENT_VISITS
    now = standing.limits
    first = LIMITS_EVERY_VISITS - standing.visit_number % LIMITS_EVERY_VISITS
    if visits < first:
        return _Limits((now.ahead_limit_s,) * 2, (now.late_limit_s,) * 2, [], visits)
    number = (visits - first) // LIMITS_EVERY_VISITS + 1
    parts = RECENT_VISITS // LIMITS_EVERY_VISITS
    parts_s = all_s[first : first + (number + parts - 1) * LIMITS_EVERY_VISITS].reshape(-1, LIMITS_EVERY_VISITS)
    windows = np.lib.stride_tricks.sliding_window_view
    span_s = windows(parts_s.max(axis=1), parts).max(axis=1) - windows(parts_s.min(axis=1), parts).min(axis=1)
    is_dense_there = span_s < dense_span_s(standing.configured)
    if now == standing.configured and is_dense_there.all():  # the rule: nothing changes
        return _Limits((now.ahead_limit_s,) * 2, (now.late_limit_s,) * 2, [], visits)
    dense = is_dense_there.tolist()
    steps = []
    for index, is_dense in enumerate(dense):
        visit = first + index * LIMITS_EVERY_VISITS
        there = standing.configured
        if not is_dense:
            there = there.widened(np.sort(all_s[visit : visit + RECENT_VISITS]))
        if standing.held_s and there != now:
            visits = visit - 1
            break
        steps.append((visit, there))
    ahead_s = [now.ahead_limit_s, *(one.ahead_limit_s for _, one in steps)]
    late_s = [now.late_limit_s, *(one.late_limit_s for _, one in steps)]
    return _Limits((min(ahead_s), max(ahead_s)), (min(late_s), max(late_s)), steps, visits)


def _proved(
    visits_s: tuple[I64Array, I64Array], bounds_s: tuple[I64Array, I64Array], limits: _Limits, standing: Standing
) -> BoolArray:
    """For which blocks, of which the least and the largest times are given, and bounds of the clock at their beginning
    and end, the visits lie within the limits and leave the held ones alone.
    """
    (lowest_s, largest_s), (floor_s, ceiling_s) = visits_s, bounds_s
    recently_s = lowest_s.copy()
    recently_s[1:] = np.minimum(lowest_s[1:], lowest_s[:-1])
    fine: BoolArray = largest_s <= floor_s + limits.ahead_s[0]
    fine &= recently_s >= ceiling_s - limits.late_s[0]
    for held_s in standing.held_s:
        if held_s >= standing.clock_s:
            # The next held time is larger still, and the ceiling lies above every visit so far.
            fine &= ceiling_s + limits.ahead_s[1] < held_s
            break
        if held_s >= standing.clock_s - limits.late_s[1]:
            return np.zeros_like(fine)
        fine &= lowest_s > held_s + limits.ahead_s[1]
    return fine


def _clocks_before(all_s: I64Array, floor_s: I64Array, highest_s: int, lateness_s: int) -> I64Array | None:
    """The clock before each visit: exact where the largest time so far lies beyond its minute, else a lower bound.

    ``all_s``: 999 times before the stretch, then the stretch. None: too many would have to be exact.
    """
    times_s = all_s[RECENT_VISITS - 1 :]
    largest_s = np.empty_like(times_s)
    largest_s[0] = highest_s
    np.maximum.accumulate(times_s[:-1], out=largest_s[1:])
    np.maximum(largest_s, highest_s, out=largest_s)
    before_s = np.repeat(floor_s, _BLOCK)[: len(times_s)]
    late = np.flatnonzero(largest_s - times_s > lateness_s)
    late = late[(times_s[late] // 60 + 1) * 60 + lateness_s <= largest_s[late]]
    if len(late) > LATE_FRACTION_MAX * len(times_s):
        return None
    for index in late[late > 0].tolist():  # before the first visit the clock is the first floor
        before_s[index] = carried_clock_s(all_s[: RECENT_VISITS - 1 + index], int(before_s[index]))
    return before_s
