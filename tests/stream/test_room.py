"""No room: on the disk, in the bound that a user has set, in LMDB's map. Nothing is lost, and it goes on by itself."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

import uniqdb
from crash.test_kill import ENVIRONMENT
from engines import assert_sound, options
from swept import BRIEF, DAY_S, at_clock
from uniqdb import CommitFailed, DictionarySizes
from uniqdb.map_room import grown_map_bytes
from uniqdb.stream.kafka_settings import KafkaHooks
from uniqdb.stream.room import PatientCommits
from uniqdb.sweeping import SweepRun
from uniqdb.writer import Commit, nothing

T = 1_468_281_600
MIB = 1024 * 1024
FILLING = Path(__file__).with_name("filling.py")
CYCLES = [5, pytest.param(50, marks=pytest.mark.soak)]


def fill_again_and_again(kind: str, store: Path, cycles: int) -> None:
    done = subprocess.run(
        [sys.executable, FILLING, kind, store, str(cycles)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refused, pauses, resumed = map(int, done.stdout.split())
    assert refused == pauses == resumed == cycles


@pytest.mark.parametrize("cycles", CYCLES)
def test_a_limit_on_files_pauses_and_nothing_is_lost(store_path: Path, cycles: int) -> None:
    fill_again_and_again("limit", store_path, cycles)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, where that may be made."""
    place = tmp_path / "disk"
    place.mkdir()
    # Room for fifty cycles, each of which first uses up the pages that are free within the file.
    size = ["-o", "size=512m"]
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", *size, "tmpfs", place], capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"no mount: {error}")
    if done.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("cycles", CYCLES)
def test_a_full_disk_pauses_and_nothing_is_lost(small_disk: Path, cycles: int) -> None:
    fill_again_and_again("disk", small_disk / "small.uniqdb", cycles)
    assert_sound(small_disk / "small.uniqdb")


def large_commit(number: int) -> Commit:
    uids = [f"{number} {at}" * 9 for at in range(500)]
    return structs.replace(nothing(), event_times_s=np.full(500, T + 60 * number, np.int64), uids=uids)


def test_who_waits_for_room_can_be_stopped(store_path: Path) -> None:
    said: list[str] = []
    small = replace(options(dictionary=DictionarySizes()), max_store_bytes=MIB, map_bytes=MIB)
    with uniqdb.open(store_path, options=small) as db:
        commits = PatientCommits(db, KafkaHooks(said.append, lambda: bool(said)), lambda: None)
        number = fill_up(db, large_commit)
        with pytest.raises(CommitFailed, match="max_store_bytes = 1,048,576"):
            commits.write(large_commit(number))
        assert said[0].startswith("the store would become larger than max_store_bytes = 1,048,576 allows")
        assert db.count("2016").visits == 500 * number > 0


def day_commit(day: int) -> Commit:
    times = np.array([T + day * DAY_S + 60 * at for at in range(400)], np.int64)
    return at_clock(Commit(times, [f"day {day} visitor {at}" for at in range(400)]), T + (day + 1) * DAY_S)


def fill_up(db: uniqdb.Engine, commit_of: Callable[[int], Commit]) -> int:
    """Write one commit after the other until one is refused; its number."""
    for number in count():
        try:
            db.write(commit_of(number))
        except CommitFailed:
            return number
    raise AssertionError


def test_a_sweep_may_run_where_nothing_else_can_be_written(store_path: Path) -> None:
    small = replace(options(dictionary=DictionarySizes()), max_store_bytes=3 * MIB, map_bytes=MIB, retention=BRIEF)
    with uniqdb.open(store_path, options=small) as db:
        day = fill_up(db, day_commit)
        commit = day_commit(day)
        with pytest.raises(CommitFailed) as caught:
            db.write(commit)
        assert caught.value.exit_code == 73
        assert "max_store_bytes" in caught.value.message
        assert "uniqdb sweep" in caught.value.hint
        assert day > 3
        assert db.count("2016").visits == 400 * day, "reading goes on"
        report = SweepRun(db, T + 900 * DAY_S, forced=True).to_the_end()
        assert report.swept["minute"] >= 400
        db.write(commit)
        assert db.count("2016").visits == 400 * (day + 1)


def test_how_a_map_grows() -> None:
    assert grown_map_bytes(MIB, 0, is_upkeep=False) == 2 * MIB
    assert grown_map_bytes(1024**4, 0, is_upkeep=False) == 1024**4 + 256 * 1024**3
    assert grown_map_bytes(3 * MIB, 4 * MIB, is_upkeep=False) == 4 * MIB
    assert grown_map_bytes(4 * MIB, 4 * MIB, is_upkeep=False) == 4 * MIB
    assert grown_map_bytes(4 * MIB, 4 * MIB, is_upkeep=True) == 8 * MIB
    assert grown_map_bytes(1024 * MIB, 1024 * MIB, is_upkeep=True) == 1088 * MIB
    assert grown_map_bytes(9 * MIB, 4 * MIB, is_upkeep=False) == 9 * MIB, "it was allowed more before"


READER = """
import sys, time, uniqdb
db = uniqdb.open(sys.argv[1], read_only=True)
print("ready", flush=True)
asked = last = 0
while sys.argv[2] != str(last):
    visits = db.count("2016").visits
    assert visits >= last and visits % 1_100 == 0, (visits, last)
    last, asked = visits, asked + 1
    time.sleep(0.01)
print(asked, flush=True)
"""


def test_the_map_grows_thirty_times_with_readers_open(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 1 MiB, a MiB at a time, so that thirty times are enough for a test."""
    monkeypatch.setattr("uniqdb.map_room.MAP_GROWTH_BYTES_MAX", MIB)
    grown: list[int] = []
    resize = uniqdb.store.Store._resize

    def counted(store: uniqdb.store.Store, map_bytes: int) -> None:
        grown.append(map_bytes)
        resize(store, map_bytes)

    monkeypatch.setattr(uniqdb.store.Store, "_resize", counted)
    small = replace(options(dictionary=DictionarySizes()), map_bytes=MIB)
    commits, each = 34, 1_100
    with uniqdb.open(store_path, options=small) as db:
        db.add_many([T] * each, [f"first {at}" for at in range(each)])
        db.commit()
        command = [sys.executable, "-c", READER, str(store_path), str(each * (commits + 1))]
        readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) for _ in range(2)]
        try:
            for reader in readers:
                assert reader.stdout is not None
                assert reader.stdout.readline() == "ready\n"
            for number in range(commits):
                db.add_many([T + number] * each, [f"{number} {at} ".ljust(1_000, "x") for at in range(each)])
                db.commit()
            for reader in readers:
                answers, _ = reader.communicate(timeout=60)
                assert reader.returncode == 0
                assert int(answers) > 5
        finally:
            for reader in readers:
                reader.kill()
                reader.wait()
        assert len(grown) >= 30, "it grows by itself"
        assert db.count("2016").count == each * (commits + 1)
