"""kill -9 at random moments of an ingest, each time followed by another run: in the end, the truth."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Campaign:
    """An ingest that is killed again and again. ``sizes``: those of the dictionary, tiny or usual."""

    kills: int
    visits: int
    commit_visits: int
    sizes: str
    check_every: int = 1


def visits_file(path: Path, count: int) -> Model:
    """A file of visits in slight disorder, and its oracle."""
    rng = random.Random(11)
    model = Model()
    per_s = max(count // 5_000, 4)
    times = [T + number // per_s - rng.randrange(90) for number in range(count)]
    uids = [f"visitor-{rng.randrange(count // 3)}" for _ in range(count)]
    path.write_text("".join(json.dumps({"uid": u, "ts": t}) + "\n" for t, u in zip(times, uids, strict=True)))
    model.add(times, uids)
    return model


def start(store: Path, source: Path, campaign: Campaign) -> "subprocess.Popen[str]":
    command = [sys.executable, HERE / "ingesting.py", store, source, campaign.commit_visits, campaign.sizes]
    return subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)


def run_s(store: Path, source: Path, campaign: Campaign) -> float:
    """How long a run from the beginning takes after it opened the store."""
    with start(store, source, campaign) as child:
        assert child.stdout is not None
        child.stdout.readline()
        begun_s = time.monotonic()
        assert child.wait() == 0
        return time.monotonic() - begun_s


def kill_at_random(store: Path, source: Path, campaign: Campaign, wait_s: float) -> bool:
    """One run, killed after a while; True if it was killed before its end."""
    with start(store, source, campaign) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        time.sleep(wait_s)
        child.send_signal(signal.SIGKILL)
        return child.stdout.read() != "done\n"


def rounds(tmp_path: Path, campaign: Campaign) -> dict[str, int]:
    """Kill, then run again to the end (which may be killed, too, for one store in three) and compare with the truth."""
    source, store = tmp_path / "visits.jsonl", tmp_path / "killed.uniqdb"
    truth = visits_file(source, campaign.visits).rows()
    rng = random.Random(campaign.kills)
    whole_s = run_s(store, source, campaign)
    seen = {"kills": 0, "between": 0, "stores": 0}
    while seen["kills"] < campaign.kills:
        shutil.rmtree(store)
        again = True
        while again and seen["kills"] < campaign.kills:
            killed = kill_at_random(store, source, campaign, rng.uniform(0, whole_s))
            seen["kills"] += killed
            if not killed:
                whole_s *= 0.9  # the machine has become faster: most waits should end within a run
            with uniqdb.open(store, read_only=True) as db:
                info = db.info()
                seen["between"] += killed and 0 < info.visits < campaign.visits
                assert info.visits == sum(one.visits for one in info.sources), "visits and position differ"
            again = killed and rng.random() < 1 / 3
        with start(store, source, campaign) as child:
            assert child.wait() == 0
        with uniqdb.open(store, read_only=True) as db:
            assert rows_of(db) == truth
        seen["stores"] += 1
        if seen["stores"] % campaign.check_every == 0:
            assert_sound(store)
            print(seen, flush=True)  # so that a campaign that is broken off leaves its figures
    assert_sound(store)
    return seen


def test_three_kills(tmp_path: Path) -> None:
    assert rounds(tmp_path, Campaign(3, 6_000, 97, "tiny"))["kills"] == 3


@pytest.mark.soak
@pytest.mark.parametrize(
    "campaign",
    [
        Campaign(50, 20_000, 97, "tiny"),
        Campaign(1_000, 20_000, 97, "tiny", 10),
        Campaign(200, 2_000_000, 20_000, "usual", 10),
    ],
    ids=["small", "many", "large"],
)
def test_many_kills(tmp_path: Path, campaign: Campaign) -> None:
    seen = rounds(tmp_path, campaign)
    print(f"{campaign}: {seen}")
    assert seen["between"] >= campaign.kills * 3 // 4, f"too few between the first and the last commit: {seen}"


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
