"""Random sequences of everything a handle can do, commits that fail included, against Python sets."""

import random
from dataclasses import replace
from pathlib import Path

import lmdb  # to make LMDB refuse
import pytest

import uniqdb
import uniqdb.store
from engines import options, rows_of
from model import Model
from uniqdb import CountRecord, Snapshot
from uniqdb.options import CacheSizes

T = 1_459_000_000


class Session:
    """One store, its oracle, and a handle on which one step after the other is done."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self.path, self.rng, self.model = path, rng, Model("Europe/Zurich")
        caches = CacheSizes(rng.choice([2, 50, 10**6]), rng.choice([1_000, 10**8]), rng.choice([0, 64, 2**10]))
        self.options = replace(options(rng.choice([3, 20, 100])), caches=caches)
        self.db = uniqdb.open(path, timezone="Europe/Zurich", options=self.options)
        self.kept: tuple[Snapshot, list[CountRecord]] | None = None

    def add(self) -> None:
        count, spread = self.rng.choice([1, 1, 5, 40]), 10 ** self.rng.choice([2, 4, 6])
        users = self.rng.choice([5, 300, 5_000])
        times = [T + self.rng.randrange(spread) for _ in range(count)]
        uids = [f"u{self.rng.randrange(users)}" for _ in range(count)]
        self.model.add(times, uids)
        self.db.add_many(times, uids)

    def ask(self) -> None:
        seen = set().union(*self.model.members.values())
        asked = [f"u{self.rng.randrange(400)}" for _ in range(5)]
        assert [self.db.check_if_uid_exists(uid) for uid in asked] == [uid in seen for uid in asked]
        assert self.db.check_many(asked) == [uid in seen for uid in asked]
        if seen:
            record = self.db.count("7d")
            assert record.count == len(self.model.union(record.start_ts, record.end_ts))

    def compare(self) -> None:
        assert rows_of(self.db) == self.model.rows()
        if self.kept is not None:
            assert list(self.kept[0].series("minute")) == self.kept[1]
            self.kept[0].close()
        snapshot = self.db.snapshot()
        self.kept = snapshot, list(snapshot.series("minute"))

    def reopen(self) -> None:
        self.kept = None
        self.db.close()
        self.db = uniqdb.open(self.path, options=self.options)


@pytest.mark.parametrize("seed", range(15))
def test_any_sequence_equals_the_sets(store_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng, write, failing = random.Random(seed), uniqdb.store._write, False

    def write_or_fail(txn: lmdb.Transaction, handles: object, changes: object) -> None:
        if failing and rng.random() < 0.3:
            if rng.random() < 0.5:
                write(txn, handles, changes)  # type: ignore[arg-type]  # handed on as they come
            raise lmdb.DiskError("no space left")
        write(txn, handles, changes)  # type: ignore[arg-type]  # handed on as they come

    monkeypatch.setattr("uniqdb.store._write", write_or_fail)
    session = Session(store_path, rng)
    for _ in range(60):
        step = rng.choice([session.add] * 4 + [session.ask, session.compare, session.reopen])
        failing = step == session.add and rng.random() < 0.3
        try:
            step()
        except uniqdb.CommitFailed:
            assert failing
    failing = False
    session.compare()
    session.db.close()
