"""Which ordinals each bucket holds, and its row: what a commit writes for every bucket that it touches.

A few members stand in the bucket's row itself. More are disjoint fragments, each a sorted u32 array or a Roaring set,
whichever is smaller; so the count is the sum of their cardinalities. A bucket is loaded before anything is subtracted
from it.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable

import msgspec
import numpy as np
from pyroaring import BitMap

from uniqdb.batch import I64Array, Level, bitmap_of
from uniqdb.commit_plan import CommitPlan
from uniqdb.format import (
    MEMBERS_ARRAY,
    MEMBERS_ROARING,
    BucketRow,
    Database,
    Directory,
    FragmentEntry,
    FragmentId,
    FragmentView,
    MembersState,
    Status,
    bucket_key,
    corrupt,
    fragment_key,
    members_payload,
)
from uniqdb.fragments import UnitEdit, to_merge
from uniqdb.granularity import Granularity
from uniqdb.horizons import RetentionRow
from uniqdb.limits import MEMBERS_CACHE_BUCKETS, MEMBERS_CACHE_BYTES
from uniqdb.small_buckets import put_small_buckets
from uniqdb.store import ReadView

_WEEK_S_MAX = 8 * 86_400
_INLINE_CHUNK_BYTES = 1_000_000
_ALWAYS_ARRAY_ENTRIES = 4
"""No Roaring set of so few members is smaller than four bytes each."""
_STATE_BYTES = 600
"""Memory of a cached bucket beside its set: Python objects and the set's own fixed part (measured)."""


def encode_members(members: BitMap) -> bytes:
    """The smaller of the two payloads. The set may be given run containers; its members stay the same."""
    count = len(members)
    if count > _ALWAYS_ARRAY_ENTRIES:
        members.run_optimize()
        serialized = members.serialize()
        if len(serialized) < 4 * count:
            return members_payload(MEMBERS_ROARING, serialized)
    return members_payload(MEMBERS_ARRAY, members.to_array().tobytes())


def decode_members(database: Database, key: bytes, entry: FragmentEntry, payload: bytes | memoryview) -> BitMap:
    """The set of a verified payload. Raises StoreCorrupt unless it holds exactly as many as its directory says."""
    kind, data = payload[0] if len(payload) else 0, payload[4:]
    try:
        if kind == MEMBERS_ROARING:
            members = BitMap.deserialize(data)  # type: ignore[arg-type]  # it takes any buffer; its stub says bytes
        elif kind == MEMBERS_ARRAY and len(data) % 4 == 0:
            members = bitmap_of(np.frombuffer(data, np.uint32))
        else:
            raise ValueError("unknown kind of set")
    except (ValueError, IndexError) as error:
        raise corrupt(database, key, str(error)) from None
    if len(members) != entry.entries:
        raise corrupt(database, key, "the set does not hold as many members as its directory says")
    return members


def load_fragment(view: ReadView, database: Database, unit_key: bytes, entry: FragmentEntry) -> BitMap:
    """One fragment's set, copied out of LMDB's memory."""
    key = fragment_key(unit_key, entry.id)
    value = view.get(database, key)
    if value is None:
        raise corrupt(database, key, "a fragment that its directory lists is missing")
    payload = FragmentView(database, key, value, None).whole()
    return decode_members(database, key, entry, payload)


def _members_directory(view: ReadView, key: bytes) -> Directory:
    """The directory of a bucket that has fragments. Raises StoreCorrupt if it is missing."""
    directory = view.directory(key)
    if directory is None:
        raise corrupt(Database.UNITS, key, "the directory of a bucket with members is missing")
    return directory


def load_members(view: ReadView, key: bytes, row: BucketRow) -> BitMap:
    """All members of a bucket whose row says that it has them. Raises StoreCorrupt if anything of it is missing."""
    if row.members is MembersState.INLINE:
        return inline_members(key, row)
    database = Database.of(Granularity(key[0]))
    parts = [load_fragment(view, database, key, entry) for entry in _members_directory(view, key).fragments]
    return parts[0] if len(parts) == 1 else BitMap.union(BitMap(), *parts)


def inline_members(key: bytes, row: BucketRow) -> BitMap:
    """The members that stand in the row. Raises StoreCorrupt unless they are ascending."""
    members = bitmap_of(np.frombuffer(row.inline, np.uint32))
    if len(members) != row.unique_count:
        raise corrupt(Database.BUCKETS, key, "the row names a member twice")
    return members


