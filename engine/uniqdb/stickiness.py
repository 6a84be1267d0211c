"""Stickiness: which part of a week's and a month's visitors comes on a day. Each day against its trailing windows."""

import math
from collections.abc import Callable
from itertools import pairwise

import msgspec

from uniqdb.answers import Answers
from uniqdb.cohorts import nothing_to_do, period_edges
from uniqdb.granularity import Bucket, Granularity
from uniqdb.window import TrailingWindow, trailing_interval

WEEK = TrailingWindow(7, Granularity.DAY)
MONTH = TrailingWindow(30, Granularity.DAY)
DAYS = 30
"""So many days, up to the newest, are looked at unless somebody says otherwise."""


class StickyDay(msgspec.Struct, frozen=True):
    """A day, ``[start_ts, end_ts)``: ``dau``, its different visitors; ``wau`` and ``mau``, those of the 7 and the 30
    days that end with it; and the parts ``dau / wau`` and ``dau / mau``, None where nobody came.

    ``complete``: the day is over, no visit of the 30 days can be missing, and they begin no earlier than the store.
    """

    datetime: str
    start_ts: int
    end_ts: int
    dau: int
    wau: int
    mau: int
    dau_wau: float | None
    dau_mau: float | None
    status: str
    complete: bool


class Stickiness(msgspec.Struct, frozen=True, kw_only=True):
    """The days of a range, and the means of their parts, each day with the same weight.

    The means are over the ``days_averaged`` days that are complete; where none is, over all that have visitors within
    their 30 days. None where there is no such day either. ``complete`` if all days are.
    """

    start_ts: int
    end_ts: int
    dau_wau: float | None
    dau_mau: float | None
    days_averaged: int
    complete: bool
    timezone: str
    epoch: int
    days: list[StickyDay]


def stickiness(answers: Answers, edges_s: tuple[int, int], between: Callable[[], None] = nothing_to_do) -> Stickiness:
    """Each day that starts in ``[start, end)`` and has begun. ``between`` is called once a day, and may raise.

    Cost: two unions of a few buckets for each day. Raises WindowNotKept.
    """
    days = []
    for start_s, end_s in pairwise(period_edges(answers, Granularity.DAY, edges_s)):
        between()
        days.append(_day(answers, Bucket(Granularity.DAY, start_s, end_s)))
    return averaged(
        Stickiness(
            start_ts=days[0].start_ts if days else edges_s[0],
            end_ts=days[-1].end_ts if days else edges_s[0],
            dau_wau=None,
            dau_mau=None,
            days_averaged=0,
            complete=bool(days) and all(one.complete for one in days),
            timezone=answers.zone.name,
            epoch=answers.epoch,
            days=days,
        )
    )


def _day(answers: Answers, bucket: Bucket) -> StickyDay:
    day = answers.bucket_record(bucket)
    week, month = (
        answers.count_interval(*trailing_interval(answers.zone, window, bucket.start_s)) for window in (WEEK, MONTH)
    )
    words, counts = (day.datetime, day.start_ts, day.end_ts), (day.count, week.count, month.count)
    return with_parts(StickyDay(*words, *counts, None, None, day.status, month.complete))


def with_parts(day: StickyDay) -> StickyDay:
    """The day with the parts that its counts say."""
    return msgspec.structs.replace(day, dau_wau=_part(day.dau, day.wau), dau_mau=_part(day.dau, day.mau))


def _part(count: int, whole: int) -> float | None:
    return round(count / whole, 6) if whole else None


def averaged(found: Stickiness) -> Stickiness:
    """The same days with the means that they say."""
    chosen = [one for one in found.days if one.complete and one.mau] or [one for one in found.days if one.mau]
    return msgspec.structs.replace(
        found,
        dau_wau=_mean([one.dau / one.wau for one in chosen if one.wau]),
        dau_mau=_mean([one.dau / one.mau for one in chosen]),
        days_averaged=len(chosen),
    )


def _mean(parts: list[float]) -> float | None:
    return round(math.fsum(parts) / len(parts), 6) if parts else None
