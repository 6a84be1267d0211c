"""What a sweep may remove by now, and the steps that remove it: members of old buckets, then rows with old counts.

A bucket may go once two clocks have passed its end by the retention of its granularity: the store's, which no single
wrong time moves, and the wall clock, which the caller gives. So a wall clock that is wrong in either direction, or a
poisoned time, removes nothing that is not old by the other one. A bucket goes after its finer ones, and a row after its
finer rows: a kept set is always part of a kept coarser one, and row counts stay proofs.
"""

from collections import Counter
from collections.abc import Mapping
from itertools import islice

import msgspec
import numpy as np
from pyroaring import BitMap

from uniqdb.bucket_members import load_members, members_left
from uniqdb.calendar_zone import CalendarZone
from uniqdb.commit_plan import CommitPlan
from uniqdb.format import BucketRow, Database, MembersState, bucket_key, corrupt, fragment_key, parse_bucket_key
from uniqdb.granularity import Granularity
from uniqdb.horizons import RetentionRow, read_retention
from uniqdb.meta import StateRow
from uniqdb.options import Retention
from uniqdb.outbox import TRAILING_DAYS, WindowKey
from uniqdb.store import ReadView
from uniqdb.upkeep_step import StepOutcome

Horizons = Mapping[Granularity, int]


class Deadlines(msgspec.Struct, frozen=True):
    """How far a store may be swept. ``now_s``: what both clocks have passed, None if the store has no clock."""

    zone: CalendarZone
    retention: Retention
    now_s: int | None

    @classmethod
    def of(cls, zone: CalendarZone, retention: Retention, state: StateRow, wall_s: int) -> "Deadlines":
        """Now, by the store's clock and the wall clock; what is not closed is not old."""
        if state.clock_s is None or state.closed_through_s is None:
            return cls(zone, retention, None)
        return cls(zone, retention, min(state.clock_s, state.closed_through_s, wall_s))

    def members_target_s(self, granularity: Granularity, horizons: Horizons) -> int:
        """The horizon that the granularity may have, given that of the finer one; 0: none."""
        target_s = self._target_s(granularity, self.retention.members_s(granularity.word))
        finer = granularity.finer
        return target_s if finer is None else min(target_s, self._start_s(granularity, horizons[finer]))

    def rows_target_s(self, granularity: Granularity, horizons: Horizons, members_from_s: int) -> int:
        """The same for rows with counts: no further than the members, and than the finer rows."""
        target_s = self._target_s(granularity, self.retention.rows_s(granularity.word))
        finer = granularity.finer
        if finer is not None:
            target_s = min(target_s, self._start_s(granularity, horizons[finer]))
        return min(target_s, members_from_s)

    def _target_s(self, granularity: Granularity, kept_s: int | None) -> int:
        return 0 if kept_s is None or self.now_s is None else self._start_s(granularity, self.now_s - kept_s)

    def _start_s(self, granularity: Granularity, time_s: int) -> int:
        """Where the bucket starts that holds a moment: all that start earlier have ended by then."""
        if time_s <= self.zone.start_s:
            return 0
        return self.zone.bucket_at(granularity, min(time_s, self.zone.end_s - 1)).start_s


def starts_between(
    view: ReadView, granularity: Granularity, span_s: tuple[int, int | None], most: int | None
) -> list[int]:
    """Starts of up to so many bucket rows that start in a span, its end excluded; None: no end, no bound.

    Cost: about a microsecond each; only keys are read.
    """
    start_s, end_s = span_s
    first = bucket_key(granularity, start_s)
    end = bytes((granularity + 1,)) if end_s is None else bucket_key(granularity, end_s)
    return [parse_bucket_key(key)[1] for key, _ in islice(view.raw_rows(Database.BUCKETS, first, end), most)]


