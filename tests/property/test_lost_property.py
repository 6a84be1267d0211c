"""Visits, damage that was repaired, more visits, sweeps, erasures, in any order: no answer is ever wrong."""

import random
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

import uniqdb
from engines import assert_sound
from lost import Bucket, Fate, LostModel, span_at
from model import GRANULARITIES
from swept import DAY_S, T, brief_options, set_clock
from uniqdb.forgetting import forget
from uniqdb.options import CacheSizes, Retention
from uniqdb.sweeping import SweepRun

RETENTIONS = st.sampled_from([Retention(1, 2, 5, 9, 16, 30, 45), Retention(2, 2, 3, 3, 3, 8, 20), Retention()])
ZONES = st.sampled_from(["UTC", "Europe/Zurich", "Australia/Lord_Howe"])


class Session:
    """A store that is damaged and repaired again and again, its oracle, and time that goes on."""

    def __init__(self, path: Path, zone: str, retention: Retention, rng: random.Random) -> None:
        self.path, self.rng = path, rng
        self.model = LostModel(zone)
        caches = CacheSizes(rng.choice([2, 10**6]), rng.choice([1_000, 10**8]), rng.choice([0, 64]))
        self.options = replace(brief_options(retention), caches=caches)
        self.db = uniqdb.open(path, timezone=zone, options=self.options)
        self.now_s = T
        self.answered = 0

    def time_s(self) -> int:
        """Often a moment that had visits, or one near it."""
        if self.model.seen and self.rng.random() < 0.7:
            return self.rng.choice(self.model.seen)[0] + self.rng.choice([0, 0, 60, -60, 3_600])
        return self.now_s - self.rng.randrange(self.rng.choice([600, DAY_S, 40 * DAY_S]))

    def add(self) -> None:
        count, users = self.rng.choice([1, 3, 70]), self.rng.choice([5, 300])
        times = [self.time_s() for _ in range(count)]
        uids = [f"u{self.rng.randrange(users)}" for _ in range(count)]
        self.model.add(times, uids)
        if self.rng.random() < 0.5:
            self.db.add_many(times, uids)
        else:
            for time_s, uid in zip(times, uids, strict=True):
                is_kept = any(self.model.is_whole((kind, self.model.start(kind, time_s))) for kind in GRANULARITIES)
                assert self.db.add_new_data(time_s, uid) == ("accepted" if is_kept else "expired")
        self.db.commit()

    def lose(self) -> None:
        """Spans of some granularities about one moment, as a damaged page may leave them."""
        at_s = self.time_s()
        kinds = self.rng.sample(GRANULARITIES, self.rng.choice([1, 1, 2, 4, 6]))
        spans = [span_at(self.db, kind, at_s, self.rng.choice([1, 1, 2, 5])) for kind in kinds]
        fates = self.rng.choice([[Fate.NOTHING], [Fate.COUNT], list(Fate)])

        def fate(_bucket: Bucket) -> Fate:
            return self.rng.choice(fates)

        self.model.lose(self.db, spans, fate)

    def pass_time(self) -> None:
        self.now_s += self.rng.choice([3_600, DAY_S, 3 * DAY_S, 25 * DAY_S])
        set_clock(self.db, self.now_s)

    def sweep_a_little(self) -> None:
        run = SweepRun(self.db, self.now_s, forced=self.rng.random() < 0.5)
        for _ in range(self.rng.randrange(12)):
            if not run.step():
                break
        self.see_horizons()

    def sweep_it_all(self) -> None:
        SweepRun(self.db, self.now_s, forced=True).to_the_end()
        self.see_horizons()
        assert self.db.info().uids == len(self.model.live()), "exactly the dead are dropped"

    def see_horizons(self) -> None:
        self.model.kept_from_s = self.db.info().kept_from_s

    def forget(self) -> None:
        uids = {f"u{self.rng.randrange(20)}" for _ in range(self.rng.choice([1, 3]))}
        keep_counts = self.rng.random() < 0.3
        forget(self.db, sorted(uids), keep_counts=keep_counts)
        self.model.forget(uids, keep_counts=keep_counts)

    def reopen(self) -> None:
        self.db.close()
        self.db = uniqdb.open(self.path, options=self.options)

    def ask(self) -> None:
        for _ in range(8):
            start_s = self.time_s() // 60 * 60
            kind = self.rng.choice(GRANULARITIES)
            if self.rng.random() < 0.5:
                start_s = self.model.start(kind, start_s)
            spread_s = self.rng.choice([60, 3_600, 2 * DAY_S, 31 * DAY_S])
            self.answered += self.model.assert_interval(self.db, start_s, start_s + spread_s)
            self.model.assert_bucket(self.db, kind, start_s)

    def assert_right(self) -> None:
        assert self.db.check().problems == []
        self.model.assert_truthful(self.db)


@given(st.integers(0, 2**32), ZONES, RETENTIONS)
@example(8_861, "UTC", Retention(2, 2, 3, 3, 3, 8, 20))  # one is lost beside one that is gone
@example(151, "UTC", Retention(2, 2, 3, 3, 3, 8, 20))
@settings(max_examples=8)
def test_no_answer_is_wrong_whatever_was_lost(seed: int, zone: str, retention: Retention) -> None:
    folder, rng = Path(tempfile.mkdtemp()), random.Random(seed)
    session = Session(folder / "store", zone, retention, rng)
    try:
        steps = [session.add] * 6 + [session.lose] * 2 + [session.pass_time, session.sweep_a_little, session.ask] * 2
        session.add()
        for _ in range(35):
            rng.choice([*steps, session.sweep_it_all, session.reopen, session.forget])()
            session.assert_right()
        session.ask()
    finally:
        session.db.close()
        assert_sound(folder / "store")
        shutil.rmtree(folder)
