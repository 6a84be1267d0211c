"""kill -9 while stores are copied, restored, dumped, loaded, merged: the old is untouched, the new absent or whole."""

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
from crash.test_kill import ENVIRONMENT, HERE
from engines import assert_sound, digest, options
from uniqdb.backup import backup
from uniqdb.dump import dump
from uniqdb.loading import Loading, load
from uniqdb.merging import Merging, merge_stores

T = 1_468_244_340
WHAT = ("backup", "restore", "replace", "dump", "load", "merge")


@dataclass(frozen=True, slots=True)
class Stores:
    """What nobody may change, and what is to come of it."""

    store: Path
    other: Path
    copy: Path
    archive: Path
    digest: str
    merged: str


def fill(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    times = [T + rng.randrange(200) * 600 for _ in range(4_000)]
    with uniqdb.open(path, options=options(500)) as db:
        db.add_many(times, [f"visitor-{rng.randrange(2_500):04}" for _ in times])


def content(path: Path) -> str:
    with uniqdb.open(path, read_only=True) as db:
        return digest(db) + repr(sorted(db.members("year", T)))


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    folder = tmp_path_factory.mktemp("stores")
    store, other, copy, archive = (folder / name for name in ("a.uniqdb", "b.uniqdb", "copy", "a.tar"))
    fill(store, 1)
    fill(other, 2)
    backup(store, copy)
    dump(store, archive)
    merge_stores([store, other], folder / "merged", Merging(0))
    return Stores(store, other, copy, archive, content(store), content(folder / "merged"))


def arguments(stores: Stores, what: str, target: Path) -> list[str]:
    origin = {"restore": stores.copy, "replace": stores.copy, "load": stores.archive}.get(what, stores.store)
    return [what, f"{stores.store},{stores.other}" if what == "merge" else str(origin), str(target)]


def start(stores: Stores, what: str, target: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, str(HERE / "copying.py"), *arguments(stores, what, target)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def run_s(stores: Stores, what: str, target: Path) -> float:
    with start(stores, what, target) as child:
        begun_s = time.monotonic()
        assert child.wait() == 0
    return time.monotonic() - begun_s


def prepare(stores: Stores, what: str, folder: Path) -> Path:
    """An empty folder, in which a store stands where one is to be replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if what == "replace":
        backup(stores.store, folder / "new")
        with uniqdb.open(folder / "new", options=options()) as db:
            db.add_many([T] * 9, ["later"] * 9)
    return folder / "new"


def assert_whole(stores: Stores, what: str, target: Path) -> None:
    if what == "dump":
        back = target.with_name("back")
        with target.open("rb") as stream:
            load(stream, back, Loading(0))
        assert content(back) == stores.digest
        shutil.rmtree(back)
        return
    assert content(target) == (stores.merged if what == "merge" else stores.digest)
    assert_sound(target)


def campaign(stores: Stores, what: str, folder: Path, kills: int) -> dict[str, int]:
    target = prepare(stores, what, folder)
    whole_s = run_s(stores, what, target) if kills > 1 else 0.3
    rng, seen = random.Random(what), {"kills": 0, "absent": 0, "whole": 0, "leftovers": 0}
    while seen["kills"] < kills:
        target = prepare(stores, what, folder)
        with start(stores, what, target) as child:
            assert child.stdout is not None
            time.sleep(rng.uniform(0, whole_s))
            child.send_signal(signal.SIGKILL)
            if child.stdout.read() == "done\n":
                whole_s *= 0.8  # the machine has become faster: most waits should end within a run
                continue
        seen["kills"] += 1
        seen["leftovers"] += any(entry.name.startswith(".new.building-") for entry in folder.iterdir())
        is_old = not target.exists()
        if what == "replace":
            with uniqdb.open(target, read_only=True) as db:
                is_old = db.check_if_uid_exists("later")
            assert_sound(target)
        seen["absent" if is_old else "whole"] += 1
        if is_old:
            run_s(stores, what, target)
            assert {entry.name for entry in folder.iterdir()} == {"new"} or what == "dump"
        assert_whole(stores, what, target)
        assert content(stores.store) == stores.digest
    return seen


@pytest.mark.parametrize("what", ["replace", "dump", "merge"])
def test_a_kill(stores: Stores, tmp_path: Path, what: str) -> None:
    assert campaign(stores, what, tmp_path / "folder", 1)["kills"] == 1
    assert_sound(stores.store)


@pytest.mark.soak
@pytest.mark.parametrize("what", WHAT)
def test_many_kills(stores: Stores, tmp_path: Path, what: str) -> None:
    seen = campaign(stores, what, tmp_path / "folder", 100)
    print(what, seen, flush=True)
    assert seen["leftovers"] > 20 or what == "replace", "too few in the midst of it"
    assert_sound(stores.store)
