"""Known places and dates, written down by hand; the rules in general are in the property tests."""

import struct
import zoneinfo
from datetime import UTC, date, datetime

import numpy as np
import pytest

from uniqdb.calendar_zone import CalendarZone
from uniqdb.errors import StoreCorrupt, UsageError
from uniqdb.granularity import Bucket, Granularity
from uniqdb.limits import EVENT_TIME_S_MAX, EVENT_TIME_S_MIN


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def hours_of(zone: CalendarZone, day: date) -> list[str]:
    return [zone.isoformat(edge) for edge in zone.edges(Granularity.HOUR, zone.day_start(day), zone.day_end(day))]


def lengths_min(zone: CalendarZone, day: date) -> list[int]:
    edges = zone.edges(Granularity.HOUR, zone.day_start(day), zone.day_end(day))
    return [int(length) // 60 for length in np.diff(edges)]


def test_granularities_have_words_and_nest() -> None:
    assert [granularity.word for granularity in Granularity] == ["minute", "hour", "day", "week", "month", "year"]
    assert [int(granularity) for granularity in Granularity] == [1, 2, 3, 4, 5, 6]
    for granularity in Granularity:
        assert Granularity.from_word(granularity.word) is granularity
        for coarse in granularity.coarser:
            assert coarse.finer is granularity
    assert Granularity.DAY.coarser == (Granularity.WEEK, Granularity.MONTH)
    assert Granularity.MINUTE.finer is None
    assert Granularity.WEEK.coarser == Granularity.YEAR.coarser == ()


@pytest.mark.parametrize("word", ["", "Day", "days", "second", "1"])
def test_an_unknown_granularity_is_refused(word: str) -> None:
    with pytest.raises(UsageError) as caught:
        Granularity.from_word(word)
    assert "month" in caught.value.hint


def test_buckets_sort_by_granularity_then_start() -> None:
    hour, day = Bucket(Granularity.HOUR, 7200, 10800), Bucket(Granularity.DAY, 0, 86400)
    assert sorted([day, hour, Bucket(Granularity.HOUR, 0, 3600)]) == [Bucket(Granularity.HOUR, 0, 3600), hour, day]


def test_utc() -> None:
    zone = CalendarZone.from_name("UTC")
    time_s = at("2016-07-11T13:39:44+00:00")
    starts = {
        Granularity.MINUTE: "2016-07-11T13:39:00+00:00",
        Granularity.HOUR: "2016-07-11T13:00:00+00:00",
        Granularity.DAY: "2016-07-11T00:00:00+00:00",
        Granularity.WEEK: "2016-07-11T00:00:00+00:00",
        Granularity.MONTH: "2016-07-01T00:00:00+00:00",
        Granularity.YEAR: "2016-01-01T00:00:00+00:00",
    }
    for granularity, start in starts.items():
        assert zone.isoformat(zone.bucket_at(granularity, time_s).start_s) == start
        assert zone.starts_of(granularity, np.array([time_s])).tolist() == [at(start)]


def test_zurich_has_days_of_23_and_25_hours() -> None:
    zone = CalendarZone.from_name("Europe/Zurich")
    assert lengths_min(zone, date(2016, 3, 27)) == [60] * 23
    assert lengths_min(zone, date(2016, 10, 30)) == [60] * 25
    assert hours_of(zone, date(2016, 10, 30))[2:4] == ["2016-10-30T02:00:00+02:00", "2016-10-30T02:00:00+01:00"]
    assert zone.isoformat(at("2016-03-27T01:00:00+00:00")) == "2016-03-27T03:00:00+02:00"


def test_kolkata_starts_its_hours_at_half_past_utc() -> None:
    zone = CalendarZone.from_name("Asia/Kolkata")
    assert zone.day_start(date(2016, 7, 11)) == at("2016-07-10T18:30:00+00:00")
    assert zone.bucket_at(Granularity.HOUR, at("2016-07-11T13:39:00+05:30")).start_s % 3600 == 1800


def test_lord_howe_moves_by_half_an_hour() -> None:
    zone = CalendarZone.from_name("Australia/Lord_Howe")
    # 01:00 to 03:00 without the half hour from 02:00; and 01:30 to 02:00 twice.
    assert lengths_min(zone, date(2016, 10, 2)) == [60, 90] + [60] * 21
    assert lengths_min(zone, date(2016, 4, 3)) == [60, 90] + [60] * 22


def test_caracas_has_an_hour_of_30_minutes() -> None:
    assert lengths_min(CalendarZone.from_name("America/Caracas"), date(2016, 5, 1)) == [60, 60, 30] + [60] * 21


def test_a_day_of_beirut_starts_at_one() -> None:
    zone = CalendarZone.from_name("Asia/Beirut")
    assert zone.isoformat(zone.day_start(date(2016, 3, 27))) == "2016-03-27T01:00:00+03:00"
    assert lengths_min(zone, date(2016, 3, 27)) == [60] * 23


def test_a_date_that_apia_skipped_has_no_bucket() -> None:
    zone = CalendarZone.from_name("Pacific/Apia")
    change_s = at("2011-12-30T10:00:00+00:00")
    assert zone.day_start(date(2011, 12, 30)) == zone.day_end(date(2011, 12, 30)) == change_s
    assert zone.local_date(change_s - 1) == date(2011, 12, 29)
    assert zone.local_date(change_s) == date(2011, 12, 31)
    week = zone.bucket_at(Granularity.WEEK, change_s)
    assert len(zone.edges(Granularity.DAY, week.start_s, week.end_s)) == 6 + 1
    times = np.array([change_s - 1, change_s], dtype=np.int64)
    assert zone.starts_of(Granularity.DAY, times).tolist() == [change_s - 86400, change_s]


def test_a_day_of_st_johns_goes_on_while_the_label_shows_the_day_before() -> None:
    zone = CalendarZone.from_name("America/St_Johns")
    start_s = zone.day_start(date(2008, 11, 2))
    assert zone.isoformat(start_s) == "2008-11-02T00:00:00-02:30"
    # At 00:01 the clocks went back to 23:01 of the day before; the day is the new one all the same.
    assert zone.isoformat(start_s + 120) == "2008-11-01T23:02:00-03:30"
    assert zone.local_date(start_s + 120) == date(2008, 11, 2)
    assert zone.starts_of(Granularity.DAY, np.array([start_s + 120])).tolist() == [start_s]
    assert lengths_min(zone, date(2008, 11, 2)) == [60] * 25


@pytest.mark.parametrize("year", [2004, 2009, 2015, 2020, 2026])
def test_week_53_reaches_into_the_next_year(year: int) -> None:
    zone = CalendarZone.from_name("Europe/Zurich")
    week = zone.bucket_at(Granularity.WEEK, zone.day_start(date(year + 1, 1, 1)))
    assert zone.local_date(week.start_s).isocalendar()[:2] == (year, 53)
    assert zone.local_date(week.end_s).isocalendar()[:2] == (year + 1, 1)
    assert zone.starts_of(Granularity.WEEK, np.array([week.end_s - 1])).tolist() == [week.start_s]


@pytest.mark.parametrize(("year", "days"), [(2000, 29), (2001, 28), (2016, 29), (2024, 29), (2100, 28)])
def test_february(year: int, days: int) -> None:
    zone = CalendarZone.from_name("Asia/Kathmandu")
    month = zone.bucket_at(Granularity.MONTH, zone.day_start(date(year, 2, 15)))
    assert (month.end_s - month.start_s) // 86400 == days


@pytest.mark.parametrize("name", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "America/New_York", "Europe/Zurich"])
def test_the_first_and_the_last_event_time_have_every_bucket(name: str) -> None:
    zone = CalendarZone.from_name(name)
    for time_s in (EVENT_TIME_S_MIN, EVENT_TIME_S_MAX - 1):
        for granularity in Granularity:
            bucket = zone.bucket_at(granularity, time_s)
            assert bucket.start_s <= time_s < bucket.end_s
            assert zone.starts_of(granularity, np.array([time_s])).tolist() == [bucket.start_s]
            assert zone.edges(granularity, time_s, time_s + 1).tolist() == [bucket.start_s, bucket.end_s]
            assert zone.isoformat(bucket.start_s)
            assert zone.isoformat(bucket.end_s)
    both = np.array([EVENT_TIME_S_MAX - 1, EVENT_TIME_S_MIN], dtype=np.int64)
    assert zone.starts_of(Granularity.YEAR, both)[0] > zone.starts_of(Granularity.YEAR, both)[1]


