"""The buckets of a damaged store, made whole from what is left of them; and which could not be.

From the finest granularity to the coarsest: a lost row is made of its finer buckets, if it is proved that none of those
is lost, or of its members and what is missing in the row above; lost members are the union of the finer ones, if they
are as many as the row says. Where rows may be missing is known from the keys that could not be read, and proved wrong
where the row above counts no more than are there.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from pyroaring import BitMap

from uniqdb.bucket_members import inline_members, load_fragment
from uniqdb.calendar_zone import CalendarZone
from uniqdb.errors import StoreCorrupt
from uniqdb.format import (
    BucketRow,
    Database,
    FragmentEntry,
    FragmentId,
    FragmentView,
    MembersState,
    Status,
    bucket_key,
    parse_bucket_key,
)
from uniqdb.granularity import Granularity
from uniqdb.horizons import LostSpan, RetentionRow
from uniqdb.lmdb_pages import Bounds
from uniqdb.meta import StateRow
from uniqdb.read_view import ReadView

Span = tuple[int, int]
_MEMBERS_HEAD_BYTES = 4


@dataclass(slots=True)
class Rebuilt:
    """What has become of the buckets: ``derived`` and ``lost`` tell it in words."""

    rows: dict[Granularity, dict[int, BucketRow]] = field(default_factory=lambda: {kind: {} for kind in Granularity})
    lost: list[LostSpan] = field(default_factory=list)
    derived: list[str] = field(default_factory=list)


class BucketRebuild:
    """The work. ``view`` holds the rows that could be read, ``lost_keys`` where in ``buckets`` there may be others."""

    def __init__(
        self, view: ReadView, zone: CalendarZone, facts: tuple[StateRow, RetentionRow], lost_keys: list[Bounds]
    ) -> None:
        self._view, self._zone, self._lost_keys = view, zone, lost_keys
        self._state, self._retention = facts
        self.found = Rebuilt()
        self._lost: dict[Granularity, list[Span]] = {kind: [] for kind in Granularity}
        for one in self._retention.lost:
            self._lost[Granularity.from_word(one.granularity)].append((one.start_s, one.end_s))
        self._united: dict[bytes, BitMap] = {}
        self._fragments: dict[bytes, list[FragmentEntry]] = {}
        """The fragments that are there, by the key of their bucket; filled where directories are lost."""
        self._sorted: dict[Granularity, list[int]] = {}

    def run(self) -> Rebuilt:
        """Everything."""
        rows = self.found.rows
        for key, payload in self._view.rows(Database.BUCKETS, b"", b"\xff"):
            granularity, start_s = parse_bucket_key(key)
            rows[granularity][start_s] = BucketRow.unpack(key, payload)
        said = {kind: {at: row.finer_rows for at, row in rows[kind].items()} for kind in Granularity}
        for granularity in Granularity:
            self._orphans(granularity, said)
            self._from_finer(granularity)
            self._whole_members(granularity)
            self._missing(granularity, said)
        self._count_finer()
        for kind, spans in self._lost.items():
            self.found.lost += [LostSpan(kind.word, *span) for span in _united(spans)]
        return self.found

    # ------------------------------------------------------------ members
    def members(self, granularity: Granularity, start_s: int) -> BitMap | None:
        """All members of a bucket; None if they were swept, or are not all there."""
        key, row = bucket_key(granularity, start_s), self.found.rows[granularity].get(start_s)
        united = self._united.get(key)
        if united is not None or row is None or row.members is MembersState.SWEPT:
            return united
        if row.members is MembersState.INLINE:
            return inline_members(key, row)
        found = self._load(key)
        return found if found is not None and len(found) == row.unique_count else None

    def _load(self, key: bytes) -> BitMap | None:
        """The union of a bucket's fragments, listed or found; None if one is missing or they overlap."""
        directory = self._view.directory(key)
        entries = self._fragments_of(key) if directory is None else directory.fragments
        database = Database.of(Granularity(key[0]))
        try:
            parts = [load_fragment(self._view, database, key, entry) for entry in entries]
        except StoreCorrupt:
            return None
        union = BitMap.union(BitMap(), *parts)
        return union if parts and len(union) == sum(map(len, parts)) else None

    def _fragments_of(self, key: bytes) -> Iterable[FragmentEntry]:
        if not self._fragments:
            for kind in Granularity:
                for name, value in self._view.raw_rows(Database.of(kind)):
                    unit = bytes((kind,)) + name[:8]
                    payload = FragmentView(Database.of(kind), name, value, None).whole()
                    number = FragmentId(int.from_bytes(name[8:16], "big"), int.from_bytes(name[16:18], "big"))
                    entry = FragmentEntry(number, _members_in(payload), len(payload))
                    self._fragments.setdefault(unit, []).append(entry)
        return self._fragments.get(key, [])

    def _whole_members(self, granularity: Granularity) -> None:
        """Members that are not all there are made of the finer ones, or given up."""
        for start_s, row in sorted(self.found.rows[granularity].items()):
            if row.members is MembersState.SWEPT:
                if start_s >= self._retention.kept_from_s(granularity):  # or what says why is lost
                    self._lost[granularity].append((start_s, self._end_s(granularity, start_s)))
                continue
            if self.members(granularity, start_s) is not None:
                if row.members is MembersState.KEPT and self._view.directory(bucket_key(granularity, start_s)) is None:
                    self._tell(granularity, start_s, "its directory, from its fragments")
                continue
            end_s = self._end_s(granularity, start_s)
            union = self._union_of_finer(granularity, start_s, end_s)
            if union is not None and len(union) == row.unique_count:
                self._united[bucket_key(granularity, start_s)] = union
                self._tell(granularity, start_s, "its members, from finer ones")
            else:
                self.found.rows[granularity][start_s] = row._replace(members=MembersState.SWEPT, inline=b"")
                self._lost[granularity].append((start_s, end_s))

    def _union_of_finer(self, granularity: Granularity, start_s: int, end_s: int) -> BitMap | None:
        """The union of all finer buckets that are there; None if one of them has lost its members, or was swept."""
        finer = granularity.finer
        if finer is None or start_s < self._retention.kept_from_s(finer):
            return None
        sets = [self.members(finer, at) for at in self._starts_within(finer, start_s, end_s)]
        whole = [one for one in sets if one is not None]
        return BitMap.union(BitMap(), *whole) if len(whole) == len(sets) else None

    # ------------------------------------------------------------ rows
    def _from_finer(self, granularity: Granularity) -> None:
        """Rows that must have been there, since finer ones are."""
        finer, rows = granularity.finer, self.found.rows
        if finer is None or not rows[finer]:
            return
        starts_s = np.array(sorted(rows[finer]), np.int64)
        for start_s in sorted(set(self._zone.starts_of(granularity, starts_s).tolist()) - set(rows[granularity])):
            end_s = self._end_s(granularity, start_s)
            if start_s < self._retention.counted_from_s(granularity):
                continue
            union = self._union_of_finer(granularity, start_s, end_s)
            parts = [rows[finer][at] for at in self._starts_within(finer, start_s, end_s)]
            if union is None or _touches(self._lost[finer], start_s, end_s):
                self._lost[granularity].append((start_s, end_s))
                continue
            row = self._row(granularity, start_s, len(union), sum(part.visits for part in parts))
            rows[granularity][start_s] = row
            self._united[bucket_key(granularity, start_s)] = union
            self._tell(granularity, start_s, "all of it, from finer ones")

    def _orphans(self, granularity: Granularity, said: dict[Granularity, dict[int, int]]) -> None:
        """A row whose members are there, and which is the only one that the row above it misses."""
        parent, rows = _proof_of(granularity), self.found.rows[granularity]
        if parent is None or not self._lost_keys:
            return
        keys = [key for key, _ in self._view.raw_rows(Database.UNITS, bytes((granularity,)), bytes((granularity + 1,)))]
        for key in keys:
            start_s = parse_bucket_key(key)[1]
            above_s = self._zone.bucket_at(parent, start_s).start_s
            above = self.found.rows[parent].get(above_s)
            if start_s in rows or above is None or above_s < self._retention.kept_from_s(granularity):
                continue
            others = list(self._starts_within(granularity, above_s, self._end_s(parent, above_s)))
            members, visits = self._load(key), above.visits - sum(rows[at].visits for at in others)
            if members is None or len(others) + 1 != said[parent][above_s] or visits < len(members):
                continue
            rows[start_s] = self._row(granularity, start_s, len(members), visits)
            self._united[key] = members
            self._tell(granularity, start_s, f"its row, from its members and its {parent.word}")

    def _row(self, granularity: Granularity, start_s: int, unique_count: int, visits: int) -> BucketRow:
        through_s = self._state.closed_through_s
        is_closed = through_s is not None and self._end_s(granularity, start_s) <= through_s
        return BucketRow(unique_count, visits, 1, 0, Status.FINAL if is_closed else Status.PROVISIONAL)

    def _missing(self, granularity: Granularity, said: dict[Granularity, dict[int, int]]) -> None:
        """Where rows of this granularity may be missing."""
        rows, parent = self.found.rows[granularity], _proof_of(granularity)
        holes = self._holes(granularity)
        if parent is None:
            expected = self._state.weeks if granularity is Granularity.WEEK else self._state.years
            holes = [] if len(rows) == expected else holes or [self._all()]
        else:
            there = self._finer_rows(parent)
            for above_s, expected in said[parent].items():
                is_whole = there.get(above_s, 0) == expected
                if is_whole and not holes:
                    continue
                end_s = self._end_s(parent, above_s)
                if is_whole:
                    holes = _without(holes, (above_s, end_s))
                elif not _touches(holes, above_s, end_s):
                    holes.append((above_s, end_s))
        from_s = max(self._all()[0], self._retention.counted_from_s(granularity))
        for hole in _united(holes):
            start_s, end_s = max(hole[0], from_s), min(hole[1], self._all()[1])
            if start_s >= end_s:
                continue
            start_s = self._zone.bucket_at(granularity, start_s).start_s
            end_s = self._zone.bucket_at(granularity, end_s - 1).end_s
            left = [(start_s, end_s)]
            for at in self._starts_within(granularity, start_s, end_s):
                left = left[:-1] + _without(left[-1:], (at, self._end_s(granularity, at)))
            self._lost[granularity] += left

    def _holes(self, granularity: Granularity) -> list[Span]:
        """Spans of keys that could not be read."""
        first, end = bucket_key(granularity, 0), bytes((granularity + 1,))
        found: list[Span] = []
        for low, high in self._lost_keys:
            if low < end and (high is None or high > first):
                start_s = parse_bucket_key(low.ljust(9, b"\0")[:9])[1] if low > first else 0
                is_within = high is not None and high < end
                end_s = parse_bucket_key((high or b"").ljust(9, b"\0")[:9])[1] if is_within else self._zone.end_s
                if high is not None and len(high) > len(first):  # one single key
                    end_s = start_s + 1
                found.append((start_s, end_s))
        return _united(found)

    def _all(self) -> Span:
        """From the first visit to behind the newest one."""
        first_s, newest_s = self._state.event_time_s_min, self._state.event_time_s_max
        return (0, 0) if first_s is None or newest_s is None else (first_s, newest_s + 1)

    def _starts_within(self, granularity: Granularity, start_s: int, end_s: int) -> Iterator[int]:
        rows, starts_s = self.found.rows[granularity], self._sorted.get(granularity, [])
        if len(starts_s) != len(rows):  # rows are only added
            starts_s = self._sorted[granularity] = sorted(rows)
        yield from starts_s[bisect_left(starts_s, start_s) : bisect_left(starts_s, end_s)]

    def _end_s(self, granularity: Granularity, start_s: int) -> int:
        return self._zone.bucket_at(granularity, start_s).end_s

    def _count_finer(self) -> None:
        """Every row counts the finer ones that are there now."""
        rows = self.found.rows
        for granularity in Granularity:
            below = self._finer_rows(granularity)
            for at, row in rows[granularity].items():
                rows[granularity][at] = row._replace(finer_rows=below.get(at, 0))

    def _finer_rows(self, granularity: Granularity) -> dict[int, int]:
        """How many finer rows there are now in each bucket."""
        finer = granularity.finer
        if finer is None or not self.found.rows[finer]:
            return {}
        starts_s = np.array(sorted(self.found.rows[finer]), np.int64)
        parents, counts = np.unique(self._zone.starts_of(granularity, starts_s), return_counts=True)
        return dict(zip(parents.tolist(), counts.tolist(), strict=True))

    def _tell(self, granularity: Granularity, start_s: int, what: str) -> None:
        self.found.derived.append(f"the {granularity.word} of {self._zone.isoformat(start_s)}: {what}")