def live_ordinals(view: ReadView) -> BitMap:
    """Every ordinal that is a member of a kept bucket.

    That is the union of the kept years, and of kept weeks that begin in a year that is not kept: everything finer is
    part of one of these. With lost spans, where years may be missing, it is the union of all that there is.
    """
    retention, live = read_retention(view), BitMap()
    if retention.lost:
        return members_left(view, retention)
    weeks_s = retention.kept_from_s(Granularity.WEEK), retention.kept_from_s(Granularity.YEAR)
    years_s = retention.kept_from_s(Granularity.YEAR), None
    for granularity, (start_s, end_s) in ((Granularity.WEEK, weeks_s), (Granularity.YEAR, years_s)):
        end = bytes((granularity + 1,)) if end_s is None else bucket_key(granularity, end_s)
        for key, payload in view.rows(Database.BUCKETS, bucket_key(granularity, start_s), end):
            live |= load_members(view, key, BucketRow.unpack(key, payload))
    return live


# ---------------------------------------------------------------- steps
class Goal(msgspec.Struct, frozen=True):
    """What one step is to do: at most so many buckets of a granularity that start before a horizon to be."""

    granularity: Granularity
    target_s: int
    most: int

    def end_key(self) -> bytes:
        """Before this key are the rows of the buckets."""
        return bucket_key(self.granularity, self.target_s)


class Removed(msgspec.Struct, frozen=True):
    """What a step puts into its plan: the ``outcome``, the row of horizons that is still to be written, how many."""

    outcome: StepOutcome
    retention: RetentionRow
    buckets: int


def sweep_members(plan: CommitPlan, state: StateRow, goal: Goal) -> Removed:
    """Drop the members of the next buckets; what is left of their rows stays as it is."""
    retention, outcome, granularity = read_retention(plan.view), StepOutcome(state), goal.granularity
    before_s = retention.kept_from_s(granularity)
    horizon_s = goal.target_s
    for key, payload in plan.view.rows(Database.BUCKETS, bucket_key(granularity, before_s), goal.end_key()):
        row = BucketRow.unpack(key, payload)
        if row.members is MembersState.SWEPT:
            continue
        if len(outcome.gone) == goal.most:
            horizon_s = parse_bucket_key(key)[1]
            break
        if row.members is MembersState.KEPT:
            _delete_unit(plan, granularity, key)
        plan.changes.put_row(Database.BUCKETS, key, row._replace(members=MembersState.SWEPT, inline=b"").pack())
        outcome.gone.append(key)
    retention = msgspec.structs.replace(
        retention,
        members_from_s={**retention.members_from_s, granularity.word: max(horizon_s, before_s)},
        has_dead_uids=retention.has_dead_uids or _may_leave_dead(granularity, retention, outcome.gone),
    )
    return Removed(outcome, _without_swept_spans(plan.view, state, retention), len(outcome.gone))


def _may_leave_dead(granularity: Granularity, retention: RetentionRow, gone: list[bytes]) -> bool:
    """Whether members that go may be in no other kept bucket: all but these are in a kept year, if none is lost."""
    if not gone or granularity is Granularity.YEAR:
        return bool(gone)
    if granularity is Granularity.WEEK:
        years_lost = any(one.granularity == Granularity.YEAR.word for one in retention.lost)
        return years_lost or retention.kept_from_s(Granularity.WEEK) < retention.kept_from_s(Granularity.YEAR)
    if not retention.lost:
        return False
    above = [one for one in Granularity if one > granularity and one is not Granularity.WEEK]
    starts_s = (parse_bucket_key(key)[1] for key in gone)
    return not all(any(retention.keeps(one, start_s) for one in above) for start_s in starts_s)


def _without_swept_spans(view: ReadView, state: StateRow, retention: RetentionRow) -> RetentionRow:
    """Without lost spans that end where members and rows are swept: there nothing is left, lost or not.

    ``state`` and ``view`` are those before the step. The visits of lost years are then those of years that are gone.
    """
    if not retention.lost:
        return retention
    swept_s = {
        granularity.word: min(retention.kept_from_s(granularity), retention.counted_from_s(granularity))
        for granularity in Granularity
    }
    left = tuple(one for one in retention.lost if one.end_s > swept_s[one.granularity])
    year = Granularity.YEAR.word
    had, has = (any(one.granularity == year for one in spans) for spans in (retention.lost, left))
    if had and not has:
        first, end = bucket_key(Granularity.YEAR, swept_s[year]), bytes((Granularity.YEAR + 1,))
        there = sum(BucketRow.unpack(*one).visits for one in view.rows(Database.BUCKETS, first, end))
        gone = state.visits - state.skipped.get(year, 0) - there
        retention = msgspec.structs.replace(retention, visits_of_gone_years=gone)
    return msgspec.structs.replace(retention, lost=left)


