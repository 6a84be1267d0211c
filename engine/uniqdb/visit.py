"""From the bytes of records to visits: decoding, the rules for ``ts`` and ``uid``, and the reasons for a refusal.

A block of JSON lines is decoded in one call when every line break plainly ends a record; else line by line, so that one
bad record never hides a good one. Only the configured fields are looked at; other keys are skipped undecoded, so
invalid UTF-8 in them goes unnoticed. Of duplicate keys the last one counts.
"""

import datetime
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec
import numpy as np
import numpy.typing as npt

from uniqdb.errors import UsageError
from uniqdb.limits import EVENT_TIME_S_MAX, EVENT_TIME_S_MIN, LINE_BYTES_MAX, UID_BYTES_MAX

I64Array = npt.NDArray[np.int64]


class Verdict(StrEnum):
    """What became of a visit."""

    ACCEPTED = "accepted"
    HELD = "held"
    AHEAD = "ahead"
    TOO_LATE = "too_late"
    IMPLAUSIBLE = "implausible"
    EXPIRED = "expired"
    INVALID = "invalid"


class Reason(StrEnum):
    """Why a record is in quarantine (persisted)."""

    MALFORMED = "malformed"
    TOO_LONG = "too_long"
    TOO_DEEP = "too_deep"
    NOT_AN_OBJECT = "not_an_object"
    NO_TS = "no_ts"
    NO_UID = "no_uid"
    BAD_TS = "bad_ts"
    BAD_UID = "bad_uid"
    IMPLAUSIBLE = "implausible"


_UNITS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class FieldSettings:
    """Where a record holds its event time and its uid. Changes results; stored with each source.

    ``ts_unit`` is ``s``, ``ms``, ``us``, ``ns`` or ``iso8601``. A field is a literal top-level key, else a dotted path.
    """

    ts_field: str = "ts"
    uid_field: str = "uid"
    ts_unit: str = "s"

    def __post_init__(self) -> None:
        if self.ts_unit not in _UNITS_PER_S and self.ts_unit != "iso8601":
            raise UsageError(f"unknown time unit {self.ts_unit!r}", hint="use one of s, ms, us, ns, iso8601")
        if not self.ts_field or not self.uid_field or self.ts_field == self.uid_field:
            raise UsageError(
                "the time field and the uid field must be two different names",
                hint="give --ts-field and --uid-field",
            )


DEFAULT_FIELDS = FieldSettings()
"""``ts`` in seconds, and ``uid``."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that is not a visit. ``line`` counts from 0 within its block, ``start`` is its offset there."""

    line: int
    start: int
    record: bytes
    reason: Reason


@dataclass(slots=True)
class Visits:
    """Valid visits in the order of their source: event times in Unix seconds, uids of 1 to 1,024 UTF-8 bytes."""

    event_times_s: I64Array
    uids: list[str]
    refused: list[Refused] = field(default_factory=list)
    records: int = 0
    """Records read: visits and refused ones, without blank lines."""

    def __len__(self) -> int:
        return len(self.uids)


