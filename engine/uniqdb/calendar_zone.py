"""The store's one time zone: where its minutes, hours, days, weeks, months and years begin.

Every boundary is an instant, an int of Unix seconds and a multiple of 60. Membership is by interval
``[start, end)``, never by local label: after a clock was set back the label may show the day before.

- A minute is a UTC minute.
- A day starts at the instant of ``datetime(year, month, day, tzinfo=zone, fold=0)``; if that label was
  skipped, Python takes the offset before the change (PEP 495). Where a whole date was skipped (Apia,
  2011-12-30) it starts together with the next one: a date of length zero, which has no bucket.
- Hours run from the day's start to the next instant whose local minute is 0, and end with the day at the latest.
- ISO weeks, months and years start with their first day.

The calendar covers the local dates 1999-01-01 to 9999-12-31: event times are at least 2000-01-01T00:00:00Z, which is
still 1999 in half of the world. Offsets and changes of offset in that time are whole minutes, which is checked.
"""

import difflib
import functools
import importlib.resources
import io
import itertools
import re
import struct
import zoneinfo
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from uniqdb.errors import StoreCorrupt, UsageError
from uniqdb.granularity import Bucket, Granularity

Times = npt.NDArray[np.int64]
"""Unix seconds."""

YEAR_MIN = 1999
"""The first year of the calendar: it holds 2000-01-01T00:00:00Z west of Greenwich."""
_YEAR_MAX = 9999
_DAY_S = 86_400
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_ORDINAL_MIN = date(YEAR_MIN, 1, 1).toordinal()
_ORDINAL_MAX = date(_YEAR_MAX, 12, 31).toordinal()
_LISTED_FROM_S = int(datetime(YEAR_MIN - 1, 12, 1, tzinfo=UTC).timestamp())
_YEARS_CACHED = 64
_SLOT_S_MIN = 900
"""Below this the table of a year would grow large, and a binary search is used instead."""
_NAME = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_FIXED_RULE = re.compile(rb"(<[A-Za-z0-9+-]+>|[A-Za-z]+)[0-9:+-]+")
"""The last line of a file whose zone has no summer time after the changes that it lists (RFC 9636, section 3.3)."""
_NOT_NAMES = re.compile(r"localtime|posixrules|Factory|(posix|right)(/.*)?")
"""Files beside the zones that mean another zone on every machine, or count leap seconds."""


