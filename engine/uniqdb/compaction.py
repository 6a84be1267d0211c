"""A store's data written anew, in as little space as it takes, into the next generation.

Every unit becomes one fragment, the young unit of the dictionary is empty, no page is free. With ``renumber`` uids that
no kept bucket has any more are left out, and the others, in their order, get the ordinals 0, 1, 2, ... Answers, rows
and revisions stay what they were.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import structs
from pyroaring import BitMap

from uniqdb.audit import NAMELESS_KEY, nameless_payload, read_nameless
from uniqdb.batch import U32Array, bitmap_of
from uniqdb.bucket_members import every_member, load_members
from uniqdb.format import (
    FORMAT_VERSION,
    BucketRow,
    Database,
    DictionaryRow,
    MembersState,
    open_row,
    partition_key,
    seal_row,
)
from uniqdb.fresh_data import FreshData
from uniqdb.generations import next_generation, remove_others
from uniqdb.granularity import Granularity
from uniqdb.horizons import RETENTION_KEY, read_retention
from uniqdb.manifest import Manifest
from uniqdb.meta import STATE_KEY, STORE_KEY, read_state, read_store_row
from uniqdb.options import DictionarySizes, OpenOptions
from uniqdb.requests import RequestDesk
from uniqdb.store import ReadView, Store
from uniqdb.uid_dictionary import DICTIONARY_KEY, UidDictionary, columns_of
from uniqdb.uid_fragment import UidColumns, merge
from uniqdb.uid_lookup import directory_of
from uniqdb.whole_units import bucket_rows, put_empty_young_unit, put_partitions

_LOOK_S = 0.1
_REWRITTEN = {Database.META, Database.UIDS, Database.UNITS, Database.BUCKETS, *map(Database.of, Granularity)}
"""All other databases hold rows that are copied as they are."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """What was done. Sizes are bytes of the data file up to its last used page; ``ordinals``: numbers given out.

    ``held``: directories of older generations that readers have open still. The next writer removes them.
    """

    generation: int
    before_bytes: int
    after_bytes: int
    ordinals_before: int
    ordinals_after: int
    held: list[str]


def compact(
    path: Path,
    options: OpenOptions | None = None,
    *,
    renumber: bool = False,
    readers_wait_s: float = 10.0,
    on_progress: Callable[[str, int], None] = lambda _what, _count: None,
) -> Compaction:
    """Write the store's data anew into the next generation, and remove the old one once no reader has it open.

    Until the new one is whole and durable the store is what it was, also for whoever is killed. ``readers_wait_s``: so
    long it is waited for readers; one that asks anything leaves the old data within a second. ``on_progress`` gets what
    is being written and how many so far. Cost: reads every row and set once (with ``renumber`` twice) and writes
    them; needs as much free space as the result takes, and 4 bytes of memory per visitor with ``renumber``.
    Raises StoreBusy while another process writes, NotFound, StoreCorrupt, CannotWrite.
    """
    sizes = (options or OpenOptions()).dictionary
    store = Store(path.absolute(), read_only=False)
    try:
        RequestDesk(store.path, {})  # what a dead writer left half done names uids
        before_bytes = store.view().sizes()[0]
        view = store.pin()
        copy = Rewriting(view, store.manifest.store_uuid, sizes, on_progress)
        with next_generation(store.path, store.manifest) as directory, FreshData(directory) as fresh:
            copy.write(fresh, renumber=renumber)
        view.end()
        store.move_on()
        after_bytes = store.view().sizes()[0]
        held = remove_old(store.path, store.manifest, readers_wait_s)
        ordinals = copy.ordinals_before, copy.ordinals_after
        return Compaction(store.manifest.generation, before_bytes, after_bytes, *ordinals, held)
    finally:
        store.close()


def remove_old(path: Path, current: Manifest, wait_s: float) -> list[str]:
    """Remove all generations but the current one; so long it is waited for readers. Returns what they hold still."""
    until_s = time.monotonic() + wait_s
    while (held := remove_others(path, current)) and time.monotonic() < until_s:
        time.sleep(_LOOK_S)
    return held


class _Numbers:
    """New ordinals for old ones: the place of each among all that are used. The order stays."""

    def __init__(self, used: BitMap) -> None:
        self._used: U32Array = np.frombuffer(used.to_array(), np.uint32)

    def __len__(self) -> int:
        return len(self._used)

    def known(self, ordinals: U32Array) -> npt.NDArray[np.bool_]:
        """Which of them are used."""
        if not len(self._used):
            return np.zeros(len(ordinals), np.bool_)
        at = np.minimum(self._used.searchsorted(ordinals), len(self._used) - 1)
        found: npt.NDArray[np.bool_] = self._used[at] == ordinals
        return found

    def of(self, ordinals: U32Array) -> U32Array:
        """The new ordinals of used ones."""
        return self._used.searchsorted(ordinals).astype(np.uint32)

    def of_set(self, ordinals: BitMap) -> BitMap:
        """The same for a set; what is not used is left out."""
        old: U32Array = np.frombuffer(ordinals.to_array(), np.uint32)
        return bitmap_of(self.of(old[self.known(old)]))


class Rewriting:
    """One view of a store on its way into a fresh data file, in the newest format."""

    def __init__(
        self, view: ReadView, store_uuid: str, sizes: DictionarySizes, on_progress: Callable[[str, int], None]
    ) -> None:
        self._view, self._sizes, self._on_progress = view, sizes, on_progress
        self._store_row = msgspec.structs.replace(read_store_row(view, store_uuid), format_version=FORMAT_VERSION)
        self._dictionary = UidDictionary(self._store_row.hash_seed)
        state = read_state(view)
        # The rewriting is a commit of its own: it names fragments as no commit before it has.
        self._state = msgspec.structs.replace(state, commit_number=state.commit_number + 1)
        self._row = self._dictionary.row(view)
        self._numbers: _Numbers | None = None
        self.ordinals_before = self.ordinals_after = self._row.next_ordinal
        self._uids_kept = 0

    def write(self, fresh: FreshData, *, renumber: bool) -> None:
        """Everything, database by database."""
        if renumber:
            self._numbers = _Numbers(every_member(self._view, self._on_progress))
            self.ordinals_after = len(self._numbers)
        self._buckets(fresh)
        self._uids(fresh)
        for database in Database:
            if database not in _REWRITTEN:
                for key, value in self._view.raw_rows(database):
                    open_row(database, key, value)
                    fresh.put(database, key, value)
        self._meta(fresh)
        fresh.flush()  # while the view, whose memory some rows are, lasts

    def _rows(self) -> Iterator[tuple[bytes, BucketRow]]:
        for key, payload in self._view.rows(Database.BUCKETS, b"", b"\xff"):
            yield key, BucketRow.unpack(key, payload)

    def _buckets(self, fresh: FreshData) -> None:
        for number, (key, row) in enumerate(self._rows()):
            if row.members is MembersState.KEPT or (row.members is MembersState.INLINE and self._numbers is not None):
                members = load_members(self._view, key, row)
                if self._numbers is not None:
                    members = self._numbers.of_set(members)
                for one in bucket_rows(key, row, members, self._state.commit_number):
                    fresh.put(*one)
            else:
                fresh.put(Database.BUCKETS, key, seal_row(Database.BUCKETS, key, row.pack()))
            self._on_progress("buckets", number)

    # ------------------------------------------------------------ the dictionary
    def _uids(self, fresh: FreshData) -> None:
        """The partitions, each with its share of the young unit, which is empty afterwards."""
        view, layout = self._view, self._dictionary.layout(self._view)
        put_empty_young_unit(fresh)
        young = [columns for _, columns in self._dictionary.scan_young(view)]
        done = 0
        for first, last in zip(layout.first_hashes.tolist(), layout.last_hashes, strict=True):
            key = partition_key(first)
            parts = [columns_of(view, key, fragment) for fragment in directory_of(view, key).fragments]
            parts += [part for columns in young if len(part := columns.between(first, last))]
            columns = self._renumbered(merge(parts)) if parts else None
            put_partitions(fresh, (first, last), columns, self._sizes, self._state.commit_number)
            done += 0 if columns is None else len(columns)
            self._on_progress("uids", done)
        self._uids_kept = done

    def _renumbered(self, columns: UidColumns) -> UidColumns:
        if self._numbers is None:
            return columns
        columns = columns.only(self._numbers.known(columns.ordinals))
        return structs.replace(columns, ordinals=self._numbers.of(columns.ordinals))

    # ------------------------------------------------------------ meta
    def _meta(self, fresh: FreshData) -> None:
        row = DictionaryRow(self.ordinals_after, self._row.layout + 1)
        changed = {STATE_KEY: msgspec.msgpack.encode(self._state), DICTIONARY_KEY: row.pack()}
        changed[STORE_KEY] = msgspec.msgpack.encode(self._store_row)
        if self._numbers is not None:
            # What has a number and no name is nameless: all others are used, and so in the dictionary.
            swept = msgspec.structs.replace(
                read_retention(self._view), uids_dropped=self.ordinals_after - self._uids_kept, has_dead_uids=False
            )
            changed[RETENTION_KEY] = msgspec.msgpack.encode(swept)
            changed[NAMELESS_KEY] = nameless_payload(self._numbers.of_set(read_nameless(self._view)))
        for key, value in self._view.raw_rows(Database.META):
            changed.setdefault(key, open_row(Database.META, key, value))
        for key, payload in sorted(changed.items()):
            fresh.put(Database.META, key, seal_row(Database.META, key, payload))
