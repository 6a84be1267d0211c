"""Every question, answered from one read view: counts, series, members, set algebra.

"No row" means zero only where the row counts agree: each coarser row holds the number of its finer rows, ``meta/state``
that of weeks and years. So a lost row raises StoreCorrupt and never reads as "no visits".
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import groupby, pairwise, repeat

import numpy as np
from pyroaring import BitMap

from uniqdb.batch import ends_of
from uniqdb.bucket_members import members_left
from uniqdb.errors import NotFound, WindowNotKept
from uniqdb.format import BucketRow, Database, Status, bucket_key, corrupt, parse_bucket_key
from uniqdb.granularity import Bucket, Granularity
from uniqdb.horizons import NOTHING_SWEPT, RetentionRow, read_retention
from uniqdb.lost_times import LostTimes, lost_to_damage, unproved, unproved_among
from uniqdb.meta import STORE_KEY, StateRow, StoreRow, read_row, read_state
from uniqdb.record import CountRecord
from uniqdb.store import ReadView
from uniqdb.store_facts import StoreFacts
from uniqdb.uid_set import Origin, UidSet
from uniqdb.window import cover

_INTERVALS_MAX, _COUNTS_MAX = 8, 256
"""So many intervals are remembered for one view: the sets of each, which the cache may have dropped; the counts."""


class Answers:
    """Questions to one read view. Valid as long as the view is."""

    def __init__(self, view: ReadView, facts: StoreFacts) -> None:
        self.view, self.facts, self.zone = view, facts, facts.zone
        self._state: StateRow | None = None
        self._retention: RetentionRow | None = None
        self._lost = LostTimes(NOTHING_SWEPT)
        self._epoch: int | None = None
        self._proved: set[tuple[Granularity, int, int]] = set()
        self._kept: list[BitMap] | None = None
        self._are_all_kept: bool | None = None
        self._sets: dict[tuple[int, int], list[BitMap]] = {}
        self._counts: dict[tuple[tuple[int, int], tuple[int, int]], BucketRow] = {}

    @property
    def state(self) -> StateRow:
        """``meta/state`` as of the view."""
        if self._state is None:
            self._state = read_state(self.view)
        return self._state

    @property
    def retention(self) -> RetentionRow:
        """How far the store was swept, as of the view."""
        if self._retention is None:
            self._retention = read_retention(self.view)
            self._lost = LostTimes(self._retention)
        return self._retention

    @property
    def whole_from_s(self) -> int | None:
        """From when on no visit is missing, but for what was lost: from the store's first visit."""
        return self.state.event_time_s_min

    @property
    def epoch(self) -> int:
        """The epoch as of the view: a store that was restored meanwhile has a larger one."""
        if self._epoch is None:
            row = read_row(self.view, Database.META, STORE_KEY, StoreRow)
            if row is None:
                raise corrupt(Database.META, STORE_KEY, "the row is missing")
            self._epoch = row.epoch
        return self._epoch

    def as_of_default_s(self) -> int:
        """The store's clock or, where no source has one, its newest visit. Raises NotFound if there is none."""
        newest = self.state.event_time_s_max
        if newest is not None and self.state.clock_s is not None:
            return self.state.clock_s
        if newest is None:
            raise NotFound("the store has no visits yet", hint="ingest some, or give an interval or an as_of date")
        return newest

    # ------------------------------------------------------------ rows
    def row(self, bucket: Bucket) -> BucketRow | None:
        """The bucket's row; None only if it is proved that it had no visit before it was swept.

        Raises WindowNotKept if the rows of its time are gone, or were lost to damage.
        """
        key = bucket_key(bucket.granularity, bucket.start_s)
        payload = self.view.row(Database.BUCKETS, key)
        if payload is not None:
            return BucketRow.unpack(key, payload)
        if bucket.start_s < self.retention.counted_from_s(bucket.granularity):
            what = f"the {bucket.granularity.word} of {self.zone.isoformat(bucket.start_s)}"
            raise WindowNotKept(
                f"the count of {what} is no longer kept",
                hint="ask for a later one, or keep counts for longer (count_retention_days)",
            )
        if self.retention.lost and (span := unproved(self.view, self.zone, self._lost, bucket)):
            what = f"the count of the {bucket.granularity.word} of {self.zone.isoformat(bucket.start_s)}"
            raise lost_to_damage(self.zone, what, span)
        self._prove_absent(bucket)
        return None

    def rows(self, granularity: Granularity, start_s: int, end_s: int) -> Iterator[tuple[int, BucketRow]]:
        """(start, row) of every bucket with visits that starts in ``[start_s, end_s)``, proved complete.

        In lost spans those that are there.
        """
        for at, payload in self._complete_rows(granularity, start_s, end_s):
            if start_s <= at < end_s:
                yield at, BucketRow.unpack(bucket_key(granularity, at), payload)

    def _prove_absent(self, bucket: Bucket) -> None:
        parents = bucket.granularity.coarser
        if parents:
            parent = self.zone.bucket_at(parents[-1], bucket.start_s)
            proof = (bucket.granularity, parent.start_s, parent.end_s)
        else:
            proof = (bucket.granularity, 0, 0)
        if proof not in self._proved:
            self._complete_rows(bucket.granularity, bucket.start_s, bucket.end_s)
            self._proved.add(proof)

    def _complete_rows(self, granularity: Granularity, start_s: int, end_s: int) -> list[tuple[int, bytes]]:
        """Rows of the granularity under every parent that touches the interval; their number is checked upwards."""
        if not granularity.coarser:
            rows = self._scan(granularity, None, None)
            expected = self.state.weeks if granularity is Granularity.WEEK else self.state.years
            if len(rows) != expected:
                raise corrupt(
                    Database.BUCKETS, bytes((granularity,)), f"{expected} rows were written, {len(rows)} are there"
                )
            return rows
        above = granularity.coarser[-1]
        first_s = self.zone.bucket_at(above, start_s).start_s
        last_s = self.zone.bucket_at(above, max(end_s - 1, start_s)).end_s
        rows = self._scan(granularity, first_s, last_s)
        starts = np.fromiter((at for at, _ in rows), np.int64, len(rows))
        held = Counter(self.zone.starts_of(above, starts).tolist())
        for at, payload in self._complete_rows(above, first_s, last_s):
            if not first_s <= at < last_s:
                continue
            key = bucket_key(above, at)
            expected, there = BucketRow.unpack(key, payload).finer_rows, held.pop(at, 0)
            if there != expected:
                what = f"{expected} {granularity.word} rows were written under it, {there} are there"
                raise corrupt(Database.BUCKETS, key, what)
        for at in held:
            if self.retention.lost and self._lost.has(above.word, at):
                continue
            raise corrupt(Database.BUCKETS, bucket_key(above, at), "the row is missing, but finer ones are there")
        return rows

    def _scan(self, granularity: Granularity, start_s: int | None, end_s: int | None) -> list[tuple[int, bytes]]:
        first = bytes((granularity,)) if start_s is None else bucket_key(granularity, start_s)
        end = bytes((granularity + 1,)) if end_s is None else bucket_key(granularity, end_s)
        return [(parse_bucket_key(key)[1], payload) for key, payload in self.view.rows(Database.BUCKETS, first, end)]

    # ------------------------------------------------------------ intervals
    def cover(self, start_s: int, end_s: int) -> list[tuple[Bucket, BucketRow]]:
        """The fewest kept buckets that tile the interval, without those that never had a visit. Raises WindowNotKept.

        Before the horizon no row is no proof: visits that came after the sweep are not in it. Of the time after the
        newest visit no more is covered than the rest of its year: nobody has to work out a calendar of thousands.
        """
        if self.retention.lost:
            chosen = self._cover_around_lost(start_s, end_s)
        else:
            year_end_s, week_end_s = self._ends_s
            try:
                chosen = self._cover_kept(start_s, min(end_s, year_end_s))
            except WindowNotKept:
                if end_s <= year_end_s:
                    raise
                # Only weeks go on beyond the end of a year, so all else that tiles the interval ends here or there.
                chosen = self._cover_kept(start_s, min(end_s, week_end_s))
        return [(bucket, row) for bucket in chosen if (row := self.row(bucket)) is not None]

    @property
    def _ends_s(self) -> tuple[int, int]:
        """The end of the last year with visits, and of the last week that begins in it."""
        newest_s = self.state.event_time_s_max
        if newest_s is None:
            return self.zone.start_s, self.zone.start_s
        year_end_s = self.zone.bucket_at(Granularity.YEAR, newest_s).end_s
        return year_end_s, self.zone.bucket_at(Granularity.WEEK, year_end_s - 1).end_s

    def _cover_kept(self, start_s: int, end_s: int) -> list[Bucket]:
        return self.facts.cover(start_s, end_s, self.retention.horizons()) if start_s < end_s else []

    def _cover_around_lost(self, start_s: int, end_s: int) -> list[Bucket]:
        kept_from_s = self.retention.horizons()

        def whole(bucket: Bucket) -> bool:
            is_kept = bucket.start_s >= kept_from_s[bucket.granularity]
            return is_kept and not self._lost.has(bucket.granularity.word, bucket.start_s)

        try:
            return cover(self.zone, start_s, end_s, whole)
        except WindowNotKept:
            span = self._lost.first(start_s, end_s)
            if span is None:
                raise
            self.facts.cover(start_s, end_s, kept_from_s)  # raises as well if the sweeps alone are why
            edges = f"{self.zone.isoformat(start_s)} to {self.zone.isoformat(end_s)}"
            raise lost_to_damage(self.zone, f"who came from {edges}", span) from None

    def interval(self, start_s: int, end_s: int) -> UidSet:
        """The set of visitors in ``[start_s, end_s)``, whole minutes. Cost: the union of the cover's sets."""
        return self.set_of(BitMap.union(BitMap(), *self.sets(start_s, end_s)))

    def set_of(self, ordinals: BitMap) -> UidSet:
        """The visitors with these ordinals, as somebody can hold them."""
        return UidSet(Origin(self.view, self.facts, self.retention), ordinals)

    def sets(self, start_s: int, end_s: int) -> list[BitMap]:
        """The sets of the cover of ``[start_s, end_s)``. Shared, not to be changed."""
        self.view.assert_open()
        found = self._sets.get((start_s, end_s))
        if found is None:
            found = [self.facts.cache.members(self.view, bucket, row) for bucket, row in self.cover(start_s, end_s)]
            if len(self._sets) >= _INTERVALS_MAX:
                self._sets.clear()
            self._sets[(start_s, end_s)] = found
        return found

    def kept_sets(self) -> list[BitMap]:
        """Sets whose union is every visitor of every kept bucket, made once for the view. Shared, not to be changed.

        Those of years, the newest first, and of weeks in a year that is swept. With lost spans, where years may be
        missing: one of all that there is.
        """
        if self._kept is None:
            if self.retention.lost:
                self._kept = [members_left(self.view, self.retention)]
            else:
                self._kept = [self.facts.cache.members(self.view, *part) for part in self._kept_parts()]
        return self._kept

    def _kept_parts(self) -> list[tuple[Bucket, BucketRow]]:
        year_s, week_s = (self.retention.kept_from_s(one) for one in (Granularity.YEAR, Granularity.WEEK))
        spans_s = [(Granularity.YEAR, year_s, 2**62)]
        if week_s < year_s:
            spans_s.insert(0, (Granularity.WEEK, week_s, year_s))
        return [
            (Bucket(granularity, at, at + 1), row)
            for granularity, start_s, end_s in spans_s
            for at, row in self.rows(granularity, start_s, end_s)
        ][::-1]

    @property
    def are_all_kept(self) -> bool:
        """Whether every uid of the dictionary is that of a visitor of a kept bucket, so that finding it is enough.

        So it is where nothing was removed or lost, and the kept sets have as many members as numbers were given out.
        """
        if self._are_all_kept is None:
            given = self.facts.dictionary.row(self.view).next_ordinal
            self._are_all_kept = (
                not (self.retention.uids_dropped or self.retention.has_dead_uids or self.retention.lost)
                and all(one.max() < given for one in self.kept_sets() if one)  # of a year, all may be forgotten
                and self.facts.cache.count_union(self.view, self._kept_parts()) == given
            )
        return self._are_all_kept

    def count_all(self) -> CountRecord:
        """The count of everything, from the first to the newest visit's minute: the union of all years.

        Raises NotFound without visits, WindowNotKept if a year of them was swept.
        """
        newest_s = self.as_of_default_s()  # which says that there is nothing
        first_s = self.state.event_time_s_min or 0
        newest_s = self.state.event_time_s_max or newest_s
        edges_s = first_s // 60 * 60, newest_s // 60 * 60 + 60
        first, last = (self.zone.bucket_at(Granularity.YEAR, time_s) for time_s in (first_s, newest_s))
        return self._count(edges_s, (first.start_s, last.end_s), "interval")

    def count_interval(self, start_s: int, end_s: int, granularity: str = "interval") -> CountRecord:
        """The count of an interval. If one bucket is all of it, its row is the answer: nothing is united."""
        return self._count((start_s, end_s), (start_s, end_s), granularity)

    def _count(self, edges_s: tuple[int, int], covered_s: tuple[int, int], granularity: str) -> CountRecord:
        """The count of an interval that holds all visits of a perhaps longer one, which is covered instead."""
        self.view.assert_open()
        row = self._counts.get((edges_s, covered_s))
        if row is None:
            row = self._find_count(edges_s[1], covered_s)
            if len(self._counts) >= _COUNTS_MAX:
                self._counts.clear()
            self._counts[(edges_s, covered_s)] = row
        return self._record(granularity, *edges_s, row)

    def _find_count(self, end_s: int, covered_s: tuple[int, int]) -> BucketRow:
        found = self.cover(*covered_s)
        visits = sum(row.visits for _, row in found)
        status = Status.PROVISIONAL
        if self.is_closed(end_s):
            status = max((row.status for _, row in found), default=Status.FINAL)
        count = found[0][1].unique_count if len(found) == 1 else self.facts.cache.count_union(self.view, found)
        return BucketRow(count, visits, 0, 0, status)

    def is_closed(self, end_s: int) -> bool:
        """Whether the store's clock has passed an interval that ends there."""
        through_s = self.state.closed_through_s
        return through_s is not None and end_s <= through_s

    def _empty_row(self, end_s: int) -> BucketRow:
        """What stands for the row of a bucket without visits."""
        return BucketRow(0, 0, 0, 0, Status.FINAL if self.is_closed(end_s) else Status.PROVISIONAL)

    def bucket_record(self, bucket: Bucket) -> CountRecord:
        """The record of one bucket; zero if it never had a visit. In a lost span it is never complete."""
        row = self.row(bucket) or self._empty_row(bucket.end_s)
        return self._record(bucket.granularity.word, bucket.start_s, bucket.end_s, row)

    def series(self, granularity: Granularity, start_s: int, end_s: int, *, fill: bool) -> Iterator[CountRecord]:
        """Records of the buckets that start in ``[start_s, end_s)``; with ``fill`` also those without visits.

        Of the time whose rows are gone there is none, nor of lost buckets without a row.
        """
        start_s = max(start_s, self.retention.counted_from_s(granularity))
        if start_s >= end_s:
            return
        rows = dict(self.rows(granularity, start_s, end_s))
        ends: Iterator[tuple[int, int]]
        unknown: set[int] = set()
        if fill:
            edges = self.zone.edges(granularity, start_s, end_s).tolist()
            edges = edges[bisect_left(edges, start_s) :]
            ends = pairwise(edges)
            if self.retention.lost:
                missing = np.array([at for at in edges[:-1] if at not in rows], np.int64)
                is_unknown = unproved_among(self.view, self.zone, self._lost, (granularity, missing))
                unknown = set(missing[is_unknown].tolist())
        else:
            starts_s = np.fromiter(rows, np.int64, len(rows))
            ends = zip(rows, ends_of(self.zone, granularity, starts_s).tolist(), strict=True)
        for at, end in ends:
            if at not in unknown:
                yield self._record(granularity.word, at, end, rows.get(at) or self._empty_row(end))

    def _record(self, granularity: str, start_s: int, end_s: int, row: BucketRow) -> CountRecord:
        settled = row.status is not Status.PROVISIONAL
        return CountRecord(
            granularity=granularity,
            datetime=self.zone.isoformat(start_s),
            count=row.unique_count,
            visits=row.visits,
            start_ts=start_s,
            end_ts=end_s,
            timezone=self.zone.name,
            status=row.status.word,
            complete=settled and self.is_whole(granularity, start_s, end_s),
            revision=row.revision,
            epoch=self.epoch,
        )

    def is_whole(self, granularity: str, start_s: int, end_s: int) -> bool:
        """Whether no visit before now is missing: it begins with the store's first visit, or later, and lacks none."""
        first_s = self.whole_from_s
        return first_s is not None and first_s <= start_s and not self.lacks(granularity, start_s, end_s)

    def lacks(self, granularity: str, start_s: int, end_s: int) -> bool:
        """Whether visits may be missing (never read, or of a lost bucket), or somebody with a lost name came twice."""
        names = self.retention.lost_names
        if (names is not None and end_s > names.newest_s) or self._lost.has(granularity, start_s):
            return True
        return any(gap.touches(start_s, end_s) for gap in self.state.gaps)

    def records_of(self, keys: list[bytes]) -> Iterator[CountRecord]:
        """The record of each bucket with one of these keys, which ascend. About 10 us each."""
        for granularity, group in groupby(keys, key=lambda key: key[0]):
            starts_s = [parse_bucket_key(key)[1] for key in group]
            kind = Granularity(granularity)
            ends_s = ends_of(self.zone, kind, np.array(starts_s, np.int64)).tolist()
            for bucket in map(Bucket, repeat(kind), starts_s, ends_s):
                yield self.bucket_record(bucket)
