"""The calendar against a walk through time, minute by minute, that knows only `ZoneInfo` and the rules."""

import functools
import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from uniqdb.calendar_zone import CalendarZone
from uniqdb.granularity import Bucket, Granularity
from uniqdb.limits import EVENT_TIME_S_MAX, EVENT_TIME_S_MIN

ZONES = (
    "UTC",
    "Europe/Zurich",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Asia/Beirut",
    "Pacific/Apia",
    "America/St_Johns",
    "Africa/Casablanca",
    "Asia/Gaza",
    "Antarctica/Troll",
    "Asia/Kathmandu",
    "Africa/Cairo",
    "America/Sao_Paulo",
    "Asia/Tehran",
    "America/Asuncion",
    "America/Caracas",
    "Pacific/Kiritimati",
    "America/Nuuk",
)
DAY_S = 86_400
SPREAD = settings(max_examples=60, deadline=None)
WALKS = settings(max_examples=80, deadline=None)

LABELS: dict[Granularity, Callable[[date], object]] = {
    Granularity.DAY: lambda day: day,
    Granularity.WEEK: lambda day: day.isocalendar()[:2],
    Granularity.MONTH: lambda day: (day.year, day.month),
    Granularity.YEAR: lambda day: day.year,
}


@dataclass(frozen=True)
class Oracle:
    """Answers by intervals, from the rules alone."""

    zone: ZoneInfo

    def start(self, day: date) -> int:
        midnight = datetime(day.year, day.month, day.day, tzinfo=self.zone, fold=0)
        return int(midnight.astimezone(UTC).timestamp())

    def day(self, time_s: int) -> date:
        """Of the dates near the label, the last that has started: of two that start together the later one."""
        near = datetime.fromtimestamp(time_s, self.zone).date()
        days = [near + timedelta(days=step) for step in range(-2, 3)]
        return max(day for day in days if self.start(day) <= time_s)

    def boundaries(self, from_s: int, to_s: int) -> dict[Granularity, list[int]]:
        """For each granularity the minutes after `from_s` and before `to_s` at which a bucket starts."""
        found: dict[Granularity, list[int]] = {granularity: [] for granularity in Granularity}
        before = self.day(from_s)
        starts = {self.start(before + timedelta(days=step)) for step in range(-2, 9)}
        for minute_s in range(from_s + 60, to_s, 60):
            found[Granularity.MINUTE].append(minute_s)
            day = self.day(minute_s) if minute_s in starts else before
            if day != before or datetime.fromtimestamp(minute_s, self.zone).minute == 0:
                found[Granularity.HOUR].append(minute_s)
            for granularity, label in LABELS.items():
                if label(day) != label(before):
                    found[granularity].append(minute_s)
            before = day
        return found

    @functools.cached_property
    def changes(self) -> list[int]:
        return self.changes_in(EVENT_TIME_S_MIN, 41 * 365)

    def changes_in(self, from_s: int, days: int) -> list[int]:
        """Minutes at which the offset changes, seen from one day to the next."""

        def offset(time_s: int) -> timedelta | None:
            return datetime.fromtimestamp(time_s, self.zone).utcoffset()

        found = []
        for low in range(from_s, from_s + days * DAY_S, DAY_S):
            below, above = low, low + DAY_S
            if offset(below) == offset(above):
                continue
            while above - below > 60:
                middle = (below + above) // 120 * 60
                below, above = (middle, above) if offset(middle) == offset(low) else (below, middle)
            found.append(above)
        return found


@functools.cache
def oracle_of(name: str) -> Oracle:
    return Oracle(ZoneInfo(name))


@functools.cache
def zone_of(name: str) -> CalendarZone:
    return CalendarZone.from_name(name)


def year_ends(draw: st.DrawFn) -> int:
    return int(datetime(draw(st.integers(2000, 2040)), 1, 1, tzinfo=UTC).timestamp())


