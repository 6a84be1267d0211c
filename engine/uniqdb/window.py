"""Windows: texts for trailing windows, periods and edges, and the fewest buckets that cover an interval.

Everything here is a pure function of the zone and its arguments. All intervals are ``[start, end)`` in Unix
seconds and whole minutes.
"""

import bisect
import calendar
import itertools
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import SupportsIndex

from uniqdb.calendar_zone import YEAR_MIN, CalendarZone
from uniqdb.errors import UsageError, WindowNotKept
from uniqdb.granularity import Bucket, Granularity

TRAILING_DAYS_MAX = 36_600
"""The longest trailing window: one hundred years, in hours and minutes too."""
_UNITS = {
    "d": (Granularity.DAY, TRAILING_DAYS_MAX),
    "h": (Granularity.HOUR, TRAILING_DAYS_MAX * 24),
    "m": (Granularity.MINUTE, TRAILING_DAYS_MAX * 1_440),
}
_LETTERS = {unit: letter for letter, (unit, _) in _UNITS.items()}
_TRAILING = re.compile(r"([0-9]{1,12})([dhm])")
_PERIOD = re.compile(
    r"(?P<year>[0-9]{4})"
    r"(-W(?P<week>[0-9]{2})"
    r"|-(?P<month>[0-9]{2})"
    r"(-(?P<day>[0-9]{2})"
    r"([T ](?P<hour>[0-9]{2})(:(?P<minute>[0-9]{2})(?P<second>:[0-9]{2}([.,][0-9]+)?)?)?"
    r"(?P<offset>Z|[+-][0-9]{2}:[0-9]{2})?)?)?)?"
)
_SECONDS = re.compile(r"-?[0-9]{5,15}")
_PERIOD_HINT = "periods look like 2016, 2016-07, 2016-W28, 2016-07-11, 2016-07-11T13 or 2016-07-11T13:39"
_EDGE_HINT = "use a period such as 2016-07-11, a time such as 2016-07-11T13:39+02:00, or Unix seconds"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)

IsKept = Callable[[Bucket], bool]
"""Whether the members of a bucket are kept, so that it can be part of a cover."""


@dataclass(frozen=True, slots=True)
class TrailingWindow:
    """The last `length` days, hours or minutes, the current one included. `unit` is DAY, HOUR or MINUTE."""

    length: int
    unit: Granularity

    @property
    def text(self) -> str:
        """The text that `parse_window` reads, such as ``30d``."""
        return f"{self.length}{_LETTERS[self.unit]}"


def parse_window(text: str) -> TrailingWindow:
    """The trailing window that ``30d``, ``24h`` or ``45m`` names: at least 1, at most 36,600 days.

    Raises `UsageError` for any other text.
    """
    match = _TRAILING.fullmatch(text)
    hint = "windows look like 30d, 24h or 45m"
    if match is None:
        raise UsageError(f"{text!r} is not a window", hint=hint)
    length = int(match[1])
    unit, length_max = _UNITS[match[2]]
    if not 1 <= length <= length_max:
        limits = f"1{match[2]} to {length_max}{match[2]}"
        raise UsageError(f"the window {text!r} is out of range", hint=f"use {limits}")
    return TrailingWindow(length, unit)


def trailing_interval(zone: CalendarZone, window: TrailingWindow, as_of_s: int) -> tuple[int, int]:
    """The interval of a trailing window whose last day, hour or minute is the one that holds `as_of_s`.

    Days are calendar dates, of which one of length zero counts too; hours are the zone's hour buckets,
    whatever their length. A window that reaches before the calendar starts with it: there are no visits
    before. Cost: some us; for hours a slice of the tables of their years. Raises `UsageError` outside the
    calendar.
    """
    last = zone.bucket_at(window.unit, as_of_s)
    if window.unit is Granularity.MINUTE:
        return max(zone.start_s, last.end_s - 60 * window.length), last.end_s
    if window.unit is Granularity.DAY:
        first = zone.local_date(as_of_s) - timedelta(days=window.length - 1)
        return zone.day_start(first), last.end_s
    # Most hours have 3,600 s. The spare ones make up for shorter buckets and are doubled until they suffice.
    spare = 48
    while True:
        from_s = max(zone.start_s, last.end_s - 3600 * (window.length + spare))
        edges_s = zone.edges(Granularity.HOUR, from_s, last.end_s)
        if len(edges_s) > window.length:
            return int(edges_s[-1 - window.length]), last.end_s
        if from_s == zone.start_s:
            return from_s, last.end_s
        spare *= 2


