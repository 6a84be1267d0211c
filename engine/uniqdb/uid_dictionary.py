"""The uid dictionary: uid -> ordinal (u32), exact, in hash partitions behind one young unit.

A B-tree with a key per uid costs a page and its path for every new uid. Here a commit appends its new uids to the young
unit as one sorted fragment, and `uniqdb.uid_upkeep` moves them on to the partitions in bounded steps. A batch is looked
up with one binary search per fragment; the hash only finds candidates, the uid's bytes decide.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt
from pyroaring import BitMap
from xxhash import xxh3_64_intdigest

from uniqdb.change_set import ChangeSet
from uniqdb.errors import StoreCorrupt
from uniqdb.format import (
    YOUNG_KEY,
    Database,
    DictionaryRow,
    Directory,
    FragmentEntry,
    corrupt,
    partition_key,
)
from uniqdb.limits import ORDINAL_MAX, STRANGERS_COMMIT_FACTOR
from uniqdb.options import CacheSizes
from uniqdb.store import ReadView
from uniqdb.uid_batch import UidBatch, Uids, as_batch, hashes_of
from uniqdb.uid_cache import UidCache
from uniqdb.uid_filter import UidFilter
from uniqdb.uid_fragment import (
    ENTRY_BYTES,
    I64Array,
    Query,
    U32Array,
    U64Array,
    UidColumns,
    first_of_each,
    from_uids,
)
from uniqdb.uid_lookup import HASH_MAX, Layout, UidLookup, directory_of, payload_of, read_layout
from uniqdb.uid_probe import UidShape

DICTIONARY_KEY = b"dictionary"
_USUAL = CacheSizes()
_LARGE_PART, _TELLING_PART = 64, 4
"""A batch is large with one in so many of the entries that the cache may have; one in so many show what it is worth."""
_WORTH_PART = 8
"""The cache is of use if one uid in so many is found in it."""
_REST_TIMES = 16
"""Else it rests for so many times the visits that it may have entries."""
_GROWN_PER_ASKED = 8
"""For each uid that a commit looks for, so many others are put into a filter that is being made: half the work more."""


def first_rows(changes: ChangeSet) -> None:
    """The rows of an empty dictionary: one partition over all hashes, an empty young unit."""
    changes.put_row(Database.META, DICTIONARY_KEY, DictionaryRow().pack())
    changes.put_row(Database.UNITS, YOUNG_KEY, Directory().pack())
    changes.put_row(Database.UNITS, partition_key(0), Directory((), HASH_MAX).pack())


class Resolved(msgspec.Struct, frozen=True):
    """The ordinals of one batch of uids, and what the commit must add for those that were unknown."""

    ordinals: I64Array
    asked: UidBatch | None
    """Those that are not among the recent ones, each once, and their ordinals; None: nobody need be remembered."""
    asked_ordinals: I64Array
    remembered: int
    """How many were in the cache."""
    new: UidColumns
    first_ordinal: int


class UidDictionary:
    """Looks uids up. Bounded memory: a filter, and recent uids in two generations, changed only after a commit."""

    def __init__(self, hash_seed: int, caches: CacheSizes = _USUAL) -> None:
        self.hash_seed, self._cache_entries = hash_seed, caches.uid_entries
        self._recent, self._older = UidCache(), UidCache()
        self._rest_visits = 0
        self._filter = UidFilter(caches.uid_filter_bytes)
        self._layout: Layout | None = None
        self._shapes: dict[bytes, UidShape] = {}

    def hashes_of(self, uids: Sequence[bytes]) -> U64Array:
        """The seeded xxh3-64 of each uid's bytes. It only finds candidates."""
        return hashes_of(uids, self.hash_seed)

    def forget_cached(self) -> None:
        """Drop everything kept in memory: the store was changed by somebody else."""
        self._recent, self._older, self._layout = UidCache(), UidCache(), None
        self._filter.forget()

    def evict(self, uids: Iterable[str]) -> None:
        """Forget uids that a successful commit took out of the dictionary."""
        gone = list(uids)
        for cache in (self._recent, self._older):
            found = cache.find(gone)
            cache.drop(found[found >= 0])

    # ------------------------------------------------------------ batches
    def resolve(self, view: ReadView, uids: Uids) -> Resolved:
        """Ordinals for a batch; unknown uids are given the next ones in the order of first appearance.

        Nothing is changed: `uniqdb.uid_upkeep.write_new` adds the new uids to a change set, `remember` the cache.
        """
        next_ordinal, batch = self.row(view).next_ordinal, as_batch(uids)
        ordinals = self._recent.find(batch)
        missing = np.flatnonzero(ordinals < 0)
        hashes = self.hashes_of(batch.encoded(missing)) if batch.hashes is None else batch.hashes[missing]
        every = Query.at(batch, missing, hashes)
        firsts, which = first_of_each(every)
        query = every.only(firsts)
        asked = None if self.meets_strangers and self._is_large(batch) else query.batch()
        found = np.full(len(query), -1, np.int64) if asked is None else self._older.find(asked)
        left = np.flatnonzero(found < 0)
        found[left] = self._stored(view, next_ordinal, query.only(left))
        new = np.flatnonzero(found < 0)
        if next_ordinal + len(new) > ORDINAL_MAX:
            raise StoreCorrupt(
                "the store has no ordinals left for new uids (2^32 are used)",
                hint="renumber it offline with `uniqdb compact --renumber`",
            )
        begins = np.zeros(len(missing), np.bool_)
        begins[firsts[new]] = True
        found[new] = next_ordinal - 1 + np.cumsum(begins)[firsts[new]]
        ordinals[missing] = found[which]
        columns = from_uids(query.only(new), found[new].astype(np.uint32))
        remembered = len(batch) - len(missing) + len(query) - len(left)
        return Resolved(ordinals, asked, found, remembered, columns, next_ordinal)

    def _stored(self, view: ReadView, held: int, query: Query) -> I64Array:
        """Ordinals of uids sorted by hash, -1 where unknown. Of most of those the filter knows that they are new.

        Then they are in it, whatever becomes of the commit: one that it holds too many is only looked up.
        """
        if self._filter.is_made:
            asked = np.flatnonzero(self._filter.may_hold(query.hashes))
            found = np.full(len(query), -1, np.int64)
            found[asked] = self.lookup_of(view).sorted(query.only(asked))
        else:
            found = self.lookup_of(view).sorted(query)
        new = query.hashes[found < 0]
        if self._filter.is_wanted(held, len(new)):
            self._filter.begin(held, [columns.hashes.copy() for _, columns in self.scan_young(view)])
        self._filter.add(new)
        if self._filter.is_growing:
            self._grow_filter(view, max(len(query), 1) * _GROWN_PER_ASKED)
        return found

    def _grow_filter(self, view: ReadView, entries: int) -> None:
        """Put the next partitions' hashes, about so many entries, into the filter that is being made.

        Whatever comes into a partition later was in the young unit when that began, or came with a commit since.
        """
        layout = self.layout(view)
        while entries > 0 and self._filter.is_growing:
            cursor = self._filter.cursor
            first, last = layout.partition_of(cursor)
            fragments = directory_of(view, partition_key(first)).fragments
            here = sum(one.entries for one in fragments) * (last + 1 - cursor) // (last + 1 - first)
            through = last if here <= entries else cursor + (last - cursor) * entries // here
            for one in fragments:
                hashes = columns_of(view, partition_key(first), one).hashes
                start = int(np.searchsorted(hashes, np.uint64(cursor)))
                self._filter.take(hashes[start : int(np.searchsorted(hashes, np.uint64(through), "right"))])
            self._filter.passed(through)
            entries -= max(here, 1)

    @property
    def meets_strangers(self) -> bool:
        """Whether hardly anybody who comes is among the recent ones, so that they are of no use for now."""
        return self._rest_visits > 0

    @property
    def commit_factor(self) -> int:
        """So many times as many visits as usual are best resolved at once."""
        return STRANGERS_COMMIT_FACTOR if self.meets_strangers else 1

    @property
    def wanted_seed(self) -> int | None:
        """The seed of the hashes, where whoever decodes uids does well to work them out; else None."""
        return self.hash_seed if self.meets_strangers else None

    def _is_large(self, uids: Uids) -> bool:
        return len(uids) * _LARGE_PART >= self._cache_entries

    def remember(self, resolved: Resolved) -> None:
        """Put a committed batch's uids into the cache. When half of it would be full, the older half is dropped first.

        Its memory is used again: to be given new one costs more than all else here. A quarter of what may be in it
        shows whether it is worth what it costs, two looks and an entry for each uid: if not it is left empty for a
        while, but for small batches, for which the dictionary itself is dear.
        """
        visits = len(resolved.ordinals)
        if resolved.asked is None:
            self._rest_visits = max(self._rest_visits - visits, 0)
            return
        self._rest_visits = 0
        entries = len(self._recent) + len(self._older)
        is_told = self._is_large(resolved.asked) and entries * _TELLING_PART >= self._cache_entries
        if is_told and resolved.remembered * _WORTH_PART < visits:
            self._recent.clear()
            self._older.clear()
            self._rest_visits = _REST_TIMES * self._cache_entries
            return
        if not len(resolved.asked):
            return
        if len(self._recent) + len(resolved.asked) > self._cache_entries // 2:
            self._recent, self._older = self._older, self._recent
            self._recent.clear()
        self._recent.add(resolved.asked, resolved.asked_ordinals)

    def row(self, view: ReadView) -> DictionaryRow:
        """The dictionary's own row in ``meta``."""
        payload = view.row(Database.META, DICTIONARY_KEY)
        if payload is None:
            raise corrupt(Database.META, DICTIONARY_KEY, "the row is missing")
        return DictionaryRow.unpack(payload)

    def layout(self, view: ReadView) -> Layout:
        """The partitions as of the view; read again only after a split."""
        number = self.row(view).layout
        if self._layout is None or self._layout.number != number:
            self._layout = read_layout(view, number)
        return self._layout

    def lookup(self, view: ReadView, uids: Sequence[bytes], hashes: U64Array) -> I64Array:
        """Ordinals of uids, -1 where unknown. Cost: `UidLookup.many`."""
        return self.lookup_of(view).many(Query.of(uids, hashes))

    def lookup_known(self, view: ReadView, uids: Sequence[bytes], hashes: U64Array) -> npt.NDArray[np.bool_]:
        """Which uids have an ordinal."""
        return self.lookup_of(view).many(Query.of(uids, hashes), ordinals=False) >= 0

    # ------------------------------------------------------------ single uids
    def find(self, view: ReadView, uid: bytes) -> int:
        """The uid's ordinal, or -1. Cost: about a microsecond per fragment of its partition and the young unit."""
        return (view.lookup or self.lookup_of(view)).one(uid, xxh3_64_intdigest(uid, self.hash_seed))

    def has(self, view: ReadView, uid: bytes) -> bool:
        """Whether the uid has an ordinal."""
        return (view.lookup or self.lookup_of(view)).has(uid, xxh3_64_intdigest(uid, self.hash_seed))

    def lookup_of(self, view: ReadView) -> UidLookup:
        """What finds uids in this view; it dies with the view."""
        if view.lookup is None:
            view.lookup = UidLookup(view, self.layout(view), self._shapes)
        return cast(UidLookup, view.lookup)

    # ------------------------------------------------------------ the way back
    def all_uids(self, view: ReadView) -> Iterator[tuple[U32Array, list[bytes]]]:
        """Ordinals and uids of everybody, a fragment of the dictionary at a time, in no order."""
        for _, columns in self.scan(view):
            yield columns.ordinals, columns.uids(np.arange(len(columns)))

    def uids_of(self, view: ReadView, ordinals: BitMap) -> Iterator[tuple[int, bytes]]:
        """(ordinal, uid) of every ordinal in the set: one sequential scan of the dictionary, in no order."""
        for numbers, uids in self.batches_of(view, ordinals):
            yield from zip(numbers.tolist(), uids, strict=True)

    def batches_of(self, view: ReadView, ordinals: BitMap) -> Iterator[tuple[U32Array, list[bytes]]]:
        """The same, a fragment of the dictionary at a time: ordinals and their uids."""
        wanted = np.zeros(self.row(view).next_ordinal, np.bool_)
        if len(ordinals) and ordinals.max() >= len(wanted):
            raise corrupt(Database.META, DICTIONARY_KEY, "a set has an ordinal that was never given out")
        wanted[np.frombuffer(ordinals.to_array(), np.uint32)] = True
        for key, columns in self.scan(view):
            if len(columns) and columns.ordinals.max() >= len(wanted):
                raise corrupt(Database.UIDS, key, "it has an ordinal that was never given out")
            hits = np.flatnonzero(wanted[columns.ordinals])
            if len(hits):
                yield columns.ordinals[hits], columns.uids(hits)

    def uid_bytes_mean(self, view: ReadView) -> float:
        """How many bytes a uid has, on average over the partitions and the young unit; 0 where there are none."""
        keys = [YOUNG_KEY, *map(partition_key, self.layout(view).first_hashes.tolist())]
        directories = [directory_of(view, key) for key in keys]
        entries = sum(one.entries for one in directories)
        return sum(one.payload_bytes for one in directories) / entries - ENTRY_BYTES if entries else 0.0

    def texts_of(self, view: ReadView, ordinals: BitMap) -> Iterator[str]:
        """The uids of `uids_of` as text."""
        try:
            for _, uid in self.uids_of(view, ordinals):
                yield uid.decode()
        except UnicodeDecodeError:
            raise corrupt(Database.UIDS, b"", "a uid is not UTF-8") from None

    def entries(self, view: ReadView) -> int:
        """How many uids there are. Cost: a directory row for each partition, and the hashes of what drains."""
        partitions = (directory_of(view, partition_key(first)) for first in self.layout(view).first_hashes.tolist())
        young = (len(columns) for key, columns in self.scan_young(view))
        return sum(one.entries for one in partitions) + sum(young)

    def scan(self, view: ReadView) -> Iterator[tuple[bytes, UidColumns]]:
        """(unit key, columns) of every fragment, without what a drain has already moved on: each uid once."""
        yield from self.scan_young(view)
        for first_hash in self.layout(view).first_hashes.tolist():
            key = partition_key(first_hash)
            for fragment in directory_of(view, key).fragments:
                yield key, columns_of(view, key, fragment)

    def scan_young(self, view: ReadView) -> Iterator[tuple[bytes, UidColumns]]:
        """The part of `scan` that is in the young unit."""
        row = self.row(view)
        for fragment in directory_of(view, YOUNG_KEY).fragments:
            columns = columns_of(view, YOUNG_KEY, fragment)
            if fragment.id.commit_number <= row.drain_through:
                moved = int(np.searchsorted(columns.hashes, np.uint64(row.drain_cursor)))
                if moved == len(columns):
                    continue
                columns = UidColumns(
                    columns.hashes[moved:],
                    columns.offsets[moved:],
                    columns.ordinals[moved:],
                    columns.lengths[moved:],
                    columns.blob,
                )
            yield YOUNG_KEY, columns


def columns_of(view: ReadView, unit_key: bytes, fragment: FragmentEntry) -> UidColumns:
    """The columns of a listed fragment, verified, in LMDB's memory."""
    return UidColumns.parse(payload_of(view, unit_key, fragment))
