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
    return _averaged(answers, days, edges_s[0])


def _day(answers: Answers, bucket: Bucket) -> StickyDay:
    day = answers.bucket_record(bucket)
    week, month = (
        answers.count_interval(*trailing_interval(answers.zone, window, bucket.start_s)) for window in (WEEK, MONTH)
    )
    return StickyDay(
        datetime=day.datetime,
        start_ts=day.start_ts,
        end_ts=day.end_ts,
        dau=day.count,
        wau=week.count,
        mau=month.count,
        dau_wau=_part(day.count, week.count),
        dau_mau=_part(day.count, month.count),
        status=day.status,
        complete=month.complete,
    )


def _part(count: int, whole: int) -> float | None:
    return round(count / whole, 6) if whole else None


def _averaged(answers: Answers, days: list[StickyDay], start_s: int) -> Stickiness:
    chosen = [one for one in days if one.complete and one.mau] or [one for one in days if one.mau]
    return Stickiness(
        start_ts=days[0].start_ts if days else start_s,
        end_ts=days[-1].end_ts if days else start_s,
        dau_wau=_mean([one.dau / one.wau for one in chosen if one.wau]),
        dau_mau=_mean([one.dau / one.mau for one in chosen]),
        days_averaged=len(chosen),
        complete=bool(days) and all(one.complete for one in days),
        timezone=answers.zone.name,
        epoch=answers.epoch,
        days=days,
    )


def _mean(parts: list[float]) -> float | None:
    return round(math.fsum(parts) / len(parts), 6) if parts else None
