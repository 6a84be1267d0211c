"""kill -9 while doubtful visits are held: after re-runs the same counts, statuses and quarantine as without a kill."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from crash.test_kill import Campaign, kill_at_random, run_s, start
from engines import assert_sound
from event_time_ingest import held_by, write_stream
from event_time_streams import DAY_S, HOUR_S, Stream, bad_run, flipped, honest, poisson, wrong


def troubled(kind: str, visits: int) -> Stream:
    """Streams of which many visits are held for a while."""
    rng = np.random.default_rng(5)
    steady = honest("1/s", poisson(visits, 1, rng))
    if kind == "wrong clocks":
        return wrong(steady, 0.15, rng)
    if kind == "flips":
        return flipped(steady, 0.01, rng)
    if kind == "jumps":
        return bad_run(bad_run(steady, visits // 4, 300, 30 * DAY_S), visits // 2, 700, -9 * DAY_S)
    shuffled = honest("shuffled", poisson(visits, HOUR_S / 4, rng))
    rng.shuffle(shuffled.times_s)
    return shuffled


def assert_kills_change_nothing(tmp_path: Path, kind: str, campaign: Campaign) -> dict[str, int]:
    source, store = tmp_path / "visits.jsonl", tmp_path / "killed.uniqdb"
    write_stream(source, troubled(kind, campaign.visits))
    whole_s = run_s(store, source, campaign)
    truth = held_by(store)
    rng = random.Random(kind)
    seen = {"kills": 0, "stores": 0}
    while seen["kills"] < campaign.kills:
        shutil.rmtree(store)
        for _ in range(3):
            seen["kills"] += kill_at_random(store, source, campaign, rng.uniform(0, whole_s))
        with start(store, source, campaign) as child:
            assert child.wait() == 0
        assert held_by(store) == truth, kind
        assert_sound(store)
        seen["stores"] += 1
    return seen


@pytest.mark.parametrize("kind", ["jumps"])
def test_kills_change_no_verdict_and_no_status(tmp_path: Path, kind: str) -> None:
    assert_kills_change_nothing(tmp_path, kind, Campaign(3, 4_000, 83, "tiny"))


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["wrong clocks", "flips", "jumps", "shuffled"])
def test_many_kills_change_no_verdict_and_no_status(tmp_path: Path, kind: str) -> None:
    print(kind, assert_kills_change_nothing(tmp_path, kind, Campaign(30, 30_000, 83, "tiny")), flush=True)