@st.composite
def minutes_of(draw: st.DrawFn, oracle: Oracle) -> int:
    """A minute of 2000 to 2040, often near a change of offset, the end of a year or of February."""
    kind = draw(st.sampled_from(("any", "change", "change", "year", "february")))
    if kind == "change" and oracle.changes:
        middle_s = draw(st.sampled_from(oracle.changes))
    elif kind == "year":
        middle_s = year_ends(draw)
    elif kind == "february":
        middle_s = year_ends(draw) + 59 * DAY_S
    else:
        return draw(st.integers(EVENT_TIME_S_MIN // 60, EVENT_TIME_S_MIN // 60 + 41 * 365 * 1440)) * 60
    return max(EVENT_TIME_S_MIN, middle_s + draw(st.integers(-3 * 1440, 3 * 1440)) * 60)


def assert_like_the_walk(zone: CalendarZone, oracle: Oracle, from_s: int, to_s: int) -> None:
    minutes = np.arange(from_s, to_s, 60, dtype=np.int64)
    seconds = minutes + np.arange(len(minutes)) % 60
    for granularity, expected in oracle.boundaries(from_s, to_s).items():
        edges = zone.edges(granularity, from_s, to_s)
        assert edges[1:-1].tolist() == expected, granularity
        assert edges[0] <= from_s < to_s <= edges[-1]
        starts = zone.starts_of(granularity, seconds)
        assert starts.tolist() == edges[np.searchsorted(edges, minutes, side="right") - 1].tolist(), granularity
    for time_s in seconds[:: len(seconds) // 7].tolist():
        assert zone.local_date(time_s) == oracle.day(time_s)
        assert zone.day_start(oracle.day(time_s)) == oracle.start(oracle.day(time_s))


@given(st.data(), st.sampled_from(ZONES), st.integers(30, 3000))
@WALKS
def test_buckets_start_where_the_walk_says(data: st.DataObject, name: str, length: int) -> None:
    from_s = data.draw(minutes_of(oracle_of(name)))
    assert_like_the_walk(zone_of(name), oracle_of(name), from_s, from_s + length * 60)


@given(st.data(), st.sampled_from(ZONES))
@SPREAD
def test_a_bucket_has_one_label_and_its_neighbours_another(data: st.DataObject, name: str) -> None:
    zone, oracle = zone_of(name), oracle_of(name)
    time_s = data.draw(minutes_of(oracle))
    for granularity, label in LABELS.items():
        bucket = zone.bucket_at(granularity, time_s)
        own = label(oracle.day(time_s))
        assert bucket.start_s <= time_s < bucket.end_s
        assert bucket.start_s % 60 == bucket.end_s % 60 == 0
        assert label(oracle.day(bucket.start_s)) == own == label(oracle.day(bucket.end_s - 1))
        assert label(oracle.day(bucket.start_s - 1)) != own != label(oracle.day(bucket.end_s))
        assert zone.bucket_starting(granularity, bucket.start_s) == bucket
    assert datetime.fromisoformat(zone.isoformat(time_s)).timestamp() == time_s


@given(st.data(), st.sampled_from(ZONES), st.sampled_from(tuple(Granularity)))
@SPREAD
def test_many_times_have_the_starts_that_each_has_alone(
    data: st.DataObject, name: str, granularity: Granularity
) -> None:
    zone, oracle = zone_of(name), oracle_of(name)
    times = data.draw(st.lists(minutes_of(oracle) | st.integers(EVENT_TIME_S_MIN, 2**32), max_size=20))
    # A flipped bit or two make years far away; each has a table of its own.
    far = data.draw(st.lists(st.integers(EVENT_TIME_S_MIN, EVENT_TIME_S_MAX - 1), max_size=2))
    array = np.array(times + far, dtype=np.int64)
    expected = [zone.bucket_at(granularity, time_s).start_s for time_s in array.tolist()]
    assert zone.starts_of(granularity, array).tolist() == expected


@given(st.data(), st.sampled_from(ZONES), st.sampled_from(tuple(Granularity)[1:]))
@SPREAD
def test_edges_are_the_buckets_one_after_the_other(data: st.DataObject, name: str, granularity: Granularity) -> None:
    zone = zone_of(name)
    from_s = data.draw(minutes_of(oracle_of(name)))
    to_s = from_s + data.draw(st.integers(1, 800 * DAY_S))
    edges = zone.edges(granularity, from_s, to_s).tolist()
    assert edges[0] <= from_s < edges[1]
    assert edges[-2] < to_s <= edges[-1]
    for start_s, end_s in list(pairwise(edges))[:: max(1, len(edges) // 20)]:
        assert zone.bucket_at(granularity, start_s) == Bucket(granularity, start_s, end_s)
        assert zone.bucket_at(granularity, end_s - 1) == Bucket(granularity, start_s, end_s)


@st.composite
def invented_zones(draw: st.DrawFn) -> bytes:
    """TZif bytes of a zone with any whole-minute offsets, and changes on any minute of two weeks of the year.

    (RFC 9636: an empty 32-bit block, an empty 64-bit block, and the rule in the footer.)
    """
    standard, saving = draw(st.integers(-840, 840)), draw(st.integers(-180, 180).filter(bool))

    def clock(minutes: int) -> str:
        return f"{'-' if minutes < 0 else ''}{abs(minutes) // 60}:{abs(minutes) % 60:02}"

    # Often about midnight, where a change moves the start of a day.
    times = st.integers(-1440, 2880) | st.integers(-180, 30) | st.integers(1260, 1470)
    spring, autumn = draw(times), draw(times)
    rule = f"<AAA>{clock(-standard)}<BBB>{clock(-standard - saving)},M3.2.0/{clock(spring)},M10.4.6/{clock(autumn)}"
    header = b"TZif3" + bytes(15) + struct.pack(">6L", 0, 0, 0, 0, 1, 4)
    block = struct.pack(">lbb", standard * 60, 0, 0) + b"AAA\0"
    return (header + block) * 2 + b"\n" + rule.encode() + b"\n"


@given(invented_zones(), st.integers(2000, 2040), st.sampled_from((3, 10)), st.integers(0, 14 * 1440))
@WALKS
def test_invented_zones_are_like_the_walk(tzif: bytes, year: int, month: int, minute: int) -> None:
    zone = CalendarZone.from_tzif("Invented/Zone", tzif)
    oracle = Oracle(ZoneInfo.from_file(io.BytesIO(tzif), key="Invented/Zone"))
    first_day = 6 if month == 3 else 20
    from_s = int(datetime(year, month, first_day, tzinfo=UTC).timestamp()) + minute * 60
    assert_like_the_walk(zone, oracle, from_s, from_s + 1800 * 60)
    for change_s in oracle.changes_in(from_s, 15):
        assert_like_the_walk(zone, oracle, change_s - 300 * 60, change_s + 1500 * 60)


@given(st.sampled_from(ZONES), st.integers(1999, 2100))
@settings(max_examples=40, deadline=None)
def test_a_year_is_tiled_by_its_months_days_and_hours(name: str, year: int) -> None:
    zone = zone_of(name)
    start_s, end_s = zone.day_start(date(year, 1, 1)), zone.day_end(date(year, 12, 31))
    for granularity, units in ((Granularity.YEAR, 1), (Granularity.MONTH, 12)):
        edges = zone.edges(granularity, start_s, end_s)
        assert (edges[0], edges[-1], len(edges)) == (start_s, end_s, units + 1)
    days = (date(year + 1, 1, 1) - date(year, 1, 1)).days
    skipped = 1 if (name, year) == ("Pacific/Apia", 2011) else 0
    assert len(zone.edges(Granularity.DAY, start_s, end_s)) == days - skipped + 1
    hours = zone.edges(Granularity.HOUR, start_s, end_s)
    assert set(zone.edges(Granularity.DAY, start_s, end_s).tolist()) <= set(hours.tolist())
    assert np.diff(hours).min() > 0
