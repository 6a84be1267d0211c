"""Covers against the shortest path over every kept bucket, and trailing windows against counting by hand."""

import functools
import zlib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniqdb.calendar_zone import CalendarZone
from uniqdb.errors import WindowNotKept
from uniqdb.granularity import Bucket, Granularity
from uniqdb.window import TrailingWindow, cover, trailing_interval

ZONES = ("UTC", "Europe/Zurich", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Beirut", "America/St_Johns")
DAY_GRANULARITIES = (Granularity.DAY, Granularity.WEEK, Granularity.MONTH, Granularity.YEAR)
IsKept = Callable[[Bucket], bool]
zones = st.sampled_from(ZONES).map(functools.cache(CalendarZone.from_name))
percents = st.sampled_from((0, 50, 90, 97, 100, 100))


@st.composite
def kept_rules(draw: st.DrawFn, always: tuple[Granularity, ...] = ()) -> IsKept:
    """Keeps a part of the buckets of each granularity, chosen by a checksum of their start."""
    seed = draw(st.integers(0, 2**16))
    percent = {granularity: 100 if granularity in always else draw(percents) for granularity in Granularity}

    def is_kept(bucket: Bucket) -> bool:
        named = f"{seed} {bucket.granularity} {bucket.start_s}".encode()
        return zlib.crc32(named) % 100 < percent[bucket.granularity]

    return is_kept


def fewest(
    zone: CalendarZone, interval: tuple[int, int], granularities: tuple[Granularity, ...], is_kept: IsKept
) -> float:
    """The number of buckets in the smallest cover, infinite without one: each instant after all before it."""
    start_s, end_s = interval
    ending: dict[int, list[int]] = {}
    for granularity in granularities:
        for first_s, next_s in pairwise(zone.edges(granularity, start_s, end_s).tolist()):
            if start_s <= first_s and next_s <= end_s and is_kept(Bucket(granularity, first_s, next_s)):
                ending.setdefault(next_s, []).append(first_s)
    cost: dict[int, float] = {start_s: 0}
    for instant in sorted(ending):
        cost[instant] = 1 + min(cost.get(first_s, float("inf")) for first_s in ending[instant])
    return cost.get(end_s, float("inf"))


def assert_fewest(
    zone: CalendarZone, interval: tuple[int, int], granularities: tuple[Granularity, ...], is_kept: IsKept
) -> None:
    expected = fewest(zone, interval, granularities, is_kept)
    if expected == float("inf"):
        with pytest.raises(WindowNotKept):
            cover(zone, *interval, is_kept)
        return
    found = cover(zone, *interval, is_kept)
    assert len(found) == expected
    assert (found[0].start_s, found[-1].end_s) == interval
    assert all(left.end_s == right.start_s for left, right in pairwise(found))
    for bucket in found:
        assert is_kept(bucket)
        assert zone.bucket_at(bucket.granularity, bucket.start_s) == bucket


days = st.dates(date(2000, 1, 1), date(2030, 1, 1)) | st.dates(date(2011, 11, 1), date(2012, 1, 31))


@given(zones, days, st.integers(0, 1440), st.integers(1, 3000), kept_rules() | kept_rules((Granularity.MINUTE,)))
@settings(max_examples=120, deadline=None)
def test_no_smaller_cover_of_some_minutes(
    zone: CalendarZone, day: date, minute: int, length: int, is_kept: IsKept
) -> None:
    start_s = zone.day_start(day) + minute * 60
    assert_fewest(zone, (start_s, start_s + length * 60), tuple(Granularity), is_kept)


@given(zones, days, st.integers(1, 1500), kept_rules((Granularity.DAY,)) | kept_rules())
@settings(max_examples=150, deadline=None)
def test_no_smaller_cover_of_some_days(zone: CalendarZone, day: date, length: int, is_kept: IsKept) -> None:
    """Days, weeks, months and years compete here; finer buckets are not kept."""

    def keep(bucket: Bucket) -> bool:
        return bucket.granularity >= Granularity.DAY and is_kept(bucket)

    interval = zone.day_start(day), zone.day_end(day + timedelta(days=length))
    assert_fewest(zone, interval, DAY_GRANULARITIES, keep)


@st.composite
def about_whole_years(draw: st.DrawFn) -> tuple[date, date]:
    year, years = draw(st.integers(2001, 2025)), draw(st.integers(1, 3))
    before, after = draw(st.integers(-9, 9)), draw(st.integers(-9, 9))
    return date(year, 1, 1) + timedelta(days=before), date(year + years, 1, 1) + timedelta(days=after)


@given(zones, about_whole_years(), kept_rules())
@settings(max_examples=200, deadline=None)
def test_no_smaller_cover_around_whole_years(zone: CalendarZone, span: tuple[date, date], is_kept: IsKept) -> None:
    """The short cut that takes whole years must not take one where a week across its end is the better way."""

    def keep(bucket: Bucket) -> bool:
        return bucket.granularity in (Granularity.WEEK, Granularity.YEAR) or (
            bucket.granularity >= Granularity.DAY and is_kept(bucket)
        )

    assert_fewest(zone, (zone.day_start(span[0]), zone.day_start(span[1])), DAY_GRANULARITIES, keep)


@given(zones, days, st.integers(0, 1439), st.integers(1, 100), kept_rules((Granularity.HOUR,)))
@settings(max_examples=40, deadline=None)
def test_no_smaller_cover_where_hours_stand_in_for_days(
    zone: CalendarZone, day: date, minute: int, length: int, is_kept: IsKept
) -> None:
    start_s = zone.bucket_at(Granularity.HOUR, zone.day_start(day) + minute * 60).start_s
    end_s = zone.day_end(day + timedelta(days=length))

    def keep(bucket: Bucket) -> bool:
        return bucket.granularity > Granularity.MINUTE and is_kept(bucket)

    assert_fewest(zone, (start_s, end_s), (Granularity.HOUR, *DAY_GRANULARITIES), keep)


@given(zones, st.dates(date(2000, 1, 1), date(2030, 1, 1)), st.integers(4, 12), st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_a_day_made_of_hours_costs_so_many(zone: CalendarZone, day: date, weeks: int, seed: int) -> None:
    """Weeks alone always cover this span; months with swept days beside them are worse than they look."""

    def keep(bucket: Bucket) -> bool:
        return bucket.granularity is not Granularity.DAY or zlib.crc32(f"{seed} {bucket}".encode()) % 2 == 0

    monday = day - timedelta(days=day.weekday())
    interval = zone.day_start(monday), zone.day_start(monday + timedelta(weeks=weeks))
    assert_fewest(zone, interval, (Granularity.HOUR, *DAY_GRANULARITIES), keep)


@given(zones, st.integers(2000, 2024), st.integers(0, 525_000), st.integers(0, 525_000))
@settings(max_examples=40, deadline=None)
def test_many_years_with_everything_kept(zone: CalendarZone, year: int, minute: int, last_minute: int) -> None:
    start_s = zone.day_start(date(year, 1, 1)) + minute * 60
    end_s = zone.day_start(date(year + 1, 1, 1)) + last_minute * 60
    if start_s >= end_s:
        start_s, end_s = end_s, start_s + 60
    found = cover(zone, start_s, end_s)
    assert (found[0].start_s, found[-1].end_s) == (start_s, end_s)
    assert all(left.end_s == right.start_s for left, right in pairwise(found))


@given(zones, days, st.integers(0, 1439), st.integers(1, 400))
@settings(max_examples=80, deadline=None)
def test_trailing_windows_hold_so_many_units(zone: CalendarZone, day: date, minute: int, length: int) -> None:
    as_of_s = zone.day_start(day) + minute * 60 + 7
    last = zone.local_date(as_of_s)

    start_s, end_s = trailing_interval(zone, TrailingWindow(length, Granularity.DAY), as_of_s)
    first = last - timedelta(days=length - 1)
    label = datetime(first.year, first.month, first.day, tzinfo=zone.zone_info)
    assert start_s == max(zone.start_s, int(label.astimezone(UTC).timestamp()))
    assert end_s == zone.day_end(last)

    start_s, end_s = trailing_interval(zone, TrailingWindow(length, Granularity.HOUR), as_of_s)
    hour_s = zone.bucket_at(Granularity.HOUR, as_of_s).start_s
    for _ in range(length - 1):
        hour_s = zone.bucket_at(Granularity.HOUR, hour_s - 1).start_s
    assert (start_s, end_s) == (hour_s, zone.bucket_at(Granularity.HOUR, as_of_s).end_s)

    start_s, end_s = trailing_interval(zone, TrailingWindow(length, Granularity.MINUTE), as_of_s)
    assert (start_s, end_s) == (as_of_s // 60 * 60 - (length - 1) * 60, as_of_s // 60 * 60 + 60)
