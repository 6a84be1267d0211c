"""Looking uids up in one view of the dictionary: in its partitions and in the young unit before them.

What is made here of a view's fragments (where their columns begin in LMDB's memory) is made once per view, unit by unit
as they are asked for, and dies with the view. Never a copy of what they hold.
"""

from bisect import bisect_right

import msgspec
import numpy as np

from uniqdb.format import (
    UNIT_PARTITION,
    YOUNG_KEY,
    Database,
    Directory,
    FragmentEntry,
    FragmentView,
    corrupt,
    fragment_key,
    partition_key,
)
from uniqdb.limits import VERIFIED_FRAGMENTS_MAX
from uniqdb.store import ReadView
from uniqdb.uid_batch import order_of
from uniqdb.uid_fragment import I64Array, Query, U64Array, entries_in, size_bytes_of
from uniqdb.uid_probe import ProbeTable, UidProbe, UidShape
from uniqdb.uid_scan import UidScan

HASH_MAX = 2**64 - 1
_FEW = 24
"""Fewer uids than this are looked up one by one: numpy's fixed costs are larger."""
_DENSE = 24
"""With so many uids for each partition, numpy's fixed costs per fragment do not count."""


class Layout(msgspec.Struct, frozen=True):
    """Where the partitions begin (ascending, the first at 0) and end (inclusive)."""

    number: int
    first_hashes: U64Array
    last_hashes: list[int]
    firsts: list[int]
    """The same as ``first_hashes``."""

    def partition_of(self, uid_hash: int) -> tuple[int, int]:
        """(first, last) hash of the partition that holds ``uid_hash``."""
        at = bisect_right(self.firsts, uid_hash) - 1
        return self.firsts[at], self.last_hashes[at]


def read_layout(view: ReadView, number: int) -> Layout:
    """All partitions. Raises StoreCorrupt unless they tile the hash space: a lost row must not read as "unknown"."""
    firsts: list[int] = []
    lasts: list[int] = []
    expected = 0
    start, end = bytes((UNIT_PARTITION,)), bytes((UNIT_PARTITION + 1,))
    for key, payload in view.rows(Database.UNITS, start, end):
        first = int.from_bytes(key[1:], "big")
        if first != expected:
            break
        firsts.append(first)
        lasts.append(Directory.unpack(key, payload).note)
        expected = lasts[-1] + 1
    if expected != HASH_MAX + 1:
        raise corrupt(Database.UNITS, partition_key(expected), "the directory of a dictionary partition is missing")
    return Layout(number, np.array(firsts, np.uint64), lasts, firsts)


class _Together(msgspec.Struct):
    """The fragments of partitions for batches, in LMDB's memory."""

    table: ProbeTable
    levels: list[I64Array]
    """By partition the number of its largest fragment, then of the second largest and so on; -1: it has no such."""
    is_loaded: list[bool]
    apart: dict[int, list[memoryview]] = msgspec.field(default_factory=dict)
    """By partition, the payloads that cannot stand in the table."""


