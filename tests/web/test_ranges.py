"""The range before a range: it ends where that one starts, and has as many days or as many seconds."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniqdb.calendar_zone import CalendarZone
from uniqdb.errors import UsageError
from uniqdb.granularity import Granularity
from uniqdb.moments import resolve_window
from uniqdb_cli.web.ranges import Range, assert_short, range_before, window_before

ZONES = [CalendarZone.from_name(name) for name in ("UTC", "Europe/Zurich", "Australia/Lord_Howe", "Pacific/Apia")]
zones = st.sampled_from(ZONES)
days = st.dates(datetime.date(2002, 1, 1), datetime.date(2030, 1, 1))
DAY = datetime.timedelta(days=1)


@given(zones, days, st.integers(1, 800))
def test_whole_days_go_before_as_many(zone: CalendarZone, first: datetime.date, length: int) -> None:
    start_s, end_s = zone.day_start(first), zone.day_end(first + (length - 1) * DAY)
    if start_s == end_s or zone.local_date(start_s) != first:
        return  # Apia had no 2011-12-30
    last = zone.local_date(end_s - 1)
    before = range_before(zone, Range(start_s, end_s, end_s))
    assert before.end_s == before.begun_s == start_s
    assert before.start_s == zone.day_start(first - (last - first) - DAY)


@given(zones, st.integers(0, 10**7), st.integers(1, 10**5))
def test_anything_else_goes_before_as_long(zone: CalendarZone, minute: int, length: int) -> None:
    after = Range(10**9 + 60 * minute, 10**9 + 60 * (minute + length), 0)
    before = range_before(zone, after)
    first, last = zone.local_date(after.start_s), zone.local_date(after.end_s - 1)
    if (zone.day_start(first), zone.day_end(last)) != (after.start_s, after.end_s):
        assert before.end_s - before.start_s == after.end_s - after.start_s
    assert before.end_s == after.start_s


def test_a_day_that_is_none_is_no_window() -> None:
    """Apia went from 2011-12-29 to 2011-12-31."""
    for zone, day in ((ZONES[3], "2011-12-30"), (ZONES[0], "1990-01-05")):
        with pytest.raises(UsageError, match="holds no time at all"):
            resolve_window(zone, "1d", day, None)
    assert resolve_window(ZONES[3], "2d", "2011-12-30", None).start_s == ZONES[3].day_start(datetime.date(2011, 12, 29))


def test_an_empty_range_has_an_empty_one_before_it() -> None:
    assert range_before(ZONES[0], Range(600, 600, 600)) == Range(600, 600, 600)


@given(zones, days, st.sampled_from(["1d", "30d", "24h", "45m"]))
def test_the_window_before_ends_where_one_starts(zone: CalendarZone, day: datetime.date, window: str) -> None:
    start_s = zone.day_start(day)
    if zone.local_date(start_s) != day:
        return
    before = window_before(zone, window, start_s)
    end_s = zone.day_end(before) if isinstance(before, datetime.date) else before + 60
    assert end_s == start_s


@given(zones, days, st.sampled_from(list(Granularity)), st.integers(1, 60))
def test_no_more_buckets_than_are_allowed(
    zone: CalendarZone, first: datetime.date, granularity: Granularity, length: int
) -> None:
    """What is let through has at most so many, and what has half of them is let through."""
    span = Range(zone.day_start(first), zone.day_end(first + length * DAY), 0)
    number = len(zone.edges(granularity, span.start_s, span.end_s)) - 1
    if zone.name != "Pacific/Apia":
        assert_short(span, granularity, 2 * number + 2)
    if number >= 3:
        with pytest.raises(UsageError, match="too much for one answer"):
            assert_short(span, granularity, number - 3)