def _delete_unit(plan: CommitPlan, granularity: Granularity, key: bytes) -> None:
    directory = plan.view.directory(key)
    if directory is None:
        raise corrupt(Database.UNITS, key, "the directory of a bucket with members is missing")
    for fragment in directory.fragments:
        plan.changes.delete(Database.of(granularity), fragment_key(key, fragment.id))
    plan.changes.delete(Database.UNITS, key)


def delete_rows(plan: CommitPlan, state: StateRow, zone: CalendarZone, goal: Goal) -> Removed:
    """Delete the rows of the next swept buckets, and what of them waits to be published; count those above anew."""
    retention, outcome, granularity = read_retention(plan.view), StepOutcome(state), goal.granularity
    before_s = retention.counted_from_s(granularity)
    found = plan.view.rows(Database.BUCKETS, bucket_key(granularity, before_s), goal.end_key())
    rows = list(islice(found, goal.most + 1))
    horizon_s = parse_bucket_key(rows.pop()[0])[1] if len(rows) > goal.most else goal.target_s
    visits_gone = 0
    for key, payload in rows:
        row = BucketRow.unpack(key, payload)
        if row.members is not MembersState.SWEPT or row.finer_rows:
            raise corrupt(Database.BUCKETS, key, "a bucket before the horizon has members, or finer rows")
        visits_gone += row.visits
        plan.changes.delete(Database.BUCKETS, key)
        _delete_if_there(plan, Database.OUTBOX, key)
        outcome.gone.append(key)
    _count_down(plan, zone, granularity, (outcome, retention))
    if granularity is Granularity.DAY:
        _delete_windows(plan, zone.local_date(horizon_s).toordinal())
    elif granularity is Granularity.WEEK:
        outcome.state = msgspec.structs.replace(state, weeks=state.weeks - len(rows))
    elif granularity is Granularity.YEAR:
        outcome.state = msgspec.structs.replace(state, years=state.years - len(rows))
        retention = msgspec.structs.replace(
            retention, visits_of_gone_years=retention.visits_of_gone_years + visits_gone
        )
    horizons_s = {**retention.rows_from_s, granularity.word: max(horizon_s, before_s)}
    retention = msgspec.structs.replace(retention, rows_from_s=horizons_s)
    return Removed(outcome, _without_swept_spans(plan.view, state, retention), len(rows))


def _count_down(
    plan: CommitPlan, zone: CalendarZone, granularity: Granularity, goes: tuple[StepOutcome, RetentionRow]
) -> None:
    """The rows above those that go hold fewer finer rows; those that were lost hold nothing."""
    outcome, retention = goes
    starts_s = np.array([parse_bucket_key(key)[1] for key in outcome.gone], np.int64)
    if not len(starts_s):
        return
    for coarser in granularity.coarser:
        for start_s, gone in Counter(zone.starts_of(coarser, starts_s).tolist()).items():
            key = bucket_key(coarser, start_s)
            payload = plan.view.row(Database.BUCKETS, key)
            row = None if payload is None else BucketRow.unpack(key, payload)
            if row is None and retention.loses(coarser, start_s):
                continue
            if row is None or row.finer_rows < gone:
                raise corrupt(Database.BUCKETS, key, f"there are more {granularity.word} rows than it has")
            outcome.rows[key] = row._replace(finer_rows=row.finer_rows - gone)
            plan.changes.put_row(Database.BUCKETS, key, outcome.rows[key].pack())


def _delete_windows(plan: CommitPlan, date_ordinal: int) -> None:
    """Delete what is known of published trailing windows that end before a date."""
    for days in TRAILING_DAYS:
        first, end = WindowKey(days, 0).pack(), WindowKey(days, date_ordinal).pack()
        for key, _ in plan.view.raw_rows(Database.WINDOWS, first, end):
            plan.changes.delete(Database.WINDOWS, key)
            _delete_if_there(plan, Database.OUTBOX, key)
            _delete_if_there(plan, Database.DUE, key)


def _delete_if_there(plan: CommitPlan, database: Database, key: bytes) -> None:
    if plan.view.get(database, key) is not None:
        plan.changes.delete(database, key)
