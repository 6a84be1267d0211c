"""From the bytes of records to visits.

A block of JSON lines is decoded in one call when every line break plainly ends a record; else line by line, so that one
bad record never hides a good one. Only the configured fields are looked at; other keys are skipped undecoded, so
invalid UTF-8 in them goes unnoticed. Of duplicate keys the last one counts.
"""

import msgspec
import numpy as np

from uniqdb.field_settings import FieldSettings
from uniqdb.uid_batch import joined
from uniqdb.visit import I64Array, Reason, Refused, Visits, batch_of, check_one, decodable, seconds_of


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

    def decode(self, block: bytes, ends: I64Array | None = None, hash_seed: int | None = None) -> Visits:
        """The visits and refusals of a block that ends with a line break. ``ends``: its `line_ends`, if known.

        ``hash_seed``: see `batch_of`; of a block with bad records there are no hashes.
        """
        if ends is None:
            ends = line_ends(block)
        visits = self.plain(block, ends, hash_seed)
        if visits is not None:
            return visits
        # A bad record slows down only its few neighbours.
        parts: list[Visits] = []
        start = 0
        for first in range(0, len(ends), _PART_LINES):
            part_ends = ends[first : first + _PART_LINES]
            end = int(part_ends[-1]) + 1
            part, part_ends = block[start:end], part_ends - start
            found = self.plain(part, part_ends) or self._line_by_line(part, part_ends)
            found.refused = [Refused(r.line + first, r.start + start, r.record, r.reason) for r in found.refused]
            found.lines = [first + found.line_of(visit) for visit in range(len(found))]
            parts.append(found)
            start = end
        return _joined(parts)

    def plain(self, block: bytes | memoryview, ends: I64Array, hash_seed: int | None = None) -> Visits | None:
        """The visits of a block without a bad record, a line each; None if it has one, or may have.

        ``hash_seed``: see `batch_of`.
        """
        if self._fast is None or not _plain_lines(block, ends, self.settings.line_bytes_max):
            return None
        try:
            rows = self._fast.decode_lines(block)
        except (ValueError, RecursionError, MemoryError):
            return None
        if len(rows) != len(ends):
            return None
        values = [row.ts for row in rows]  # type: ignore[attr-defined]  # the struct is made at run time
        times_s = seconds_of(values, self.settings.ts_unit, are_integers=_are_integers(values))
        uids = batch_of([row.uid for row in rows], hash_seed)  # type: ignore[attr-defined]  # as above
        return None if times_s is None or uids is None else Visits(times_s, uids, records=len(rows))

    def _line_by_line(self, block: bytes, ends: I64Array) -> Visits:
        times_s: list[int] = []
        uids: list[str] = []
        refused: list[Refused] = []
        lines: list[int] = []
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
                    lines.append(line)
            start = end + 1
        return Visits(np.array(times_s, np.int64), uids, refused, len(times_s) + len(refused), lines)

    def decode_one(self, record: bytes) -> tuple[int, str] | Reason:
        """(event time, uid) of one record, or why it has none. Never raises."""
        if len(record) > self.settings.line_bytes_max:
            return Reason.TOO_LONG
        fields = self._fields(record)
        if isinstance(fields, Reason):
            # An ignored field may hold what the full decoder refuses (invalid UTF-8): ask the fast one.
            return self._one_fast(record) if fields is Reason.MALFORMED else fields
        ts, uid = fields
        if ts is _MISSING:
            return Reason.NO_TS
        if uid is _MISSING:
            return Reason.NO_UID
        return check_one(ts, uid, self.settings.ts_unit)

    def _fields(self, record: bytes) -> tuple[object, object] | Reason:
        """The raw time and uid, `_MISSING` where there is none, or why the record has no fields at all."""
        try:
            fields = self._any.decode(record)
        except RecursionError:
            return Reason.TOO_DEEP
        except (ValueError, MemoryError):
            return Reason.MALFORMED
        if not isinstance(fields, dict):
            return Reason.NOT_AN_OBJECT
        return _at(fields, self.settings.ts_field), _at(fields, self.settings.uid_field)

    def decodable(self, record: bytes) -> tuple[int | None, str | None]:
        """Of a refused record: its event time in seconds and its uid, each None if it cannot be made out."""
        fields = self._fields(record) if len(record) <= self.settings.line_bytes_max else Reason.TOO_LONG
        return (None, None) if isinstance(fields, Reason) else decodable(*fields, self.settings.ts_unit)

    def _one_fast(self, record: bytes) -> tuple[int, str] | Reason:
        if self._fast is None:
            return self._one_raw(record)
        try:
            row = self._fast.decode(record)
        except UnicodeDecodeError:
            return Reason.BAD_UID
        except RecursionError:
            return Reason.TOO_DEEP
        except (ValueError, MemoryError):
            return Reason.MALFORMED
        return check_one(row.ts, row.uid, self.settings.ts_unit)  # type: ignore[attr-defined]  # made at run time

    def _one_raw(self, record: bytes) -> tuple[int, str] | Reason:
        """One record by its dotted paths, without looking into anything else."""
        try:
            values = [_raw_at(record, name) for name in (self.settings.ts_field, self.settings.uid_field)]
            if None in values:
                return Reason.NO_TS if values[0] is None else Reason.NO_UID
            ts, uid = (self._any.decode(value) for value in values if value is not None)
        except UnicodeDecodeError:
            return Reason.BAD_UID
        except (ValueError, RecursionError, MemoryError):
            return Reason.MALFORMED
        return check_one(ts, uid, self.settings.ts_unit)


