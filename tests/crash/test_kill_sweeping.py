"""kill -9 in the middle of a sweep: nobody is counted twice, nobody is seen who is not there, the rest goes on."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import uniqdb
from crash.sweeping import BATCHES, batch, batches_in
from crash.test_kill import ENVIRONMENT, HERE
from engines import assert_sound
from swept import SweptModel


def start(store: Path, point: str, number: int) -> "subprocess.Popen[str]":
    command = [sys.executable, str(HERE / "sweeping.py"), str(store), point, str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)


def run(store: Path, point: str = "never", number: int = 0) -> int:
    with start(store, point, number) as child:
        assert child.stdout is not None
        child.stdout.read()
        return child.wait()


def assert_true(store: Path) -> int:
    """Every kept bucket and everybody's membership are those of the batches in the store; how many these are."""
    assert_sound(store)
    with uniqdb.open(store, read_only=True) as db:
        count, info = batches_in(db), db.info()
        model, everybody = SweptModel(), SweptModel()
        model.kept_from_s = info.kept_from_s
        for number in range(count):
            model.add(*batch(number))
            everybody.add(*batch(number))
        rows = {(kind, one.start_ts): one.count for kind in ("minute", "day", "year") for one in db.series(kind)}
        with db.snapshot() as snapshot:
            for (kind, at), uids in model.members.items():
                assert set(snapshot.members(kind, at)) == uids
                if kind in ("minute", "day", "year"):
                    assert rows[kind, at] == len(uids)
        asked = sorted(set().union(*everybody.members.values())) if count else []
        live = model.live()
        assert db.check_many(asked) == [uid in live for uid in asked]
    return count


def test_kills_at_named_points_of_a_sweep(tmp_path: Path) -> None:
    store, kills = tmp_path / "killed.uniqdb", 0
    rng = random.Random(3)
    for point in ("before", "after"):
        for _ in range(3):
            if run(store, point, rng.randrange(10, 70)) == -signal.SIGKILL:
                kills += 1
                assert_true(store)
    assert kills >= 3
    assert run(store) == 0
    assert assert_true(store) == BATCHES
    with uniqdb.open(store, read_only=True) as db:
        assert db.info().uids_dropped > 40, "visitors went, and some of them came back"


@pytest.mark.soak
def test_kills_at_every_point_and_at_random(tmp_path: Path) -> None:
    rng = random.Random(5)
    for number in range(1, 150, 2):
        store = tmp_path / f"{number}.uniqdb"
        for point in ("before", "after"):
            run(store, point, number)
            assert_true(store)
        with start(store, "never", 0) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(rng.uniform(0, 2))
            child.send_signal(signal.SIGKILL)
        assert_true(store)
        assert run(store) == 0
        assert assert_true(store) == BATCHES
