"""What a store does where LMDB refuses, the map cannot be had, or what it was about to use is no longer there."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb  # what it refuses is put in its place
import pytest

import uniqdb
from engines import options
from uniqdb import store as stores
from uniqdb.change_set import ChangeSet
from uniqdb.errors import CommitFailed, StoreCorrupt
from uniqdb.format import Database
from uniqdb.limits import GENERATION_LOOK_S
from uniqdb.manifest import Manifest, write_manifest
from uniqdb.read_view import ReadView
from uniqdb.store import Store, StoreMoved

T = 1_468_281_600


class Refusing:
    """An LMDB environment whose next transactions are refused; all else is the real one's."""

    def __init__(self, env: object, error: Exception) -> None:
        self._env, self._error = env, error

    def begin(self, **_: object) -> object:
        raise self._error

    def __getattr__(self, name: str) -> object:
        return getattr(self._env, name)


@pytest.fixture
def filled(store_path: Path) -> Path:
    with uniqdb.open(store_path, options=options()) as db:
        db.add_many([T] * 3, ["ann", "ben", "cleo"])
    return store_path


@pytest.fixture
def reader(filled: Path) -> Iterator[Store]:
    opened = Store(filled, read_only=True)
    yield opened
    opened.close()


def write_elsewhere(path: Path) -> None:
    """Somebody else commits."""
    program = f"import uniqdb; db = uniqdb.open({str(path)!r}); db.add_new_data({T}, 'dora'); db.close()"
    subprocess.run([sys.executable, "-c", program], check=True)


ASKED: list[Callable[[Store, ReadView], bool]] = [Store.is_newest, Store.resume_newest]


@pytest.mark.parametrize("ask", ASKED)
def test_a_parked_view_is_the_newest_until_somebody_commits(
    reader: Store, ask: Callable[[Store, ReadView], bool]
) -> None:
    view = reader.view()
    view.park()
    assert ask(reader, view)
    reader.park()
    write_elsewhere(reader.path)
    assert not ask(reader, view)
    assert reader.view() is not view


@pytest.mark.parametrize("ask", ASKED)
def test_a_view_that_is_not_the_handles_own_is_not_asked_for(
    reader: Store, ask: Callable[[Store, ReadView], bool]
) -> None:
    pinned = reader.pin()
    assert not ask(reader, pinned)
    pinned.end("the test is over")


@pytest.mark.parametrize("ask", ASKED)
def test_it_is_time_to_look_for_a_new_generation(reader: Store, ask: Callable[[Store, ReadView], bool]) -> None:
    view = reader.view()
    view.park()
    reader._looked_at_s = time.monotonic() - GENERATION_LOOK_S
    assert not ask(reader, view)


@pytest.mark.parametrize("ask", ASKED)
def test_what_lmdb_refuses_is_not_the_newest(reader: Store, ask: Callable[[Store, ReadView], bool]) -> None:
    view = reader.view()
    view.park()
    reader._env, env = Refusing(reader._env, lmdb.ReadersFullError("all slots are taken")), reader._env  # type: ignore[assignment]
    assert not ask(reader, view)
    reader._env = env
    assert ask(reader, view)


def test_a_writers_own_view_is_the_newest_while_it_is_young(filled: Path) -> None:
    with uniqdb.open(filled, options=options()) as db:
        view = db._store.view()
        assert db._store.resume_newest(view)
        view.opened_at_s -= 3_600
        assert not db._store.resume_newest(view)


def test_a_reader_whose_directory_was_moved_away_stays_readable(filled: Path) -> None:
    with uniqdb.open(filled, read_only=True) as db:
        assert db.count("2016").count == 3
        filled.rename(filled.with_name("moved"))
        db._store._looked_at_s -= GENERATION_LOOK_S
        assert db.count("2016").count == 3
        filled.with_name("moved").rename(filled)


def test_a_commit_on_what_is_no_longer_the_newest_is_told(filled: Path) -> None:
    with uniqdb.open(filled, options=options()) as db:
        based_on = db._store.view().txn_id
        with db._store._env.begin(write=True) as txn:  # somebody else writes, against all rules
            sources = db._store.handle_of(Database.SOURCES)
            txn.put(b"x", b"y", db=sources)
            txn.delete(b"x", db=sources)
        with pytest.raises(StoreMoved):
            db._store.commit(ChangeSet(), based_on=based_on)


def test_when_lmdb_gives_up_within_a_commit(filled: Path) -> None:
    db = uniqdb.open(filled, options=options())
    opened = db._store
    opened._env, env = Refusing(opened._env, lmdb.PanicError("the disk refused a page of meta")), opened._env  # type: ignore[assignment]
    with pytest.raises(CommitFailed, match="close and reopen"):
        opened.commit(ChangeSet(), based_on=1)
    assert opened.is_lost
    opened._env = env
    db.close()


@pytest.mark.parametrize("lacking", [Database.BUCKETS, Database.META])
def test_a_data_file_without_a_database_of_ours(tmp_path: Path, lacking: Database) -> None:
    path = tmp_path / "lacking.uniqdb"
    data = path / "g1"
    data.mkdir(parents=True)
    write_manifest(path, Manifest("00000000-0000-4000-8000-000000000001"))
    with lmdb.open(str(data), max_dbs=32) as env:
        for database in Database:
            if database is not lacking:
                env.open_db(database.file_name)
    with pytest.raises(StoreCorrupt, match="LMDB cannot open"):
        uniqdb.open(path, read_only=True)


def test_a_limit_on_the_address_space_makes_the_map_smaller(filled: Path) -> None:
    program = f"""
import resource, sys, uniqdb
from uniqdb.options import OpenOptions
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
with uniqdb.open({str(filled)!r}, options=OpenOptions(map_bytes=2**40)) as db:
    print(db.count("2016").count, db._store._env.info()["map_size"] < 2 * 2**30)
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # threads reserve address space, too
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout == "3 True\n", done.stderr


def test_where_not_even_a_small_map_can_be_had(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def no_memory(*_: object, map_size: int, **__: object) -> object:
        asked.append(map_size)
        raise lmdb.MemoryError("cannot allocate memory")

    monkeypatch.setattr(stores.lmdb, "open", no_memory)
    with pytest.raises(StoreCorrupt, match="cannot allocate memory"):
        uniqdb.open(filled, read_only=True)
    assert len(asked) > 1
    assert sorted(asked, reverse=True) == asked
    monkeypatch.undo()
