"""Sweeping a store: one run removes what is old, in bounded steps, each a transaction of its own.

Between two steps the handle may do anything else: add visits, answer, serve requests. A run that is given up, or whose
process ends, has removed what it has removed; the next one goes on from there.
"""

import uuid
from collections.abc import Callable, Generator, Iterator
from typing import TypeAlias

import msgspec

from uniqdb.commit_plan import CommitPlan
from uniqdb.dead_uids import Dropped, DropPlace, drop_step
from uniqdb.engine import Engine
from uniqdb.granularity import Granularity
from uniqdb.horizons import AuditRow, RetentionRow, read_retention, write_retention
from uniqdb.limits import SWEEP_COUNT_STEP_BUCKETS, SWEEP_SHARE, SWEEP_STEP_BUCKETS
from uniqdb.meta import StateRow
from uniqdb.retention import Deadlines, Goal, Removed, delete_rows, starts_between, sweep_members
from uniqdb.store import ReadView
from uniqdb.upkeep_step import LiveMarks, StepOutcome

SWEEP = "sweep"
"""The action in audit rows, and the kind of request."""
_Work: TypeAlias = Callable[[CommitPlan, StateRow, Goal], Removed]


class SweepReport(msgspec.Struct):
    """What a run has removed so far, and what is due beyond it. Numbers of buckets by granularity, without zeros."""

    swept: dict[str, int] = {}
    """Buckets that lost their members."""
    due: dict[str, int] = {}
    """Buckets whose members are due, too: later runs remove them."""
    rows: dict[str, int] = {}
    """Rows of counts that are gone."""
    rows_due: dict[str, int] = {}
    uids: int = 0
    """Uids that left the dictionary."""
    is_over: bool = False
    has_clock: bool = True
    """False: no source has a clock yet, so nothing is old."""

    def removed(self) -> dict[str, int]:
        """All that was removed, as an audit row has it; empty: nothing."""
        found = {**self.swept, **{f"{word} rows": count for word, count in self.rows.items()}}
        return {**found, "uids": self.uids} if self.uids else found


class _Phase(msgspec.Struct, frozen=True):
    """Members or rows: how far the store is, how a step is done, and where the report counts."""

    horizon: Callable[[RetentionRow, Granularity], int]
    work: _Work
    done: dict[str, int]
    due: dict[str, int]


