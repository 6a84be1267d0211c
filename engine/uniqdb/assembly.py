"""A new store's data out of one content (a dump is loaded) or of several (stores are merged)."""

import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import msgspec
import numpy as np
from pyroaring import BitMap

from uniqdb.again import Standing
from uniqdb.audit import NAMELESS_KEY, nameless_payload
from uniqdb.batch import I64Array, U32Array, bitmap_of
from uniqdb.calendar_zone import CalendarZone
from uniqdb.content import BucketContent, Content
from uniqdb.errors import StoreCorrupt, WindowNotKept
from uniqdb.format import (
    BucketRow,
    Database,
    DictionaryRow,
    Status,
    bucket_key,
    parse_bucket_key,
    seal_row,
)
from uniqdb.fresh_data import FreshData
from uniqdb.granularity import Granularity
from uniqdb.horizons import RETENTION_KEY, RetentionRow
from uniqdb.meta import STATE_KEY, STORE_KEY, StateRow, StoreRow
from uniqdb.options import DictionarySizes
from uniqdb.uid_dictionary import DICTIONARY_KEY
from uniqdb.uid_runs import NO_ORDINAL, UidRuns
from uniqdb.whole_units import bucket_rows

Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class NewStore:
    """What the store is to be. ``sizes``: how its dictionary is cut."""

    store_uuid: str
    zone: CalendarZone
    hash_seed: int
    standing: Standing
    sizes: DictionarySizes


def damaged(what: str) -> StoreCorrupt:
    """What is to be put together makes no sense."""
    return StoreCorrupt(what, hint="run `uniqdb check` on what it was made of, or use another copy")


