"""The whole-store check: every invariant of the format, over one read view.

Directories complete and nothing beside them, checksums right, fragments sorted and disjoint, counts equal to
cardinalities, row counts right, a coarse bucket the union of its finer ones, every ordinal in the dictionary.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from pyroaring import BitMap

from uniqdb.audit import read_audits, read_nameless
from uniqdb.batch import bitmap_of, ends_of
from uniqdb.bucket_members import inline_members, load_fragment, load_members
from uniqdb.errors import StoreCorrupt
from uniqdb.format import (
    UNIT_YOUNG,
    YOUNG_KEY,
    BucketRow,
    Database,
    Directory,
    MembersState,
    Status,
    bucket_key,
    fragment_key,
    open_row,
    parse_bucket_key,
    partition_key,
    place,
)
from uniqdb.granularity import Granularity
from uniqdb.horizons import NOTHING_SWEPT, read_retention
from uniqdb.intake import read_held, read_judge_state
from uniqdb.limits import UNIT_FRAGMENTS_MAX
from uniqdb.lost_times import LostTimes
from uniqdb.meta import SOURCE_KEY_BYTES, read_sources, read_state
from uniqdb.outbox import QUARANTINE_KIND, WINDOW_KIND, WindowKey, read_due, read_outbox, read_window
from uniqdb.plausibility import JudgeState
from uniqdb.quarantine import counted_only, read_quarantine
from uniqdb.store import ReadView
from uniqdb.store_facts import StoreFacts
from uniqdb.uid_dictionary import columns_of
from uniqdb.uid_fragment import UidColumns
from uniqdb.uid_lookup import HASH_MAX, directory_of

_PROBLEMS_MAX = 1_000
OUTBOX_CHUNK_ROWS = 4_096


@dataclass(slots=True)
class CheckReport:
    """What was looked at and what was wrong. ``problems`` is empty for a sound store (at most 1,000 are listed)."""

    problems: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def check_view(view: ReadView, facts: StoreFacts, on_progress: Callable[[str, int], None] | None = None) -> CheckReport:
    """Check one commit. ``on_progress`` gets what is being counted and how many so far.

    Cost: reads every row once and every set about twice.
    """
    walk = _Walk(view, facts, on_progress or _ignore)
    for part in (
        walk.horizons,
        walk.dictionary,
        walk.buckets,
        walk.unions,
        walk.statuses,
        walk.totals,
        walk.sources,
        walk.outbox,
        walk.others,
    ):
        try:
            part()
        except StoreCorrupt as error:
            walk.problem(error.message)
    return walk.report


def _ignore(what: str, count: int) -> None:
    """Nobody wants to know how far the check is."""


class _Walk:
    def __init__(self, view: ReadView, facts: StoreFacts, on_progress: Callable[[str, int], None]) -> None:
        self.view, self.facts, self._on_progress = view, facts, on_progress
        self.report = CheckReport()
        self._rows: dict[Granularity, dict[int, BucketRow]] = {kind: {} for kind in Granularity}
        self._ordinals = BitMap()
        self._has_erased = False
        self._retention = NOTHING_SWEPT
        self._lost = LostTimes(NOTHING_SWEPT)

    def problem(self, text: str) -> None:
        if len(self.report.problems) < _PROBLEMS_MAX:
            self.report.problems.append(text)

    def expect(self, holds: bool, text: str) -> None:
        if not holds:
            self.problem(text)

    def count(self, what: str, more: int = 1) -> None:
        counts = self.report.counts
        counts[what] = counts.get(what, 0) + more
        self._on_progress(what, counts[what])

    def horizons(self) -> None:
        """How far the store was swept: no coarser granularity further than a finer one that it is made of."""
        self._retention = read_retention(self.view)
        self._lost = LostTimes(self._retention)
        self._lost_spans()
        for what, horizons in (
            ("members", self._retention.horizons()),
            ("rows", self._retention.row_horizons()),
        ):
            for granularity, at in horizons.items():
                finer = granularity.finer
                is_last = finer is None or at <= horizons[finer]
                self.expect(is_last, f"{what} of {granularity.word}s are swept further than those they are made of")
                is_start = not at or self.facts.zone.bucket_at(granularity, at).start_s == at
                self.expect(is_start, f"{what} of {granularity.word}s are swept up to {at}, where none begins")

    def _lost_spans(self) -> None:
        """What was lost to damage: spans of whole buckets, in order."""
        zone, before = self.facts.zone, (0, -1)
        words = {granularity.word: granularity for granularity in Granularity}
        for one in self._retention.lost:
            granularity, edges_s = words.get(one.granularity), (one.start_s, one.end_s)
            where = f"{one.granularity}s lost from {one.start_s} to {one.end_s}"
            if granularity is None or not zone.start_s <= one.start_s < one.end_s <= zone.end_s:
                self.problem(f"{where}: no such span")
                continue
            are_edges = all(
                edge_s == zone.end_s or zone.bucket_at(granularity, edge_s).start_s == edge_s for edge_s in edges_s
            )
            self.expect(are_edges, f"{where}: no bucket begins or ends there")
            self.expect(before <= (granularity, one.start_s), f"{where}: not in order, or twice")
            before = granularity, one.end_s

    # ------------------------------------------------------------ the dictionary
    def dictionary(self) -> None:
        """Every unit's fragments, and that each ordinal is there once, but for those that left."""
        dictionary = self.facts.dictionary
        layout = dictionary.layout(self.view)
        units = [(YOUNG_KEY, 0, HASH_MAX)]
        units += [
            (partition_key(first), first, last)
            for first, last in zip(layout.first_hashes.tolist(), layout.last_hashes, strict=True)
        ]
        listed: set[bytes] = set()
        for key, first, last in units:
            directory = directory_of(self.view, key)
            self._directory_size(key, directory)
            for fragment in directory.fragments:
                listed.add(fragment_key(key, fragment.id))
                self._columns(key, columns_of(self.view, key, fragment), first, last)
                self.count("fragments")
        self._no_others(Database.UIDS, listed)
        next_ordinal = dictionary.row(self.view).next_ordinal
        uids = 0
        for _, columns in dictionary.scan(self.view):
            here = bitmap_of(np.sort(columns.ordinals))
            uids += len(columns)
            self._ordinals |= here
            self.count("uids", len(columns))
        last = self._ordinals.max() if self._ordinals else -1
        self.expect(last < next_ordinal, "the dictionary holds an ordinal that was never given out")
        twice = uids - len(self._ordinals)
        self.expect(not twice, f"{twice} ordinals are more than once in the dictionary")
        expected = next_ordinal - self._retention.uids_dropped
        self.expect(uids - twice == expected, f"{expected} uids expected in the dictionary, {uids - twice} are there")
        nameless = read_nameless(self.view)
        self.expect(not self._ordinals.intersect(nameless), "the dictionary has ordinals that were forgotten")
        self._ordinals |= nameless
        self._has_erased = any(True for _ in read_audits(self.view))

    def _columns(self, key: bytes, columns: UidColumns, first: int, last: int) -> None:
        where = place(Database.UNITS, key)
        hashes = columns.hashes
        self.expect(bool((hashes[1:] >= hashes[:-1]).all()), f"{where}: hashes are not sorted")
        self.expect(int(hashes[0]) >= first and int(hashes[-1]) <= last, f"{where}: a hash of another partition")
        ends = columns.offsets.astype(np.int64) + columns.lengths
        self.expect(int(ends.max(initial=0)) <= len(columns.blob), f"{where}: an offset points outside the blob")
        uids = columns.uids(np.arange(len(columns)))
        same = bool((self.facts.dictionary.hashes_of(uids) == hashes).all())
        self.expect(same, f"{where}: a uid's bytes do not have the hash that stands beside it")

    def _directory_size(self, key: bytes, directory: Directory) -> None:
        self.expect(
            len(directory.fragments) <= UNIT_FRAGMENTS_MAX,
            f"{place(Database.UNITS, key)}: {len(directory.fragments)} fragments",
        )

    def _no_others(self, database: Database, listed: set[bytes]) -> None:
        stored = {key for key, _ in self.view.raw_rows(database)}
        for key in sorted(stored - listed):
            self.problem(f"{place(database, key)}: a fragment that no directory lists")
        for key in sorted(listed - stored):
            self.problem(f"{place(database, key)}: a fragment that its directory lists is missing")

    # ------------------------------------------------------------ buckets
    def buckets(self) -> None:
        """Every bucket row with its directory and fragments, and no directory or fragment without a row."""
        listed: dict[Granularity, set[bytes]] = {kind: set() for kind in Granularity}
        keys: set[bytes] = set()
        for key, value in self.view.raw_rows(Database.BUCKETS):
            granularity, start_s = parse_bucket_key(key)
            try:
                row = BucketRow.unpack(key, open_row(Database.BUCKETS, key, value))
            except StoreCorrupt as error:  # the others are looked at all the same
                self.problem(error.message)
                continue
            self._rows[granularity][start_s] = row
            self.count("buckets")
            where = place(Database.BUCKETS, key)
            is_swept, has_none = start_s < self._retention.kept_from_s(granularity), row.members is MembersState.SWEPT
            is_right = is_swept == has_none or (has_none and self._lost.has(granularity.word, start_s))
            self.expect(is_right, f"{where}: members {row.members.name.lower()}")
            is_gone = start_s < self._retention.counted_from_s(granularity)
            self.expect(not is_gone, f"{where}: a row of a time whose rows are gone")
            bucket = self.facts.zone.bucket_at(granularity, start_s)
            self.expect(bucket.start_s == start_s, f"{where}: no {granularity.word} begins there")
            self.expect(
                row.visits >= row.unique_count and row.visits > 0 and (row.unique_count > 0 or self._has_erased),
                f"{where}: {row.unique_count} visitors by {row.visits} visits",
            )
            if row.members is MembersState.KEPT:
                keys.add(key)
                listed[granularity] |= self._members(key, granularity, row)
            elif row.members is MembersState.INLINE:
                self._known(where, inline_members(key, row))
                self.count("members", row.unique_count)
        for key, _ in self.view.raw_rows(Database.UNITS):
            if key[0] < UNIT_YOUNG and key not in keys:
                self.problem(f"{place(Database.UNITS, key)}: a directory without its bucket row")
        for granularity, fragments in listed.items():
            self._no_others(Database.of(granularity), fragments)

    def _members(self, key: bytes, granularity: Granularity, row: BucketRow) -> set[bytes]:
        where = place(Database.BUCKETS, key)
        listed: set[bytes] = set()
        try:
            directory = self.view.directory(key)
            if directory is None:
                self.problem(f"{where}: members without a directory")
                return listed
            self._directory_size(key, directory)
            listed |= {fragment_key(key, entry.id) for entry in directory.fragments}
            parts = [load_fragment(self.view, Database.of(granularity), key, entry) for entry in directory.fragments]
        except StoreCorrupt as error:
            self.problem(error.message)
            return listed
        union = BitMap.union(BitMap(), *parts)
        total = sum(len(part) for part in parts)
        self.expect(len(union) == total, f"{where}: fragments overlap")
        self.expect(len(union) == row.unique_count, f"{where}: count {row.unique_count}, members {len(union)}")
        self._known(where, union)
        self.count("fragments", len(parts))
        self.count("members", total)
        return listed

    def _known(self, where: str, members: BitMap) -> None:
        self.expect(members.issubset(self._ordinals), f"{where}: an ordinal that the dictionary lacks")

    def unions(self) -> None:
        """Every coarse bucket is the union of its finer ones, with the sum of their visits and their number of rows.

        Where finer ones are swept, it has more: visits that came later skip these. Where they were lost, it has at
        least what is left of them. Where it was lost itself, it may have more or less, or be missing.
        """
        for granularity in Granularity:
            finer = granularity.finer
            if finer is None:
                continue
            children = self._children(granularity, finer)
            for start_s, row in self._rows[granularity].items():
                where = place(Database.BUCKETS, bucket_key(granularity, start_s))
                starts = children.pop(start_s, [])
                self.expect(len(starts) == row.finer_rows, f"{where}: {row.finer_rows} {finer.word} rows expected")
                is_kept = start_s >= self._retention.kept_from_s(finer) and row.members is not MembersState.SWEPT
                if is_kept and not self._lost.has(granularity.word, start_s):
                    with suppress(StoreCorrupt):  # what could not be read was said
                        self._union(granularity, start_s, finer, starts)
                self.count("unions")
            for start_s in children:
                if self._lost.has(granularity.word, start_s):
                    continue
                self.problem(f"{place(Database.BUCKETS, bucket_key(granularity, start_s))}: the row is missing")

    def _union(self, granularity: Granularity, start_s: int, finer: Granularity, starts: list[int]) -> None:
        """A bucket that is kept, against its finer ones, which are not swept, but may have been lost."""
        row, where = self._rows[granularity][start_s], place(Database.BUCKETS, bucket_key(granularity, start_s))
        has_lost = False
        if self._retention.lost:
            end_s = self.facts.zone.bucket_at(granularity, start_s).end_s
            has_lost = self._lost.first(start_s, end_s, finer.word) is not None
        rows = {at: self._rows[finer][at] for at in starts}
        visits = sum(one.visits for one in rows.values())
        adds_up = visits <= row.visits if has_lost else visits == row.visits
        self.expect(adds_up, f"{where}: visits do not add up")
        there = [at for at, one in rows.items() if one.members is not MembersState.SWEPT]
        union = BitMap.union(BitMap(), *(self._set(finer, at) for at in there))
        own = self._set(granularity, start_s)
        is_right = union.issubset(own) if has_lost else union == own
        self.expect(is_right, f"{where}: not the union of its {finer.word} buckets")

    def _children(self, granularity: Granularity, finer: Granularity) -> dict[int, list[int]]:
        starts = np.array(sorted(self._rows[finer]), np.int64)
        children: dict[int, list[int]] = {}
        if len(starts):
            parents = self.facts.zone.starts_of(granularity, starts).tolist()
            for parent, start_s in zip(parents, starts.tolist(), strict=True):
                children.setdefault(parent, []).append(start_s)
        return children

    def _set(self, granularity: Granularity, start_s: int) -> BitMap:
        return load_members(self.view, bucket_key(granularity, start_s), self._rows[granularity][start_s])

    # ------------------------------------------------------------ the rest
    def totals(self) -> None:
        """The totals in ``meta/state`` are those of the rows."""
        state = read_state(self.view)
        years, weeks = self._rows[Granularity.YEAR], self._rows[Granularity.WEEK]
        self.expect(state.years == len(years), f"{state.years} year rows expected, {len(years)} are there")
        self.expect(state.weeks == len(weeks), f"{state.weeks} week rows expected, {len(weeks)} are there")
        visits = sum(row.visits for row in years.values())
        gone, skipped = self._retention.visits_of_gone_years, state.skipped.get(Granularity.YEAR.word, 0)
        total = visits + gone + skipped
        has_lost = any(one.granularity == Granularity.YEAR.word for one in self._retention.lost)
        adds_up = total <= state.visits if has_lost else total == state.visits
        self.expect(adds_up, f"{state.visits} visits accepted, {total} in, or no longer in, the years")

    def statuses(self) -> None:
        """Exactly the buckets that end within what is closed are final or amended."""
        through_s = read_state(self.view).closed_through_s
        for granularity, rows in self._rows.items():
            starts_s = np.array(sorted(rows), np.int64)
            ends_s = ends_of(self.facts.zone, granularity, starts_s).tolist()
            for start_s, end_s in zip(starts_s.tolist(), ends_s, strict=True):
                is_closed = through_s is not None and end_s <= through_s
                row = rows[start_s]
                where = place(Database.BUCKETS, bucket_key(granularity, start_s))
                self.expect((row.status is not Status.PROVISIONAL) == is_closed, f"{where}: it is {row.status.word}")

    def sources(self) -> None:
        """Every source with its clock and held visits, and none of these without a source."""
        keys: set[bytes] = set()
        for key, row in read_sources(self.view):
            self.count("sources")
            keys.add(key)
            where = place(Database.SOURCES, key)
            state = read_judge_state(self.view, key) or JudgeState()
            held = {ticket: one.event_time_s for ticket, one in read_held(self.view, key)}
            self.expect(held == dict(state.held), f"{where}: the held visits are not those of its clock")
            self.expect(len(held) == row.held, f"{where}: {row.held} held visits expected, {len(held)} are there")
            self.expect(state.clock_s == row.clock_s, f"{where}: two clocks, {row.clock_s} and {state.clock_s}")
        for database in (Database.CLOCKS, Database.HELD):
            for key, _ in self.view.raw_rows(database):
                self.expect(key[:SOURCE_KEY_BYTES] in keys, f"{place(database, key)}: there is no such source")

    def outbox(self) -> None:
        """What is to be published decodes, and is there."""
        after = b""
        while rows := read_outbox(self.view, after, b"\xff", OUTBOX_CHUNK_ROWS):
            after = rows[-1].key
            for row in rows:
                self._waiting(row.key)
        for key, _ in self.view.rows(Database.WINDOWS, b"", b"\xff"):
            read_window(self.view, WindowKey.unpack(key))
        for _ in read_due(self.view):
            self.count("due")

    def _waiting(self, key: bytes) -> None:
        self.count("outbox")
        where = place(Database.OUTBOX, key)
        if key[0] < WINDOW_KIND:
            granularity, start_s = parse_bucket_key(key)
            self.expect(start_s in self._rows[granularity], f"{where}: there is no such bucket")
        elif key[0] == WINDOW_KIND:
            self.expect(read_window(self.view, WindowKey.unpack(key)) is not None, f"{where}: it was never worked out")
        else:
            self.expect(key[0] == QUARANTINE_KIND, f"{where}: an unknown kind of key")

    def others(self) -> None:
        """Quarantine decodes and is as large as it should be."""
        rows = sum(1 for _ in read_quarantine(self.view))
        if rows:
            self.count("quarantined", rows)
        state = read_state(self.view)
        expected = state.quarantine_kept
        self.expect(rows == expected, f"{expected} rows in quarantine expected, {rows} are there")
        counted = counted_only(self.view)
        refused = sum(state.quarantined.values())
        self.expect(rows + counted == refused, f"{refused} records refused, {rows} of them kept, {counted} counted")
