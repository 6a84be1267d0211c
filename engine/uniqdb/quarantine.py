"""Refused records: kept with reason and origin, so that nothing is lost silently; bounded, so that no disk is filled.

Beyond the bound the records themselves are not kept any more: they are counted by source and reason, with the places of
the first and the last.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TypeVar

import msgspec
from xxhash import xxh3_64_digest, xxh3_64_hexdigest

from uniqdb.commit_plan import CommitPlan
from uniqdb.format import Database, corrupt
from uniqdb.limits import QUARANTINE_RECORD_BYTES_MAX
from uniqdb.meta import StateRow
from uniqdb.store import ReadView
from uniqdb.visit import Reason, decodable

_ID_BYTES = 8
_Row = TypeVar("_Row", "QuarantineRow", "CountedRow")
_COUNTED = b"\xff"
"""Keys of rows that only count begin like this; an id never does."""


class QuarantineRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One refused record.

    ``position`` is the byte offset in the source, ``line`` counts from 1; both 0 for calls.
    ``event_time_s`` and ``uid`` are there if they could be made out. If both were, they are all that is kept; else
    ``record`` is the record's first 1 KiB and ``record_hash`` the xxh3-64 of all of it.
    """

    reason: str
    origin: str
    position: int = 0
    line: int = 0
    event_time_s: int | None = None
    uid: str | None = None
    record: bytes = b""
    record_hash: str = ""


class CountedRow(msgspec.Struct, frozen=True):
    """Refused records that are only counted: of one source, for one reason, with the first and last place."""

    reason: str
    origin: str
    count: int
    first_position: int
    last_position: int
    first_line: int
    last_line: int


class Quarantined(msgspec.Struct, frozen=True):
    """A refused record on its way to the store."""

    reason: str
    origin: str
    record: bytes
    position: int = 0
    line: int = 0
    record_hash: str = ""
    """Of the whole record, if ``record`` is only its beginning."""
    event_time_s: int | None = None
    uid: str | None = None

    def row(self) -> QuarantineRow:
        """What is kept of it."""
        known = self.event_time_s is not None and self.uid is not None
        return QuarantineRow(
            reason=self.reason,
            origin=self.origin,
            position=self.position,
            line=self.line,
            event_time_s=self.event_time_s,
            uid=self.uid,
            record=b"" if known else self.record[:QUARANTINE_RECORD_BYTES_MAX],
            record_hash=self.record_hash or xxh3_64_hexdigest(self.record),
        )


CALL_ORIGIN = "call"
"""Origin of visits that were handed over by a call without a source."""


def refused_call(ts: object, uid: object, reason: Reason, source: str | None) -> Quarantined:
    """A visit of a call that is refused."""
    record = f"{ts!r}\t{uid!r}".encode("utf-8", "backslashreplace")
    time_s, text = decodable(ts, uid, "s")
    return Quarantined(str(reason), source or CALL_ORIGIN, record, event_time_s=time_s, uid=text)


def write_quarantine(plan: CommitPlan, state: StateRow, refused: list[Quarantined], max_rows: int) -> StateRow:
    """Add the rows to the commit; returns the state with the new counts per reason."""
    counts = dict(state.quarantined)
    for one in refused:
        counts[one.reason] = counts.get(one.reason, 0) + 1
    rows = state.quarantine_kept
    kept = refused[: max(max_rows - rows, 0)]
    for number, one in enumerate(kept, start=state.quarantine_next_id):
        payload = msgspec.msgpack.encode(one.row())
        plan.changes.put_row(Database.QUARANTINE, number.to_bytes(_ID_BYTES, "big"), payload)
    _count(plan, refused[len(kept) :])
    return msgspec.structs.replace(
        state,
        quarantined=counts,
        quarantine_next_id=state.quarantine_next_id + len(kept),
        quarantine_rows=rows + len(kept),
    )


class Gone(msgspec.Struct, frozen=True):
    """Refused records that leave quarantine: ``rows`` by id with their reasons, ``counted`` without originals.

    They are accepted by the same commit, or ``discarded``.
    """

    rows: dict[int, str]
    counted: list[CountedRow]
    discarded: bool = False


NOTHING_GONE = Gone({}, [])


def remove_quarantined(plan: CommitPlan, state: StateRow, gone: Gone) -> StateRow:
    """Delete the rows in the commit; returns the state with the counts that are left."""
    for number in gone.rows:
        plan.changes.delete(Database.QUARANTINE, number.to_bytes(_ID_BYTES, "big"))
    by_reason = Counter(gone.rows.values())
    for one in gone.counted:
        plan.changes.delete(Database.QUARANTINE, counted_key(one.reason, one.origin))
        by_reason[one.reason] += one.count
    left = Counter(state.quarantined)
    left.subtract(by_reason)
    discarded = dict(Counter(state.discarded) + by_reason) if gone.discarded else state.discarded
    return msgspec.structs.replace(
        state,
        quarantined={reason: count for reason, count in left.items() if count},
        discarded=discarded,
        quarantine_rows=state.quarantine_kept - len(gone.rows),
    )


def counted_key(reason: str, origin: str) -> bytes:
    """The key of the row that counts a source's refused records of a reason."""
    return _COUNTED + xxh3_64_digest(f"{reason}\0{origin}".encode("utf-8", "surrogatepass"))


def _count(plan: CommitPlan, refused: list[Quarantined]) -> None:
    groups: dict[tuple[str, str], list[Quarantined]] = {}
    for one in refused:
        groups.setdefault((one.reason, one.origin), []).append(one)
    for (reason, origin), group in groups.items():
        key = counted_key(reason, origin)
        first, last, count = group[0], group[-1], len(group)
        row = CountedRow(reason, origin, count, first.position, last.position, first.line, last.line)
        payload = plan.view.row(Database.QUARANTINE, key)
        if payload is not None:
            before = _decoded(key, payload, CountedRow)
            row = msgspec.structs.replace(
                row,
                count=before.count + count,
                first_position=before.first_position,
                first_line=before.first_line,
            )
        plan.changes.put_row(Database.QUARANTINE, key, msgspec.msgpack.encode(row))


def _decoded(key: bytes, payload: bytes, kind: type[_Row]) -> _Row:
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except (ValueError, RecursionError) as error:
        raise corrupt(Database.QUARANTINE, key, str(error)) from None


def read_quarantine(view: ReadView) -> Iterator[tuple[int, QuarantineRow]]:
    """(id, row) of every refused record that is kept, oldest first."""
    for key, payload in view.rows(Database.QUARANTINE, b"", _COUNTED):
        yield int.from_bytes(key, "big"), _decoded(key, payload, QuarantineRow)


def read_quarantined(view: ReadView, number: int) -> QuarantineRow | None:
    """The refused record with this id, or None."""
    key = number.to_bytes(_ID_BYTES, "big")
    payload = view.row(Database.QUARANTINE, key)
    return None if payload is None else _decoded(key, payload, QuarantineRow)


def read_counted(view: ReadView) -> Iterator[CountedRow]:
    """What was refused beyond the bound."""
    for key, payload in view.rows(Database.QUARANTINE, _COUNTED, b"\xff" * (_ID_BYTES + 2)):
        yield _decoded(key, payload, CountedRow)


def counted_only(view: ReadView) -> int:
    """How many records were refused beyond the bound. Cost: a row for each source and reason that had some."""
    return sum(one.count for one in read_counted(view))