_PART_LINES = 32
_BYTE_NUMBERS = np.uint64(0x0001020304050607)
"""The uppermost byte of its product with a word is the number of the one byte there that is 1, if the others are 0."""
_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _raw_at(record: bytes, name: str) -> bytes | msgspec.Raw | None:
    """`_at`, on undecoded JSON."""
    fields = _RAW.decode(record)
    if name in fields:
        return fields[name]
    value: bytes | msgspec.Raw = record
    for part in name.split("."):
        try:
            inner = _RAW.decode(value).get(part)
        except msgspec.ValidationError:  # no object
            return None
        if inner is None:
            return None
        value = inner
    return value


def _joined(parts: list[Visits]) -> Visits:
    if not parts:
        return Visits(np.empty(0, np.int64), [])
    return Visits(
        np.concatenate([part.event_times_s for part in parts]),
        joined([part.uids for part in parts]),
        [one for part in parts for one in part.refused],
        sum(part.records for part in parts),
        [line for part in parts for line in part.lines or ()],
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


def _are_integers(values: list[int | float | str]) -> bool:
    """Whether all are integers: their sum is one only then. In a third of the time that a look at each type takes."""
    try:
        return type(sum(values)) is int  # type: ignore[arg-type]  # texts are what the except is for
    except (TypeError, OverflowError):  # or an integer that is too large to be added to a float
        return False


def line_ends(block: bytes | memoryview) -> I64Array:
    """Positions of the line breaks."""
    is_end = np.frombuffer(block, np.uint8) == 10
    words = is_end[: len(is_end) // 8 * 8].view(np.uint64)
    rows = np.flatnonzero(words != 0)
    found = words[rows]
    if (found & (found - np.uint64(1))).any():  # two within eight bytes: no records, or a few of them
        return np.flatnonzero(is_end)
    ends = rows * 8 + (found * _BYTE_NUMBERS >> np.uint64(56)).astype(np.int64)
    return np.concatenate([ends, len(words) * 8 + np.flatnonzero(is_end[len(words) * 8 :])])


def _plain_lines(block: bytes | memoryview, ends: I64Array, line_bytes_max: int) -> bool:
    """True if every line runs from ``{`` to ``}`` and is not too long.

    Inside a record a line break is never between ``}`` and ``{``, so then each line is whole records, and the decoder,
    which would accept any white space between records, found one per line if it found as many as there are lines.
    """
    if not len(ends) or ends[-1] != len(block) - 1 or ends[0] == 0:
        return False
    raw = np.frombuffer(block, np.uint8)
    longest = max(int(np.diff(ends).max(initial=0)), int(ends[0]) + 1)
    return (
        longest <= line_bytes_max
        and block[0] == 123
        and bool((raw[ends - 1] == 125).all())
        and bool((raw[ends[:-1] + 1] == 123).all())
    )