def test_the_end_of_the_calendar_can_be_written() -> None:
    assert CalendarZone.from_name("UTC").isoformat(253402300800) == "10000-01-01T00:00:00+00:00"
    assert CalendarZone.from_name("Asia/Kolkata").day_end(date(9999, 12, 31)) == 253402300800 - 5 * 3600 - 1800


@pytest.mark.parametrize("time_s", [-1, 0, 253402300800, 2**62])
def test_times_outside_the_calendar_are_refused(time_s: int) -> None:
    zone = CalendarZone.from_name("UTC")
    with pytest.raises(UsageError):
        zone.bucket_at(Granularity.HOUR, time_s)
    with pytest.raises(UsageError):
        zone.starts_of(Granularity.DAY, np.array([EVENT_TIME_S_MIN, time_s]))
    with pytest.raises(UsageError):
        zone.local_date(time_s)


def test_dates_before_the_calendar_start_with_it() -> None:
    zone = CalendarZone.from_name("Europe/Amsterdam")
    assert zone.day_start(date(1916, 5, 1)) == zone.day_end(date(1998, 12, 31)) == zone.start_s
    assert zone.isoformat(zone.start_s) == "1999-01-01T00:00:00+01:00"


def test_no_times_have_no_starts() -> None:
    for granularity in Granularity:
        starts = CalendarZone.from_name("UTC").starts_of(granularity, np.array([], dtype=np.int64))
        assert starts.dtype == np.int64
        assert starts.size == 0


