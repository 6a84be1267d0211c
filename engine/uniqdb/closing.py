"""What a commit closes, and which of its visits came after a close.

A bucket is closed once the store's clock has passed its end by the allowed lateness. ``closed_through_s`` is how far
that goes: every bucket that ends at or before it is closed. It only rises; a clock that goes back closes nothing new.
"""

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import structs

from uniqdb.batch import I64Array, Level, ends_of
from uniqdb.calendar_zone import CalendarZone
from uniqdb.commit_plan import CommitPlan
from uniqdb.format import BucketRow, Database, Status, bucket_key
from uniqdb.granularity import Granularity

NOTHING_CLOSED = -(2**62)
"""Stands for `closed_through_s` of a store that closed nothing yet: before every end of a bucket."""


class Closing(msgspec.Struct):
    """What one commit closes: buckets that end after ``before_s``, and at or before ``through_s``.

    ``late_times_s`` are the event times of the visits whose minute was closed when they came, ``late_through_s`` how
    far the store was closed just then.
    """

    zone: CalendarZone
    before_s: int
    through_s: int
    late_times_s: I64Array
    late_through_s: I64Array
    late_visits: dict[str, int] = msgspec.field(default_factory=dict)
    """By granularity: how many visits amended a closed bucket. Filled by `statuses`."""
    late_days_s: set[int] = msgspec.field(default_factory=set)
    """Starts of the closed days that visits amended. Filled by `statuses`."""

    @classmethod
    def of(cls, zone: CalendarZone, edges_s: tuple[int, int], times_s: I64Array, through_s: I64Array) -> "Closing":
        """From ``(before, through)`` and each visit's event time with how far the store was closed when it came."""
        late = np.flatnonzero(times_s // 60 * 60 + 60 <= through_s)
        return cls(zone, *edges_s, times_s[late], through_s[late])

    def statuses(self, level: Level) -> list[int]:
        """The least status of each bucket of the level after the commit. Cost: a few array operations."""
        starts_s, granularity = level.starts_s, level.granularity
        if self.through_s <= starts_s[0]:
            return [Status.PROVISIONAL] * len(starts_s)
        ends_s = ends_of(self.zone, granularity, starts_s)
        statuses = np.where(ends_s <= self.through_s, int(Status.FINAL), int(Status.PROVISIONAL))
        late_times_s, late_through_s = self.late_times_s, self.late_through_s
        if (
            len(late_times_s) and late_times_s.min() < starts_s[0]
        ):  # visits of swept buckets, which are not in the level
            is_there = late_times_s >= starts_s[0]
            late_times_s, late_through_s = late_times_s[is_there], late_through_s[is_there]
        if len(late_times_s):
            # A bucket ends no earlier than its finer ones: a visit that is not late for its minute is late for nothing.
            at = np.searchsorted(starts_s, self.zone.starts_of(granularity, late_times_s))
            is_late = ends_s[at] <= late_through_s
            statuses[at[is_late]] = int(Status.AMENDED)
            if is_late.any():
                self.late_visits[granularity.word] = int(is_late.sum())
                if granularity is Granularity.DAY:
                    self.late_days_s = set(starts_s[at[is_late]].tolist())
        codes: list[int] = statuses.tolist()
        return codes

    def leave_out(self, is_kept: npt.NDArray[np.bool_]) -> None:
        """Late visits that are expired amend nothing. ``is_kept``: of each late visit."""
        self.late_times_s, self.late_through_s = self.late_times_s[is_kept], self.late_through_s[is_kept]

    def from_the_start(self) -> "Closing":
        """As if nothing had been closed before."""
        return structs.replace(self, before_s=NOTHING_CLOSED)

    def close_untouched(self, plan: CommitPlan) -> dict[bytes, BucketRow]:
        """Put the rows of closed buckets that the commit does not touch otherwise; returns them.

        Cost: a look at every row between the two edges.
        """
        closed: dict[bytes, BucketRow] = {}
        if self.through_s <= self.before_s:
            return closed
        first_s, end_s = _within(self.zone, self.before_s), _within(self.zone, self.through_s)
        for granularity in Granularity:
            first = bucket_key(granularity, self.zone.bucket_at(granularity, first_s).start_s)
            end = bucket_key(granularity, self.zone.bucket_at(granularity, end_s).start_s)
            for key, payload in plan.view.rows(Database.BUCKETS, first, end):
                row = BucketRow.unpack(key, payload)
                if row.status is Status.PROVISIONAL and not plan.changes.writes(Database.BUCKETS, key):
                    closed[key] = row._replace(status=Status.FINAL, revision=row.revision + 1)
        for key, row in closed.items():
            plan.changes.put_row(Database.BUCKETS, key, row.pack())
        return closed


def _within(zone: CalendarZone, time_s: int) -> int:
    return min(max(time_s, zone.start_s), zone.end_s - 1)


def is_closed_minute(key: bytes, row: BucketRow) -> bool:
    """Whether the bucket is a minute that is closed."""
    return key[0] == Granularity.MINUTE and row.status is not Status.PROVISIONAL