class UidLookup:
    """Finds ordinals in one view. Memory: about 1 KiB for each fragment of the partitions that were asked."""

    def __init__(self, view: ReadView, layout: Layout, shapes: dict[bytes, UidShape]) -> None:
        """``shapes``: what is known of the uids of fragments, by their keys, in any view. It is added to."""
        self._view, self._layout, self._shapes = view, layout, shapes
        self._firsts = layout.firsts
        self._young: list[UidProbe] | None = None
        self._partitions: list[list[UidProbe] | None] = [None] * len(layout.firsts)
        self._together: _Together | None = None

    # ------------------------------------------------------------ one by one
    def one(self, uid: bytes, uid_hash: int) -> int:
        """The ordinal of a uid with its hash, or -1. Cost: about a microsecond for each fragment that is looked at.

        The largest fragment of its partition comes first, which holds most.
        """
        found = self._place(uid, uid_hash)
        return -1 if found is None else found[0].ordinal(found[1])

    def has(self, uid: bytes, uid_hash: int) -> bool:
        """Whether there is an ordinal for it. Cost: that of `one`, but for a wait for memory."""
        # `_place` once more, without a call and a tuple, which would be a part of what this takes.
        at = bisect_right(self._firsts, uid_hash) - 1
        probes = self._partitions[at]
        for probe_one in self._load_partition(at) if probes is None else probes:
            if probe_one.place(uid, uid_hash) >= 0:
                return True
        for probe_one in self._load_young() if self._young is None else self._young:
            if probe_one.place(uid, uid_hash) >= 0:
                return True
        return False

    def _place(self, uid: bytes, uid_hash: int) -> tuple[UidProbe, int] | None:
        """The fragment that has it, and the entry there."""
        at = bisect_right(self._firsts, uid_hash) - 1
        probes = self._partitions[at]
        for probe_one in self._load_partition(at) if probes is None else probes:
            entry = probe_one.place(uid, uid_hash)
            if entry >= 0:
                return probe_one, entry
        for probe_one in self._load_young() if self._young is None else self._young:
            entry = probe_one.place(uid, uid_hash)
            if entry >= 0:
                return probe_one, entry
        return None

    def _load_partition(self, number: int) -> list[UidProbe]:
        first = self._firsts[number]
        probes = self._probes(partition_key(first), first, self._layout.last_hashes[number])
        self._partitions[number] = probes
        return probes

    def _load_young(self) -> list[UidProbe]:
        self._young = self._probes(YOUNG_KEY, 0, HASH_MAX)
        return self._young

    def _probes(self, unit_key: bytes, first: int, last: int) -> list[UidProbe]:
        if len(self._shapes) > VERIFIED_FRAGMENTS_MAX:
            self._shapes.clear()
        found: list[UidProbe] = []
        for fragment in _largest_first(directory_of(self._view, unit_key)):
            if fragment.entries:
                view = fragment_view(self._view, unit_key, fragment)
                shape = self._shapes.setdefault(fragment_key(unit_key, fragment.id), UidShape())
                found.append(UidProbe(view, (first, last), shape))
        return found

    # ------------------------------------------------------------ batches
    def many(self, query: Query, *, ordinals: bool = True) -> I64Array:
        """The ordinal of each uid, or -1. Without ``ordinals`` any other number stands for one.

        Cost: a search per uid and fragment that is looked at, about 0.5 us each; and numpy's fixed costs, for each
        fragment if the batch is large, else for the most fragments that a partition has.
        """
        if len(query) < _FEW:
            hashes = query.hashes.tolist()
            return np.array([self.one(query.uid(row), hashes[row]) for row in range(len(query))], np.int64)
        if len(query) >= _DENSE * len(self._firsts):
            order = order_of(query.hashes)
            found = np.empty(len(query), np.int64)
            found[order] = self.sorted(query.only(order))
            return found
        found = self._sparse(query, ordinals=ordinals)
        rest = np.flatnonzero(found < 0)
        if len(rest) < _FEW:
            for at in rest.tolist():
                found[at] = self.one(query.uid(at), int(query.hashes[at]))
        else:
            rest = rest[order_of(query.hashes[rest])]
            found[rest] = self._in_young(query.only(rest))
        return found

    def sorted(self, query: Query) -> I64Array:
        """The same for uids that are sorted by hash."""
        if len(query) < _DENSE * len(self._firsts):
            return self.many(query)
        bounds = [*np.searchsorted(query.hashes, self._layout.first_hashes).tolist(), len(query)]
        scan, left = UidScan(query), [np.empty(0, np.int64)]
        for number, first in enumerate(self._firsts):
            rest = np.arange(bounds[number], bounds[number + 1])
            if len(rest):
                left.append(self._look(scan, partition_key(first), rest))
        self._look(scan, YOUNG_KEY, np.concatenate(left))
        return scan.found(self.one)

    def _in_young(self, query: Query) -> I64Array:
        """The ordinals of uids that are sorted by hash, as far as they are in the young unit."""
        scan = UidScan(query)
        self._look(scan, YOUNG_KEY, np.arange(len(query)))
        return scan.found(self.one)

    def _look(self, scan: UidScan, unit_key: bytes, rest: I64Array) -> I64Array:
        """Seek those of a scan in the fragments of a unit; returns who was not found."""
        for fragment in _largest_first(directory_of(self._view, unit_key)):
            if not len(rest):
                break
            if fragment.entries:
                rest = scan.look(payload_of(self._view, unit_key, fragment), rest)
        return rest

    def _sparse(self, query: Query, *, ordinals: bool) -> I64Array:
        """All partitions at once: first the largest fragment of each, then, for whom that lacks, the second largest.

        When few are left it stops: those are better looked up one by one.
        """
        found = np.full(len(query.hashes), -1, np.int64)
        partitions = np.searchsorted(self._layout.first_hashes, query.hashes, "right") - 1
        if self._together is None:
            self._together = _Together(ProbeTable(), [], [False] * len(self._firsts))
        together = self._together
        for number in np.unique(partitions).tolist():
            if not together.is_loaded[number]:
                self._load(together, number)
        rest = np.arange(len(partitions))
        for level in together.levels:
            numbers = level[partitions[rest]]
            asked = np.flatnonzero(numbers >= 0)
            if len(asked):
                rows, those = together.table.find(numbers[asked], query, rest[asked], ordinals=ordinals)
                found[rows] = 0 if those is None else those
                rest = rest[found[rest] < 0]
            if len(rest) < _FEW:
                return found
        scan = UidScan(query)
        for number, payloads in together.apart.items():
            mine = rest[partitions[rest] == number]
            for payload in payloads:
                mine = scan.look(payload, mine) if len(mine) else mine
        return np.maximum(found, scan.found(self.one))

    def _load(self, together: _Together, number: int) -> None:
        first, last = self._firsts[number], self._layout.last_hashes[number]
        key, level = partition_key(first), 0
        for fragment in _largest_first(directory_of(self._view, key)):
            view = fragment_view(self._view, key, fragment)
            shape = self._shapes.setdefault(fragment_key(key, fragment.id), UidShape())
            row = together.table.add(view, (first, last), shape) if self._view.is_mapped else -1
            if row < 0:
                together.apart.setdefault(number, []).append(view.whole())
                continue
            if level == len(together.levels):
                together.levels.append(np.full(len(self._firsts), -1, np.int64))
            together.levels[level][number] = row
            level += 1
        together.is_loaded[number] = True


