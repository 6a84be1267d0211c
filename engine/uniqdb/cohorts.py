"""Cohorts: of the visitors first seen in one period, how many came back in each of the following ones.

First seen means first in what the store keeps. A visitor is in one cohort only, so the cohorts are disjoint sets, and
together no larger than everybody; each period's set is intersected with all cohorts before it and then let go.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise, starmap

import msgspec
from pyroaring import BitMap

from uniqdb.answers import Answers
from uniqdb.errors import UsageError
from uniqdb.granularity import Bucket, Granularity
from uniqdb.limits import COHORTS_MAX
from uniqdb.visitor_questions import is_whole_before, seen_sets, since_s

COHORT_WORDS = ("day", "week", "month")
PERIODS = 12
"""So many periods, up to the newest, are looked at unless somebody says otherwise."""


class CohortPeriod(msgspec.Struct, frozen=True):
    """A day, week or month, ``[start_ts, end_ts)``. ``count``: all its visitors; ``new``: who was first seen in it.

    ``returned[n]`` of the new ones were there in the n-th period after it; ``returned[0]`` is ``new``. ``complete``: it
    is over, begins no earlier than the store, and no visit of it, or before the first period, can be missing.
    """

    datetime: str
    start_ts: int
    end_ts: int
    count: int
    new: int
    status: str
    complete: bool
    returned: list[int]


class Cohorts(msgspec.Struct, frozen=True, kw_only=True):
    """Periods of one granularity, ascending, without a gap, each with the cohort of the visitors first seen in it.

    Whoever was seen in ``[since_ts, start_ts)`` belongs to an earlier cohort, which is not told. ``complete`` if all
    periods are.
    """

    by: str
    start_ts: int
    end_ts: int
    since_ts: int
    timezone: str
    complete: bool
    epoch: int
    periods: list[CohortPeriod]


def nothing_to_do() -> None:
    """Nobody wants to be called between two periods."""


def cohorts(
    answers: Answers, by: Granularity, edges_s: tuple[int, int], between: Callable[[], None] = nothing_to_do
) -> Cohorts:
    """The cohorts of the days, weeks or months that start in ``[start, end)`` and have begun.

    ``between`` is called once for each period, and may raise. Cost: each period's set, one union of all that was before
    the first, and an intersection for each pair of periods, of 10 to 80 us in a store of two million visitors: a year
    by week takes a tenth of a second, by day one or two.
    Raises UsageError for another granularity or more than `COHORTS_MAX` periods, WindowNotKept.
    """
    if by.word not in COHORT_WORDS:
        raise UsageError(f"there are no cohorts by {by.word}", hint=f"use one of: {', '.join(COHORT_WORDS)}")
    starts_s = period_edges(answers, by, edges_s)
    if len(starts_s) - 1 > COHORTS_MAX:
        raise UsageError(
            f"there are {len(starts_s) - 1:,} {by.word}s, and at most {COHORTS_MAX} cohorts in one answer",
            hint="ask for a shorter range, or for a coarser granularity",
        )
    periods: list[CohortPeriod] = []
    members: list[BitMap] = []
    first_s = starts_s[0] if starts_s else edges_s[0]
    seen = BitMap.union(BitMap(), *(seen_sets(answers, first_s, None) if starts_s else []))
    is_whole = is_whole_before(answers, first_s, None)
    for bucket in starmap(partial(Bucket, by), pairwise(starts_s)):
        between()
        here = BitMap.union(BitMap(), *answers.sets(bucket.start_s, bucket.end_s))
        for cohort, period in zip(members, periods, strict=True):
            period.returned.append(cohort.intersection_cardinality(here))
        record = answers.bucket_record(bucket)
        here -= seen
        seen |= here
        members.append(here)
        words = record.datetime, record.start_ts, record.end_ts, record.count
        periods.append(CohortPeriod(*words, len(here), record.status, record.complete and is_whole, [len(here)]))
    return Cohorts(
        by=by.word,
        start_ts=first_s,
        end_ts=periods[-1].end_ts if periods else first_s,
        since_ts=since_s(answers, first_s, None),
        timezone=answers.zone.name,
        complete=all(one.complete for one in periods),
        epoch=answers.epoch,
        periods=periods,
    )


def period_edges(answers: Answers, by: Granularity, edges_s: tuple[int, int]) -> list[int]:
    """The edges of the periods that start in ``[start, end)`` and have begun by the clock or the newest visit."""
    start_s, end_s = edges_s
    newest_s = answers.state.event_time_s_max
    if newest_s is None:
        return []
    end_s = min(end_s, answers.zone.bucket_at(by, max(answers.state.clock_s or 0, newest_s)).end_s)
    if start_s >= end_s:
        return []
    return [at for at in answers.zone.edges(by, start_s, end_s).tolist() if at >= start_s]


def newest_periods(
    answers: Answers, by: Granularity, edges_s: tuple[int | None, int | None], number: int
) -> tuple[int, int]:
    """``[start, end)``, and for an end that is None: that of the period of the store's clock; for a start: so many
    periods before the end, but none before that of the first visit.

    A start after the store's clock makes it empty. Raises NotFound if the store has no visits to say it, UsageError if
    the end was given and is not after the start.
    """
    start_s, end_s = edges_s
    if start_s is not None and end_s is not None and start_s >= end_s:
        raise UsageError("the interval is empty: its start is not before its end", hint="swap the two")
    zone = answers.zone
    if end_s is None:
        end_s = zone.bucket_at(by, answers.as_of_default_s()).end_s
    if start_s is None:
        oldest_s = answers.state.event_time_s_min or 0
        first = zone.bucket_at(by, end_s - 1)
        for _ in range(number - 1):
            if first.start_s <= max(oldest_s, zone.start_s):
                break
            first = zone.bucket_at(by, first.start_s - 1)
        start_s = max(first.start_s, zone.start_s)
    return start_s, max(start_s, end_s)