def members_left(view: ReadView, retention: RetentionRow) -> BitMap:
    """Every ordinal that a kept bucket has, in a store that lost some: the kept years, and whoever is in none of these.

    Cost: the union of the kept years, and of all kept sets from the time of years that are swept or lost.
    """
    found = every_member(view, keys=(bucket_key(Granularity.YEAR, 0), bytes((Granularity.YEAR + 1,))))
    lost = (one for one in retention.lost if one.granularity == Granularity.YEAR.word)
    spans_s = [(0, retention.kept_from_s(Granularity.YEAR)), *((one.start_s, one.end_s) for one in lost)]
    for granularity in Granularity:
        # A week may begin in the year before, which is kept, and have members of this one alone.
        before_s = _WEEK_S_MAX if granularity is Granularity.WEEK else 0
        for start_s, end_s in spans_s if granularity is not Granularity.YEAR else ():
            first = bucket_key(granularity, max(start_s - before_s, 0))
            found |= every_member(view, keys=(first, bucket_key(granularity, end_s)))
    return found


def every_member(
    view: ReadView,
    on_progress: Callable[[str, int], None] | None = None,
    *,
    keys: tuple[bytes, bytes] = (b"", b"\xff"),
) -> BitMap:
    """Every ordinal that a kept bucket has whose key lies in a range, its end excluded; by default, any bucket.

    ``on_progress`` gets what is being looked at and how many so far. Cost: reads these rows and sets.
    """
    found, inline, inline_bytes = BitMap(), [b""], 0
    for number, (key, payload) in enumerate(view.rows(Database.BUCKETS, *keys)):
        row = BucketRow.unpack(key, payload)
        if row.members is MembersState.KEPT:
            found |= load_members(view, key, row)
        elif row.members is MembersState.INLINE:
            inline.append(row.inline)
            inline_bytes += len(row.inline)
            if inline_bytes >= _INLINE_CHUNK_BYTES:
                found |= _joined(inline)
                inline, inline_bytes = [], 0
        if on_progress is not None:
            on_progress("buckets looked at", number)
    return found | _joined(inline)


def _joined(inline: list[bytes]) -> BitMap:
    return bitmap_of(np.unique(np.frombuffer(b"".join(inline), np.uint32)))