class CalendarZone:
    """One IANA time zone, frozen: built from TZif bytes that the store keeps, so no update moves a boundary.

    Equal inputs give equal answers in every process. Objects are safe to use from several threads.
    """

    _fixed_offset_s: int | None = None

    def __init__(self, name: str, tzif_bytes: bytes) -> None:
        """Raises `ValueError` or `struct.error` for bytes that are not TZif; `from_tzif` translates them."""
        self.name = name
        self.tzif_bytes = tzif_bytes
        self.zone_info = zoneinfo.ZoneInfo.from_file(io.BytesIO(tzif_bytes), key=name)
        self._listed_changes_s = _listed_changes_s(tzif_bytes)
        # Files list changes of name only, too, and often a last one at 2**31 - 1 that changes nothing.
        changes_s = [at for at in self._listed_changes_s if self._offset_s(at) != self._offset_s(at - 1)]
        self._refuse_seconds(np.array(changes_s, dtype=np.int64))
        has_rule = _FIXED_RULE.fullmatch(tzif_bytes.rstrip(b"\n").rpartition(b"\n")[2])
        self._fixed_offset_s = self._offset_s(_LISTED_FROM_S) if has_rule and not self._listed_changes_s else None
        self._year_table = functools.lru_cache(maxsize=_YEARS_CACHED)(self._build_year_table)
        self.start_s = self._start_of_ordinal(_ORDINAL_MIN)
        """The first instant of the calendar, inclusive: the start of 1999."""
        self.end_s = self._start_of_ordinal(_ORDINAL_MAX + 1)
        """The end of the calendar, exclusive: the end of 9999."""

    @classmethod
    def from_name(cls, name: str) -> Self:
        """The zone `name` as this machine knows it: system files first, then the ``tzdata`` package.

        Cost: one small file. Raises `UsageError` if there is no such zone, with names that look alike.
        """
        if _NAME.fullmatch(name) and not _NOT_NAMES.fullmatch(name):
            tzif_bytes = _read_tzif(name)
            if tzif_bytes is not None:
                try:
                    return cls(name, tzif_bytes)
                except (ValueError, struct.error):
                    pass
        known = sorted(one for one in zoneinfo.available_timezones() if not _NOT_NAMES.fullmatch(one))
        alike = difflib.get_close_matches(name[:64], known, n=3)
        hint = "names look like Europe/Zurich, Asia/Kolkata or UTC"
        if alike:
            hint = f"did you mean {' or '.join(alike)}? {hint}"
        raise UsageError(f"unknown time zone {name!r}", hint=hint)

    @classmethod
    def from_tzif(cls, name: str, tzif_bytes: bytes) -> Self:
        """The zone as a store keeps it. Raises `StoreCorrupt` if the bytes are not TZif (RFC 9636)."""
        try:
            return cls(name, tzif_bytes)
        except (ValueError, struct.error) as error:
            raise StoreCorrupt(
                f"the stored description of the time zone {name!r} cannot be read: {error}",
                hint="restore the store from a backup",
            ) from error

    def starts_of(self, granularity: Granularity, times_s: Times) -> Times:
        """The start of the bucket that holds each time, in the order of `times_s`.

        Cost: 7 ns per time within one calendar year, 50 ns over several (measured), plus 2 ms for each year
        that was not seen lately (64 are remembered). Raises `UsageError` if a time lies outside the calendar;
        minutes are not checked.
        """
        if granularity is Granularity.MINUTE:
            return times_s - times_s % 60
        if times_s.size == 0:
            return np.empty(0, np.int64)
        first, last = self._year_of(int(times_s.min())), self._year_of(int(times_s.max()))
        if first == last:
            return self._year_table(first).starts_of(granularity, times_s)
        year_starts = self._year_starts(first, last)
        which = np.searchsorted(year_starts, times_s, side="right") - 1
        if granularity is Granularity.YEAR:
            return year_starts[which]
        # Times are grouped by year with one radix sort, so that each year's table is visited once.
        order = np.argsort(which.astype(np.int16), kind="stable")
        sorted_s = times_s[order]
        counts = np.bincount(which, minlength=len(year_starts))
        ends = np.cumsum(counts)
        for index in np.flatnonzero(counts).tolist():
            part = slice(int(ends[index] - counts[index]), int(ends[index]))
            sorted_s[part] = self._year_table(first + index).starts_of(granularity, sorted_s[part])
        starts_s = np.empty_like(sorted_s)
        starts_s[order] = sorted_s
        return starts_s

    def edges(self, granularity: Granularity, from_s: int, to_s: int) -> Times:
        """The starts of all buckets that intersect ``[from_s, to_s)``, ascending, and the last one's end.

        So consecutive elements bound one bucket. ``from_s < to_s``, any seconds within the calendar. The
        array may be read-only. Cost: about 1 us per week, month or year; hours and days are slices of the
        tables of their years.
        """
        assert from_s < to_s, (from_s, to_s)
        if granularity is Granularity.MINUTE:
            first_s = from_s // 60 * 60
            return np.arange(first_s, (to_s - 1) // 60 * 60 + 61, 60, dtype=np.int64)
        if granularity in (Granularity.HOUR, Granularity.DAY):
            years = range(self._year_of(from_s), self._year_of(to_s - 1) + 1)
            tables = [self._year_table(year) for year in years]
            whole = [table.hours if granularity is Granularity.HOUR else table.days for table in tables]
            starts = [edges_s[:-1] for edges_s in whole[:-1]]
            joined = np.concatenate([*starts, whole[-1]]) if starts else whole[0]
            first = int(np.searchsorted(joined, from_s, side="right")) - 1
            return joined[first : int(np.searchsorted(joined, to_s, side="left")) + 1]
        ordinal = _first_ordinal(granularity, self._local_ordinal(from_s))
        edges_s = [self._start_of_ordinal(ordinal)]
        while edges_s[-1] < to_s:
            ordinal = _next_ordinal(granularity, ordinal)
            edges_s.append(self._start_of_ordinal(ordinal))
        return np.array(edges_s, dtype=np.int64)

    def bucket_at(self, granularity: Granularity, time_s: int) -> Bucket:
        """The bucket that holds `time_s`. Cost: a few us. Raises `UsageError` outside the calendar."""
        if granularity is Granularity.MINUTE:
            return Bucket(granularity, time_s // 60 * 60, time_s // 60 * 60 + 60)
        if granularity is Granularity.HOUR:
            hours = self._year_table(self._year_of(time_s)).hours
            index = int(np.searchsorted(hours, time_s, side="right"))
            return Bucket(granularity, int(hours[index - 1]), int(hours[index]))
        first = _first_ordinal(granularity, self._local_ordinal(time_s))
        after = _next_ordinal(granularity, first)
        return Bucket(granularity, self._start_of_ordinal(first), self._start_of_ordinal(after))

    def bucket_starting(self, granularity: Granularity, start_s: int) -> Bucket:
        """The bucket that starts at `start_s`, which must be a start. Cost: a few us."""
        bucket = self.bucket_at(granularity, start_s)
        assert bucket.start_s == start_s, f"no {granularity.word} starts at {start_s} in {self.name}"
        return bucket

    def local_date(self, time_s: int) -> date:
        """The date whose day ``[start, end)`` holds `time_s`: now and then not the local label's."""
        return date.fromordinal(self._local_ordinal(time_s))

    def day_start(self, day: date) -> int:
        """The instant at which `day` starts, in Unix seconds.

        For a date of length zero it equals the next day's start. Dates before the calendar start with it: no
        visit is that old, and their offsets need not be whole minutes.
        """
        return max(self.start_s, self._start_of_ordinal(day.toordinal()))

    def day_end(self, day: date) -> int:
        """The instant at which `day` ends and the next one starts; also of 9999-12-31. Clamped likewise."""
        return max(self.start_s, self._start_of_ordinal(day.toordinal() + 1))

    def isoformat(self, time_s: int) -> str:
        """Its local label and offset, as ``2016-07-11T13:39:00+00:00``; five digits only for the very end."""
        if time_s == self.end_s:
            return "10000-01-01" + self.isoformat(time_s - _DAY_S)[10:]
        return datetime.fromtimestamp(time_s, self.zone_info).isoformat()

    def _start_of_ordinal(self, ordinal: int) -> int:
        """The start of the date with this ordinal; after 9999-12-31 they continue in steps of 24 hours."""
        if self._fixed_offset_s is not None:
            return (ordinal - _EPOCH_ORDINAL) * _DAY_S - self._fixed_offset_s
        if ordinal > _ORDINAL_MAX:
            return self._start_of_ordinal(_ORDINAL_MAX) + (ordinal - _ORDINAL_MAX) * _DAY_S
        offset = datetime.fromordinal(ordinal).replace(tzinfo=self.zone_info).utcoffset()
        assert offset is not None
        return (ordinal - _EPOCH_ORDINAL) * _DAY_S - offset.days * _DAY_S - offset.seconds

    def _year_starts(self, first: int, last: int) -> Times:
        ordinals = [date(year, 1, 1).toordinal() for year in range(first, last + 1)]
        return np.array([self._start_of_ordinal(ordinal) for ordinal in ordinals], dtype=np.int64)

    def _local_ordinal(self, time_s: int) -> int:
        """The ordinal of `local_date`: the label's date is a guess that is at most one or two days off."""
        if not self.start_s <= time_s < self.end_s:
            raise UsageError(
                f"the instant {time_s} lies outside the calendar",
                hint="times are Unix seconds from 2000-01-01 up to, not including, 9999-01-01",
            )
        ordinal = _EPOCH_ORDINAL + (time_s + self._offset_s(time_s)) // _DAY_S
        while self._start_of_ordinal(ordinal) > time_s:
            ordinal -= 1
        while self._start_of_ordinal(ordinal + 1) <= time_s:
            ordinal += 1
        return ordinal

    def _year_of(self, time_s: int) -> int:
        return date.fromordinal(self._local_ordinal(time_s)).year

    def _offset_s(self, time_s: int) -> int:
        if self._fixed_offset_s is not None:
            return self._fixed_offset_s
        # The calendar of datetime ends with 9999: its last two days take the offset before them.
        time_s = min(time_s, (_ORDINAL_MAX - 1 - _EPOCH_ORDINAL) * _DAY_S)
        offset = datetime.fromtimestamp(time_s, self.zone_info).utcoffset()
        assert offset is not None
        return offset.days * _DAY_S + offset.seconds

    def _build_year_table(self, year: int) -> "_YearTable":
        """Cost: about 2 ms, most of it one offset per day and one per start of a day."""
        first = date(year, 1, 1).toordinal()
        ordinals = np.arange(first, _next_ordinal(Granularity.YEAR, first) + 1)
        starts = [self._start_of_ordinal(ordinal) for ordinal in range(first - 6, int(ordinals[-1]) + 1)]
        # The week of 1 January may start up to six days before it.
        day_starts = np.array(starts, dtype=np.int64)[6:]
        week_starts = np.array(starts, dtype=np.int64)[ordinals - (ordinals - 1) % 7 - first + 6]
        assert bool((np.diff(day_starts) >= 0).all()), f"dates of {year} in {self.name} are not in order"
        days = (ordinals - _EPOCH_ORDINAL).astype("datetime64[D]")
        month_days = days.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        month_starts = day_starts[month_days + _EPOCH_ORDINAL - first]
        changes_s = self._changes_s(day_starts)
        hours = [day_starts]
        for from_s, to_s in itertools.pairwise([starts[6], *changes_s, starts[-1]]):
            minute_0_s = from_s + (-from_s - self._offset_s(from_s)) % 3600
            hours.append(np.arange(minute_0_s, to_s, 3600, dtype=np.int64))
        hour_edges = _different(np.concatenate(hours))
        self._refuse_seconds(hour_edges)
        return _YearTable(hour_edges, day_starts, week_starts, month_starts)

    def _changes_s(self, day_starts: Times) -> list[int]:
        """The instants within the year, after its start, at which the offset changes, ascending.

        The offset is looked at in every day and at every change that the TZif file lists; where two
        neighbours differ, the instant is found by bisection. Changes that are not listed come from the rule
        at the end of the file, which has two a year.
        """
        begin_s, end_s = int(day_starts[0]), int(day_starts[-1])
        listed = [change for change in self._listed_changes_s if begin_s < change < end_s]
        points = sorted({*day_starts.tolist(), *listed})
        offsets = [self._offset_s(point) for point in points]
        changes_s: list[int] = []
        for index in range(1, len(points)):
            if offsets[index] == offsets[index - 1]:
                continue
            before_s, at_s = points[index - 1], points[index]
            while at_s - before_s > 1:
                middle_s = (before_s + at_s) // 2
                if self._offset_s(middle_s) == offsets[index - 1]:
                    before_s = middle_s
                else:
                    at_s = middle_s
            changes_s.append(at_s)
        return [change for change in changes_s if change < end_s]

    def _refuse_seconds(self, times_s: Times) -> None:
        if (times_s % 60).any():
            raise UsageError(
                f"the time zone {self.name!r} has changes that are not on a whole minute",
                hint="use a zone without leap seconds, such as Europe/Zurich or UTC",
            )


def _different(times_s: Times) -> Times:
    """Ascending, each once. (``np.unique`` imports numpy's masked arrays on first use: 15 ms for a short answer.)"""
    times_s = np.sort(times_s)
    return times_s[np.concatenate(([True], times_s[1:] != times_s[:-1]))]


class _YearTable:
    """The boundaries of one calendar year, and for each granularity a table from time slots to starts.

    A slot is the greatest common divisor of the lengths of the year's hours (3,600 s in most years of most
    zones), so no boundary lies within one and a start is found with one division and one look-up.
    """

    __slots__ = ("_slot_s", "_starts", "_tables", "days", "hours")

    def __init__(self, hours: Times, day_starts: Times, week_starts: Times, month_starts: Times) -> None:
        """`hours`: all edges and the end. The others: one element per date and one for the date after."""
        self.hours = hours
        self.days: Times = _different(day_starts)
        for edges in (self.hours, self.days):
            edges.setflags(write=False)
        self._slot_s = int(np.gcd.reduce(np.diff(hours)))
        self._starts = {
            Granularity.HOUR: (hours, hours),
            Granularity.DAY: (day_starts, day_starts),
            Granularity.WEEK: (day_starts, week_starts),
            Granularity.MONTH: (day_starts, month_starts),
        }
        self._tables: dict[Granularity, Times] = {}

    def starts_of(self, granularity: Granularity, times_s: Times) -> Times:
        """As `CalendarZone.starts_of`, for times that all lie within this year."""
        if granularity is Granularity.YEAR:
            return np.full(times_s.shape, self.hours[0], dtype=np.int64)
        if self._slot_s < _SLOT_S_MIN:
            return self._search(granularity, times_s)
        table = self._tables.get(granularity)
        if table is None:
            slots = np.arange(self.hours[0], self.hours[-1], self._slot_s, dtype=np.int64)
            table = self._tables[granularity] = self._search(granularity, slots)
        found: Times = table[(times_s - self.hours[0]) // self._slot_s]
        return found

    def _search(self, granularity: Granularity, times_s: Times) -> Times:
        edges, starts = self._starts[granularity]
        # Of two dates that start together the later one holds the times, hence side="right".
        found: Times = starts[np.searchsorted(edges, times_s, side="right") - 1]
        return found


def _first_ordinal(granularity: Granularity, ordinal: int) -> int:
    """The ordinal of the first date of the day, week, month or year that holds the date `ordinal`."""
    if granularity is Granularity.DAY:
        return ordinal
    if granularity is Granularity.WEEK:
        return ordinal - (ordinal - 1) % 7
    day = date.fromordinal(min(ordinal, _ORDINAL_MAX))
    if ordinal > _ORDINAL_MAX:
        return _ORDINAL_MAX + 1
    month = day.month if granularity is Granularity.MONTH else 1
    return date(day.year, month, 1).toordinal()


def _next_ordinal(granularity: Granularity, first: int) -> int:
    """The ordinal of the date after the last one of the unit that starts with the date `first`."""
    if granularity is Granularity.DAY:
        return first + 1
    if granularity is Granularity.WEEK:
        return first + 7
    # From the first of a month 31 days, of a year 366 days on is within the next unit, whichever its length.
    return _first_ordinal(granularity, first + (31 if granularity is Granularity.MONTH else 366))


def _read_tzif(name: str) -> bytes | None:
    for directory in zoneinfo.TZPATH:
        try:
            return (Path(directory) / name).read_bytes()
        except (OSError, ValueError):
            continue
    try:
        return importlib.resources.files("tzdata.zoneinfo").joinpath(*name.split("/")).read_bytes()
    except (OSError, ImportError):
        return None


def _listed_changes_s(tzif_bytes: bytes) -> list[int]:
    """The instants since the end of 1998 that a TZif file lists as changes, in order (RFC 9636, section 3).

    A file has a block with 32-bit times and, from version 2 on, a second header and block with 64-bit times.
    """
    _magic, version, utc, std, leap, times, types, chars = struct.unpack_from(">4sc15x6L", tzif_bytes)
    position, code = 44, "l"
    if version >= b"2":
        position += times * 5 + types * 6 + chars + leap * 8 + std + utc
        times = struct.unpack_from(">4sc15x6L", tzif_bytes, position)[5]
        position, code = position + 44, "q"
    listed = struct.unpack_from(f">{times}{code}", tzif_bytes, position)
    return [change_s for change_s in listed if change_s >= _LISTED_FROM_S]