def parse_period(zone: CalendarZone, text: str) -> Bucket:
    """The bucket that a text names: a year, month, ISO week, day, hour or minute of the zone's calendar.

    An hour or minute label that comes twice means the first; an offset picks (``2016-10-30T02+01:00``) and
    must be the zone's own. An hour is the bucket that holds the first instant with that label. Raises
    `UsageError` for a text of another form and for what this calendar does not have.
    """
    match = _PERIOD.fullmatch(text)
    if match is None or match["second"] is not None:
        raise UsageError(f"{text!r} is not a period", hint=_PERIOD_HINT)
    if match["hour"] is not None:
        granularity = Granularity.HOUR if match["minute"] is None else Granularity.MINUTE
        return zone.bucket_at(granularity, _first_instant(zone, match))
    granularity, first, last = _dates(match)
    bucket = zone.bucket_at(granularity, zone.day_start(first))
    if bucket.start_s != zone.day_start(first) or bucket.end_s != zone.day_end(last):
        raise _missing(zone, text)
    return bucket


def parse_edge(zone: CalendarZone, value: SupportsIndex | datetime | date | str, *, is_end: bool) -> int:
    """The instant, in Unix seconds, at which an interval starts or (`is_end`) ends.

    `value` is Unix seconds, an aware datetime, a date, or text: seconds of five digits or more, a period, or
    a full ISO 8601 time, which without an offset is the zone's. A day, week, month or year includes itself as
    an end; an hour, minute or instant ends the interval where it starts. A date of length zero is allowed
    here. Raises `UsageError` for a naive datetime, for seconds that are not a whole minute, outside the
    calendar, and as `parse_period` does.
    """
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise UsageError("a datetime without a time zone is no instant", hint="set its tzinfo")
        if (value - _EPOCH) % _MINUTE:
            raise _not_whole(value)
        return _edge(zone, (value - _EPOCH) // _MINUTE * 60, value)
    if isinstance(value, date):
        return parse_edge(zone, value.isoformat(), is_end=is_end)
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        return _edge(zone, operator.index(value), value)
    match = _PERIOD.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        if isinstance(value, str) and _SECONDS.fullmatch(value):
            return _edge(zone, int(value), value)
        raise UsageError(f"{value!r} is not a time", hint=_EDGE_HINT)
    if match["hour"] is None:
        _, first, last = _dates(match)
        return zone.day_end(last) if is_end else zone.day_start(first)
    if match["second"] is not None and match["second"].strip(":0.,"):
        raise _not_whole(value)
    if match["offset"] is not None:
        label = _label(match, int(match["minute"] or 0)).replace(tzinfo=UTC)
        return _edge(zone, (label - _EPOCH - _offset(match)) // _MINUTE * 60, value)
    granularity = Granularity.HOUR if match["minute"] is None else Granularity.MINUTE
    return zone.bucket_at(granularity, _first_instant(zone, match)).start_s


def _edge(zone: CalendarZone, edge_s: int, value: object) -> int:
    if edge_s % 60:
        raise _not_whole(value)
    if not zone.start_s <= edge_s <= zone.end_s:
        raise _outside(value)
    return edge_s


def _dates(match: re.Match[str]) -> tuple[Granularity, date, date]:
    """The granularity, first and last date of the day, week, month or year in a period text."""
    year, week, month, day = (int(match[part] or 0) for part in ("year", "week", "month", "day"))
    if year < YEAR_MIN:
        raise _outside(match[0])
    try:
        if match["week"] is not None:
            monday = date.fromisocalendar(year, week, 1)
            return Granularity.WEEK, monday, monday + timedelta(days=6)
        if match["day"] is not None:
            return Granularity.DAY, date(year, month, day), date(year, month, day)
        if match["month"] is None:
            return Granularity.YEAR, date(year, 1, 1), date(year, 12, 31)
        return Granularity.MONTH, date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])
    except (ValueError, OverflowError):
        raise UsageError(f"there is no {match[0]} in the calendar", hint=_PERIOD_HINT) from None