class _Bucket(msgspec.Struct):
    """A bucket as the writer remembers it after a commit. ``members`` None: not loaded."""

    row: BucketRow
    directory: Directory
    members: BitMap | None
    size_bytes: int = 0

    def measure(self) -> int:
        """Estimated memory, kept so that the same number is subtracted later."""
        self.size_bytes = _STATE_BYTES
        if self.members:
            self.size_bytes += min(2 * len(self.members), self.members.max() // 8) + 8
        return self.size_bytes


class Staged(msgspec.Struct):
    """What a commit will make of one bucket, and which members are new to it."""

    key: bytes
    bucket: _Bucket
    new_members: BitMap | None


class BucketMembers:
    """The writer's view of the buckets: a bounded cache, changed only after a commit."""

    def __init__(self, *, cache_bytes: int = MEMBERS_CACHE_BYTES) -> None:
        self._cache_bytes_max, self._cache_bytes = cache_bytes, 0
        self._cache: OrderedDict[bytes, _Bucket] = OrderedDict()

    def forget_cached(self) -> None:
        """Drop everything kept in memory: the store was changed by somebody else."""
        self._cache.clear()
        self._cache_bytes = 0

    def __len__(self) -> int:
        """How many buckets are in memory."""
        return len(self._cache)

    def apply(
        self, plan: CommitPlan, level: Level, finer_rows: I64Array, statuses: list[int]
    ) -> tuple[list[Staged], I64Array]:
        """Add the level to the change set. ``finer_rows``: new rows of the finer granularity under each bucket;
        ``statuses``: the least that each bucket has after the commit.

        Returns what to `remember` after the commit, and the starts of the buckets that got their first row.
        Cost: for each touched bucket one row; if it has many members and new ones, a small fragment and a directory
        row, too.
        """
        keys = [bucket_key(level.granularity, start_s) for start_s in level.starts_s.tolist()]
        visits, finer = level.visits.tolist(), finer_rows.tolist()
        cached = [self._cache.get(key) for key in keys] if self._cache else [None] * len(keys)
        uncached = [one is None for one in cached]
        rows, new = put_small_buckets(plan, level, keys, (visits, finer, statuses), uncached)
        staged: list[Staged] = []
        for position, row in rows:
            key, bucket = keys[position], cached[position]
            gained = BucketRow(0, visits[position], 1, finer[position], Status(statuses[position]))
            if bucket is None and row.members is MembersState.INLINE:
                one = self._first(plan, level, position, _grown(row, gained))
            else:
                one = self._further(
                    plan, level, position, gained, bucket or _Bucket(row, _members_directory(plan.view, key), None)
                )
            staged.append(one)
            plan.changes.put_row(Database.BUCKETS, key, one.bucket.row.pack())
        return staged, level.starts_s[new]

    def remember(self, staged: Iterable[Staged]) -> None:
        """Take over what a successful commit made of the buckets; drops the least recently used beyond the bound."""
        for one in staged:
            previous = self._cache.pop(one.key, None)
            if previous is not None:
                self._cache_bytes -= previous.size_bytes
            if one.new_members is not None and one.bucket.members is not None:
                one.bucket.members |= one.new_members
            self._cache_bytes += one.bucket.measure()
            self._cache[one.key] = one.bucket
        while self._cache and (self._cache_bytes > self._cache_bytes_max or len(self._cache) > MEMBERS_CACHE_BUCKETS):
            _, dropped = self._cache.popitem(last=False)
            self._cache_bytes -= dropped.size_bytes

    def evict(self, keys: Iterable[bytes]) -> None:
        """Forget buckets that a successful commit swept, closed without a visit, or whose rows it deleted."""
        for key in keys:
            gone = self._cache.pop(key, None)
            if gone is not None:
                self._cache_bytes -= gone.size_bytes

    def take_rows(self, rows: dict[bytes, BucketRow]) -> None:
        """Take over rows that a step of upkeep wrote."""
        for key, row in rows.items():
            bucket = self._cache.get(key)
            if bucket is not None:
                bucket.row = row

    def _first(self, plan: CommitPlan, level: Level, position: int, row: BucketRow) -> Staged:
        """The first fragment of a bucket that has, or would have, too many members for its row."""
        key = bucket_key(level.granularity, int(level.starts_s[position]))
        if plan.view.directory(key) is not None:
            raise corrupt(Database.BUCKETS, key, "a bucket has members but no row")
        members = level.bitmap(position)
        if row.inline:
            members = members | inline_members(key, row)
        payload = encode_members(members)
        name = FragmentId(plan.number, 0)
        directory = Directory((FragmentEntry(name, len(members), len(payload)),))
        plan.changes.put_fragment(Database.of(level.granularity), fragment_key(key, name), payload)
        plan.changes.put_row(Database.UNITS, key, directory.pack())
        row = row._replace(unique_count=len(members), members=MembersState.KEPT, inline=b"")
        own = None if level.granularity is Granularity.MINUTE else members.copy()
        return Staged(key, _Bucket(row, directory, own), None)

    def _further(self, plan: CommitPlan, level: Level, position: int, gained: BucketRow, bucket: _Bucket) -> Staged:
        """More visits in a bucket that has fragments: subtract what it holds, append the rest, merge if it is time."""
        key = bucket_key(level.granularity, int(level.starts_s[position]))
        members = bucket.members
        if members is None:
            members = load_members(plan.view, key, bucket.row)
        new = level.bitmap(position) - members
        directory = bucket.directory
        if new:
            database = Database.of(level.granularity)
            edit = UnitEdit(plan, database, key, directory)
            edit.append(len(new), encode_members(new))
            chosen = to_merge(edit.fragments)
            if chosen:
                if len(chosen) == len(edit.fragments):
                    merged = members | new
                else:
                    merged = BitMap.union(*[_of_edit(database, edit, entry) for entry in chosen])
                edit.remove(chosen)
                edit.append(len(merged), encode_members(merged))
            directory = edit.write()
        row = _grown(bucket.row, gained)._replace(unique_count=bucket.row.unique_count + len(new))
        return Staged(key, _Bucket(row, directory, members), new)


def _grown(row: BucketRow, gained: BucketRow) -> BucketRow:
    """The row after a commit that brought ``gained``, before its members are looked at."""
    return row._replace(
        visits=row.visits + gained.visits,
        revision=row.revision + gained.revision,
        finer_rows=row.finer_rows + gained.finer_rows,
        status=max(row.status, gained.status),
    )


def _of_edit(database: Database, edit: UnitEdit, entry: FragmentEntry) -> BitMap:
    """A fragment of the unit being edited, committed or not."""
    return decode_members(database, fragment_key(edit.key, entry.id), entry, edit.payload(entry))
