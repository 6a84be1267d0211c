"""The rows of ``meta`` that say what the store is and how far it got, and the sources' rows (MessagePack maps)."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from uniqdb.change_set import ChangeSet
from uniqdb.errors import StoreCorrupt
from uniqdb.format import FORMAT_VERSION, Database, corrupt
from uniqdb.limits import AHEAD_LIMIT_S, LATE_LIMIT_S, LINE_BYTES_MAX
from uniqdb.store import ReadView

STORE_KEY = b"store"
STATE_KEY = b"state"
SOURCE_KEY_BYTES = 16
"""Keys of sources have this length, so that they can begin longer keys."""


class StoreRow(msgspec.Struct, frozen=True):
    """``meta/store``: fixed at creation. ``epoch`` rises when the store is restored or rebuilt."""

    store_uuid: str
    zone_name: str
    zone_tzif: bytes
    hash_seed: int
    epoch: int = 1
    format_version: int = FORMAT_VERSION


class GapRow(msgspec.Struct, frozen=True):
    """Records that were never read: of one source, from an offset to before another one.

    Their event times are taken to lie in ``[from_s, to_s)``; ``to_s`` None: up to a time that is not known yet.
    """

    source: str
    expected: int
    resumed_at: int
    reason: str
    from_s: int
    to_s: int | None = None

    def touches(self, start_s: int, end_s: int) -> bool:
        """Whether visits of ``[start_s, end_s)`` may be missing."""
        return self.from_s < end_s and (self.to_s is None or self.to_s > start_s)


class KafkaPlace(msgspec.Struct, frozen=True, kw_only=True):
    """How far a partition of a topic was read, and what closes buckets by it. Times are Unix seconds.

    ``next_offset`` is the first offset not yet read. ``closing_clock_s`` is the clock of its visits or, when it is
    caught up, of arrival; ``idle``: nothing waits for it. ``delay_s`` is the delay of its recent visits,
    ``last_arrival_s`` and ``largest_arrival_s`` are record timestamps.
    """

    topic: str
    partition: int
    next_offset: int
    cluster_id: str = ""
    topic_id: str = ""
    closing_clock_s: int | None = None
    idle: bool = False
    delay_s: int = 0
    last_arrival_s: int | None = None
    largest_arrival_s: int | None = None
    shard: str = ""
    """Which share of the topic the store counts, as ``I/N``; empty: all of it."""
    topic_partitions: int = 0
    """How many partitions the topic must have; 0 without a shard: it may be given more."""


class StateRow(msgspec.Struct, frozen=True):
    """``meta/state``: rewritten by every commit. ``weeks`` and ``years`` are the numbers of those bucket rows."""

    commit_number: int = 0
    visits: int = 0
    weeks: int = 0
    years: int = 0
    event_time_s_min: int | None = None
    event_time_s_max: int | None = None
    quarantined: dict[str, int] = {}
    quarantine_next_id: int = 0
    clock_s: int | None = None
    """The store's clock: the least of the open sources that have one; with none open, the largest of the ended ones."""
    ended_clock_s: int | None = None
    """The largest clock that a source had when it ended."""
    closed_through_s: int | None = None
    """Every bucket that ends at or before this is closed."""
    reference_s: int | None = None
    """The latest moment by which a source was judged: the wall clock, which may go back, never goes behind it."""
    late_visits: dict[str, int] = {}
    """By granularity: visits that amended a closed bucket."""
    discarded: dict[str, int] = {}
    """By reason: refused records that the user threw away."""
    publishes: bool = False
    """Whether commits say in ``outbox`` what is to be published: from the first time that it was on."""
    gaps: tuple[GapRow, ...] = ()
    """Records of topics that were given up, with the consent of the user."""
    expired: int = 0
    """Visits for which no granularity has members left."""
    skipped: dict[str, int] = {}
    """By granularity: visits that came after their bucket's members were dropped."""
    quarantine_rows: int | None = None
    """Rows that are kept now; None in a store from before rows could go: then all of them."""

    @property
    def quarantine_kept(self) -> int:
        """How many refused records are kept."""
        return self.quarantine_next_id if self.quarantine_rows is None else self.quarantine_rows


class SourceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of ``sources``: how far a file was read. Positions are bytes of the decompressed stream.

    ``kind`` is ``file``, ``named`` if the user named the source, ``call`` for one that a program names,
    ``kafka`` for a partition of a topic. ``reading``
    counts how often the same input was read anew. ``damaged_at_bytes`` is the position at which the input could not be
    decoded further, or -1. Of its records, ``visits`` are accepted, ``refused`` in quarantine, ``held`` neither yet.
    ``ended``: it is over although its end was not read (``clock reset --end``, or it was begun anew).
    """

    kind: str = "file"
    name: str
    ts_field: str
    uid_field: str
    ts_unit: str
    position_bytes: int = 0
    lines: int = 0
    visits: int = 0
    refused: int = 0
    finished: bool = False
    path: str = ""
    device: int = 0
    inode: int = 0
    head_bytes: int = 0
    head_hash: str = ""
    line_bytes_max: int = LINE_BYTES_MAX
    reading: int = 0
    damaged_at_bytes: int = -1
    ahead_limit_s: int = AHEAD_LIMIT_S
    late_limit_s: int = LATE_LIMIT_S
    clock_s: int | None = None
    held: int = 0
    ended: bool = False
    kafka: KafkaPlace | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is not over."""
        return not self.finished and not self.ended

    @property
    def is_waited_for(self) -> bool:
        """Whether the store's clock waits for it."""
        return self.is_open and not (self.kafka is not None and self.kafka.idle)

    @property
    def closing_clock_s(self) -> int | None:
        """The clock by which it closes buckets."""
        return self.clock_s if self.kafka is None else self.kafka.closing_clock_s


_Row = TypeVar("_Row", StoreRow, StateRow, SourceRow)


def read_row(view: ReadView, database: Database, key: bytes, kind: type[_Row]) -> _Row | None:
    """A MessagePack row, or None. Raises StoreCorrupt if it does not decode."""
    payload = view.row(database, key)
    return None if payload is None else decode_row(database, key, payload, kind)


def decode_row(database: Database, key: bytes, payload: bytes, kind: type[_Row]) -> _Row:
    """The inverse of `write_row`."""
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except (ValueError, RecursionError) as error:
        raise corrupt(database, key, str(error)) from None


def write_row(changes: ChangeSet, database: Database, key: bytes, row: StoreRow | StateRow | SourceRow) -> None:
    """Add the row to the change set."""
    changes.put_row(database, key, msgspec.msgpack.encode(row))


def read_state(view: ReadView) -> StateRow:
    """``meta/state``. Raises StoreCorrupt if it is missing."""
    row = read_row(view, Database.META, STATE_KEY, StateRow)
    if row is None:
        raise corrupt(Database.META, STATE_KEY, "the row is missing")
    return row


def read_sources(view: ReadView) -> Iterator[tuple[bytes, SourceRow]]:
    """(key, row) of every source."""
    for key, payload in view.rows(Database.SOURCES, b"", b"\xff" * 64):
        yield key, decode_row(Database.SOURCES, key, payload, SourceRow)


def with_gaps(gaps: tuple[GapRow, ...], more: Iterable[GapRow]) -> tuple[GapRow, ...]:
    """The gaps with further ones, or with where open ones end."""
    found = {(gap.source, gap.resumed_at, gap.from_s): gap for gap in gaps}
    found |= {(gap.source, gap.resumed_at, gap.from_s): gap for gap in more}
    return tuple(found.values())


def read_source(view: ReadView, key: bytes) -> SourceRow | None:
    """The row of one source, or None."""
    return read_row(view, Database.SOURCES, key, SourceRow)


def read_store_row(view: ReadView, store_uuid: str) -> StoreRow:
    """``meta/store``, checked against MANIFEST."""
    row = read_row(view, Database.META, STORE_KEY, StoreRow)
    if row is None or row.store_uuid != store_uuid:
        raise StoreCorrupt(
            "the data file does not belong to this MANIFEST", hint="restore the store's directory from a backup"
        )
    return row
