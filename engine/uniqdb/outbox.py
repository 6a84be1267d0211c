"""What is to be published: one row for each count whose newest state no reader of the output topics has yet.

The commit that changes a count puts its key here, so that nothing is forgotten whenever a process dies; the key goes
when the newest state has been published. Of buckets and refused records only the key stands here: the record is made
from their own rows when it is sent. A trailing window is worked out once, so its record stands in its row.
"""

import datetime
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from uniqdb.commit_plan import CommitPlan
from uniqdb.format import CHECKSUM, Database, corrupt, key_seed
from uniqdb.store import ReadView

_COMMIT_NUMBER = Struct("<Q")
_WINDOW_KEY = Struct(">BHI")
_WINDOW_ROW = Struct("<IB3x")  # revision, status
WINDOW_KIND, QUARANTINE_KIND = 0x20, 0x30
"""The first byte of keys in ``outbox`` (persisted); below: a granularity, and the key is that of the bucket."""
DELETION = b"\1"
"""Stands where a record would, of a refused record that was erased (persisted)."""
DATE_ORDINAL_MAX = datetime.date.max.toordinal()
TRAILING_DAYS = (7, 30, 90, 180, 365)
"""Lengths of the trailing windows that are published."""


class OutboxRow(NamedTuple):
    """A key that waits, the number of the commit that put it there last, and of a window its record.

    ``record`` of a refused record: `DELETION` if its message is to be deleted, else empty.
    """

    key: bytes
    commit_number: int
    record: bytes


class WindowKey(NamedTuple):
    """A published trailing window: its length and the date that it ends with, as an ordinal of `datetime.date`."""

    days: int
    date_ordinal: int

    @property
    def as_of(self) -> datetime.date:
        """The date that the window ends with, inclusive."""
        return datetime.date.fromordinal(self.date_ordinal)

    def pack(self) -> bytes:
        """The key in ``outbox``, ``due`` and ``windows``."""
        return _WINDOW_KEY.pack(WINDOW_KIND, *self)

    @classmethod
    def unpack(cls, key: bytes) -> "WindowKey":
        """The inverse of `pack`."""
        return cls(*_WINDOW_KEY.unpack(key)[1:])


class WindowRow(NamedTuple):
    """The row of a published window in ``windows``: what its last record said."""

    revision: int
    status: int

    def pack(self) -> bytes:
        """The row's payload."""
        return _WINDOW_ROW.pack(*self)


def quarantine_key(number: int) -> bytes:
    """The key in ``outbox`` of a refused record."""
    return bytes((QUARANTINE_KIND,)) + number.to_bytes(8, "big")


def queue(plan: CommitPlan, keys: Iterable[bytes]) -> None:
    """Let the records of these keys wait from this commit on. About 1 us each."""
    payload = _COMMIT_NUMBER.pack(plan.number)
    pack, sealed = CHECKSUM.pack, {}
    for key in keys:
        sealed[key] = pack(xxh3_64_intdigest(payload, key_seed(Database.OUTBOX, key))) + payload
    plan.changes.put_sealed(Database.OUTBOX, sealed)


def queue_deletions(plan: CommitPlan, numbers: Iterable[int]) -> None:
    """Let it wait that the messages of these refused records are deleted: they were erased."""
    for number in numbers:
        plan.changes.put_row(Database.OUTBOX, quarantine_key(number), _COMMIT_NUMBER.pack(plan.number) + DELETION)


def queue_window(plan: CommitPlan, key: WindowKey, row: WindowRow, record: bytes) -> None:
    """Let a window that was worked out wait, and keep what its record said; it is no longer due."""
    name = key.pack()
    plan.changes.put_row(Database.OUTBOX, name, _COMMIT_NUMBER.pack(plan.number) + record)
    plan.changes.put_row(Database.WINDOWS, name, row.pack())
    if plan.view.get(Database.DUE, name) is not None:
        plan.changes.delete(Database.DUE, name)


def mark_due(plan: CommitPlan, keys: Iterable[WindowKey]) -> None:
    """Let these windows be worked out soon."""
    for key in keys:
        name = key.pack()
        if not plan.changes.writes(Database.DUE, name):
            plan.changes.put_row(Database.DUE, name, b"")


def mark_not_due(plan: CommitPlan, keys: Iterable[WindowKey]) -> None:
    """These windows are not to be worked out: the days that they need are no longer kept."""
    for key in keys:
        if plan.view.get(Database.DUE, key.pack()) is not None:
            plan.changes.delete(Database.DUE, key.pack())


def acknowledge(plan: CommitPlan, published: dict[bytes, int]) -> None:
    """Take out the keys whose newest state is published: ``published`` has the commit number of what was sent.

    One that a later commit, or this one, has put there again stays.
    """
    for key, number in published.items():
        if plan.changes.writes(Database.OUTBOX, key):
            continue
        payload = plan.view.row(Database.OUTBOX, key)
        if payload is not None and _number_of(key, payload) == number:
            plan.changes.delete(Database.OUTBOX, key)


def read_outbox(view: ReadView, after: bytes, end: bytes, most: int) -> list[OutboxRow]:
    """Up to so many rows behind a key and before another one, ascending. Raises StoreCorrupt."""
    found: list[OutboxRow] = []
    for key, payload in view.rows(Database.OUTBOX, after + b"\0", end):
        found.append(OutboxRow(key, _number_of(key, payload), payload[_COMMIT_NUMBER.size :]))
        if len(found) >= most:
            break
    return found


def read_due(view: ReadView) -> Iterator[WindowKey]:
    """The windows that are to be worked out, by length and date."""
    for key, _ in view.rows(Database.DUE, b"", b"\xff"):
        yield WindowKey.unpack(key)


def read_window(view: ReadView, key: WindowKey) -> WindowRow | None:
    """What the last record of the window said, or None. Raises StoreCorrupt."""
    payload = view.row(Database.WINDOWS, key.pack())
    if payload is None:
        return None
    if len(payload) != _WINDOW_ROW.size:
        raise corrupt(Database.WINDOWS, key.pack(), "the row's length is wrong")
    return WindowRow(*_WINDOW_ROW.unpack(payload))


def read_published(view: ReadView, days: int, dates: tuple[int, int]) -> Iterator[WindowKey]:
    """The windows of a length that were published, and end with one of these dates (ordinals, both inclusive)."""
    first, last = (WindowKey(days, date).pack() for date in dates)
    for key, _ in view.raw_rows(Database.WINDOWS, first, last + b"\0"):
        yield WindowKey.unpack(key)


def all_bucket_keys(view: ReadView) -> Iterator[bytes]:
    """The key of every bucket that has a row."""
    for key, _ in view.raw_rows(Database.BUCKETS):
        yield key


def _number_of(key: bytes, payload: bytes) -> int:
    if len(payload) < _COMMIT_NUMBER.size:
        raise corrupt(Database.OUTBOX, key, "the row is too short")
    return int(_COMMIT_NUMBER.unpack_from(payload)[0])
