"""One commit: visits, refused records, what sources remember, and what closes by them, together or not at all."""

import gc
import weakref
from bisect import bisect_right
from collections import Counter
from itertools import compress

import msgspec
import numpy as np
from msgspec import structs

from uniqdb.batch import Level, bitmap_of, levels
from uniqdb.bucket_members import BucketMembers, Staged
from uniqdb.calendar_zone import CalendarZone
from uniqdb.change_set import ChangeSet
from uniqdb.closing import Closing, is_closed_minute
from uniqdb.commit_plan import CommitPlan
from uniqdb.erasure import Erasure, erase
from uniqdb.format import Database
from uniqdb.granularity import Granularity
from uniqdb.horizons import RetentionRow, read_retention
from uniqdb.intake import Advance, Taken, write_advance
from uniqdb.lost_times import BoolArray, LostTimes, count_finer, expired_edges_s
from uniqdb.meta import STATE_KEY, GapRow, SourceRow, StateRow, read_state, with_gaps, write_row
from uniqdb.options import OpenOptions
from uniqdb.outbox import (
    TRAILING_DAYS,
    WindowKey,
    WindowRow,
    acknowledge,
    all_bucket_keys,
    mark_due,
    mark_not_due,
    quarantine_key,
    queue,
    queue_window,
)
from uniqdb.quarantine import NOTHING_GONE, Gone, Quarantined, remove_quarantined, write_quarantine
from uniqdb.store import Store, StoreMoved
from uniqdb.store_clock import OpenSources, pass_time
from uniqdb.told_again import told_again, windows_told_again
from uniqdb.trailing import due_again, due_by
from uniqdb.uid_batch import Uids, chosen, joined
from uniqdb.uid_dictionary import Resolved, UidDictionary
from uniqdb.uid_upkeep import DictionaryUpkeep
from uniqdb.upkeep_step import LiveMarks, Step, StepOutcome
from uniqdb.visit import I64Array


class Commit(msgspec.Struct):
    """What the caller wants in one commit. Every part may be empty.

    Visits that no advance speaks of come from calls without a source: they are accepted, and close nothing.
    """

    event_times_s: I64Array
    uids: Uids
    refused: list[Quarantined] = msgspec.field(default_factory=list)
    sources: dict[bytes, SourceRow] = msgspec.field(default_factory=dict)
    advances: list[Advance] = msgspec.field(default_factory=list)
    """What the sources of the visits did to their clocks, in the order of the visits."""
    reference_s: int | None = None
    """The moment by which visits were judged."""
    is_closing: bool = False
    """Close every bucket that has visits."""
    gone: Gone = NOTHING_GONE
    """What leaves quarantine."""
    published: dict[bytes, int] = msgspec.field(default_factory=dict)
    """What leaves the outbox: keys, each with the commit number of what was sent."""
    windows: list[tuple[WindowKey, WindowRow, bytes]] = msgspec.field(default_factory=list)
    """Trailing windows that were worked out, with their records."""
    not_due: list[WindowKey] = msgspec.field(default_factory=list)
    """Trailing windows that cannot be worked out, because the days that they need are no longer kept."""
    gaps: list[GapRow] = msgspec.field(default_factory=list)
    """Records of topics that were given up; one with the source and offset of an open gap says where that ends."""
    erasure: Erasure | None = None
    """Visitors to be forgotten: then nothing else is in the commit."""
    is_publishing: bool = False
    """From now on commits say what is to be published; the first time that is every bucket there is."""

    def then(self, taken: Taken, refused: list[Quarantined]) -> "Commit":
        """This commit followed by what one source took, and by its refused records."""
        shift, one = len(self.uids), taken.advance
        return structs.replace(
            self,
            event_times_s=np.concatenate([self.event_times_s, taken.event_times_s]),
            uids=joined([self.uids, taken.uids]),
            refused=self.refused + refused,
            advances=[*self.advances, structs.replace(one, start=one.start + shift, end=one.end + shift)],
        )

    def after(self, waiting: "Commit") -> "Commit":
        """This commit with another one's visits and refused records, which have neither source nor clock, before it."""
        shift = len(waiting.uids)
        return structs.replace(
            self,
            event_times_s=np.concatenate([waiting.event_times_s, self.event_times_s]),
            uids=joined([waiting.uids, self.uids]),
            refused=waiting.refused + self.refused,
            advances=[structs.replace(one, start=one.start + shift, end=one.end + shift) for one in self.advances],
        )


