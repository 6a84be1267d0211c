"""Handles and snapshots that stay open while everything else happens to the store, against Python sets.

Whatever a handle remembers (who was seen, sets, unions, places in LMDB's memory) is asked for again after each step.
"""

import copy
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import asking
import uniqdb
from asking import Answers, Asked, answers, asked_process
from engines import assert_sound
from swept import BRIEF, DAY_S, SweptModel, T, brief_options, set_clock
from uniqdb.backup import backup
from uniqdb.compaction import compact
from uniqdb.forgetting import forget
from uniqdb.options import CacheSizes
from uniqdb.restore import Restoring, restore
from uniqdb.sweeping import SweepRun

HOUR_S = 3_600
UIDS = [f"visitor-{number}" + "x" * (number % 7 // 6) for number in range(140)]
"""Most of one length, some longer."""
BACK_S = st.integers(0, 2 * HOUR_S) | st.integers(0, 2 * DAY_S)
"""Days of those times are always kept, finer buckets not always."""
VISITS = st.lists(st.tuples(BACK_S, st.integers(0, len(UIDS) - 1)), min_size=1, max_size=60)
"""(seconds before now, number of the visitor)"""


class Truth:
    """The sets, and the time. A forgotten visitor whose counts stay is somebody nameless from then on."""

    def __init__(self) -> None:
        self.model, self.now_s, self.nameless = SweptModel(), T, 0
        self.visits: list[tuple[int, str]] = []

    def add(self, times: list[int], uids: list[str]) -> None:
        self.model.add(times, uids)
        self.visits += zip(times, uids, strict=True)

    def forget(self, uids: set[str], *, keep_counts: bool) -> None:
        for uid in uids:
            self.nameless += 1
            for members in self.model.members.values():
                if uid in members:
                    members.remove(uid)
                    if keep_counts:
                        members.add(f"\0{self.nameless}")
            other = f"\0{self.nameless}" if keep_counts else ""
            self.visits = [(at, other if one == uid else one) for at, one in self.visits]

    def answers(self) -> Answers:
        """What a handle must answer now; counts of windows as if everything were kept."""
        live = self.model.live()
        end_s = self.now_s // DAY_S * DAY_S + DAY_S
        lately = self._within(end_s - 3 * DAY_S)
        seen = [uid in live for uid in UIDS]
        return {
            "one by one": seen,
            "together": seen,
            "few": seen[:3],
            "lately": [uid in lately for uid in UIDS[::5]],
            "lately, together": [uid in lately for uid in UIDS[::5]],
            "counts": {window: len(self._within(end_s - int(window[:-1]) * DAY_S)) for window in asking.WINDOWS},
            "all": len(self._within(0)),
        }

    def _within(self, start_s: int) -> set[str]:
        """Who came since."""
        return {uid for at, uid in self.visits if at >= start_s} - {""}


def assert_true(found: Answers, expected: Answers) -> None:
    """Three days are always kept; of longer windows no count is right, too: not all of it is kept."""
    expected = copy.deepcopy(expected)
    if found["counts"]["20d"] is None:
        expected["counts"]["20d"] = None
    if found["all"] is None:
        expected["all"] = None
    assert found == expected


class OpenReaders(RuleBasedStateMachine):
    """A writer, a reader in another process, a snapshot in each, and what they must answer."""

    asked: Asked

    @initialize(commit_visits=st.sampled_from([3, 40]), members_bytes=st.sampled_from([2_000, 10**8]))
    def begin(self, commit_visits: int, members_bytes: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path, self.copies, self.truth = self.folder / "store", 0, Truth()
        self.options = replace(brief_options(BRIEF, commit_visits), caches=CacheSizes(50, members_bytes))
        self.db = uniqdb.open(self.path, options=self.options)
        self._add([(at % 3, at) for at in range(100)])  # more than stand in a row
        self.asked("open", str(self.path))
        self.saved: tuple[Path, Truth] | None = None
        self.snapshot: uniqdb.Snapshot | None = None
        self.frozen: dict[str, Any] = {}

    def _add(self, visits: list[tuple[int, int]]) -> None:
        times, uids = [self.truth.now_s - back_s for back_s, _ in visits], [UIDS[at] for _, at in visits]
        self.truth.add(times, uids)
        self.db.add_many(times, uids)
        self.db.commit()
        set_clock(self.db, self.truth.now_s)

    @rule(
        visits=st.lists(st.tuples(st.integers(0, 2 * HOUR_S), st.integers(0, len(UIDS) - 1)), min_size=1, max_size=60)
    )
    def add(self, visits: list[tuple[int, int]]) -> None:
        self._add(visits)

    @rule(which=st.integers(0, len(UIDS) - 1))
    def add_one_that_waits(self, which: int) -> None:
        """It is seen at once by the handle, and by a reader after the commit."""
        self.truth.add([self.truth.now_s], [UIDS[which]])
        self.db.add_new_data(self.truth.now_s, UIDS[which])
        live = self.truth.model.live()
        assert [self.db.check_if_uid_exists(uid) for uid in UIDS] == [uid in live for uid in UIDS]
        self.db.commit()

    @rule(step_s=st.sampled_from([HOUR_S, DAY_S, 4 * DAY_S, 40 * DAY_S]))
    def pass_time(self, step_s: int) -> None:
        self.truth.now_s += step_s
        set_clock(self.db, self.truth.now_s)

    @rule()
    def sweep(self) -> None:
        SweepRun(self.db, self.truth.now_s, forced=True).to_the_end()
        self.truth.model.kept_from_s = self.db.info().kept_from_s

    @rule(which=st.sets(st.integers(0, len(UIDS) - 1), max_size=20), keep_counts=st.booleans())
    def forget(self, which: set[int], keep_counts: bool) -> None:
        uids = {UIDS[at] for at in which}
        forget(self.db, sorted(uids), keep_counts=keep_counts)
        self.truth.forget(uids, keep_counts=keep_counts)

    @rule()
    def take_snapshots(self) -> None:
        if self.snapshot is not None:
            self.snapshot.close()
        self.snapshot = self.db.snapshot()
        self.frozen = {"here": answers(self.snapshot, UIDS), "there": self.asked("snapshot", UIDS)}
        assert_true(self.frozen["here"], self.truth.answers())
        assert self.frozen["there"] == self.frozen["here"]

    def _close(self) -> None:
        self.db.close()
        self.snapshot = None  # it ends with its handle; that of the reader does not

    def _open(self) -> None:
        self.db = uniqdb.open(self.path, options=self.options)

    @rule(renumber=st.booleans())
    def compact(self, renumber: bool) -> None:
        self._close()
        compact(self.path, self.options, renumber=renumber, readers_wait_s=0.0)
        self._open()
        self.asked("look")

    @rule()
    def back_up(self) -> None:
        self._close()
        self.copies += 1
        target = self.folder / f"copy{self.copies}"
        backup(self.path, target)
        self.saved = target, copy.deepcopy(self.truth)
        self._open()

    @precondition(lambda self: self.saved is not None)
    @rule()
    def restore(self) -> None:
        assert self.saved is not None
        self._close()
        restore(self.saved[0], self.path, Restoring(self.truth.now_s, replace=True))
        self.truth = copy.deepcopy(self.saved[1])
        self._open()
        self.asked("look")

    @invariant()
    def everybody_tells_the_truth(self) -> None:
        if not hasattr(self, "frozen"):
            return
        expected = self.truth.answers()
        assert_true(answers(self.db, UIDS), expected)
        there = self.asked("now", UIDS)
        assert "failed" not in there, there["failed"]
        assert_true(there, expected)
        if self.snapshot is not None:
            assert answers(self.snapshot, UIDS) == self.frozen["here"]
        if self.frozen:
            assert self.asked("old", UIDS) == self.frozen["there"]

    def teardown(self) -> None:
        if hasattr(self, "frozen"):
            self.asked("close")
            self.db.close()
            assert_sound(self.path)
            shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    with asked_process() as process:
        yield process


def test_what_handles_remember_stays_true(asked: Asked) -> None:
    OpenReaders.asked = asked
    run_state_machine_as_test(OpenReaders, settings=settings(max_examples=10, stateful_step_count=25))
