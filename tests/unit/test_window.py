"""Window, period and edge texts, and covers that can be counted by hand."""

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest

from uniqdb.calendar_zone import CalendarZone
from uniqdb.errors import UsageError, WindowNotKept
from uniqdb.granularity import Bucket, Granularity
from uniqdb.window import TrailingWindow, cover, parse_edge, parse_period, parse_window, trailing_interval

UTC_ZONE = CalendarZone.from_name("UTC")
ZURICH = CalendarZone.from_name("Europe/Zurich")
APIA = CalendarZone.from_name("Pacific/Apia")
LORD_HOWE = CalendarZone.from_name("Australia/Lord_Howe")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def words(buckets: list[Bucket]) -> str:
    return " ".join(bucket.granularity.word for bucket in buckets)


@pytest.mark.parametrize(
    ("text", "length", "unit"),
    [
        ("1d", 1, Granularity.DAY),
        ("30d", 30, Granularity.DAY),
        ("36600d", 36600, Granularity.DAY),
        ("24h", 24, Granularity.HOUR),
        ("878400h", 878400, Granularity.HOUR),
        ("45m", 45, Granularity.MINUTE),
        ("52704000m", 52704000, Granularity.MINUTE),
    ],
)
def test_windows(text: str, length: int, unit: Granularity) -> None:
    assert parse_window(text) == TrailingWindow(length, unit)
    assert parse_window(text).text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "d",
        "30",
        "0d",
        "-1d",
        "1.5d",
        "30D",
        "30 d",
        " 30d",
        "30d\n",
        "1w",
        "36601d",
        "878401h",
        "52704001m",
        "٣d",
        "9" * 5000 + "d",
    ],
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_window(text)
    assert caught.value.hint.startswith(("use 1", "windows look like"))


def trailing(zone: CalendarZone, text: str, as_of: str) -> tuple[str, str]:
    start_s, end_s = trailing_interval(zone, parse_window(text), at(as_of))
    return zone.isoformat(start_s), zone.isoformat(end_s)


def test_trailing_windows_include_the_current_unit() -> None:
    as_of = "2016-07-11T13:39:44+00:00"
    assert trailing(UTC_ZONE, "1d", as_of) == ("2016-07-11T00:00:00+00:00", "2016-07-12T00:00:00+00:00")
    assert trailing(UTC_ZONE, "30d", as_of) == ("2016-06-12T00:00:00+00:00", "2016-07-12T00:00:00+00:00")
    assert trailing(UTC_ZONE, "24h", as_of) == ("2016-07-10T14:00:00+00:00", "2016-07-11T14:00:00+00:00")
    assert trailing(UTC_ZONE, "45m", as_of) == ("2016-07-11T12:55:00+00:00", "2016-07-11T13:40:00+00:00")


def test_a_skipped_date_counts_as_one_of_the_days() -> None:
    as_of = "2012-01-01T12:00:00+14:00"
    assert trailing(APIA, "3d", as_of) == ("2011-12-31T00:00:00+14:00", "2012-01-02T00:00:00+14:00")
    assert trailing(APIA, "4d", as_of) == ("2011-12-29T00:00:00-10:00", "2012-01-02T00:00:00+14:00")


def test_trailing_hours_are_buckets_of_any_length() -> None:
    as_of = "2016-10-02T03:10:00+11:00"
    assert trailing(LORD_HOWE, "2h", as_of) == ("2016-10-02T01:00:00+10:30", "2016-10-02T04:00:00+11:00")


@pytest.mark.parametrize(("as_of", "hours"), [("2018-01-01T00:00+00:00", 9000), ("2095-06-01T00:00+00:00", 800000)])
def test_many_long_hours_do_not_shorten_a_window(as_of: str, hours: int) -> None:
    start_s, end_s = trailing_interval(LORD_HOWE, TrailingWindow(hours, Granularity.HOUR), at(as_of))
    assert len(LORD_HOWE.edges(Granularity.HOUR, start_s, end_s)) == hours + 1
    assert end_s - start_s > hours * 3600


