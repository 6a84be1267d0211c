"""Sets of members that questions have asked for, and unions of them, kept for the next question.

Both are keyed by the fragments that they were made of, whose names are never used again. So a commit, of whatever
process, leaves valid what it does not touch; of a bucket that it adds to, only what it added is read; and a window is
united anew only where it changed.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeAlias

from pyroaring import BitMap

from uniqdb.bucket_members import inline_members, load_fragment, load_members
from uniqdb.format import BucketRow, Database, FragmentEntry, MembersState, bucket_key
from uniqdb.granularity import Bucket, Granularity
from uniqdb.limits import MEMBERS_CACHE_BYTES
from uniqdb.store import ReadView

Part: TypeAlias = tuple[Bucket, BucketRow]
"""A bucket of a window, with its row."""
_Fragments: TypeAlias = tuple[FragmentEntry, ...]
_Name: TypeAlias = tuple[bytes, _Fragments | bytes]
"""What the members of a bucket are made of: its key, and its fragments or the members in its row."""
_SET_BYTES = 200
"""Memory of a set beside its members."""
_UNION_SHARE = 4
"""Unions may take one in so many bytes of what the sets may, and as much more."""
_UNIONS_MAX = 64
"""So many are looked through for each count."""
_CHANGED_PARTS_MAX = 4
"""With more parts than this beside a kept union, a larger one is worth making."""


class MembersCache:
    """Sets of kept buckets, and unions. Memory: the bound, for the sets, and a quarter of it more for the unions.

    Sizes are estimated. What was asked for least recently goes first; the last one asked for stays, however large.
    """

    def __init__(self, size_bytes: int = MEMBERS_CACHE_BYTES) -> None:
        self._size_bytes_max, self._size_bytes = size_bytes, 0
        self._sets: OrderedDict[bytes, tuple[_Fragments, BitMap, int]] = OrderedDict()
        self._unions: OrderedDict[frozenset[_Name], tuple[BitMap, int]] = OrderedDict()
        self._union_bytes = 0

    def members(self, view: ReadView, bucket: Bucket, row: BucketRow) -> BitMap:
        """The members of a bucket that has them, by its row. Shared, not to be changed.

        Cost: if it is known, a look at its directory; if fragments came to it, these are read and united with it.
        """
        key = bucket_key(bucket.granularity, bucket.start_s)
        if row.members is MembersState.INLINE:
            return inline_members(key, row)
        directory = view.directory(key)
        found = self._sets.get(key)
        if found is not None and directory is not None and found[0] == directory.fragments:
            self._sets.move_to_end(key)
            return found[1]
        if found is None or directory is None:
            members = load_members(view, key, row)
        else:
            members = _grown(view, key, row, (found[0], found[1], directory.fragments))
        if directory is not None:
            size_bytes = directory.payload_bytes + _SET_BYTES
            if found is not None:
                self._size_bytes -= found[2]
            self._sets[key] = (directory.fragments, members, size_bytes)
            self._sets.move_to_end(key)
            self._size_bytes += size_bytes
            while self._size_bytes > self._size_bytes_max and len(self._sets) > 1:
                self._size_bytes -= self._sets.popitem(last=False)[1][2]
        return members

    # ------------------------------------------------------------ unions
    def count_union(self, view: ReadView, parts: Iterable[Part]) -> int:
        """How many members the buckets have together, all of which have them.

        Cost: with a union that is kept of all but a few of them, these few are united with it; else all are. A union is
        kept of all but the newest bucket, which the next commits will add to, and, for the days that come, one of the
        months and years.
        """
        named = {_name(view, bucket, row): (bucket, row) for bucket, row in parts}
        if not named:
            return 0
        base = self._largest_within(named.keys())
        if base is None or len(named) - len(base) > _CHANGED_PARTS_MAX:
            base = self._keep_base(view, named)
        rest = [self.members(view, *part) for name, part in named.items() if name not in base]
        if not base:
            return len(BitMap.union(BitMap(), *rest))
        union = self._unions[base][0]
        self._unions.move_to_end(base)
        if not rest:
            return len(union)
        return int(union.union_cardinality(rest[0] if len(rest) == 1 else BitMap.union(*rest)))

    def _largest_within(self, names: Iterable[_Name]) -> frozenset[_Name] | None:
        """The names of the largest kept union of which all parts are among these."""
        wanted = frozenset(names)
        within = [kept for kept in self._unions if kept <= wanted]
        return max(within, key=len, default=None)

    def _keep_base(self, view: ReadView, named: dict[_Name, Part]) -> frozenset[_Name]:
        """Make and keep the union of all but the newest part, by way of that of the months and years."""
        newest = max(named, key=lambda name: named[name][0].start_s)
        settled = [name for name in named if name != newest]
        coarse = frozenset(name for name in settled if named[name][0].granularity >= Granularity.MONTH)
        if 1 < len(coarse) < len(settled) and coarse not in self._unions:
            self._keep(coarse, [self.members(view, *named[name]) for name in coarse])
        base = frozenset(settled)
        if len(base) > 1:
            within = self._largest_within(base) or frozenset()
            united = [self._unions[within][0]] if within else []
            self._keep(base, united + [self.members(view, *named[name]) for name in base if name not in within])
        return base if base in self._unions else frozenset()

    def _keep(self, names: frozenset[_Name], sets: list[BitMap]) -> None:
        union = BitMap.union(*sets) if len(sets) > 1 else sets[0]
        size_bytes = min(2 * len(union), union.max() // 8 if union else 0) + len(names) * _SET_BYTES
        if names in self._unions:
            self._union_bytes -= self._unions.pop(names)[1]
        self._unions[names] = union, size_bytes
        self._union_bytes += size_bytes
        bound_bytes = self._size_bytes_max // _UNION_SHARE
        while len(self._unions) > 1 and (self._union_bytes > bound_bytes or len(self._unions) > _UNIONS_MAX):
            self._union_bytes -= self._unions.popitem(last=False)[1][1]


def _name(view: ReadView, bucket: Bucket, row: BucketRow) -> _Name:
    key = bucket_key(bucket.granularity, bucket.start_s)
    directory = None if row.members is MembersState.INLINE else view.directory(key)
    return key, row.inline if directory is None else directory.fragments


def _grown(
    view: ReadView,
    key: bytes,
    row: BucketRow,
    known: tuple[tuple[FragmentEntry, ...], BitMap, tuple[FragmentEntry, ...]],
) -> BitMap:
    """The members of a bucket of which an earlier, or later, state is known: its fragments, its members; and those now.

    Each fragment of now was known or is read here. So what they are united to has every member, and if it has as many
    as the row says, no other.
    """
    fragments_then, members_then, fragments = known
    there = set(fragments_then)
    fresh = [entry for entry in fragments if entry not in there]
    if len(fresh) == len(fragments):
        return load_members(view, key, row)
    database = Database.of(Granularity(key[0]))
    members = BitMap.union(members_then, *(load_fragment(view, database, key, entry) for entry in fresh))
    return members if len(members) == row.unique_count else load_members(view, key, row)
