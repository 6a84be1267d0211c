"""One commit: a batch of visits, refused records and source positions, together or not at all."""

import gc
from dataclasses import dataclass, field

import msgspec
import numpy as np

from uniqdb.batch import Level, levels
from uniqdb.bucket_members import BucketMembers, Staged
from uniqdb.calendar_zone import CalendarZone
from uniqdb.change_set import ChangeSet
from uniqdb.format import Database
from uniqdb.granularity import Granularity
from uniqdb.meta import STATE_KEY, SourceRow, StateRow, read_state, write_row
from uniqdb.options import OpenOptions
from uniqdb.quarantine import Quarantined, write_quarantine
from uniqdb.store import CommitPlan, Store, StoreMoved
from uniqdb.uid_dictionary import Resolved, UidDictionary
from uniqdb.uid_upkeep import DictionaryUpkeep
from uniqdb.visit import I64Array


@dataclass(slots=True)
class Commit:
    """What the caller wants in one commit. Every part may be empty."""

    event_times_s: I64Array
    uids: list[str]
    refused: list[Quarantined] = field(default_factory=list)
    sources: dict[bytes, SourceRow] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.uids or self.refused or self.sources)


class Writer:
    """Turns a `Commit` into a change set, writes it, and only then updates what is kept in memory."""

    def __init__(self, store: Store, zone: CalendarZone, dictionary: UidDictionary, options: OpenOptions) -> None:
        self._store, self._zone, self._dictionary = store, zone, dictionary
        self._members = BucketMembers(cache_bytes=options.caches.members_bytes)
        self._upkeep = DictionaryUpkeep(dictionary, options.dictionary)
        self._quarantine_max_rows = options.quarantine_max_rows

    def commit(self, commit: Commit) -> StateRow:
        """Write everything durably; returns the new state. Raises CommitFailed: then nothing was written."""
        collecting = gc.isenabled()
        gc.disable()  # a batch makes many objects and no cycles
        try:
            return self._commit(commit)
        finally:
            if collecting:
                gc.enable()

    def _commit(self, commit: Commit) -> StateRow:
        while True:
            plan = self._plan()
            state = msgspec.structs.replace(read_state(plan.view), commit_number=plan.number)
            resolved: Resolved | None = None
            staged: list[Staged] = []
            if commit.uids:
                resolved, staged, state = self._add_visits(plan, state, commit)
            if commit.refused:
                state = write_quarantine(plan, state, commit.refused, self._quarantine_max_rows)
            for key, row in commit.sources.items():
                write_row(plan.changes, Database.SOURCES, key, row)
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
            return state

    def forget_cached(self) -> None:
        """Drop what is kept in memory."""
        self._dictionary.forget_cached()
        self._members.forget_cached()
        self._upkeep.forget_cached()

    def _plan(self) -> CommitPlan:
        view = self._store.view()
        return CommitPlan(view, read_state(view).commit_number + 1, ChangeSet())

    def _add_visits(self, plan: CommitPlan, state: StateRow, commit: Commit) -> tuple[Resolved, list[Staged], StateRow]:
        resolved = self._dictionary.resolve(plan.view, commit.uids)
        staged: list[Staged] = []
        new_starts: dict[Granularity, I64Array] = {}
        for level in levels(self._zone, commit.event_times_s, resolved.ordinals):
            finer_rows = self._finer_rows(level, new_starts)
            done, new_starts[level.granularity] = self._members.apply(plan, level, finer_rows)
            staged += done
        self._upkeep.write_new(plan, resolved)
        first, last = int(commit.event_times_s.min()), int(commit.event_times_s.max())
        state = msgspec.structs.replace(
            state,
            visits=state.visits + len(commit.uids),
            weeks=state.weeks + len(new_starts[Granularity.WEEK]),
            years=state.years + len(new_starts[Granularity.YEAR]),
            event_time_s_min=first if state.event_time_s_min is None else min(first, state.event_time_s_min),
            event_time_s_max=last if state.event_time_s_max is None else max(last, state.event_time_s_max),
        )
        return resolved, staged, state

    def _finer_rows(self, level: Level, new_starts: dict[Granularity, I64Array]) -> I64Array:
        """How many finer buckets got their first row in this commit, per bucket of the level."""
        counts = np.zeros(len(level.starts_s), np.int64)
        finer = level.granularity.finer
        if finer is not None and len(new_starts[finer]):
            parents = self._zone.starts_of(level.granularity, new_starts[finer])
            np.add.at(counts, np.searchsorted(level.starts_s, parents), 1)
        return counts