def test_a_caller_cannot_change_the_tables() -> None:
    zone = CalendarZone.from_name("UTC")
    edges = zone.edges(Granularity.DAY, EVENT_TIME_S_MIN, EVENT_TIME_S_MIN + 86400)
    with pytest.raises(ValueError, match="read-only"):
        edges[0] = 0
    starts = zone.starts_of(Granularity.DAY, np.array([EVENT_TIME_S_MIN]))
    starts[0] = 0
    assert zone.starts_of(Granularity.DAY, np.array([EVENT_TIME_S_MIN])).tolist() == [EVENT_TIME_S_MIN]


def test_bucket_starting_insists_on_a_start() -> None:
    zone = CalendarZone.from_name("UTC")
    with pytest.raises(AssertionError):
        zone.bucket_starting(Granularity.DAY, EVENT_TIME_S_MIN + 60)


def test_a_zone_is_rebuilt_from_its_bytes() -> None:
    zone = CalendarZone.from_name("America/Asuncion")
    again = CalendarZone.from_tzif(zone.name, zone.tzif_bytes)
    assert (again.name, again.tzif_bytes) == ("America/Asuncion", zone.tzif_bytes)
    edges = [one.edges(Granularity.HOUR, EVENT_TIME_S_MIN, EVENT_TIME_S_MIN + 10**8) for one in (zone, again)]
    assert np.array_equal(edges[0], edges[1])


@pytest.mark.parametrize("broken", [b"", b"TZif", b"TZif2" + bytes(39), b"PK\x03\x04" * 30])
def test_damaged_bytes_are_named(broken: bytes) -> None:
    with pytest.raises(StoreCorrupt) as caught:
        CalendarZone.from_tzif("Europe/Zurich", broken)
    assert "Europe/Zurich" in caught.value.message


@pytest.mark.parametrize("keep", range(0, 1800, 97))
def test_truncated_bytes_never_end_in_another_error(keep: int) -> None:
    whole = CalendarZone.from_name("Europe/Zurich").tzif_bytes
    if keep >= len(whole):
        return
    try:
        CalendarZone.from_tzif("Europe/Zurich", whole[:keep])
    except (StoreCorrupt, UsageError):
        return


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../../etc/passwd",
        "Europe/../../../etc/passwd",
        "Europe",
        "Europe/",
        "/Europe/Zurich",
        "Europe//Zurich",
        "Europe/Zurich\n",
        "Europe/Zurich\0",
        "zone.tab",
        "tzdata.zi",
        "localtime",
        "posixrules",
        "Factory",
        "right/Europe/Zurich",
        "posix/UTC",
        "Mars/Olympus",
        "Zürich",
        "x" * 5000,
    ],
)
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        CalendarZone.from_name(name)
    assert "Europe/Zurich" in caught.value.hint
    assert f"mean {name}?" not in caught.value.hint


