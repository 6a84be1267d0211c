"""Any visits, in any order, with sweeps in between that are broken off anywhere, against Python sets."""

import random
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import uniqdb
from engines import assert_sound
from swept import DAY_S, SweptModel, T, at_clock, brief_options, set_clock
from uniqdb.granularity import Granularity
from uniqdb.options import CacheSizes, Retention
from uniqdb.sweeping import SweepRun, preview
from uniqdb.writer import nothing

RETENTIONS = st.sampled_from(
    [
        Retention(1, 2, 5, 9, 16, 30, 45),
        Retention(1, 1, 1, 1, 1, 1, 1),
        Retention(2, 2, 3, 3, 3, 8, 20),
        Retention(1, 3, 3, 20, 60, 0, 0),
    ]
)
ZONES = st.sampled_from(["UTC", "Europe/Zurich", "Australia/Lord_Howe"])
WALLS_S = [-400 * DAY_S, -DAY_S, 0, DAY_S, 400 * DAY_S]
"""How far the wall clock is from the truth."""


class Session:
    """A store under retention, its oracle, and time that goes on."""

    def __init__(self, path: Path, zone: str, retention: Retention, rng: random.Random) -> None:
        self.path, self.rng, self.retention = path, rng, retention
        self.model = SweptModel(zone)
        caches = CacheSizes(rng.choice([2, 50, 10**6]), rng.choice([1_000, 10**8]), rng.choice([0, 64, 2**10]))
        self.options = replace(brief_options(retention), caches=caches)
        self.db = uniqdb.open(path, timezone=zone, options=self.options)
        self.now_s = T
        self.run: SweepRun | None = None

    def add(self) -> None:
        count, users = self.rng.choice([1, 3, 70]), self.rng.choice([5, 300])
        spread_s = self.rng.choice([600, DAY_S, 40 * DAY_S])
        times = [self.now_s - self.rng.randrange(spread_s) for _ in range(count)]
        uids = [f"u{self.rng.randrange(users)}" for _ in range(count)]
        self.model.add(times, uids)
        self.db.add_many(times, uids)
        self.db.commit()

    def pass_time(self) -> None:
        self.now_s += self.rng.choice([3_600, DAY_S, 3 * DAY_S, 25 * DAY_S])
        set_clock(self.db, self.now_s)

    def sweep_a_little(self) -> None:
        """Up to some steps of a run, which may be begun anew or end."""
        if self.run is None or self.rng.random() < 0.1:
            wall_s = self.now_s + self.rng.choice(WALLS_S)
            self.run = SweepRun(self.db, wall_s, forced=self.rng.random() < 0.5)
        for _ in range(self.rng.randrange(6)):
            if not self.run.step():
                self.run = None
                break
        self.see_horizons()

    def sweep_it_all(self) -> None:
        expected = preview(self.db, self.now_s, forced=True)
        self.run = None
        report = SweepRun(self.db, self.now_s, forced=True).to_the_end()
        assert (report.swept, report.rows, report.due) == (expected.swept, expected.rows, {})
        self.see_horizons()
        assert self.db.info().uids == len(self.model.live()), "exactly the dead are dropped"

    def see_horizons(self) -> None:
        """What was swept was due: by the clock and the retention that the test knows."""
        self.model.kept_from_s = self.db.info().kept_from_s
        for word, kept_from_s in self.model.kept_from_s.items():
            kept_s = self.retention.members_s(word)
            assert kept_from_s == 0 or (kept_s is not None and kept_from_s + kept_s <= self.now_s)
            assert kept_from_s == 0 or self.model.start(word, kept_from_s) == kept_from_s

    def reopen(self) -> None:
        self.run = None
        self.db.close()
        self.db = uniqdb.open(self.path, options=self.options)

    def close(self) -> None:
        self.model.assert_equals(self.db)
        self.db.close()
        assert_sound(self.path)


@given(st.integers(0, 2**32), ZONES, RETENTIONS)
@example(4_484_812, "UTC", Retention(2, 2, 3, 3, 3, 8, 20))  # the week that begins in the year of the newest visit
@settings(max_examples=6)
def test_any_sweeps_leave_what_is_kept_and_never_count_twice(seed: int, zone: str, retention: Retention) -> None:
    folder = Path(tempfile.mkdtemp())
    rng = random.Random(seed)
    session = Session(folder / "store", zone, retention, rng)
    try:
        steps = [session.add] * 6 + [session.pass_time] * 3 + [session.sweep_a_little] * 6
        for _ in range(60):
            rng.choice([*steps, session.sweep_it_all, session.reopen])()
        session.sweep_it_all()
        session.add()
        session.close()
    finally:
        session.db.close()
        shutil.rmtree(folder)


@pytest.mark.parametrize("seed", range(2))
def test_a_run_removes_at_most_a_tenth(store_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with uniqdb.open(store_path, options=brief_options()) as db:
        for _ in range(20):
            times = [T + rng.randrange(60 * DAY_S) for _ in range(rng.choice([1, 10, 50]))]
            db.add_many(times, [f"u{rng.randrange(90)}" for _ in times])
            clock_s = T + rng.randrange(80 * DAY_S)
            db.write(at_clock(nothing(), clock_s))
            kept_from_s = db.info().kept_from_s
            there = {
                kind.word: sum(one.start_ts >= kept_from_s.get(kind.word, 0) for one in db.series(kind))
                for kind in Granularity
            }
            report = SweepRun(db, clock_s).to_the_end()
            for word, swept in report.swept.items():
                assert 0 < swept <= max(there[word] // 10, 1)