def test_a_window_that_reaches_far_back_starts_with_the_calendar() -> None:
    for text in ("36600d", "878400h", "52704000m"):
        start, _ = trailing(ZURICH, text, "2016-07-11T13:39:00+02:00")
        assert start == "1999-01-01T00:00:00+01:00"


@pytest.mark.parametrize(
    ("text", "granularity", "start", "end"),
    [
        ("2016", Granularity.YEAR, "2016-01-01T00:00+01:00", "2017-01-01T00:00+01:00"),
        ("2016-02", Granularity.MONTH, "2016-02-01T00:00+01:00", "2016-03-01T00:00+01:00"),
        ("2016-12", Granularity.MONTH, "2016-12-01T00:00+01:00", "2017-01-01T00:00+01:00"),
        ("2016-W28", Granularity.WEEK, "2016-07-11T00:00+02:00", "2016-07-18T00:00+02:00"),
        ("2015-W53", Granularity.WEEK, "2015-12-28T00:00+01:00", "2016-01-04T00:00+01:00"),
        ("2016-02-29", Granularity.DAY, "2016-02-29T00:00+01:00", "2016-03-01T00:00+01:00"),
        ("2016-07-11T13", Granularity.HOUR, "2016-07-11T13:00+02:00", "2016-07-11T14:00+02:00"),
        ("2016-07-11 13", Granularity.HOUR, "2016-07-11T13:00+02:00", "2016-07-11T14:00+02:00"),
        ("2016-07-11T13:39", Granularity.MINUTE, "2016-07-11T13:39+02:00", "2016-07-11T13:40+02:00"),
        ("2016-10-30T02", Granularity.HOUR, "2016-10-30T02:00+02:00", "2016-10-30T02:00+01:00"),
        ("2016-10-30T02+02:00", Granularity.HOUR, "2016-10-30T02:00+02:00", "2016-10-30T02:00+01:00"),
        ("2016-10-30T02+01:00", Granularity.HOUR, "2016-10-30T02:00+01:00", "2016-10-30T03:00+01:00"),
        ("2016-10-30T02:30+01:00", Granularity.MINUTE, "2016-10-30T02:30+01:00", "2016-10-30T02:31+01:00"),
    ],
)
def test_periods(text: str, granularity: Granularity, start: str, end: str) -> None:
    assert parse_period(ZURICH, text) == Bucket(granularity, at(start), at(end))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "16",
        "2016-13",
        "2016-00",
        "2016-W54",
        "2016-W53",
        "2016-W00",
        "2016-W1",
        "2015-02-29",
        "2016-02-30",
        "2016-7-11",
        "2016-07-11T24",
        "2016-07-11T13:60",
        "2016-07-11T13:39:00",
        "2016-07-11T1",
        "2016-07-11T",
        "2016-03-27T02",
        "2016-03-27T02:30",
        "2016-03-27T02+01:00",
        "2016-07-11T13+01:00",
        "2016-07-11T13Z",
        "2016-07-11T13+24:00",
        "0000",
        "0001-01-01",
        "0000-01-01T00",
        "1998",
        "1998-W53",
        "1998-12-31T23",
        "9999-W52",
        "today",
        "1468244340",
        "2016-07-11 ",
        "٢٠١٦",
        "2016\n",
    ],
)
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_period(ZURICH, text)
    assert caught.value.hint


def test_periods_that_a_zone_skipped_are_refused() -> None:
    for text in ("2011-12-30", "2011-12-30T12", "2011-12-30T12:00"):
        with pytest.raises(UsageError, match="does not exist in Pacific/Apia"):
            parse_period(APIA, text)
    assert parse_period(APIA, "2011-W52").granularity is Granularity.WEEK


