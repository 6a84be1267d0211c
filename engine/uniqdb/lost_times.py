"""Which moments lie in lost spans, for many moments at a time; and how that is told.

A span begins and ends with buckets of its granularity. So a bucket is lost exactly if any moment in it is.
"""

from bisect import bisect_right
from collections import Counter

import numpy as np
import numpy.typing as npt

from uniqdb.batch import I64Array
from uniqdb.calendar_zone import CalendarZone
from uniqdb.commit_plan import CommitPlan
from uniqdb.errors import WindowNotKept
from uniqdb.format import BucketRow, Database, Status, bucket_key
from uniqdb.granularity import Bucket, Granularity
from uniqdb.horizons import LostSpan, RetentionRow
from uniqdb.store import ReadView

BoolArray = npt.NDArray[np.bool_]


class LostTimes:
    """The lost spans of a store, in order. Granularities are given by their words; no other word has any."""

    def __init__(self, retention: RetentionRow) -> None:
        self._edges_s: dict[str, list[int]] = {}
        self._spans = retention.lost
        for one in retention.lost:
            self._edges_s.setdefault(one.granularity, []).extend((one.start_s, one.end_s))

    def has(self, word: str, time_s: int) -> bool:
        """Whether the bucket that holds a moment lies in a lost span. Cost: one search."""
        edges_s = self._edges_s.get(word)
        return edges_s is not None and bisect_right(edges_s, time_s) % 2 == 1

    def mask(self, word: str, times_s: I64Array) -> BoolArray:
        """The same for an array. Cost: one search each, in numpy."""
        found: BoolArray = np.searchsorted(self._edges_s.get(word, []), times_s, "right") % 2 == 1
        return found

    def first(self, start_s: int, end_s: int, word: str | None = None) -> LostSpan | None:
        """The first lost span, of the finest granularity that has one, that touches an interval."""
        for one in self._spans:
            if one.start_s < end_s and start_s < one.end_s and word in (None, one.granularity):
                return one
        return None


def expired_edges_s(retention: RetentionRow) -> list[int]:
    """Edges of the spans in which no granularity keeps a bucket, at or after all horizons' least: start, end, ...

    Empty without lost spans, or where something finer or coarser is kept in each.
    """
    lost, from_s = LostTimes(retention), retention.expired_before_s
    horizons = retention.horizons()
    edges_s = {edge_s for one in retention.lost for edge_s in (one.start_s, one.end_s)} | set(horizons.values())
    found: list[int] = []
    is_in = False
    for edge_s in sorted(edge_s for edge_s in edges_s | {from_s} if edge_s >= from_s):
        kept = any(edge_s >= at and not lost.has(granularity.word, edge_s) for granularity, at in horizons.items())
        if kept == is_in:
            found.append(edge_s)
            is_in = not kept
    return found


def unproved(view: ReadView, zone: CalendarZone, lost: LostTimes, bucket: Bucket) -> LostSpan | None:
    """The lost span because of which the missing row of a bucket is no proof that it had no visit.

    It is a proof if the row above, which counts its finer ones, is there, or is missing itself by such a proof.
    """
    while not lost.has(bucket.granularity.word, bucket.start_s):
        parents = bucket.granularity.coarser
        if not parents:
            return None
        bucket = zone.bucket_at(parents[-1], bucket.start_s)
        if view.row(Database.BUCKETS, bucket_key(bucket.granularity, bucket.start_s)) is not None:
            return None
    return lost.first(bucket.start_s, bucket.end_s, bucket.granularity.word)


def unproved_among(
    view: ReadView, zone: CalendarZone, lost: LostTimes, missing: tuple[Granularity, I64Array]
) -> BoolArray:
    """The same for many buckets without a row, of one granularity, ascending: whether it is no proof.

    Cost: a look at one row for each bucket above them.
    """
    granularity, starts_s = missing
    found = lost.mask(granularity.word, starts_s)
    rest_s = starts_s[~found]
    if not len(rest_s) or not granularity.coarser:
        return found
    above = granularity.coarser[-1]
    parents_s, at = np.unique(zone.starts_of(above, rest_s), return_inverse=True)
    is_missing = np.array([view.row(Database.BUCKETS, bucket_key(above, one)) is None for one in parents_s.tolist()])
    is_missing[is_missing] = unproved_among(view, zone, lost, (above, parents_s[is_missing]))
    found[~found] = is_missing[at]
    return found


def count_finer(
    plan: CommitPlan, zone: CalendarZone, finer: tuple[Granularity, I64Array], through_s: int, lost: LostTimes
) -> None:
    """Rows of lost buckets that are there go on counting their finer rows. ``finer``: which got their first row.

    ``through_s``: how far the commit closes; a row that it closes is closed here, because it is written here.
    """
    granularity, starts_s = finer
    for coarser in granularity.coarser if len(starts_s) else ():
        parents_s = zone.starts_of(coarser, starts_s)
        parents_s = parents_s[lost.mask(coarser.word, parents_s)]
        for start_s, more in Counter(parents_s.tolist()).items():
            key = bucket_key(coarser, start_s)
            payload = plan.view.row(Database.BUCKETS, key)
            if payload is None:
                continue
            row = BucketRow.unpack(key, payload)
            row = row._replace(finer_rows=row.finer_rows + more)
            if row.status is Status.PROVISIONAL and zone.bucket_at(coarser, start_s).end_s <= through_s:
                row = row._replace(status=Status.FINAL, revision=row.revision + 1)
            plan.changes.put_row(Database.BUCKETS, key, row.pack())


def lost_to_damage(zone: CalendarZone, what: str, span: LostSpan) -> WindowNotKept:
    """The error for a question whose answer needs what is lost."""
    edges = f"{zone.isoformat(span.start_s)} to {zone.isoformat(span.end_s)}"
    return WindowNotKept(
        f"{what} cannot be told: {span.granularity}s from {edges} were lost to damage, not swept",
        hint="ingest the source again into a new store, or restore a backup",
    )