def nothing() -> Commit:
    """A commit without anything, to be added to."""
    return Commit(np.empty(0, np.int64), [])


class Writer:
    """Turns a `Commit` into a change set, writes it, and only then updates what is kept in memory."""

    def __init__(self, store: Store, zone: CalendarZone, dictionary: UidDictionary, options: OpenOptions) -> None:
        self._store, self._zone, self._dictionary = store, zone, dictionary
        self._members = BucketMembers(cache_bytes=options.caches.members_bytes)
        self._upkeep = DictionaryUpkeep(dictionary, options.dictionary)
        self._quarantine_max_rows = options.quarantine_max_rows
        self._allowed_lateness_s = options.allowed_lateness_s
        self._window_days = [days for days in TRAILING_DAYS if options.retention.keeps_window(days)]
        self._sources: OpenSources | None = None
        self._retention: RetentionRow | None = None
        self._expired_before_s = 0
        self._expired_edges_s: list[int] = []
        self._lost: LostTimes | None = None
        self._marks: weakref.WeakSet[LiveMarks] = weakref.WeakSet()

    def retention(self) -> RetentionRow:
        """How far the store was swept, as of the last commit."""
        if self._retention is None:
            self._retention = read_retention(self._store.view())
            self._expired_before_s = self._retention.expired_before_s
            self._expired_edges_s = expired_edges_s(self._retention)
            self._lost = LostTimes(self._retention) if self._retention.lost else None
        return self._retention

    def takes(self, time_s: int) -> bool:
        """Whether a visit of this moment (Unix seconds) counts in some granularity; else it is expired."""
        if self._retention is None:
            self.retention()
        if time_s < self._expired_before_s:
            return False
        return not self._expired_edges_s or bisect_right(self._expired_edges_s, time_s) % 2 == 0

    def taken(self, times_s: I64Array) -> BoolArray:
        """The same for an array."""
        if self._retention is None:
            self.retention()
        found: BoolArray = times_s >= self._expired_before_s
        if self._expired_edges_s:
            found &= np.searchsorted(self._expired_edges_s, times_s, "right") % 2 == 0
        return found

    def mark(self, marks: LiveMarks) -> None:
        """From now on add to these marks every ordinal that is looked up or allocated, until they are forgotten."""
        self._marks.add(marks)

    def change(self, step: Step) -> StepOutcome | None:
        """Carry out a step of upkeep, durably, in a transaction of its own, and evict what it removed.

        No visit is looked up between its transaction and the eviction. Raises CommitFailed: then nothing was written.
        """
        while True:
            plan = self._plan()
            outcome = step(plan, msgspec.structs.replace(read_state(plan.view), commit_number=plan.number))
            if outcome is None:
                return None
            write_row(plan.changes, Database.META, STATE_KEY, outcome.state)
            try:
                self._store.commit(plan.changes, based_on=plan.view.txn_id, is_upkeep=True)
            except StoreMoved:
                self.forget_cached()
                continue
            except BaseException:
                self._forget_planned()
                raise
            self._retention = None
            self._members.evict(outcome.gone)
            self._members.take_rows(outcome.rows)
            self._dictionary.evict(outcome.uids)
            return outcome

    def open_sources(self) -> OpenSources:
        """The sources that the store's clock waits for, as of the last commit."""
        if self._sources is None:
            self._sources = OpenSources.read(self._store.view())
        return self._sources

    def is_behind(self) -> bool:
        """Whether an empty commit would close anything."""
        state = read_state(self._store.view())
        passage = pass_time(state, 0, [], {}, (self.open_sources().copy(), self._allowed_lateness_s))
        return passage.through_s > passage.before_s

    def commit(self, commit: Commit) -> StateRow:
        """Write everything durably; returns the new state. Raises CommitFailed: then nothing was written."""
        collecting = gc.isenabled()
        gc.disable()  # a batch makes many objects and no cycles
        try:
            return self._commit(commit) if commit.erasure is None else self._erase(commit.erasure)
        finally:
            if collecting:
                gc.enable()

    def _commit(self, commit: Commit) -> StateRow:
        while True:
            plan = self._plan()
            state = msgspec.structs.replace(read_state(plan.view), commit_number=plan.number)
            sources = self.open_sources().copy()
            state, closing = self._pass_time(state, commit, sources)
            resolved: Resolved | None = None
            staged: list[Staged] = []
            if len(commit.uids):
                resolved, staged, state = self._add_visits(plan, state, commit, closing)
            closed = closing.close_untouched(plan)
            first_id = state.quarantine_next_id
            if commit.refused:
                state = write_quarantine(plan, state, commit.refused, self._quarantine_max_rows)
            if commit.gone.rows or commit.gone.counted:
                state = remove_quarantined(plan, state, commit.gone)
            for key, row in commit.sources.items():
                write_row(plan.changes, Database.SOURCES, key, row)
            for advance in commit.advances:
                write_advance(plan.changes, advance)
            state = self._queue(plan, state, commit, (closing, first_id))
            write_row(plan.changes, Database.META, STATE_KEY, state)
            try:
                self._store.commit(plan.changes, based_on=plan.view.txn_id)
            except StoreMoved:
                self.forget_cached()
                continue
            except BaseException:
                self._upkeep.forget_cached()  # it may have planned for a commit that did not happen
                raise
            if resolved is not None:
                self._dictionary.remember(resolved)
                self._members.remember(staged)
            # The next visit of a closed bucket is rare: its members need not wait for it. Where time goes fast, or
            # commits come seldom, minutes are closed by the very commit that brings their last visits.
            self._members.evict(closed)
            self._members.evict(one.key for one in staged if is_closed_minute(one.key, one.bucket.row))
            self._sources = sources
            return state

    def _erase(self, erasure: Erasure) -> StateRow:
        while True:
            plan = self._plan()
            before = read_state(plan.view)
            state = msgspec.structs.replace(before, commit_number=plan.number)
            state = erase(plan, state, (self._dictionary, self._zone, self._window_days), erasure)
            if erasure.outcome is None:
                return before
            write_row(plan.changes, Database.META, STATE_KEY, state)
            try:
                self._store.commit(plan.changes, based_on=plan.view.txn_id)
            except StoreMoved:
                self.forget_cached()
                continue
            self._forget_planned()
            return state

    def forget_cached(self) -> None:
        """Drop what is kept in memory."""
        self._forget_planned()
        self._sources = None
        for marks in self._marks:
            marks.valid = False

    def _forget_planned(self) -> None:
        """Drop what may be wrong when it is not known whether a transaction was written."""
        self._dictionary.forget_cached()
        self._members.forget_cached()
        self._upkeep.forget_cached()
        self._retention = None

    def _plan(self) -> CommitPlan:
        view = self._store.view()
        return CommitPlan(view, read_state(view).commit_number + 1, ChangeSet())

    def _pass_time(self, state: StateRow, commit: Commit, sources: OpenSources) -> tuple[StateRow, Closing]:
        """What the commit closes, and the state with the clock after it. Changes ``sources``."""
        if commit.reference_s is not None:
            reference_s = max(commit.reference_s, state.reference_s or 0)
            state = msgspec.structs.replace(state, reference_s=reference_s)
        clocks = sources, self._allowed_lateness_s
        passage = pass_time(state, len(commit.uids), commit.advances, commit.sources, clocks)
        if commit.is_closing and state.event_time_s_max is not None:
            newest_s = state.event_time_s_max
            ends_s = [self._zone.bucket_at(granularity, newest_s).end_s for granularity in Granularity]
            passage = passage.at_least(max(ends_s))
        edges_s = passage.before_s, passage.through_s
        closing = Closing.of(self._zone, edges_s, commit.event_times_s, passage.visits_s)
        return passage.state, closing

    def _add_visits(
        self, plan: CommitPlan, state: StateRow, commit: Commit, closing: Closing
    ) -> tuple[Resolved | None, list[Staged], StateRow]:
        retention, times_s, uids = self.retention(), commit.event_times_s, commit.uids
        if int(times_s.min()) < retention.expired_before_s or self._expired_edges_s:
            is_kept = self.taken(times_s)
            times_s, uids = times_s[is_kept], chosen(uids, is_kept)
            state = msgspec.structs.replace(state, expired=state.expired + len(commit.uids) - len(uids))
            if not len(uids):
                return None, [], state
            closing.leave_out(self.taken(closing.late_times_s))
        resolved = self._dictionary.resolve(plan.view, uids)
        for marks in self._marks:  # before the commit: whatever becomes of it, these uids stay
            marks.live |= bitmap_of(np.unique(resolved.ordinals).astype(np.uint32))
        staged: list[Staged] = []
        skipped: Counter[str] = Counter()
        new_starts: dict[Granularity, I64Array] = {}
        for whole in levels(self._zone, times_s, resolved.ordinals):
            granularity = whole.granularity
            level, skipped[granularity.word] = whole.since(retention.kept_from_s(granularity))
            statuses = closing.statuses(level) if len(level.starts_s) else []
            if self._lost is not None:
                is_lost = self._lost.mask(granularity.word, level.starts_s)
                level, more = level.only(~is_lost)
                skipped[granularity.word] += more
                statuses = list(compress(statuses, (~is_lost).tolist()))
            if not len(level.starts_s):
                new_starts[granularity] = level.starts_s
                continue
            finer_rows = self._finer_rows(level, new_starts)
            done, new_starts[granularity] = self._members.apply(plan, level, finer_rows, statuses)
            staged += done
        if self._lost is not None:
            for finer in new_starts.items():
                count_finer(plan, self._zone, finer, closing.through_s, self._lost)
        self._upkeep.write_new(plan, resolved)
        first, last = int(times_s.min()), int(times_s.max())
        state = msgspec.structs.replace(
            state,
            visits=state.visits + len(uids),
            skipped=dict(Counter(state.skipped) + skipped),
            weeks=state.weeks + len(new_starts[Granularity.WEEK]),
            years=state.years + len(new_starts[Granularity.YEAR]),
            event_time_s_min=first if state.event_time_s_min is None else min(first, state.event_time_s_min),
            event_time_s_max=last if state.event_time_s_max is None else max(last, state.event_time_s_max),
            late_visits=dict(Counter(state.late_visits) + Counter(closing.late_visits)),
        )
        return resolved, staged, state

    def _queue(self, plan: CommitPlan, state: StateRow, commit: Commit, changed: tuple[Closing, int]) -> StateRow:
        """Say what is to be published of what the commit changes, and take out what has been."""
        closing, first_id = changed
        lengths = self._window_days
        if commit.gaps:
            state = msgspec.structs.replace(state, gaps=with_gaps(state.gaps, commit.gaps))
        if commit.is_publishing and not state.publishes:
            state = msgspec.structs.replace(state, publishes=True)
            queue(plan, all_bucket_keys(plan.view))
            mark_due(plan, due_by(self._zone, closing.from_the_start(), state.event_time_s_min, lengths))
        if state.publishes:
            queue(plan, plan.changes.keys(Database.BUCKETS))
            states = read_state(plan.view), state
            queue(plan, told_again(plan.view, self._zone, *states))
            mark_due(plan, windows_told_again(plan.view, self._zone, *states))
            queue(plan, map(quarantine_key, range(first_id, state.quarantine_next_id)))
            mark_due(plan, due_by(self._zone, closing, state.event_time_s_min, lengths))
            mark_due(plan, due_again(plan.view, self._zone, closing.through_s, closing.late_days_s, lengths))
        mark_not_due(plan, commit.not_due)
        acknowledge(plan, commit.published)
        for key, row, record in commit.windows:
            queue_window(plan, key, row, record)
        return state

    def _finer_rows(self, level: Level, new_starts: dict[Granularity, I64Array]) -> I64Array:
        """How many finer buckets got their first row in this commit, per bucket of the level."""
        counts = np.zeros(len(level.starts_s), np.int64)
        finer = level.granularity.finer
        if finer is not None and len(new_starts[finer]):
            parents = self._zone.starts_of(level.granularity, new_starts[finer])
            if self._lost is not None:  # those are no part of the level; see `count_finer`
                parents = parents[~self._lost.mask(level.granularity.word, parents)]
            np.add.at(counts, np.searchsorted(level.starts_s, parents), 1)
        return counts