def test_an_hour_is_the_bucket_of_its_first_instant() -> None:
    # 02:00 to 02:30 was skipped: the first instant labelled 02 lies in the bucket of 90 minutes that starts at 01:00.
    assert parse_period(LORD_HOWE, "2016-10-02T02") == parse_period(LORD_HOWE, "2016-10-02T01")
    with pytest.raises(UsageError):
        parse_period(LORD_HOWE, "2016-10-02T02:15")
    st_johns = CalendarZone.from_name("America/St_Johns")
    evening = parse_period(st_johns, "2008-11-01T23-03:30")
    assert st_johns.local_date(evening.start_s) == date(2008, 11, 2)


def test_the_offset_of_utc_can_be_written_both_ways() -> None:
    assert parse_period(UTC_ZONE, "2016-07-11T13Z") == parse_period(UTC_ZONE, "2016-07-11T13+00:00")
    assert parse_period(UTC_ZONE, "9999-12-31T23").end_s == UTC_ZONE.end_s
    assert parse_period(UTC_ZONE, "9999").end_s == UTC_ZONE.end_s


@pytest.mark.parametrize(
    ("value", "start", "end"),
    [
        ("2016", "2016-01-01T00:00+01:00", "2017-01-01T00:00+01:00"),
        ("2016-07", "2016-07-01T00:00+02:00", "2016-08-01T00:00+02:00"),
        ("2016-W28", "2016-07-11T00:00+02:00", "2016-07-18T00:00+02:00"),
        ("2016-07-11", "2016-07-11T00:00+02:00", "2016-07-12T00:00+02:00"),
        (date(2016, 7, 11), "2016-07-11T00:00+02:00", "2016-07-12T00:00+02:00"),
    ],
)
def test_an_edge_of_days_is_included_at_the_end(value: str | date, start: str, end: str) -> None:
    assert parse_edge(ZURICH, value, is_end=False) == at(start)
    assert parse_edge(ZURICH, value, is_end=True) == at(end)


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        (1468244340, "2016-07-11T13:39:00+00:00"),
        (np.int64(1468244340), "2016-07-11T13:39:00+00:00"),
        ("1468244340", "2016-07-11T13:39:00+00:00"),
        ("2016-07-11T13", "2016-07-11T13:00:00+02:00"),
        ("2016-07-11T13:39", "2016-07-11T13:39:00+02:00"),
        ("2016-07-11 13:39:00", "2016-07-11T13:39:00+02:00"),
        ("2016-07-11T13:39:00.000", "2016-07-11T13:39:00+02:00"),
        ("2016-07-11T13:39:00Z", "2016-07-11T13:39:00+00:00"),
        ("2016-07-11T13Z", "2016-07-11T13:00:00+00:00"),
        ("2016-07-11T13:39-03:30", "2016-07-11T13:39:00-03:30"),
        ("2016-10-30T02:30", "2016-10-30T02:30:00+02:00"),
        ("2016-10-30T02:30+01:00", "2016-10-30T02:30:00+01:00"),
        (datetime(2016, 7, 11, 13, 39, tzinfo=UTC), "2016-07-11T13:39:00+00:00"),
        (datetime(2016, 7, 11, 13, 39, tzinfo=timezone(timedelta(hours=9))), "2016-07-11T13:39:00+09:00"),
        (datetime(2016, 10, 30, 2, 30, tzinfo=ZURICH.zone_info, fold=1), "2016-10-30T02:30:00+01:00"),
    ],
)
def test_an_edge_in_time_is_that_instant_at_both_ends(value: int | str | datetime, instant: str) -> None:
    assert parse_edge(ZURICH, value, is_end=False) == at(instant)
    assert parse_edge(ZURICH, value, is_end=True) == at(instant)