def _proof_of(granularity: Granularity) -> Granularity | None:
    """The granularity whose rows count those of this one; weeks and years are counted in ``meta/state``."""
    return granularity.coarser[-1] if granularity.coarser else None


def _members_in(payload: memoryview) -> int:
    """How many members a fragment holds."""
    if payload[0] == 1:
        return (len(payload) - _MEMBERS_HEAD_BYTES) // 4
    return len(BitMap.deserialize(payload[_MEMBERS_HEAD_BYTES:]))  # type: ignore[arg-type]  # takes any buffer


def _touches(spans: list[Span], start_s: int, end_s: int) -> bool:
    return any(first < end_s and start_s < end for first, end in spans)


def _united(spans: list[Span]) -> list[Span]:
    """The spans in order, those that touch made one."""
    found: list[Span] = []
    for start_s, end_s in sorted(spans):
        if found and start_s <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end_s))
        else:
            found.append((start_s, end_s))
    return found


def _without(spans: list[Span], gone: Span) -> list[Span]:
    """What is left of the spans."""
    found: list[Span] = []
    for start_s, end_s in spans:
        if gone[0] >= end_s or gone[1] <= start_s:
            found.append((start_s, end_s))
            continue
        if start_s < gone[0]:
            found.append((start_s, gone[0]))
        if gone[1] < end_s:
            found.append((gone[1], end_s))
    return found