class Assembly:
    """The steps, to be called in this order: `uids`, `buckets` or `rebuild`, `rows`, `meta`.

    Memory: one set of each granularity, 8 bytes for each bucket, and what `uniqdb.uid_runs` says; where hours to years
    are made anew, also their rows.
    """

    def __init__(self, fresh: FreshData, folder: Path, new: NewStore, on_progress: Progress) -> None:
        self._fresh, self._new, self._on_progress = fresh, new, on_progress
        self._runs = UidRuns(folder, new.hash_seed, new.sizes)
        self._nameless = BitMap()
        self._starts: dict[Granularity, array[int]] = {kind: array("q") for kind in Granularity}
        self._open: dict[Granularity, _Open] = {}
        self._later: list[tuple[Database, bytes, bytes]] | None = None
        """Rows of coarser buckets that come to be while finer ones are still written."""
        self.visits = 0
        """Of all years."""

    # ------------------------------------------------------------ visitors
    def uids(self, contents: list[Content]) -> None:
        """Read the visitors of all contents, and give them numbers."""
        nameless = []
        for content in contents:
            self._runs.add(content.uids(), content.head.ordinals)
            nameless.append(content.nameless())
        self._runs.number(nameless)
        for number, forgotten in enumerate(nameless):
            self._nameless |= self._mapped(number, forgotten)
        self._on_progress("uids", self._runs.next_ordinal)

    def _mapped(self, content: int, members: BitMap) -> BitMap:
        """The new ordinals of a content's set. Raises StoreCorrupt if one has no uid."""
        old: U32Array = np.frombuffer(members.to_array(), np.uint32)
        numbers = self._runs.maps[content]
        if not len(old):
            return BitMap()
        if int(old[-1]) >= len(numbers):
            raise damaged("a bucket has a visitor who was never given a number")
        new = numbers[old]
        if bool((new == NO_ORDINAL).any()):
            raise damaged("a bucket has a visitor whom the dictionary lacks")
        return bitmap_of(new)

    # ------------------------------------------------------------ buckets
    def buckets(self, contents: list[Content], closed_through_s: int | None) -> None:
        """Every bucket that one of the contents has: the union of its members, the sum of its visits.

        Raises StoreCorrupt if finer and coarser ones do not fit together, WindowNotKept.
        """
        for kind, group in groupby(self._joined(contents), lambda one: parse_bucket_key(one.key)[0]):
            below = self._children(kind)
            for one in group:
                start_s = parse_bucket_key(one.key)[1]
                finer_rows = below.pop(start_s, 0)
                if kind.finer is not None and not finer_rows:
                    raise damaged(f"a bucket of the {kind.word}s has no {kind.finer.word} in it")
                status = _status(one.row, self._end_s(kind, start_s), closed_through_s)
                self._put(one.key, one.row._replace(finer_rows=finer_rows, status=status), one.members)
            if below:
                raise damaged(f"a bucket of the {kind.word}s is missing, though a part of it is there")
        for kind in Granularity:
            if kind.finer is not None and len(self._starts[kind.finer]) and not len(self._starts[kind]):
                raise damaged(f"there are no {kind.word}s, though parts of them are there")

    def rebuild(self, contents: list[Content], closed_through_s: int | None) -> None:
        """Only the minutes are taken; hours to years are made of them, in the new store's calendar.

        Raises WindowNotKept if a minute's members were swept.
        """
        self._later = []
        for one in self._joined(contents):
            kind, start_s = parse_bucket_key(one.key)
            if kind is not Granularity.MINUTE:
                continue
            if one.members is None:
                raise WindowNotKept(
                    f"the members of the minute that begins at {start_s} were swept, so days cannot be made of it",
                    hint="load it without --timezone",
                )
            status = _status(one.row, self._end_s(kind, start_s), closed_through_s)
            self._put(one.key, one.row._replace(finer_rows=0, status=status), one.members)
            self._gather(kind, start_s, one.row.visits, one.members, closed_through_s)
        for kind in Granularity:
            self._end(kind, closed_through_s)
        for database, key, value in sorted(self._later):
            self._fresh.put(database, key, value)
        self._later = None

    def _gather(self, kind: Granularity, start_s: int, visits: int, members: BitMap, through_s: int | None) -> None:
        """Add a finished bucket to the coarser ones that it is a part of."""
        for coarser in kind.coarser:
            begin_s = self._new.zone.bucket_at(coarser, start_s).start_s
            if coarser in self._open and self._open[coarser].start_s != begin_s:
                self._end(coarser, through_s)
            one = self._open.setdefault(coarser, _Open(begin_s, BitMap()))
            one.members |= members
            one.visits += visits
            one.finer_rows += 1

    def _end(self, kind: Granularity, through_s: int | None) -> None:
        """No finer bucket follows: write it."""
        one = self._open.pop(kind, None)
        if one is None:
            return
        row = BucketRow(len(one.members), one.visits, 0, one.finer_rows)
        row = row._replace(status=_status(row, self._end_s(kind, one.start_s), through_s))
        self._put(bucket_key(kind, one.start_s), row, one.members)
        self._gather(kind, one.start_s, one.visits, one.members, through_s)

    def _end_s(self, kind: Granularity, start_s: int) -> int:
        """The end of the bucket that begins there. Raises StoreCorrupt if none does."""
        bucket = self._new.zone.bucket_at(kind, start_s)
        if bucket.start_s != start_s:
            raise damaged(f"no {kind.word} of {self._new.zone.name} begins at {start_s}")
        return bucket.end_s

    def _joined(self, contents: list[Content]) -> Iterator[BucketContent]:
        streams = [self._numbered(number, content) for number, content in enumerate(contents)]
        for key, group in groupby(heapq.merge(*streams, key=lambda one: one.key), lambda one: one.key):
            same = list(group)
            yield same[0] if len(same) == 1 else _united(key, same)

    def _numbered(self, number: int, content: Content) -> Iterator[BucketContent]:
        """The buckets of a content, with new ordinals."""
        before = b""
        for one in content.buckets():
            if one.key <= before:
                raise damaged("buckets do not ascend")
            before = one.key
            if one.members is not None and len(one.members) != one.row.unique_count:
                raise damaged("a bucket has not as many members as its count says")
            yield one if one.members is None else one._replace(members=self._mapped(number, one.members))

    def _children(self, kind: Granularity) -> dict[int, int]:
        """For each bucket of this kind, how many finer ones there are."""
        finer = kind.finer
        if finer is None or not len(self._starts[finer]):
            return {}
        starts_s: I64Array = np.frombuffer(self._starts[finer], np.int64)
        parents, counts = np.unique(self._new.zone.starts_of(kind, starts_s), return_counts=True)
        return dict(zip(parents.tolist(), counts.tolist(), strict=True))

    def _put(self, key: bytes, row: BucketRow, members: BitMap | None) -> None:
        """Write a bucket."""
        granularity, start_s = parse_bucket_key(key)
        self._starts[granularity].append(start_s)
        if granularity is Granularity.YEAR:
            self.visits += row.visits
        if members is not None:
            row = row._replace(unique_count=len(members))
        for database, name, value in bucket_rows(key, row, members, self._new.standing.commit_number):
            if self._later is None or granularity is Granularity.MINUTE or database is Database.of(granularity):
                self._fresh.put(database, name, value)
            else:
                self._later.append((database, name, value))
        self._on_progress("buckets", sum(map(len, self._starts.values())))

    # ------------------------------------------------------------ the rest
    def rows(self, rows: Iterable[tuple[Database, bytes, msgspec.Struct]]) -> None:
        """Small rows, their keys ascending in each database."""
        for database, key, row in rows:
            self._fresh.put(database, key, seal_row(database, key, msgspec.msgpack.encode(row)))

    def meta(self, state: StateRow, members_from_s: dict[str, int]) -> int:
        """The dictionary and the rows of ``meta``, which end it; returns the number of uids.

        ``members_from_s``: the horizons up to which the buckets were swept.
        """
        new, standing = self._new, self._new.standing
        uids = self._runs.write(self._fresh, standing.commit_number)
        state = msgspec.structs.replace(
            state,
            commit_number=standing.commit_number,
            weeks=len(self._starts[Granularity.WEEK]),
            years=len(self._starts[Granularity.YEAR]),
            publishes=False,
        )
        row = StoreRow(
            store_uuid=new.store_uuid,
            zone_name=new.zone.name,
            zone_tzif=new.zone.tzif_bytes,
            hash_seed=new.hash_seed,
            epoch=standing.epoch,
        )
        payloads = {DICTIONARY_KEY: DictionaryRow(self._runs.next_ordinal, standing.layout).pack()}
        if self._nameless:
            payloads[NAMELESS_KEY] = nameless_payload(self._nameless)
        nobody = self._runs.next_ordinal - uids  # the numbers of those who have no name any more
        if nobody or members_from_s:
            swept = RetentionRow(members_from_s, uids_dropped=nobody, has_dead_uids=bool(members_from_s))
            payloads[RETENTION_KEY] = msgspec.msgpack.encode(swept)
        payloads |= {STATE_KEY: msgspec.msgpack.encode(state), STORE_KEY: msgspec.msgpack.encode(row)}
        for key, payload in payloads.items():
            self._fresh.put(Database.META, key, seal_row(Database.META, key, payload))
        return uids


@dataclass(slots=True)
class _Open:
    """A bucket that may get more."""

    start_s: int
    members: BitMap
    visits: int = 0
    finer_rows: int = 0


def _status(row: BucketRow, end_s: int, closed_through_s: int | None) -> Status:
    """What a bucket is once everything up to then is closed."""
    if closed_through_s is None or end_s > closed_through_s:
        return Status.PROVISIONAL
    return Status.AMENDED if row.status is Status.AMENDED else Status.FINAL


def _united(key: bytes, same: list[BucketContent]) -> BucketContent:
    """One bucket that several contents have."""
    members = BitMap()
    for one in same:
        assert one.members is not None  # stores that were swept are not merged
        members |= one.members
    is_amended = any(one.row.status is Status.AMENDED for one in same)
    row = BucketRow(
        len(members),
        sum(one.row.visits for one in same),
        max(one.row.revision for one in same),
        0,
        Status.AMENDED if is_amended else Status.PROVISIONAL,
    )
    return BucketContent(key, row, members)
