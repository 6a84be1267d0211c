"""The dictionary of a damaged store, made of all its fragments that could be read, whatever directories say."""

from bisect import bisect_right

import numpy as np
from pyroaring import BitMap

from uniqdb.batch import bitmap_of
from uniqdb.format import (
    UNIT_PARTITION,
    YOUNG_KEY,
    Database,
    FragmentView,
    partition_key,
)
from uniqdb.fresh_data import FreshData
from uniqdb.lmdb_pages import Bounds
from uniqdb.options import DictionarySizes
from uniqdb.read_view import ReadView
from uniqdb.uid_fragment import UidColumns, merge
from uniqdb.uid_lookup import HASH_MAX
from uniqdb.whole_units import put_empty_young_unit, put_partitions

_UNIT_KEY_BYTES = 9


class UidRebuild:
    """Writes the partitions anew, each as one fragment. Memory: the young unit, and one partition."""

    def __init__(self, view: ReadView, commit_number: int, sizes: DictionarySizes) -> None:
        self._view, self._commit_number, self._sizes = view, commit_number, sizes
        self.ordinals = BitMap()
        """All that have a uid."""
        self._firsts: list[int] = []

    def write(self, fresh: FreshData) -> None:
        """Everything that belongs to ``uids`` and, of it, to ``units``."""
        view, units = self._view, self._units()
        put_empty_young_unit(fresh)
        young = [self._columns(key) for key in units.pop(YOUNG_KEY, [])]
        partitions = {key for key, _ in view.raw_rows(Database.UNITS, bytes((UNIT_PARTITION,)))} | set(units)
        firsts = self._firsts = sorted({0, *map(_hash_in, partitions)})
        for first, following in zip(firsts, [*firsts[1:], HASH_MAX + 1], strict=True):
            last = following - 1
            parts = [self._columns(key) for key in units.get(partition_key(first), [])]
            # What drains from the young unit stands in both.
            parts = [part for one in (*parts, *young) if len(part := one.between(first, last))]
            columns = self._once(merge(parts)) if parts else None
            put_partitions(fresh, (first, last), columns, self._sizes, self._commit_number)

    def lost_hashes(self, lost: list[Bounds]) -> tuple[tuple[int, int], ...]:
        """Between which hashes, both inclusive, there were other uids. ``lost``: between which keys of ``uids``."""
        firsts = self._firsts
        found: list[tuple[int, int]] = []
        for low, high in lost:
            if low < partition_key(0):  # the young unit, which may hold any
                return ((0, HASH_MAX),)
            first = firsts[bisect_right(firsts, _hash_in(low)) - 1]
            at = bisect_right(firsts, HASH_MAX if high is None else _hash_in(high))
            found.append((first, firsts[at] - 1 if at < len(firsts) else HASH_MAX))
        return tuple(sorted(set(found)))

    def _units(self) -> dict[bytes, list[bytes]]:
        """Keys of fragments, by the keys of their units."""
        found: dict[bytes, list[bytes]] = {}
        for key, _ in self._view.raw_rows(Database.UIDS):
            found.setdefault(key[:_UNIT_KEY_BYTES], []).append(key)
        return found

    def _columns(self, key: bytes) -> UidColumns:
        value = self._view.get(Database.UIDS, key)
        assert value is not None
        return UidColumns.parse(FragmentView(Database.UIDS, key, value, None).whole())

    def _once(self, columns: UidColumns) -> UidColumns:
        """Each ordinal once, and none that another partition has."""
        _, firsts = np.unique(columns.ordinals, return_index=True)
        columns = columns.only(np.sort(firsts))
        here = bitmap_of(np.sort(columns.ordinals))
        if here.intersect(self.ordinals):
            known = np.frombuffer((here & self.ordinals).to_array(), np.uint32)
            columns = columns.only(~np.isin(columns.ordinals, known))
        self.ordinals |= here
        return columns


def _hash_in(key: bytes) -> int:
    """The first hash of the partition that a key belongs to."""
    return int.from_bytes(key[1:_UNIT_KEY_BYTES].ljust(8, b"\0"), "big")
