"""A second opinion: visits of JSON lines counted with Python sets, one visit at a time.

Nothing here is shared with the way the engine counts: another JSON reader, another calendar, no batches, no numpy. It
is slow and needs memory on purpose; it is there to be believed.
"""

import datetime
import io
import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

GRANULARITIES = ("minute", "hour", "day", "week", "month", "year")
UID_BYTES_MAX = 1_024
EVENT_TIME_S_MIN, EVENT_TIME_S_MAX = 946_684_800, 253_370_764_800
"""2000-01-01 and 9999-01-01; the second is not included."""
UNITS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_MISSING = object()


class Fields(Protocol):
    """Where a record holds its event time and its uid, and how long it may be."""

    @property
    def ts_field(self) -> str: ...
    @property
    def uid_field(self) -> str: ...
    @property
    def ts_unit(self) -> str: ...
    @property
    def line_bytes_max(self) -> int: ...


class Tally:
    """What one bucket received."""

    __slots__ = ("uids", "visits")

    def __init__(self) -> None:
        self.uids: set[str] = set()
        self.visits = 0


class Figures(NamedTuple):
    """Of one bucket."""

    uniques: int
    visits: int


class Recount:
    """Sets per bucket, fed line by line. Memory: one set entry per visitor and bucket."""

    def __init__(
        self,
        calendar: "Calendar",
        fields: Fields,
        granularities: Iterable[str] = GRANULARITIES,
        uncounted: "Counter[tuple[int, str]] | None" = None,
    ) -> None:
        """``uncounted``: event time and uid of the visits that the store keeps apart, and how many of each."""
        self.visits = self.others = self.apart = 0
        """Lines that were visits; lines that were not, blank ones left out; visits that are kept apart."""
        self._uncounted = Counter(uncounted or {})
        self._calendar, self._fields, self._granularities = calendar, fields, tuple(granularities)
        self._tallies: dict[tuple[str, int], Tally] = {}
        self._of_minute: dict[int, list[Tally]] = {}
        self._uids: dict[str, str] = {}

    def add_line(self, line: bytes) -> None:
        """Count the line if it is a visit."""
        visit = visit_of(line, self._fields)
        if visit is None:
            self.others += bool(line.strip())
            return
        if self._uncounted and self._uncounted[visit] > 0:
            self._uncounted[visit] -= 1
            self.apart += 1
            return
        self.visits += 1
        time_s, uid = visit
        uid = self._uids.setdefault(uid, uid)
        for tally in self._tallies_at(time_s // 60 * 60):
            tally.uids.add(uid)
            tally.visits += 1

    def figures(self, granularity: str) -> dict[int, Figures]:
        """Start -> figures of every bucket that received a visit."""
        return {
            start_s: Figures(len(tally.uids), tally.visits)
            for (kind, start_s), tally in self._tallies.items()
            if kind == granularity
        }

    def _tallies_at(self, minute_s: int) -> list[Tally]:
        found = self._of_minute.get(minute_s)
        if found is None:
            keys = [(kind, self._calendar.start(kind, minute_s)) for kind in self._granularities]
            found = self._of_minute[minute_s] = [self._tallies.setdefault(key, Tally()) for key in keys]
        return found


class Calendar:
    """Where the buckets of a time zone begin, worked out from the labels of ``zoneinfo``.

    A day begins at the instant of its midnight; a bucket holds what lies between its start and the next one's.
    """

    def __init__(self, zone_name: str, tzif_bytes: bytes) -> None:
        self._zone = ZoneInfo.from_file(io.BytesIO(tzif_bytes), key=zone_name)
        self._midnights: dict[datetime.date, int] = {}
        self._hours: dict[int, int] = {}

    def start(self, granularity: str, minute_s: int) -> int:
        """The start of the bucket that holds the minute."""
        if granularity == "minute":
            return minute_s
        if granularity == "hour":
            return self._hour(minute_s)
        day = self._day(minute_s)
        if granularity == "week":
            return self._midnight(day - datetime.timedelta(day.weekday()))
        if granularity == "month":
            return self._midnight(day.replace(day=1))
        return self._midnight(day.replace(month=1, day=1) if granularity == "year" else day)

    def _midnight(self, day: datetime.date) -> int:
        found = self._midnights.get(day)
        if found is None:
            midnight = datetime.datetime(day.year, day.month, day.day, tzinfo=self._zone)
            found = self._midnights[day] = int(midnight.timestamp())
        return found

    def _day(self, minute_s: int) -> datetime.date:
        """The last date that has begun. Its label may differ where the clocks went back over midnight."""
        day = datetime.datetime.fromtimestamp(minute_s, self._zone).date() + datetime.timedelta(1)
        while self._midnight(day) > minute_s:
            day -= datetime.timedelta(1)
        return day

    def _hour(self, minute_s: int) -> int:
        """Back, minute by minute, to local minute 0 or the start of the day."""
        at, passed = minute_s, []
        while at not in self._hours:
            passed.append(at)
            label = datetime.datetime.fromtimestamp(at, self._zone)
            if label.minute == 0 or at == self._midnight(self._day(at)):
                self._hours[at] = at
                break
            at -= 60
        start_s = self._hours[at]
        self._hours.update(dict.fromkeys(passed, start_s))
        return start_s


# ---------------------------------------------------------------- what is a visit
def visit_of(line: bytes, fields: Fields) -> tuple[int, str] | None:
    """(event time in seconds, uid) of a line, or None."""
    if len(line) > fields.line_bytes_max:
        return None
    try:
        # Bytes that are no UTF-8 matter only in the two fields: there they become a uid without UTF-8, or no number.
        record = json.loads(line.decode("utf-8", "surrogateescape"), parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    time_s = time_of(_at(record, fields.ts_field), fields.ts_unit)
    uid = uid_of(_at(record, fields.uid_field))
    if time_s is None or uid is None or not EVENT_TIME_S_MIN <= time_s < EVENT_TIME_S_MAX:
        return None
    return time_s, uid


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _at(record: dict[str, Any], name: str) -> object:
    """The value of a literal key at the top, else of a dotted path."""
    if name in record:
        return record[name]
    value: Any = record
    for part in name.split("."):
        value = value.get(part, _MISSING) if isinstance(value, dict) else _MISSING
    return value


def time_of(value: object, unit: str) -> int | None:
    """Whole seconds, floored; None for what is no time of the unit."""
    if isinstance(value, bool):
        return None
    if unit == "iso8601":
        return _iso_time(value) if isinstance(value, str) else None
    if isinstance(value, str):
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
            return None
        value = int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = math.floor(value)
    return value // UNITS_PER_S[unit] if isinstance(value, int) else None


def _iso_time(text: str) -> int | None:
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return math.floor(moment.timestamp())
    except (ValueError, OverflowError):
        return None


def uid_of(value: object) -> str | None:
    """The id as text of 1 to 1,024 bytes; an integer as its decimal text."""
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            value = str(value)
        except ValueError:  # thousands of digits
            return None
    if not isinstance(value, str):
        return None
    try:
        size_bytes = len(value.encode())
    except UnicodeEncodeError:
        return None
    return value if 1 <= size_bytes <= UID_BYTES_MAX else None
