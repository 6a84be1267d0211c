"""kill -9 at random moments of an ingest, each time followed by another run: in the end, the truth."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import uniqdb
from engines import assert_sound, rows_of
from model import Model

T = 1_468_244_340
HERE = Path(__file__).resolve().parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(str(HERE.parents[1] / part) for part in ("engine", "cli", "tests")),
}


def visits_file(path: Path, count: int) -> Model:
    rng = random.Random(11)
    model = Model()
    times = [T + number // 4 - rng.randrange(90) for number in range(count)]
    uids = [f"visitor-{rng.randrange(count // 3)}" for _ in range(count)]
    path.write_text("".join(json.dumps({"uid": u, "ts": t}) + "\n" for t, u in zip(times, uids, strict=True)))
    model.add(times, uids)
    return model


def start(store: Path, source: Path, commit_visits: int) -> "subprocess.Popen[str]":
    command = [sys.executable, str(HERE / "ingesting.py"), str(store), str(source), str(commit_visits)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)


def kill_at_random(store: Path, source: Path, commit_visits: int, rng: random.Random, run_s: float) -> bool:
    """One run, killed at a random moment of it; True if it was killed before its end."""
    with start(store, source, commit_visits) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        time.sleep(rng.uniform(0, run_s))
        child.send_signal(signal.SIGKILL)
        return child.stdout.read() != "done\n"


def rounds(tmp_path: Path, kills: int, visits: int) -> None:
    source = tmp_path / "visits.jsonl"
    model = visits_file(source, visits)
    rng = random.Random(kills)
    done = between = 0
    while done < kills:
        store = tmp_path / "killed.uniqdb"
        while done < kills:
            # Short lives at first, so that one store sees several kills before its input ends.
            killed = kill_at_random(store, source, 97, rng, visits / 12_000)
            done += killed
            with uniqdb.open(store, read_only=True) as db:
                info = db.info()
                between += killed and 0 < info.visits < visits
                assert info.visits == sum(one.visits for one in info.sources), "visits and position differ"
            assert_sound(store)
            if not killed:
                break
        with start(store, source, 97) as child:
            assert child.wait() == 0
        with uniqdb.open(store, read_only=True) as db:
            assert rows_of(db) == model.rows()
        assert_sound(store)
        shutil.rmtree(store)
    assert between > kills // 2, f"only {between} of {kills} kills fell between the first and the last commit"


def test_five_kills(tmp_path: Path) -> None:
    rounds(tmp_path, 5, 6_000)


@pytest.mark.soak
def test_fifty_kills(tmp_path: Path) -> None:
    rounds(tmp_path, 50, 20_000)


@pytest.mark.parametrize("races", [6, pytest.param(1_000, marks=pytest.mark.soak)])
def test_of_many_writers_at_once_one_wins_and_the_others_name_it(tmp_path: Path, races: int) -> None:
    store = tmp_path / "raced.uniqdb"
    program = """
import sys, uniqdb
try:
    db = uniqdb.open(sys.argv[1])
except uniqdb.StoreBusy as error:
    print("busy", error.exit_code, str(error).split("process ")[1].split()[0], flush=True)
else:
    print("won", __import__("os").getpid(), flush=True)
sys.stdin.read()
"""
    for _ in range(races // 3):
        children = [
            subprocess.Popen(
                [sys.executable, "-c", program, str(store)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=ENVIRONMENT,
            )
            for _ in range(3)
        ]
        answers = [child.stdout.readline().split() for child in children if child.stdout is not None]
        for child in children:
            child.communicate()
        winners = [answer[1] for answer in answers if answer[0] == "won"]
        assert len(winners) == 1
        assert [answer for answer in answers if answer[0] == "busy"] == [["busy", "75", winners[0]]] * 2