def _largest_first(directory: Directory) -> list[FragmentEntry]:
    return sorted(directory.fragments, key=lambda fragment: -fragment.entries)


def directory_of(view: ReadView, unit_key: bytes) -> Directory:
    """The directory of a dictionary unit. Raises StoreCorrupt if it is missing: every one has a row from the start."""
    directory = view.directory(unit_key)
    if directory is None:
        raise corrupt(Database.UNITS, unit_key, "the directory of a dictionary unit is missing")
    return directory


def fragment_view(view: ReadView, unit_key: bytes, fragment: FragmentEntry) -> FragmentView:
    """A listed fragment. Raises StoreCorrupt unless it has as many entries as its directory says."""
    key = fragment_key(unit_key, fragment.id)
    found = view.fragment(Database.UIDS, key)
    head = found.part(0, 8) if found.payload_bytes >= 8 else b""
    if entries_in(head) != fragment.entries or found.payload_bytes != size_bytes_of(head):
        raise corrupt(Database.UIDS, key, "the fragment does not hold as many entries as its directory says")
    return found


def payload_of(view: ReadView, unit_key: bytes, fragment: FragmentEntry) -> memoryview:
    """The payload of a listed fragment, verified, in LMDB's memory."""
    return fragment_view(view, unit_key, fragment).whole()
