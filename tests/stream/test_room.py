"""No room: on the disk, in the bound that the user has set, in LMDB's map. Nothing is lost, and it goes on by itself."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import uniqdb
from crash.test_kill import ENVIRONMENT
from engines import assert_sound, options, rows_of
from model import Model
from swept import BRIEF, DAY_S, set_clock
from uniqdb import CommitFailed
from uniqdb.map_room import grown_map_bytes
from uniqdb.stream.kafka_settings import KafkaHooks
from uniqdb.stream.room import PatientCommits
from uniqdb.sweeping import sweep
from uniqdb.writer import nothing

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
    size = ["-o", "size=48m"]
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


def test_who_waits_for_room_can_be_stopped(store_path: Path) -> None:
    said: list[str] = []
    small = replace(options(), max_store_bytes=MIB, map_bytes=MIB)
    with uniqdb.open(store_path, options=small) as db:
        commits = PatientCommits(db, KafkaHooks(said.append, lambda: bool(said)), lambda: None)
        with pytest.raises(CommitFailed, match="max_store_bytes = 1,048,576"):
            for number in range(100):
                uids = [f"{number} {at}" * 9 for at in range(500)]
                commits.write(replace(nothing(), event_times_s=db_times(number), uids=uids))
        assert said[0].startswith("the store would become larger than max_store_bytes = 1,048,576 allows")
        assert 0 < db.count("2016").visits < 50_000
        assert db.count("2016").visits % 500 == 0


def db_times(number: int) -> "object":
    import numpy as np

    return np.full(500, T + 60 * number, np.int64)


def test_the_bound_of_a_store_refuses_in_words_and_a_sweep_makes_room(store_path: Path) -> None:
    small = replace(options(), max_store_bytes=4 * MIB, map_bytes=MIB, retention=BRIEF)
    model = Model()
    with uniqdb.open(store_path, options=small) as db:
        day = 0
        with pytest.raises(CommitFailed) as caught:
            while True:
                times = [T + day * DAY_S + 60 * at for at in range(400)]
                uids = [f"day {day} visitor {at}" for at in range(400)]
                db.add_many(times, uids)
                day += 1
                db.commit()
                model.add(times, uids)
        assert caught.value.exit_code == 73
        assert "max_store_bytes" in caught.value.message
        assert "sweep" in caught.value.hint
        assert day > 3
    # What could not be committed still waits: closing the handle tried again, and said so.
    assert rows_of_path(store_path) == model.rows()


def rows_of_path(path: Path) -> object:
    with uniqdb.open(path, read_only=True) as db:
        return rows_of(db)


def test_a_sweep_may_run_where_nothing_else_can_be_written(store_path: Path) -> None:
    small = replace(options(), max_store_bytes=3 * MIB, map_bytes=MIB, retention=BRIEF)
    db = uniqdb.open(store_path, options=small)
    day = 0
    with pytest.raises(CommitFailed):
        while True:
            at_s = [T + day * DAY_S + 60 * at for at in range(400)]
            set_clock(db, T + (day + 1) * DAY_S)
            day += 1
            db.add_many(at_s, [f"day {day} visitor {at}" for at in range(400)])
            db.commit()
    from uniqdb.sweeping import SweepRun

    report = SweepRun(db, T + 900 * DAY_S, forced=True).to_the_end()
    assert report.swept["minute"] > 400
    db.commit()  # what waited has room now
    assert db.count("2016").visits == 400 * day
    db.close()
    assert sweep is not None


def test_how_a_map_grows() -> None:
    assert grown_map_bytes(MIB, 0, is_upkeep=False) == 2 * MIB
    assert grown_map_bytes(1024**4, 0, is_upkeep=False) == 1024**4 + 256 * 1024**3
    assert grown_map_bytes(3 * MIB, 4 * MIB, is_upkeep=False) == 4 * MIB
    assert grown_map_bytes(4 * MIB, 4 * MIB, is_upkeep=False) == 4 * MIB
    assert grown_map_bytes(4 * MIB, 4 * MIB, is_upkeep=True) == 8 * MIB
    assert grown_map_bytes(1024 * MIB, 1024 * MIB, is_upkeep=True) == 1088 * MIB
    assert grown_map_bytes(9 * MIB, 4 * MIB, is_upkeep=False) == 9 * MIB, "it was allowed more before"


READER = """
import sys, uniqdb
db = uniqdb.open(sys.argv[1], read_only=True)
print("ready", flush=True)
asked = last = 0
while not (sys.argv[2] == str(last)):
    visits = db.count("2016").visits
    assert visits >= last and visits % 500 == 0, (visits, last)
    last, asked = visits, asked + 1
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
    small = replace(options(), map_bytes=MIB)
    commits = 64
    with uniqdb.open(store_path, options=small) as db:
        db.add_many([T] * 500, [f"first {at}" for at in range(500)])
        db.commit()
        command = [sys.executable, "-c", READER, str(store_path), str(500 * (commits + 1))]
        readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) for _ in range(2)]
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
        for number in range(commits):
            db.add_many([T + number] * 500, [f"{number} {at} ".ljust(1_000, "x") for at in range(500)])
            db.commit()
        for reader in readers:
            answers, _ = reader.communicate(timeout=60)
            assert reader.returncode == 0
            assert int(answers) > 5
        assert len(grown) >= 30, "it grows by itself"
        assert db.count("2016").count == 500 * (commits + 1)