@pytest.mark.parametrize(
    ("name", "meant"), [("europe/zurich", "Europe/Zurich"), ("Asia/Calcuta", "Asia/Calcutta"), ("utc", "UTC")]
)
def test_a_slip_gets_the_name_that_was_meant(name: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        CalendarZone.from_name(name)
    assert meant in caught.value.hint


def test_without_system_files_the_package_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tzdata")
    monkeypatch.setattr(zoneinfo, "TZPATH", ())
    assert CalendarZone.from_name("Europe/Zurich").day_start(date(2016, 7, 11)) == at("2016-07-10T22:00:00+00:00")
    with pytest.raises(UsageError):
        CalendarZone.from_name("Europe")


def listed_zone(changes: list[tuple[int, int]]) -> bytes:
    """TZif bytes of a zone that starts at UTC and lists changes: (instant, 0 = UTC, 1 = UTC+2, 2 = UTC+0:30)."""
    types = b"".join(struct.pack(">lbb", offset_s, 0, 0) for offset_s in (0, 7200, 1800)) + b"AAA\0"
    first = b"TZif2" + bytes(15) + struct.pack(">6L", 0, 0, 0, 0, 3, 4) + types
    # Past the last change listed the rule in the footer holds; this one keeps it away.
    changes = [*changes, (at("2030-01-01T00:00:00+00:00"), 0)]
    second = b"TZif2" + bytes(15) + struct.pack(">6L", 0, 0, 0, len(changes), 3, 4)
    times = struct.pack(f">{len(changes)}q", *[change for change, _ in changes])
    return first + second + times + bytes(kind for _, kind in changes) + types + b"\nAAA0\n"


def test_two_changes_on_one_day_that_cancel_are_both_seen() -> None:
    noon_s = at("2016-07-11T12:00:00+00:00")
    zone = CalendarZone.from_tzif("Listed/Zone", listed_zone([(noon_s, 2), (noon_s + 5400, 0)]))
    # 12:00 shows 12:30; 12:30 UTC shows 13:00; 13:30 UTC shows 13:30 again after 13:59.
    assert lengths_min(zone, date(2016, 7, 11)) == [60] * 11 + [60 + 30, 60 + 30] + [60] * 10
    assert lengths_min(zone, date(2016, 7, 12)) == [60] * 24


def test_a_day_starts_late_where_its_midnight_was_skipped() -> None:
    # At 23:00 the clocks showed 01:00: the new day starts when they would have shown midnight, at 02:00.
    zone = CalendarZone.from_tzif("Listed/Zone", listed_zone([(at("2016-07-11T23:00:00+00:00"), 1)]))
    assert zone.isoformat(zone.day_start(date(2016, 7, 12))) == "2016-07-12T02:00:00+02:00"
    time_s = at("2016-07-11T23:30:00+00:00")
    assert zone.isoformat(time_s).startswith("2016-07-12T01:30")
    assert zone.local_date(time_s) == date(2016, 7, 11)
    assert lengths_min(zone, date(2016, 7, 11)) == [60] * 24
    # With half an hour the day starts between two full hours.
    zone = CalendarZone.from_tzif("Listed/Zone", listed_zone([(at("2016-07-12T00:00:00+00:00"), 2)]))
    assert zone.isoformat(zone.day_start(date(2016, 7, 12))) == "2016-07-12T00:30:00+00:30"
    assert lengths_min(zone, date(2016, 7, 12)) == [30] + [60] * 23


def test_leap_seconds_are_refused() -> None:
    whole = CalendarZone.from_name("America/Phoenix").tzif_bytes
    zurich = CalendarZone.from_name("Europe/Zurich").tzif_bytes
    assert CalendarZone.from_tzif("Phoenix", whole)
    change_s = int(datetime(2016, 3, 27, 1, tzinfo=UTC).timestamp()).to_bytes(8, "big")
    if change_s not in zurich:
        pytest.skip("this machine's files list no changes after those of the rule")
    shifted = zurich.replace(change_s, (int.from_bytes(change_s, "big") + 26).to_bytes(8, "big"))
    with pytest.raises(UsageError, match="whole minute"):
        CalendarZone.from_tzif("Europe/Zurich", shifted)
