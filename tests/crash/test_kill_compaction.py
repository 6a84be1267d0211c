"""kill -9 while a store is compacted or visitors are forgotten: the old data or the new, never anything else."""

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import uniqdb
from crash.compacting import FORGOTTEN, PER_COMMIT, STEPS
from crash.test_kill import ENVIRONMENT, HERE
from engines import assert_sound, digest, options, rows_of
from model import Model
from uniqdb.compaction import compact

T = 1_468_244_340
VISITORS = 4_000
WHOLE = [{"MANIFEST", "WRITER", f"g{generation}", "requests"} for generation in (1, 2)]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    """A store that nobody changes, and its oracle."""
    path = tmp_path_factory.mktemp("template") / "template.uniqdb"
    return path, fill(path)


def fill(path: Path) -> Model:
    rng, model = random.Random(5), Model()
    times = [T + rng.randrange(300) * 400 for _ in range(6_000)]
    uids = [f"visitor-{rng.randrange(VISITORS):04}" for _ in times]
    model.add(times, uids)
    with uniqdb.open(path, options=options(500)) as db:
        db.add_many(times, uids)
    return model


def start(path: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(HERE / "compacting.py"), str(path), *arguments]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def run_s(path: Path, what: str) -> float:
    begun_s = time.monotonic()
    with start(path, what) as child:
        begun_s = time.monotonic()
        assert child.wait() == 0
    return time.monotonic() - begun_s


def kill(path: Path, what: str, wait_s: float) -> bool:
    """One run, killed after a while; True if it was killed before its end."""
    with start(path, what) as child:
        assert child.stdout is not None
        time.sleep(wait_s)
        child.send_signal(signal.SIGKILL)
        return child.stdout.read() != "done\n"


def entries(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def content(path: Path) -> str:
    with uniqdb.open(path, read_only=True) as db:
        return digest(db) + repr(sorted(db.members("year", T)))


def assert_whole(path: Path, before: str) -> int:
    """The store is what it was, and the next writer leaves nothing but it; its generation."""
    assert content(path) == before
    with uniqdb.open(path, options=options()) as db:
        assert db.check().problems == []
        assert entries(path) in WHOLE
        return db.info().generation


def compactions(folder: Path, template: Path, what: str, kills: int) -> dict[str, int]:
    path, before = folder / "killed.uniqdb", content(template)
    shutil.copytree(template, path)
    whole_s = run_s(path, what)
    rng, seen = random.Random(what), {"kills": 0, "old": 0, "new": 0, "half": 0}
    while seen["kills"] < kills:
        shutil.rmtree(path)
        shutil.copytree(template, path)
        if not kill(path, what, rng.uniform(0, whole_s * 1.1)):
            whole_s *= 0.8  # the machine has become faster: most waits should end within a run
            continue
        seen["half"] += entries(path) not in WHOLE
        seen["old" if assert_whole(path, before) == 1 else "new"] += 1
        seen["kills"] += 1
    return seen


@pytest.mark.parametrize("what", ["compact", "renumber"])
def test_two_kills_of_a_compaction(tmp_path: Path, template: tuple[Path, Model], what: str) -> None:
    assert compactions(tmp_path, template[0], what, 2)["kills"] == 2


@pytest.mark.soak
@pytest.mark.parametrize("what", ["compact", "renumber"])
def test_many_kills_of_a_compaction(tmp_path: Path, template: tuple[Path, Model], what: str) -> None:
    seen = compactions(tmp_path, template[0], what, 100)
    print(what, seen, flush=True)
    assert seen["half"] > 20, "too few in the midst of it"


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step(tmp_path: Path, template: tuple[Path, Model], step: str) -> None:
    path, before = tmp_path / "killed.uniqdb", content(template[0])
    shutil.copytree(template[0], path)
    with start(path, "compact", step) as child:
        assert child.wait() == -signal.SIGKILL
    left = entries(path)
    assert left not in WHOLE
    assert assert_whole(path, before) == (1 if STEPS.index(step) < 2 else 2), left
    assert compact(path, options()).held == []
    assert content(path) == before


def forgets(folder: Path, filled: tuple[Path, Model], kills: int) -> dict[str, int]:
    path, (template, model) = folder / "killed.uniqdb", filled
    shutil.copytree(template, path)
    whole_s = run_s(path, "forget")
    rng, seen = random.Random(9), {"kills": 0, "between": 0}
    everyone = {uid for uids in model.members.values() for uid in uids}
    while seen["kills"] < kills:
        shutil.rmtree(path)
        shutil.copytree(template, path)
        if not kill(path, "forget", rng.uniform(0, whole_s)):
            whole_s *= 0.8
            continue
        seen["kills"] += 1
        with uniqdb.open(path, read_only=True) as db:
            done = len(db.info().erasures)
            gone = set(FORGOTTEN[: done * PER_COMMIT]) & everyone
            left = {bucket: (len(uids - gone), model.visits[bucket]) for bucket, uids in model.members.items()}
            assert rows_of(db) == left, "whole commits, or nothing of them"
            assert set(db.members("year", T)) == everyone - gone
            seen["between"] += 0 < done < len(FORGOTTEN) // PER_COMMIT
        run_s(path, "forget")
        with uniqdb.open(path, read_only=True) as db:
            assert not set(db.members("year", T)) & set(FORGOTTEN)
        compact(path, options())
        found = re.findall(rb"visitor-[0-9]{4}", (path / "g2" / "data.mdb").read_bytes())
        assert not {uid.decode() for uid in found} & set(FORGOTTEN)
    assert_sound(path)
    return seen


def test_three_kills_while_visitors_are_forgotten(tmp_path: Path, template: tuple[Path, Model]) -> None:
    assert forgets(tmp_path, template, 3)["kills"] == 3


@pytest.mark.soak
def test_many_kills_while_visitors_are_forgotten(tmp_path: Path, template: tuple[Path, Model]) -> None:
    seen = forgets(tmp_path, template, 100)
    print(seen, flush=True)
    assert seen["between"] > 30