class VisitDecoder:
    """Decodes blocks of JSON lines. One instance per source; not thread-safe."""

    def __init__(self, settings: FieldSettings) -> None:
        self.settings = settings
        # A dotted path is resolved on the plain objects; only literal keys have the fast way.
        self._fast: msgspec.json.Decoder[msgspec.Struct] | None = None
        if "." not in settings.ts_field and "." not in settings.uid_field:
            record = msgspec.defstruct(
                "RecordFields",
                [("ts", int | float | str), ("uid", int | str)],
                rename={"ts": settings.ts_field, "uid": settings.uid_field},
                gc=False,
            )
            self._fast = msgspec.json.Decoder(record)
        self._any = msgspec.json.Decoder()

    def decode(self, block: bytes, ends: I64Array | None = None) -> Visits:
        """The visits and refusals of a block that ends with a line break. ``ends``: its `line_ends`, if known."""
        if ends is None:
            ends = line_ends(block)
        visits = self._at_once(block, ends)
        if visits is not None:
            return visits
        # A bad record slows down only its few neighbours.
        parts: list[Visits] = []
        start = 0
        for first in range(0, len(ends), _PART_LINES):
            part_ends = ends[first : first + _PART_LINES]
            end = int(part_ends[-1]) + 1
            part, part_ends = block[start:end], part_ends - start
            found = self._at_once(part, part_ends) or self._line_by_line(part, part_ends)
            found.refused = [Refused(r.line + first, r.start + start, r.record, r.reason) for r in found.refused]
            parts.append(found)
            start = end
        return _joined(parts)

    def _at_once(self, block: bytes, ends: I64Array) -> Visits | None:
        """The visits of a block without a bad record; None if it has one, or may have."""
        if self._fast is None or not _plain_lines(block, ends):
            return None
        try:
            rows = self._fast.decode_lines(block)
        except (ValueError, RecursionError, MemoryError):
            return None
        if len(rows) != len(ends):
            return None
        times_s = seconds_of([row.ts for row in rows], self.settings.ts_unit)  # type: ignore[attr-defined]  # the struct is made at run time
        uids = uids_of([row.uid for row in rows])  # type: ignore[attr-defined]  # as above
        return None if times_s is None or uids is None else Visits(times_s, uids, records=len(rows))

    def _line_by_line(self, block: bytes, ends: I64Array) -> Visits:
        times_s: list[int] = []
        uids: list[str] = []
        refused: list[Refused] = []
        start = 0
        for line, end in enumerate(ends.tolist()):
            record = block[start:end]
            if record and not record.isspace():
                outcome = self.decode_one(record)
                if isinstance(outcome, Reason):
                    refused.append(Refused(line, start, record, outcome))
                else:
                    times_s.append(outcome[0])
                    uids.append(outcome[1])
            start = end + 1
        return Visits(np.array(times_s, np.int64), uids, refused, len(times_s) + len(refused))

    def decode_one(self, record: bytes) -> tuple[int, str] | Reason:
        """(event time, uid) of one record, or why it has none. Never raises."""
        if len(record) > LINE_BYTES_MAX:
            return Reason.TOO_LONG
        try:
            fields = self._any.decode(record)
        except RecursionError:
            return Reason.TOO_DEEP
        except (ValueError, MemoryError):
            # An ignored field may hold what the full decoder refuses (invalid UTF-8): ask the fast one.
            return self._one_fast(record)
        if not isinstance(fields, dict):
            return Reason.NOT_AN_OBJECT
        ts, uid = _at(fields, self.settings.ts_field), _at(fields, self.settings.uid_field)
        if ts is _MISSING:
            return Reason.NO_TS
        if uid is _MISSING:
            return Reason.NO_UID
        return check_one(ts, uid, self.settings.ts_unit)

    def _one_fast(self, record: bytes) -> tuple[int, str] | Reason:
        if self._fast is None:
            return Reason.MALFORMED
        try:
            row = self._fast.decode(record)
        except UnicodeDecodeError:
            return Reason.BAD_UID
        except RecursionError:
            return Reason.TOO_DEEP
        except (ValueError, MemoryError):
            return Reason.MALFORMED
        return check_one(row.ts, row.uid, self.settings.ts_unit)  # type: ignore[attr-defined]  # made at run time


_PART_LINES = 32


def _joined(parts: list[Visits]) -> Visits:
    if not parts:
        return Visits(np.empty(0, np.int64), [])
    return Visits(
        np.concatenate([part.event_times_s for part in parts]),
        [uid for part in parts for uid in part.uids],
        [one for part in parts for one in part.refused],
        sum(part.records for part in parts),
    )


_MISSING = object()


def _at(fields: dict[str, object], name: str) -> object:
    """The value of a literal top-level key, else of a dotted path."""
    if name in fields:
        return fields[name]
    value: object = fields
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return _MISSING
        value = value[part]
    return value


def line_ends(block: bytes) -> I64Array:
    """Positions of the line breaks."""
    return np.flatnonzero(np.frombuffer(block, np.uint8) == 10)


def _plain_lines(block: bytes, ends: I64Array) -> bool:
    """True if every line runs from ``{`` to ``}`` and is not too long.

    Inside a record a line break is never between ``}`` and ``{``, so then each line is whole records, and the decoder,
    which would accept any white space between records, found one per line if it found as many as there are lines.
    """
    if not len(ends) or ends[-1] != len(block) - 1 or ends[0] == 0:
        return False
    raw = np.frombuffer(block, np.uint8)
    longest = max(int(np.diff(ends).max(initial=0)), int(ends[0]) + 1)
    return (
        longest <= LINE_BYTES_MAX
        and block[0] == 123
        and bool((raw[ends - 1] == 125).all())
        and bool((raw[ends[:-1] + 1] == 123).all())
    )


# ---------------------------------------------------------------- the rules for ts and uid
def seconds_of(values: Sequence[object], unit: str) -> I64Array | None:
    """Event times in seconds if every one of them is a plausible time of the unit (the usual case), else None."""
    try:
        if unit != "iso8601" and set(map(type, values)) == {int}:
            times = np.array(values, np.int64)
            if unit != "s":
                times //= _UNITS_PER_S[unit]
        else:
            times = np.array([event_time_s(value, unit) for value in values], np.int64)
    except (OverflowError, TypeError):  # too large, or None for a value that is no time
        return None
    return times if plausible(times).all() else None