class SweepRun:
    """One run, begun at ``wall_s`` (Unix seconds, by the wall clock). Call `step` until it returns False.

    It removes at most a tenth of a granularity's buckets, and at least one, unless it is ``forced``; never what one of
    the two clocks has not passed. Several runs at a time are right, too.
    """

    def __init__(self, engine: Engine, wall_s: int, *, forced: bool = False) -> None:
        self.name, self.report = uuid.uuid4().hex, SweepReport()
        self._engine, self._wall_s, self._forced = engine, wall_s, forced
        self._steps = self._run()

    def step(self) -> bool:
        """Do a little more, at most one transaction; False once the run is over.

        Cost: 1,000 buckets, or 8 MiB of the dictionary, or the union of the kept years. Raises CommitFailed: then the
        run is over, and a later one goes on from what is committed.
        """
        self.report.is_over = next(self._steps, None) is None
        return not self.report.is_over

    def to_the_end(self) -> SweepReport:
        """All steps."""
        while self.step():
            pass
        return self.report

    def _run(self) -> Iterator[bool]:
        engine, report = self._engine, self.report
        with engine.snapshot() as snapshot:
            deadlines = Deadlines.of(engine.zone, engine.retention, snapshot.answers.state, self._wall_s)
        report.has_clock = deadlines.now_s is not None
        members = _Phase(RetentionRow.kept_from_s, sweep_members, report.swept, report.due)
        for granularity in Granularity:
            horizons = self._retention().horizons()
            target_s = deadlines.members_target_s(granularity, horizons)
            yield from self._reach(members, granularity, target_s)
        yield from self._drop_dead_uids()
        rows = _Phase(RetentionRow.counted_from_s, self._delete_rows, report.rows, report.rows_due)
        for granularity in Granularity:
            retention = self._retention()
            members_from_s = retention.kept_from_s(granularity)
            target_s = deadlines.rows_target_s(granularity, retention.row_horizons(), members_from_s)
            yield from self._reach(rows, granularity, target_s)

    def _reach(self, phase: _Phase, granularity: Granularity, target_s: int) -> Iterator[bool]:
        """Work until the horizon is at the target, or the run's share of the granularity is done."""
        start_s, word = phase.horizon(self._retention(), granularity), granularity.word
        if target_s <= start_s:
            return
        there = yield from self._count(granularity, start_s, None)
        left = max(there if self._forced else there // SWEEP_SHARE, 1)
        while left > 0 and phase.horizon(self._retention(), granularity) < target_s:
            goal = Goal(granularity, target_s, min(left, SWEEP_STEP_BUCKETS))
            left -= self._remove(phase, goal)
            yield True
        due = yield from self._count(granularity, phase.horizon(self._retention(), granularity), target_s)
        if due:
            phase.due[word] = due

    def _count(self, granularity: Granularity, start_s: int, end_s: int | None) -> Generator[bool, None, int]:
        """How many rows there are between two starts."""
        count = 0
        while True:
            with self._engine.snapshot() as snapshot:
                view = snapshot.answers.view
                part = starts_between(view, granularity, (start_s, end_s), SWEEP_COUNT_STEP_BUCKETS)
            count += len(part)
            if len(part) < SWEEP_COUNT_STEP_BUCKETS:
                return count
            start_s = part[-1] + 1
            yield True

    def _retention(self) -> RetentionRow:
        with self._engine.snapshot() as snapshot:
            return read_retention(snapshot.answers.view)

    def _delete_rows(self, plan: CommitPlan, state: StateRow, goal: Goal) -> Removed:
        return delete_rows(plan, state, self._engine.zone, goal)

    def _remove(self, phase: _Phase, goal: Goal) -> int:
        """One step; returns how many buckets it did, which may be none if only the horizon moved."""
        done: list[Removed] = []

        def step(plan: CommitPlan, state: StateRow) -> StepOutcome:
            done[:] = [phase.work(plan, state, goal)]
            name = goal.granularity.word if phase.done is self.report.swept else f"{goal.granularity.word} rows"
            self._write(plan, done[0].retention, name, done[0].buckets)
            return done[0].outcome

        self._engine.change(step)
        buckets = done[0].buckets
        if buckets:
            phase.done[goal.granularity.word] = phase.done.get(goal.granularity.word, 0) + buckets
        return buckets

    def _write(self, plan: CommitPlan, retention: RetentionRow, name: str, more: int) -> None:
        """Put the horizons, and what the run has removed together with this step."""
        if more:
            removed = self.report.removed()
            removed[name] = removed.get(name, 0) + more
            retention = retention.with_audit(AuditRow(self.name, self._wall_s, SWEEP, self._forced, removed))
        write_retention(plan.changes, retention)

    # ------------------------------------------------------------ dead uids
    def _drop_dead_uids(self) -> Iterator[bool]:
        """Drop the uids that no kept bucket has: mark the others once, then go through the dictionary."""
        while (before := self._retention()).has_dead_uids:
            marks, place = self._engine.mark_live(), DropPlace()
            yield True
            while marks.valid and place.next_hash is not None:
                place = self._drop(marks, place)
                yield True
            if marks.valid:
                self._engine.change(lambda plan, state: self._all_dropped(plan, state, before))
                return

    def _drop(self, marks: LiveMarks, place: DropPlace) -> DropPlace:
        with self._engine.snapshot() as snapshot:
            dictionary = snapshot.answers.facts.dictionary
        done: list[Dropped] = []

        def step(plan: CommitPlan, state: StateRow) -> StepOutcome | None:
            if not marks.valid:  # somebody else has written since: the marks may lack what that was about
                done[:] = [Dropped(place)]
                return None
            done[:] = [drop_step(plan, dictionary, marks, place)]
            if not done[0].has_written:
                return None
            dropped = len(done[0].uids)
            retention = read_retention(plan.view)
            retention = msgspec.structs.replace(retention, uids_dropped=retention.uids_dropped + dropped)
            self._write(plan, retention, "uids", dropped)
            return StepOutcome(state, uids=done[0].uids)

        self._engine.change(step)
        self.report.uids += len(done[0].uids)
        return done[0].place

    def _all_dropped(self, plan: CommitPlan, state: StateRow, before: RetentionRow) -> StepOutcome | None:
        """Nothing dead is left, unless another run has swept further meanwhile."""
        retention = read_retention(plan.view)
        if retention.members_from_s != before.members_from_s:
            return None
        write_retention(plan.changes, msgspec.structs.replace(retention, has_dead_uids=False))
        return StepOutcome(state)


def sweep(engine: Engine, wall_s: int | None = None, *, forced: bool = False) -> SweepReport:
    """Carry out a whole run, after a commit of what waits. ``wall_s``: Unix seconds; by default the handle's clock.

    Cost: as `SweepRun.step`, for each step. Raises CommitFailed.

    >>> import tempfile, uniqdb
    >>> from uniqdb.sweeping import sweep
    >>> with uniqdb.open(tempfile.mkdtemp() + "/visits.uniqdb") as db:
    ...     sweep(db).removed()
    {}
    """
    engine.commit()
    return SweepRun(engine, int(engine.wall_clock()) if wall_s is None else wall_s, forced=forced).to_the_end()


# ---------------------------------------------------------------- without doing it
def preview(engine: Engine, wall_s: int, *, forced: bool = False) -> SweepReport:
    """What a run would remove now, dead uids apart: they are known only when the members are gone."""
    report = SweepReport()
    with engine.snapshot() as snapshot:
        view, state = snapshot.answers.view, snapshot.answers.state
        deadlines = Deadlines.of(engine.zone, engine.retention, state, wall_s)
        report.has_clock = deadlines.now_s is not None
        retention = read_retention(view)
        members, rows = retention.horizons(), retention.row_horizons()
        for one in Granularity:
            span_s = members[one], deadlines.members_target_s(one, members)
            members[one] = _foreseen(view, one, span_s, (report.swept, report.due), forced=forced)
        for one in Granularity:
            span_s = rows[one], deadlines.rows_target_s(one, rows, members[one])
            rows[one] = _foreseen(view, one, span_s, (report.rows, report.rows_due), forced=forced)
    report.is_over = True
    return report


def _foreseen(
    view: ReadView,
    granularity: Granularity,
    span_s: tuple[int, int],
    counts: tuple[dict[str, int], dict[str, int]],
    *,
    forced: bool,
) -> int:
    """The horizon after a run that may go from one moment to another; counts what goes, and what stays due."""
    start_s, target_s = span_s
    if target_s <= start_s:
        return start_s
    starts_s = starts_between(view, granularity, (start_s, None), None)
    due = sum(1 for at in starts_s if at < target_s)
    share = due if forced else min(due, max(len(starts_s) // SWEEP_SHARE, 1))
    for numbers, number in zip(counts, (share, due - share), strict=True):
        if number:
            numbers[granularity.word] = number
    return starts_s[share] if share < due else target_s
