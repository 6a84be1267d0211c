"""Power cuts: whatever was not synced is lost in any part, and the store is that of the last commit, or the one after.

What a process of `commits.py` does to the files is logged by `shim.c`; images of the disk are made of the log
(`power_cut.py`), and each is opened with the real engine.
"""

import json
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import uniqdb
from crash.commits import content_of
from crash.power_cut import Disk, lay_out
from crash.shimmed import NOTE, Operation, build, read_log, run
from uniqdb import page_walk
from uniqdb.errors import NotFound
from uniqdb.store import Store

CHECKED_EVERY, WRITTEN_EVERY = 5, 10


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one: thousands of images are laid out there."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def walked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are walked as ever, but by this process."""
    monkeypatch.setattr(page_walk, "page_problems", page_walk._problems_here)


def logged(memory: Path, folder: Path, seed: int, commits: int) -> tuple[list[Operation], list[str]]:
    """What a run of commits did, and the digest of each commit."""
    root, log = memory / "root", folder / "log"
    root.mkdir(exist_ok=True)
    said = run(build(folder), "commits.py", root, str(root / "s.uniqdb"), str(seed), str(commits), log=log)
    operations = list(read_log(log, root))
    log.unlink()
    shutil.rmtree(root)
    return operations, json.loads(said)


def found_in(path: Path, number: int) -> str:
    """The content of an image, as the engine sees it; empty if there is no store."""
    try:
        store = Store(path, read_only=True)
    except NotFound:
        return ""
    try:
        digest = content_of(store.view())
    finally:
        store.close()
    if number % CHECKED_EVERY == 0:
        with uniqdb.open(path, read_only=True) as db:
            assert db.check().problems == []
    if number % WRITTEN_EVERY == 0:
        with uniqdb.open(path) as db:
            before = db.info().visits
            db.add_many([1_468_281_600], ["somebody"])
            assert db.info().visits + db.info().completeness.expired >= before
            assert db.check().problems == []
    return digest


def campaign(memory: Path, folder: Path, images: int, commits: int, seed: int = 1) -> Counter[str]:
    """So many images of one run."""
    operations, digests = logged(memory, folder, seed, commits)
    rng, seen = random.Random(seed), Counter[str]()
    wanted = Counter(rng.randrange(len(operations)) for _ in range(images))
    disk, notes, number = Disk(), 0, 0
    for at, operation in enumerate(operations):
        disk.follow(operation)
        notes += operation.what == NOTE
        for _ in range(wanted[at]):
            number += 1
            place = memory / "image"
            place.mkdir()
            lay_out(disk.image(rng), place)
            digest = found_in(place / "s.uniqdb", number)
            last = digests[notes - 1] if notes else ""
            following = digests[notes] if notes < len(digests) else last
            assert digest in (last, following), f"seed {seed}, operation {at} of {len(operations)}, image {number}"
            seen["the last commit" if digest == last else "the next one"] += 1
            shutil.rmtree(place)
    seen["images"], seen["commits"], seen["operations"] = number, len(digests), len(operations)
    return seen


def test_a_hundred_power_cuts(memory: Path, tmp_path: Path) -> None:
    seen = campaign(memory, tmp_path, 150, 60)
    assert seen["images"] == 150
    assert seen["the next one"] > 0, "no cut after the sync and before the return: this shows little"


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 20))
def test_a_thousand_power_cuts_each(memory: Path, tmp_path: Path, seed: int) -> None:
    print(seed, dict(campaign(memory, tmp_path, 1_000, 120, seed)), flush=True)


def test_without_syncs_the_images_are_wrong(memory: Path, tmp_path: Path) -> None:
    """The same images without what was synced are no store any more: so they do show something."""
    operations, _ = logged(memory, tmp_path, 1, 30)
    disk, rng, bad = Disk(), random.Random(1), 0
    for operation in operations:
        if operation.what != 3 or not operation.path.endswith("data.mdb"):
            disk.follow(operation)
    for number in range(10):
        place = memory / f"image{number}"
        place.mkdir()
        lay_out(disk.image(rng), place)
        try:
            found_in(place / "s.uniqdb", 1)
        except uniqdb.UniqdbError:
            bad += 1
    assert bad > 3