@pytest.mark.parametrize(
    "value",
    [
        1468244341,
        "1468244341",
        "2016-07-11T13:39:01",
        "2016-07-11T13:39:00.5Z",
        "2016-07-11T13:39:60",
        datetime(2016, 7, 11, 13, 39, 1, tzinfo=UTC),
        datetime(2016, 7, 11, 13, 39, 0, 1, tzinfo=UTC),
    ],
)
def test_an_edge_within_a_minute_is_refused(value: int | str | datetime) -> None:
    with pytest.raises(UsageError, match="whole minute"):
        parse_edge(ZURICH, value, is_end=False)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "yesterday",
        "2016-13",
        "2016-03-27T02:30",
        "2016-07-11T13:39+25:00",
        "2016-07-11T13:39:00+0200",
        True,
        1.5,
        None,
        b"2016",
        0,
        -60,
        "-60000",
        60 * 2**80,
        "9" * 4000,
        "1970-01-01",
        date(1970, 1, 1),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-9))),
    ],
)
@pytest.mark.parametrize("is_end", [False, True])
def test_what_is_no_edge_is_refused(value: object, is_end: bool) -> None:
    with pytest.raises(UsageError) as caught:
        parse_edge(ZURICH, value, is_end=is_end)  # type: ignore[arg-type]
    assert caught.value.hint


def test_a_naive_datetime_says_so() -> None:
    with pytest.raises(UsageError, match="time zone"):
        parse_edge(ZURICH, datetime(2016, 7, 11), is_end=False)


def test_a_skipped_date_is_an_edge() -> None:
    change_s = at("2011-12-31T00:00:00+14:00")
    for value in ("2011-12-30", date(2011, 12, 30)):
        assert parse_edge(APIA, value, is_end=False) == parse_edge(APIA, value, is_end=True) == change_s


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2016-07-11T13:39", "2016-07-11T13:40", "minute"),
        ("2016-07-11T13:58", "2016-07-11T15:01", "minute minute hour minute"),
        ("2016-07-11T23:59", "2016-07-12T00:01", "minute minute"),
        ("2016-07-10T23:00", "2016-07-13T01:00", "hour day day hour"),
        ("2016-07-11", "2016-07-18", "week"),
        ("2016-02-01", "2016-02-29", "week week week week"),
        ("2016-02-01", "2016-03-01", "month"),
        ("2016-01-31", "2016-03-02", "day month day"),
        ("2015-12-28", "2017-01-01", "day day day day year"),
        ("2015-12-28", "2016-01-04", "week"),
        ("2013-12-31", "2017-01-02", "day year year year day"),
    ],
)
def test_the_cover_of(start: str, end: str, expected: str) -> None:
    interval = (parse_edge(UTC_ZONE, start, is_end=False), parse_edge(UTC_ZONE, end, is_end=False))
    assert words(cover(UTC_ZONE, *interval)) == expected


def test_swept_buckets_are_replaced_by_finer_ones() -> None:
    day = parse_period(ZURICH, "2016-10-30")
    found = cover(ZURICH, day.start_s, day.end_s, lambda bucket: bucket.granularity < Granularity.DAY)
    assert words(found) == " ".join(["hour"] * 25)
    month = parse_period(ZURICH, "2016-02")
    found = cover(ZURICH, month.start_s, month.end_s, lambda bucket: bucket.granularity <= Granularity.WEEK)
    assert words(found) == "week week week week day"


def test_what_cannot_be_covered_is_named() -> None:
    month = parse_period(ZURICH, "2016-02")
    swept = parse_period(ZURICH, "2016-02-10")

    def is_kept(bucket: Bucket) -> bool:
        return bucket.end_s <= swept.start_s or bucket.start_s >= swept.end_s

    with pytest.raises(WindowNotKept) as caught:
        cover(ZURICH, month.start_s, month.end_s, is_kept)
    assert "2016-02-10T00:00:00+01:00 to 2016-02-11T00:00:00+01:00" in caught.value.message
    assert caught.value.exit_code == 70
    with pytest.raises(WindowNotKept, match=r"2016-02-10T00:00:00.* to 2016-02-10T00:59:00"):
        cover(ZURICH, swept.start_s, swept.start_s + 59 * 60, is_kept)