def _first_instant(zone: CalendarZone, match: re.Match[str]) -> int:
    """The first instant whose local label is the hour or minute (and has the offset) in a period text."""
    minutes = range(60) if match["minute"] is None else [int(match["minute"])]
    wanted = None if match["offset"] is None else _offset(match)
    found: list[int] = []
    for label, fold in itertools.product([_label(match, minute) for minute in minutes], (0, 1)):
        offset = label.replace(tzinfo=zone.zone_info, fold=fold).utcoffset()
        assert offset is not None
        instant = (label.replace(tzinfo=UTC) - _EPOCH - offset) // _MINUTE * 60
        if not zone.start_s <= instant < zone.end_s:
            raise _outside(match[0])
        # A label that was skipped does not come back from its instant.
        exists = zone.isoformat(instant).startswith(label.isoformat())
        if exists and wanted in (None, offset):
            found.append(instant)
    if found:
        return min(found)
    if wanted is None:
        raise _missing(zone, match[0])
    raise UsageError(
        f"{match[0]} has another offset than {zone.name} at that time",
        hint="leave the offset out of a period",
    )


def _label(match: re.Match[str], minute: int) -> datetime:
    try:
        year, month, day, hour = (int(match[part]) for part in ("year", "month", "day", "hour"))
        label = datetime(year, month, day, hour, minute)
    except ValueError:
        raise UsageError(f"there is no {match[0]} in the calendar", hint=_PERIOD_HINT) from None
    if year < YEAR_MIN:
        raise _outside(match[0])
    return label


def _offset(match: re.Match[str]) -> timedelta:
    text = match["offset"]
    if text == "Z":
        return timedelta(0)
    hours, minutes = int(text[1:3]), int(text[4:6])
    if hours > 23 or minutes > 59:
        raise UsageError(f"{text} is not an offset", hint="offsets look like +02:00 or Z")
    offset = timedelta(hours=hours, minutes=minutes)
    return -offset if text[0] == "-" else offset


def _missing(zone: CalendarZone, text: str) -> UsageError:
    return UsageError(f"{text} does not exist in {zone.name}", hint="its clocks skipped it; use the one after")


def _outside(value: object) -> UsageError:
    return UsageError(f"{value} lies outside the calendar", hint=f"it covers the years {YEAR_MIN} to 9999")


def _not_whole(value: object) -> UsageError:
    return UsageError(f"{value} is not a whole minute", hint="windows start and end with whole minutes")


def cover(zone: CalendarZone, start_s: int, end_s: int, is_kept: IsKept = lambda _: True) -> list[Bucket]:
    """The fewest kept buckets that tile ``[start_s, end_s)``: disjoint, ascending, without a gap.

    ``start_s < end_s``, whole minutes within the calendar. Raises `WindowNotKept` if no cover exists, naming
    the first part without one. Cost: `is_kept` once or twice per day outside whole kept years, and per hour
    and minute at the ends; 20 years take a few ms, or 20 ms where no year is kept.

    Why it is the minimum: minutes, hours and days nest, and no week, month or year starts within a day, so
    before the first and after the last midnight the largest kept buckets are best. Between midnights, weeks
    compete with months and years; there it is the shortest path from midnight to midnight, found from left to
    right (Bellman).
    """
    assert start_s < end_s, (start_s, end_s)
    assert start_s % 60 == 0 == end_s % 60, (start_s, end_s)
    edges_s: list[int] = zone.edges(Granularity.DAY, start_s, end_s).tolist()
    days_s = [edge_s for edge_s in edges_s if start_s <= edge_s <= end_s]
    if not days_s:
        return _cover_in_day(zone, (start_s, end_s), is_kept)
    found: list[Bucket] = []
    if start_s < days_s[0]:
        found += _cover_in_day(zone, (start_s, days_s[0]), is_kept)
    for years, rest_s in _split_at_years(zone, days_s, is_kept):
        found += years
        found += _cover_days(zone, rest_s, is_kept)
    if days_s[-1] < end_s:
        found += _cover_in_day(zone, (days_s[-1], end_s), is_kept)
    return found


def _cover_in_day(zone: CalendarZone, interval: tuple[int, int], is_kept: IsKept) -> list[Bucket]:
    """The fewest kept hours and minutes that tile an interval within one day."""
    start_s, end_s = interval
    found: list[Bucket] = []
    for hour_s, next_s in itertools.pairwise(zone.edges(Granularity.HOUR, start_s, end_s).tolist()):
        hour = Bucket(Granularity.HOUR, hour_s, next_s)
        if start_s <= hour_s and next_s <= end_s and is_kept(hour):
            found.append(hour)
            continue
        part = range(max(start_s, hour_s), min(end_s, next_s), 60)
        for minute_s in part:
            minute = Bucket(Granularity.MINUTE, minute_s, minute_s + 60)
            if not is_kept(minute):
                raise _not_kept(zone, part.start, part.stop)
            found.append(minute)
    return found


