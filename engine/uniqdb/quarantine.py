"""Refused records: kept with reason and origin, so that nothing is lost silently."""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from xxhash import xxh3_64_hexdigest

from uniqdb.format import Database
from uniqdb.limits import QUARANTINE_RECORD_BYTES_MAX
from uniqdb.meta import StateRow
from uniqdb.store import CommitPlan, ReadView

_ID_BYTES = 8


class QuarantineRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One refused record. ``record`` is its first 1 KiB, ``record_hash`` the xxh3-64 of all of it.

    ``position`` is the byte offset in the source, ``line`` counts from 1; both 0 for calls without a source.
    """

    reason: str
    origin: str
    position: int = 0
    line: int = 0
    event_time_s: int | None = None
    uid: str | None = None
    record: bytes = b""
    record_hash: str = ""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A refused record on its way to the store."""

    reason: str
    origin: str
    record: bytes
    position: int = 0
    line: int = 0
    record_hash: str = ""
    """Of the whole record, if ``record`` is only its beginning."""


def write_quarantine(plan: CommitPlan, state: StateRow, refused: list[Quarantined]) -> StateRow:
    """Add the rows to the commit; returns the state with the new counts per reason."""
    counts = dict(state.quarantined)
    for number, one in enumerate(refused, start=state.quarantine_next_id):
        row = QuarantineRow(
            reason=one.reason,
            origin=one.origin,
            position=one.position,
            line=one.line,
            record=one.record[:QUARANTINE_RECORD_BYTES_MAX],
            record_hash=one.record_hash or xxh3_64_hexdigest(one.record),
        )
        key = number.to_bytes(_ID_BYTES, "big")
        plan.changes.put_row(Database.QUARANTINE, key, msgspec.msgpack.encode(row))
        counts[one.reason] = counts.get(one.reason, 0) + 1
    next_id = state.quarantine_next_id + len(refused)
    return msgspec.structs.replace(state, quarantined=counts, quarantine_next_id=next_id)


def read_quarantine(view: ReadView) -> Iterator[tuple[int, QuarantineRow]]:
    """(id, row) of every refused record that is kept, oldest first."""
    for key, payload in view.rows(Database.QUARANTINE, b"", b"\xff" * (_ID_BYTES + 1)):
        yield int.from_bytes(key, "big"), msgspec.msgpack.decode(payload, type=QuarantineRow)
