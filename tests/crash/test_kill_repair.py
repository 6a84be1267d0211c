"""kill -9 while a damaged store is repaired: the damaged data as it was, or the whole new one."""

import hashlib
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import uniqdb
from crash.test_kill import ENVIRONMENT
from engines import options, rows_of
from model import Rows
from uniqdb.examination import examine

T = 1_468_244_340
REPAIR = "import sys; from uniqdb.repair import repair; print('ready', flush=True); repair(sys.argv[1], 2_000_000_000)"


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows]:
    """A store with a wrong bit in one of its first pages; and the rows that it had."""
    path = tmp_path_factory.mktemp("damaged") / "damaged.uniqdb"
    rng = random.Random(3)
    with uniqdb.open(path, options=options(1_000)) as db:
        times = [T + rng.randrange(40) * 3_000 for _ in range(8_000)]
        db.add_many(times, [f"visitor-{rng.randrange(3_000)}" for _ in times])
        db.commit()
        rows = rows_of(db)
    with (path / "g1" / "data.mdb").open("r+b") as file:
        file.seek(16)  # by which LMDB knows its first page
        file.write(bytes((0xDE ^ 1,)))
    assert examine(path).problems
    return path, rows


def start(store: Path) -> "subprocess.Popen[str]":
    child = subprocess.Popen(
        [sys.executable, "-c", REPAIR, str(store)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def campaign(damaged: tuple[Path, Rows], folder: Path, kills: int) -> dict[str, int]:
    template, rows = damaged
    store, seen, rng = folder / "store.uniqdb", {"old": 0, "new": 0, "left something": 0}, random.Random(7)
    shutil.copytree(template, store)
    begun_s = time.monotonic()
    with start(store) as child:
        assert child.wait() == 0
    length_s = time.monotonic() - begun_s
    for _ in range(kills):
        shutil.rmtree(store)
        shutil.copytree(template, store)
        with start(store) as child:
            time.sleep(rng.uniform(0, length_s))
            child.send_signal(signal.SIGKILL)
        seen["left something"] += (store / "g2.new").exists()
        if examine(store).problems:
            assert digest(store / "g1" / "data.mdb") == digest(template / "g1" / "data.mdb")
            seen["old"] += 1
            with start(store) as child:
                assert child.wait() == 0
        else:
            seen["new"] += 1
        assert examine(store).problems == []
        with uniqdb.open(store, read_only=True) as db:
            assert rows_of(db) == rows
    return seen


def test_three_kills(damaged: tuple[Path, Rows], tmp_path: Path) -> None:
    assert sum(campaign(damaged, tmp_path, 3).values()) >= 3


@pytest.mark.soak
def test_a_hundred_kills(damaged: tuple[Path, Rows], tmp_path: Path) -> None:
    seen = campaign(damaged, tmp_path, 100)
    print(seen, flush=True)
    assert seen["old"] > 20
    assert seen["new"] > 0