def _split_at_years(zone: CalendarZone, days_s: list[int], is_kept: IsKept) -> list[tuple[list[Bucket], list[int]]]:
    """Each whole year that is sure to be in a smallest cover, and the midnights from it to the next one.

    A kept year is sure if, for each week across one of its ends that could be used, the days of that week
    outside the year are kept. For take a cover without the year: it has c (0 to 2) such weeks, and at least
    12 buckets within the year, because what the weeks leave of it is longer than 11 months of 31 days. The
    year and the days outside it are at most 1 + 6 c buckets, which is less than 12 + c. The step keeps all
    other whole years.
    """
    parts: list[tuple[list[Bucket], list[int]]] = []
    position = 0
    taken: list[Bucket] = []
    if len(days_s) > 1:
        years_s = zone.edges(Granularity.YEAR, days_s[0], days_s[-1]).tolist()
        for start_s, end_s in itertools.pairwise(years_s):
            year = Bucket(Granularity.YEAR, start_s, end_s)
            inside = days_s[0] <= start_s and end_s <= days_s[-1]
            if inside and is_kept(year) and _ends_are_free(zone, year, (days_s[0], days_s[-1]), is_kept):
                first = bisect.bisect_left(days_s, start_s)
                parts.append((taken, days_s[position : first + 1]))
                taken, position = [year], bisect.bisect_left(days_s, end_s)
    return [*parts, (taken, days_s[position:])]


def _ends_are_free(zone: CalendarZone, year: Bucket, interval: tuple[int, int], is_kept: IsKept) -> bool:
    for end_s, is_start in ((year.start_s, True), (year.end_s, False)):
        if end_s in interval:
            continue
        week = zone.bucket_at(Granularity.WEEK, end_s)
        usable = interval[0] <= week.start_s < end_s and week.end_s <= interval[1] and is_kept(week)
        outside = (week.start_s, end_s) if is_start else (end_s, week.end_s)
        if usable and not all(is_kept(day) for day in _buckets(zone, Granularity.DAY, outside)):
            return False
    return True


def _cover_days(zone: CalendarZone, days_s: list[int], is_kept: IsKept) -> list[Bucket]:
    """The fewest kept buckets between the first and the last of some consecutive midnights."""
    if len(days_s) < 2:
        return []
    place = {day_s: index for index, day_s in enumerate(days_s)}
    ending: dict[int, list[Bucket]] = {}
    for granularity in (Granularity.WEEK, Granularity.MONTH, Granularity.YEAR):
        for bucket in _buckets(zone, granularity, (days_s[0], days_s[-1])):
            if bucket.start_s >= days_s[0] and bucket.end_s <= days_s[-1] and is_kept(bucket):
                ending.setdefault(bucket.end_s, []).append(bucket)
    costs: list[float] = [0] + [math.inf] * (len(days_s) - 1)
    steps: list[list[Bucket]] = [[]]
    gap = (days_s[0], days_s[1])
    for index in range(1, len(days_s)):
        step: list[Bucket] = []
        if costs[index - 1] < math.inf:
            day = Bucket(Granularity.DAY, days_s[index - 1], days_s[index])
            try:
                step = [day] if is_kept(day) else _cover_in_day(zone, (day.start_s, day.end_s), is_kept)
                costs[index] = costs[index - 1] + len(step)
            except WindowNotKept:
                gap = (day.start_s, day.end_s)
        for bucket in ending.get(days_s[index], ()):
            cost = costs[place[bucket.start_s]] + 1
            if cost <= costs[index] and cost < math.inf:
                costs[index], step = cost, [bucket]
        steps.append(step)
    if costs[-1] == math.inf:
        # The last day that was reached and not covered: all before it has a cover.
        raise _not_kept(zone, *gap)
    found: list[Bucket] = []
    index = len(days_s) - 1
    while index:
        found += reversed(steps[index])
        index = place[steps[index][0].start_s]
    return found[::-1]


def _buckets(zone: CalendarZone, granularity: Granularity, interval: tuple[int, int]) -> list[Bucket]:
    """The buckets that intersect an interval."""
    edges_s = zone.edges(granularity, *interval).tolist()
    return [Bucket(granularity, start_s, end_s) for start_s, end_s in itertools.pairwise(edges_s)]


def _not_kept(zone: CalendarZone, start_s: int, end_s: int) -> WindowNotKept:
    return WindowNotKept(
        f"the visitors from {zone.isoformat(start_s)} to {zone.isoformat(end_s)} are no longer kept",
        hint="ask for whole hours, days, months or years that are kept, or keep the finer ones for longer",
    )
