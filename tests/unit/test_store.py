"""The store's directory and transactions: creation, locks, growth, damage, forks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lmdb  # the tests damage stores on purpose, below the engine
import pytest

import uniqdb
from engines import options, rows_of
from model import Model
from uniqdb.errors import CannotWrite, FormatUnsupported, HandleClosed, NotFound, StoreBusy, StoreCorrupt, UsageError
from uniqdb.format import FORMAT_VERSION
from uniqdb.manifest import Manifest, write_manifest

T = 1_468_244_340
DATABASES = ["meta", "uids", "units", "buckets", "minute", "hour", "day", "week", "month", "year"]


def fill(path: Path, days: int = 3) -> Model:
    model = Model()
    times = [T + number * 600 for number in range(days * 144)]
    uids = [f"u{number * 7 % 100}" for number in range(len(times))]
    model.add(times, uids)
    with uniqdb.open(path, options=options(60)) as db:
        db.add_many(times, uids)
    return model


def test_a_store_is_private_and_whole(store_path: Path) -> None:
    fill(store_path)
    assert sorted(entry.name for entry in store_path.iterdir()) == ["MANIFEST", "WRITER", "g1", "requests"]
    modes = {path.relative_to(store_path).as_posix(): path.stat().st_mode & 0o777 for path in store_path.rglob("*")}
    assert store_path.stat().st_mode & 0o777 == 0o700
    assert modes == {
        "MANIFEST": 0o600,
        "WRITER": 0o600,
        "requests": 0o700,
        "g1": 0o700,
        "g1/data.mdb": 0o600,
        "g1/lock.mdb": 0o600,
        "g1/closed": 0o600,
    }


def test_creation(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Europ/Zurich"):
        uniqdb.create(tmp_path / "a", timezone="Europ/Zurich")
    assert list(tmp_path.iterdir()) == []
    uniqdb.create(tmp_path / "deep" / "a", timezone="Europe/Zurich")
    with pytest.raises(UsageError, match="already"):
        uniqdb.create(tmp_path / "deep" / "a")
    with pytest.raises(UsageError, match="Europe/Zurich, not UTC"):
        uniqdb.open(tmp_path / "deep" / "a", timezone="UTC")
    with pytest.raises(NotFound, match="no store"):
        uniqdb.open(tmp_path / "b", read_only=True)
    (tmp_path / "c").mkdir()
    uniqdb.create(tmp_path / "c")  # an empty directory is as good as none
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine").touch()
    with pytest.raises(CannotWrite, match="other things"):
        uniqdb.create(tmp_path / "d")
    (tmp_path / "f").touch()
    with pytest.raises(CannotWrite):
        uniqdb.create(tmp_path / "f")
    assert not [path for path in tmp_path.iterdir() if ".new-" in path.name]


def test_a_second_writer_is_told_who_writes(store_path: Path) -> None:
    with uniqdb.open(store_path):
        with pytest.raises(StoreBusy, match=str(os.getpid())):
            uniqdb.open(store_path)
        with pytest.raises(UsageError, match="open in this process already"):
            uniqdb.open(store_path, read_only=True)
    uniqdb.open(store_path).close()


def test_the_map_grows_by_itself_and_ends_snapshots(store_path: Path) -> None:
    small = replace(options(2_000), map_bytes=1024 * 1024)
    with uniqdb.open(store_path, options=small) as db:
        snapshot = db.snapshot()
        for step in range(30):
            db.add_many([T + step] * 2_000, [f"{step}-{number}" + "x" * 40 for number in range(2_000)])
        assert db.info().file_bytes > 4 * 1024 * 1024
        assert db.count("1d").count == 60_000
        with pytest.raises(HandleClosed, match="map grew"):
            snapshot.count("1d")


def test_a_reader_in_another_process_follows_the_growing_map(store_path: Path) -> None:
    small = replace(options(2_000), map_bytes=1024 * 1024)
    program = """
import sys, uniqdb
from dataclasses import replace
db = uniqdb.open(sys.argv[1], read_only=True, options=uniqdb.OpenOptions(map_bytes=1024 * 1024))
for line in sys.stdin:
    print(db.count("1d").count if db.info().visits else 0, flush=True)