def uids_of(values: Sequence[object]) -> list[str] | None:
    """The uids if every one of them is allowed (the usual case: short strings), else None."""
    if set(map(type, values)) == {str}:
        sizes = list(map(len, values))  # type: ignore[arg-type]  # all are str
        if min(sizes) >= 1 and max(sizes) <= UID_BYTES_MAX // 4:
            return values  # type: ignore[return-value]  # all are str
    texts = [text for value in values if (text := uid_text(value)) is not None]
    return texts if len(texts) == len(values) else None


def plausible(times_s: I64Array) -> npt.NDArray[np.bool_]:
    """Which event times lie within the fixed limits."""
    return (times_s >= EVENT_TIME_S_MIN) & (times_s < EVENT_TIME_S_MAX)


def check_one(ts: object, uid: object, unit: str) -> tuple[int, str] | Reason:
    """(event time in seconds, uid) of one visit, or why it is refused."""
    time_s = event_time_s(ts, unit)
    if time_s is None:
        return Reason.BAD_TS
    text = uid_text(uid)
    if text is None:
        return Reason.BAD_UID
    if not EVENT_TIME_S_MIN <= time_s < EVENT_TIME_S_MAX:
        return Reason.IMPLAUSIBLE
    return time_s, text


def event_time_s(ts: object, unit: str) -> int | None:
    """The event time in Unix seconds: an integer, text holding one, a finite float; fractions are floored."""
    if isinstance(ts, np.integer | np.floating):
        ts = ts.item()
    if isinstance(ts, bool):
        return None
    if unit == "iso8601":
        return _iso_s(ts) if isinstance(ts, str) else None
    if isinstance(ts, str):
        digits = ts[1:] if ts[:1] == "-" else ts
        if not digits.isascii() or not digits.isdigit() or len(digits) > 20:
            return None
        ts = int(ts)
    if isinstance(ts, int):
        return ts // _UNITS_PER_S[unit]
    if isinstance(ts, float) and math.isfinite(ts):
        return math.floor(ts) // _UNITS_PER_S[unit]
    return None


def _iso_s(text: str) -> int | None:
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return math.floor(moment.timestamp())
    except (ValueError, OverflowError):
        return None


def uid_text(uid: object) -> str | None:
    """The uid as text: a string of 1 to 1,024 UTF-8 bytes as it is, an integer as decimal text; else None."""
    if isinstance(uid, str):
        if not uid or len(uid) > UID_BYTES_MAX:
            return None
        if len(uid) > UID_BYTES_MAX // 4 or not uid.isascii():
            try:
                if len(uid.encode()) > UID_BYTES_MAX:
                    return None
            except UnicodeEncodeError:  # a lone surrogate has no UTF-8
                return None
        return uid
    if isinstance(uid, int | np.integer) and not isinstance(uid, bool):
        text = str(int(uid)) if abs(int(uid)) < 10**UID_BYTES_MAX else ""
        return text if 0 < len(text) <= UID_BYTES_MAX else None
    return None


def check_many(
    times: Iterable[object], uids: Iterable[object], on_refused: Callable[[object, object, Reason], None]
) -> Visits:
    """Visits from two equally long iterables given by a caller; refused ones go to ``on_refused``.

    Integers and strings of usual size are checked as arrays; only otherwise one by one.
    """
    raw_times = times.tolist() if isinstance(times, np.ndarray) else list(times)
    raw_uids = uids.tolist() if isinstance(uids, np.ndarray) else list(uids)
    if len(raw_times) != len(raw_uids):
        raise UsageError(f"{len(raw_times)} event times but {len(raw_uids)} uids", hint="give two of equal length")
    if raw_times:
        times_s, texts = seconds_of(raw_times, "s"), uids_of(raw_uids)
        # isascii: a lone surrogate cannot be in an ASCII string; others are encoded to find out.
        if times_s is not None and texts is not None and "".join(texts).isascii():
            return Visits(times_s, texts, records=len(texts))
    kept_times: list[int] = []
    kept_uids: list[str] = []
    for ts, uid in zip(raw_times, raw_uids, strict=True):
        outcome = check_one(ts, uid, "s")
        if isinstance(outcome, Reason):
            on_refused(ts, uid, outcome)
        else:
            kept_times.append(outcome[0])
            kept_uids.append(outcome[1])
    return Visits(np.array(kept_times, np.int64), kept_uids, records=len(raw_times))
