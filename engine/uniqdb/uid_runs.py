"""One dictionary out of the uids of several contents, in bounded memory.

Uids are sorted by the new store's hash (`SortedUids`), in files beside the data that is being built. Ranges of hashes
are then read twice: once to find which uids are the same, once to write the partitions.
Memory: 12 bytes for each ordinal of the contents, and one range of hashes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from uniqdb.batch import U32Array, U64Array
from uniqdb.errors import StoreCorrupt
from uniqdb.fresh_data import FreshData
from uniqdb.limits import ORDINAL_MAX
from uniqdb.options import DictionarySizes
from uniqdb.sorted_uids import SortedUids, damaged, equal_neighbours
from uniqdb.uid_fragment import UidColumns
from uniqdb.whole_units import put_empty_young_unit, put_partitions

_NOBODY = np.uint64(2**64 - 1)
NO_ORDINAL = np.uint32(2**32 - 1)


class UidRuns(SortedUids):
    """The uids of all contents; `number` gives them ordinals, `write` makes the dictionary."""

    def __init__(self, folder: Path, hash_seed: int, sizes: DictionarySizes) -> None:
        super().__init__(folder, hash_seed, sizes)
        self._leaders: list[U64Array] = []
        self.maps: list[U32Array] = []
        """For each content: new ordinals by old ones; `NO_ORDINAL` where it has none."""
        self.next_ordinal = 0

    def add(self, batches: Iterator[tuple[U32Array, list[bytes]]], ordinals: int) -> None:
        """`SortedUids.add`."""
        super().add(batches, ordinals)
        self._leaders.append(np.full(ordinals, _NOBODY))

    # ------------------------------------------------------------ who is whom
    def number(self, nameless: Sequence[BitMap]) -> None:
        """Give ordinals: in the order of the contents, in each of them in its own order. Then `maps` holds."""
        for first, last in self.ranges():
            columns, contents = self.between(first, last)
            if columns is not None:
                self._lead(columns, contents)
        for content, ordinals in enumerate(nameless):
            leaders = self._leaders[content]
            own: U32Array = np.frombuffer(ordinals.to_array(), np.uint32)
            if len(own) and (int(own[-1]) >= len(leaders) or bool((leaders[own] != _NOBODY).any())):
                raise damaged("an ordinal that was forgotten is in use")
            leaders[own] = (np.uint64(content) << np.uint64(32)) | own.astype(np.uint64)
        for content, leaders in enumerate(self._leaders):
            self.maps.append(self._map(content, leaders))
        if self.next_ordinal > ORDINAL_MAX:
            raise StoreCorrupt("there are more than 2^32 different visitors", hint="keep the stores apart")

    def _lead(self, columns: UidColumns, contents: npt.NDArray[np.int64]) -> None:
        """Note for each entry the first of those with the same uid."""
        names = (contents.astype(np.uint64) << np.uint64(32)) | columns.ordinals.astype(np.uint64)
        leads = names.copy()
        which = equal_neighbours(columns)
        if len(which):
            first: dict[bytes, int] = {}
            uids = columns.uids(which)
            for uid, name in zip(uids, names[which].tolist(), strict=True):
                first[uid] = min(first.get(uid, name), name)
            leads[which] = np.fromiter(map(first.__getitem__, uids), np.uint64, len(uids))
            pairs = list(zip(uids, contents[which].tolist(), strict=True))
            if len(set(pairs)) != len(pairs):
                raise damaged("a uid is in it twice")
        for content, leaders in enumerate(self._leaders):
            own = contents == content
            ordinals = columns.ordinals[own]
            if bool((leaders[ordinals] != _NOBODY).any()) or len(np.unique(ordinals)) != len(ordinals):
                raise damaged("an ordinal is in it twice")
            leaders[ordinals] = leads[own]

    def _map(self, content: int, leaders: U64Array) -> U32Array:
        found = np.full(len(leaders), NO_ORDINAL, np.uint32)
        owners = leaders >> np.uint64(32)
        known = leaders != _NOBODY
        own = known & (owners == np.uint64(content))
        count = int(own.sum())
        found[own] = np.arange(self.next_ordinal, self.next_ordinal + count, dtype=np.int64).astype(np.uint32)
        self.next_ordinal += count
        for earlier in range(content):
            others = np.flatnonzero(known & (owners == np.uint64(earlier)))
            found[others] = self.maps[earlier][(leaders[others] & np.uint64(2**32 - 1)).astype(np.int64)]
        return found

    # ------------------------------------------------------------ the dictionary
    def write(self, fresh: FreshData, commit_number: int) -> int:
        """The dictionary's units, each of one fragment; returns how many uids there are."""
        put_empty_young_unit(fresh)
        total = 0
        for first, last in self.ranges():
            columns, contents = self.between(first, last)
            if columns is not None:
                columns = self._renumbered(columns, contents)
                total += len(columns)
            put_partitions(fresh, (first, last), columns, self._sizes, commit_number)
        return total

    def _renumbered(self, columns: UidColumns, contents: npt.NDArray[np.int64]) -> UidColumns:
        """Each uid once, with its new ordinal."""
        keep = np.zeros(len(columns), np.bool_)
        numbers = np.empty(len(columns), np.uint32)
        for content, leaders in enumerate(self._leaders):
            own = np.flatnonzero(contents == content)
            ordinals = columns.ordinals[own]
            keep[own] = leaders[ordinals] >> np.uint64(32) == np.uint64(content)
            numbers[own] = self.maps[content][ordinals]
        kept = columns.only(keep)
        return UidColumns(kept.hashes, kept.offsets, numbers[keep], kept.lengths, kept.blob)