"""
    with uniqdb.open(store_path, options=small) as db:
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(store_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with child:
            assert child.stdin is not None
            assert child.stdout is not None
            for step in range(20):
                db.add_many([T + step] * 2_000, [f"{step}-{number}" + "x" * 40 for number in range(2_000)])
                print(step, file=child.stdin, flush=True)
                assert int(child.stdout.readline()) == 2_000 * (step + 1)
            child.stdin.close()
        assert child.returncode == 0


def data_file(path: Path) -> Path:
    return path / "g1" / "data.mdb"


@pytest.mark.parametrize("harm", ["missing", "empty", "manifest", "newer", "foreign"])
def test_a_damaged_directory_is_refused_and_nothing_is_created(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "store"
    fill(path, 1)
    if harm == "missing":
        data_file(path).unlink()
    elif harm == "empty":
        data_file(path).write_bytes(b"")
    elif harm == "manifest":
        text = (path / "MANIFEST").read_text()
        (path / "MANIFEST").write_text(text.replace('"generation": 1', '"generation": 2'))
    elif harm == "newer":
        old = json.loads((path / "MANIFEST").read_text())
        write_manifest(path, Manifest(old["store_uuid"], 1, FORMAT_VERSION + 1))
    else:
        fill(tmp_path / "other", 1)
        data_file(path).write_bytes(data_file(tmp_path / "other").read_bytes())
    before = {entry: entry.stat().st_size for entry in path.rglob("*")}
    for read_only in (False, True):
        with pytest.raises(FormatUnsupported if harm == "newer" else StoreCorrupt):
            uniqdb.open(path, read_only=read_only)
    assert {entry: entry.stat().st_size for entry in path.rglob("*") if entry.name != "lock.mdb"} == {
        entry: size for entry, size in before.items() if entry.name != "lock.mdb"
    }


def change(path: Path, database: str, edit: Callable[[lmdb.Transaction, object], None]) -> None:
    env = lmdb.open(str(path / "g1"), max_dbs=32, map_size=1 << 30)
    handle = env.open_db(database.encode(), create=False)
    with env.begin(write=True) as txn:
        edit(txn, handle)
    env.close()


@pytest.mark.parametrize("database", DATABASES)
def test_a_lost_row_is_never_read_as_no_visits(tmp_path: Path, database: str) -> None:
    """Delete each row of each database in turn: every answer is right or an error, and check names the loss."""
    template = tmp_path / "template"
    model = fill(template, 2)
    env = lmdb.open(str(template / "g1"), max_dbs=32, map_size=1 << 30)
    with env.begin() as txn:
        keys = [key for key, _ in txn.cursor(db=env.open_db(database.encode(), txn=txn))]
    env.close()
    everyone = {uid for uids in model.members.values() for uid in uids}
    for key in keys[:: max(len(keys) // 12, 1)]:
        path = tmp_path / "copy"
        _copy(template, path)

        def delete(txn: lmdb.Transaction, handle: object, key: bytes = key) -> None:
            assert txn.delete(key, db=handle)

        change(path, database, delete)
        refused = 0
        try:
            with uniqdb.open(path, read_only=True) as db:
                refused += _refuses(lambda db=db: rows_of(db) == model.rows())
                refused += _refuses(lambda db=db: db.check_many(sorted(everyone)) == [True] * len(everyone))
                for kind in ("minute", "hour", "day", "week", "month", "year"):
                    start_s = db._zone.bucket_at(uniqdb.Granularity.from_word(kind), T).start_s
                    want = model.members[kind, start_s]
                    refused += _refuses(lambda db=db, k=kind, s=start_s, w=want: set(db.members(k, s)) == w)
                assert db.check().problems, f"check does not see the loss of {database}/{key.hex()}"
        except StoreCorrupt:
            refused += 1
        assert refused or database in ("units", "minute", "hour", "day", "week", "month", "year", "uids")
        for entry in sorted(path.rglob("*"), reverse=True):
            entry.rmdir() if entry.is_dir() else entry.unlink()
        path.rmdir()


def _refuses(answer_is_right: Callable[[], bool]) -> int:
    """1 if the answer is refused as damaged; it must not be wrong."""
    try:
        assert answer_is_right()
    except StoreCorrupt:
        return 1
    return 0


def _copy(source: Path, target: Path) -> None:
    for entry in sorted(source.rglob("*")):
        to = target / entry.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        if entry.is_dir():
            to.mkdir(exist_ok=True)
        else:
            to.write_bytes(entry.read_bytes())


def test_flipped_bits_of_the_data_never_change_an_answer(tmp_path: Path) -> None:
    """Flip bits of sealed values one at a time: right, or refused."""
    template = tmp_path / "template"
    model = fill(template, 2)
    env = lmdb.open(str(template / "g1"), max_dbs=32, map_size=1 << 30)
    with env.begin() as txn:
        places = [
            (name, key, bit * len(value) * 8 // 4 + 3)
            for name in DATABASES
            for number, (key, value) in enumerate(txn.cursor(db=env.open_db(name.encode(), txn=txn)))
            if number % 97 == 0
            for bit in range(4)
        ]
    env.close()
    refusals = 0
    for name, key, bit in places:

        def flip(txn: lmdb.Transaction, handle: object, key: bytes = key, bit: int = bit) -> None:
            value = bytearray(txn.get(key, db=handle))
            value[bit // 8 % len(value)] ^= 1 << bit % 8
            txn.put(key, bytes(value), db=handle)

        change(template, name, flip)
        try:
            with uniqdb.open(template, read_only=True) as db:
                assert db.check().problems
                refusals += _refuses(lambda db=db: rows_of(db) == model.rows())
                refusals += _refuses(lambda db=db: set(db.members("year", T)) == model.members["year", 1_451_606_400])
        except StoreCorrupt:
            refusals += 1
        change(template, name, flip)  # flips it back
    assert refusals > len(places) // 4
    with uniqdb.open(template, read_only=True) as db:
        assert db.check().problems == []


def test_a_handle_is_useless_after_a_fork_and_leaves_the_parent_alone(store_path: Path) -> None:
    with uniqdb.open(store_path, options=options()) as db:
        db.add_new_data(T, "parent")
        child = os.fork()
        if not child:
            try:
                db.count("1d")
            except HandleClosed:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert db.count("1d").count == 1


def test_a_foreign_commit_drops_what_is_cached(store_path: Path) -> None:
    with uniqdb.open(store_path, options=options()) as db:
        db.add_many([T, T], ["a", "b"])
        db.commit()
        with db._store._env.begin(write=True) as txn:  # somebody else writes, against all rules
            txn.put(b"x", b"y", db=db._store.handle_of(uniqdb.format.Database.SOURCES))
            txn.delete(b"x", db=db._store.handle_of(uniqdb.format.Database.SOURCES))
        db.add_many([T, T], ["b", "c"])
        assert db.count("1d").count == 3


def test_a_silent_reader_does_not_keep_pages(store_path: Path) -> None:
    """Without parking, every page that is freed while another process has a handle open is lost until it closes."""
    program = """
import sys, uniqdb
db = uniqdb.open(sys.argv[1], read_only=True)
for line in sys.stdin:
    print(db.count("1d").count, db.check_if_uid_exists("u7", "30d"), flush=True)
"""
    batch = [f"u{number}" for number in range(500)]
    with uniqdb.open(store_path, options=options()) as db:
        db.add_many([T] * 500, batch)
        db.commit()
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(store_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with child:
            assert child.stdin is not None
            assert child.stdout is not None
            for total in (500, 500, 501, 501):
                if total > len(batch):
                    batch.append("one more")
                    db.add_new_data(T, "one more")
                    db.commit()
                for _ in range(2):
                    print("?", file=child.stdin, flush=True)
                    assert child.stdout.readline().split() == [str(total), "True"]
            before = db.info().file_bytes
            for _ in range(150):
                db.add_many([T] * 500, batch[:500])
                db.commit()
            assert db.info().file_bytes <= before + 60 * 4_096
            child.stdin.close()
