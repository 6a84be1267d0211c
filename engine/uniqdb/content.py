"""What a store holds, apart from how it is laid out: the one form in which stores are dumped, loaded and merged.

A content is read once, in this order: head, uids, nameless ordinals, buckets, rows. So it can be a stream.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import msgspec
from pyroaring import BitMap

from uniqdb.audit import AUDIT_PREFIX, ErasureRow, read_nameless
from uniqdb.batch import U32Array
from uniqdb.bucket_members import load_members
from uniqdb.calendar_zone import CalendarZone
from uniqdb.errors import WindowNotKept
from uniqdb.format import BucketRow, Database, MembersState, corrupt
from uniqdb.horizons import read_retention
from uniqdb.intake import HeldRow
from uniqdb.meta import SourceRow, StateRow, read_state, read_store_row
from uniqdb.plausibility import JudgeState
from uniqdb.quarantine import CountedRow, QuarantineRow
from uniqdb.store import ReadView
from uniqdb.uid_dictionary import UidDictionary

COUNTED_PREFIX = b"\xff"
_END = b"\xff" * 64


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What is known before anything else is read. ``ordinals``: all are below this; ``uids``: how many there are."""

    store_uuid: str
    epoch: int
    timezone: str
    tzif: bytes
    ordinals: int
    uids: int
    state: StateRow
    members_from_s: dict[str, int] = {}
    """The horizons of a store that was swept, by granularity."""

    def zone(self) -> CalendarZone:
        """The store's calendar. Raises StoreCorrupt."""
        return CalendarZone.from_tzif(self.timezone, self.tzif)


class BucketContent(NamedTuple):
    """A bucket: its key and row, and its members unless they were swept. ``finer_rows`` and ``inline`` say nothing."""

    key: bytes
    row: BucketRow
    members: BitMap | None


class Part(NamedTuple):
    """A kind of small rows: keys from ``first`` to before ``end`` of a database, each a MessagePack of this type."""

    name: str
    database: Database
    first: bytes
    end: bytes
    kind: type[msgspec.Struct]


PARTS = (
    Part("sources", Database.SOURCES, b"", _END, SourceRow),
    Part("quarantine", Database.QUARANTINE, b"", COUNTED_PREFIX, QuarantineRow),
    Part("quarantine-counted", Database.QUARANTINE, COUNTED_PREFIX, _END, CountedRow),
    Part("clocks", Database.CLOCKS, b"", _END, JudgeState),
    Part("held", Database.HELD, b"", _END, HeldRow),
    Part("erasures", Database.META, AUDIT_PREFIX, AUDIT_PREFIX + b"\xff" * 9, ErasureRow),
)
"""All small rows that are the store's own. What waits to be published is no part of it: that is everything, anew."""


class SmallRow(NamedTuple):
    """A row of a part, decoded."""

    part: Part
    key: bytes
    row: msgspec.Struct


class Content(Protocol):
    """A store's content. Every iterator may raise what its origin raises; none is to be asked for twice."""

    @property
    def name(self) -> str:
        """What to call it in messages."""

    @property
    def head(self) -> Head:
        """The head."""

    def uids(self) -> Iterator[tuple[U32Array, list[bytes]]]:
        """Ordinals and uids, in no order, in batches of bounded size."""

    def nameless(self) -> BitMap:
        """Ordinals in buckets that no uid has any more."""

    def buckets(self) -> Iterator[BucketContent]:
        """Every bucket, keys ascending."""

    def rows(self) -> Iterator[SmallRow]:
        """The rows of all parts, in the order of `PARTS`, keys ascending in each."""

    def finish(self) -> None:
        """Everything was read: raise if it was not what it should have been."""


class StoreContent:
    """The content of one commit of a store."""

    def __init__(self, view: ReadView, store_uuid: str, name: str) -> None:
        self._view, self.name = view, name
        swept = read_retention(view)
        if swept.lost or swept.lost_names is not None:
            what = f"{swept.lost[0].granularity}s" if swept.lost else "names of visitors"
            raise WindowNotKept(
                f"{name} has lost {what}, or more, to damage, and can only be copied whole",
                hint="use `uniqdb backup`, or ingest the source again into a new store; here every bucket is needed",
            )
        if swept.rows_from_s:
            raise WindowNotKept(
                f"{name} has lost rows with counts to a sweep, and can only be copied whole",
                hint="use `uniqdb backup`; here the row of every bucket is needed",
            )
        row, state = read_store_row(view, store_uuid), read_state(view)
        self._dictionary = UidDictionary(row.hash_seed)
        self.layout = self._dictionary.row(view).layout
        self.head = Head(
            store_uuid=row.store_uuid,
            epoch=row.epoch,
            timezone=row.zone_name,
            tzif=row.zone_tzif,
            ordinals=self._dictionary.row(view).next_ordinal,
            uids=self._dictionary.entries(view),
            state=state,
            members_from_s=swept.members_from_s,
        )

    def uids(self) -> Iterator[tuple[U32Array, list[bytes]]]:
        """Ordinals and uids, a fragment of the dictionary at a time."""
        return self._dictionary.all_uids(self._view)

    def nameless(self) -> BitMap:
        """Ordinals in buckets that no uid has any more."""
        return read_nameless(self._view)

    def buckets(self) -> Iterator[BucketContent]:
        """Every bucket, keys ascending."""
        for key, payload in self._view.rows(Database.BUCKETS, b"", b"\xff"):
            row = BucketRow.unpack(key, payload)
            swept = row.members is MembersState.SWEPT
            yield BucketContent(key, row, None if swept else load_members(self._view, key, row))

    def rows(self) -> Iterator[SmallRow]:
        """The rows of all parts."""
        for part in PARTS:
            yield from self.part(part)

    def part(self, part: Part) -> Iterator[SmallRow]:
        """The rows of one part."""
        for key, payload in self._view.rows(part.database, part.first, part.end):
            try:
                yield SmallRow(part, key, msgspec.msgpack.decode(payload, type=part.kind))
            except (ValueError, RecursionError) as error:
                raise corrupt(part.database, key, str(error)) from None

    def finish(self) -> None:
        """A view is what it is."""
