"""Backups and restored stores: the same answers, a larger epoch, everything to be published again."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

import uniqdb
from engines import assert_sound, digest, options, rows_of
from model import Model
from uniqdb.backup import backup
from uniqdb.errors import CannotWrite, NotFound, StoreBusy, StoreCorrupt, UsageError
from uniqdb.format import Database
from uniqdb.meta import read_state
from uniqdb.outbox import WindowKey, WindowRow
from uniqdb.restore import Restoring, restore
from uniqdb.store import Store
from uniqdb.writer import nothing

T = 1_468_244_340
HOW = Restoring(now_s=1_800_000_000)
TIMES = [T + number * 997 for number in range(900)]
UIDS = [f"visitor-{number * 7919 % 300:03}" for number in range(900)]


def fill(path: Path, part: slice = slice(None)) -> None:
    with uniqdb.open(path, options=options(100), timezone="Europe/Zurich") as db:
        db.add_many(TIMES[part], UIDS[part])


def oracle(part: slice = slice(None)) -> Model:
    model = Model("Europe/Zurich")
    model.add(TIMES[part], UIDS[part])
    return model


@pytest.fixture
def filled(store_path: Path) -> Path:
    fill(store_path)
    return store_path


def rows_in(path: Path, database: Database) -> list[bytes]:
    store = Store(path, read_only=True)
    try:
        return [key for key, _ in store.view().raw_rows(database)]
    finally:
        store.close()


def test_a_backup_is_a_store_with_the_same_answers(filled: Path, tmp_path: Path) -> None:
    done = backup(filled, tmp_path / "copies" / "one")
    assert done.visits == 900
    assert_sound(tmp_path / "copies" / "one")
    with uniqdb.open(filled, read_only=True) as db, uniqdb.open(tmp_path / "copies" / "one", read_only=True) as copy:
        assert rows_of(db) == rows_of(copy) == oracle().rows()
        assert sorted(db.members("month", T)) == sorted(copy.members("month", T))
        assert db.info().store_uuid == copy.info().store_uuid
    assert os.listdir(tmp_path / "copies") == ["one"]


def test_modes_are_those_of_a_store(filled: Path, tmp_path: Path) -> None:
    backup(filled, tmp_path / "copy")
    for directory in (tmp_path / "copy", tmp_path / "copy/g1", tmp_path / "copy/requests"):
        assert directory.stat().st_mode & 0o777 == 0o700
    for file in (tmp_path / "copy/MANIFEST", tmp_path / "copy/g1/data.mdb"):
        assert file.stat().st_mode & 0o777 == 0o600


def test_a_backup_does_not_see_later_commits_and_does_not_stop_the_writer(store_path: Path, tmp_path: Path) -> None:
    with uniqdb.open(store_path, options=options(100), timezone="Europe/Zurich") as db:
        db.add_many(TIMES[:300], UIDS[:300])
        db.commit()
        db.add_many(TIMES[300:], UIDS[300:])
    backup(store_path, tmp_path / "copy")
    fill(store_path, slice(0, 10))
    with uniqdb.open(tmp_path / "copy", read_only=True) as copy:
        assert rows_of(copy) == oracle().rows()


def test_it_never_writes_over_something(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(CannotWrite, match="there already"):
        backup(filled, tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"
    with pytest.raises(CannotWrite, match="there already"):
        backup(filled, tmp_path)
    with pytest.raises(UsageError, match="lies within"):
        backup(filled, filled / "copy")
    with pytest.raises(NotFound):
        backup(tmp_path / "none", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_what_a_killed_run_has_left_is_removed_by_the_next(filled: Path, tmp_path: Path) -> None:
    left = tmp_path / ".copy.building-0123"
    (left / "g1").mkdir(parents=True)
    backup(filled, tmp_path / "copy")
    assert not left.exists()


def test_damage_is_found_while_copying(filled: Path, tmp_path: Path) -> None:
    copy = tmp_path / "damaged.uniqdb"
    shutil.copytree(filled, copy)
    data = bytearray((copy / "g1/data.mdb").read_bytes())
    at = data.rindex(b"visitor-123")
    data[at] ^= 1
    (copy / "g1/data.mdb").write_bytes(data)
    with pytest.raises(StoreCorrupt, match="checksum"):
        backup(copy, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_restored_at_a_new_place(filled: Path, tmp_path: Path) -> None:
    backup(filled, tmp_path / "copy")
    done = restore(tmp_path / "copy", tmp_path / "again", HOW)
    assert (done.epoch, done.visits) == (1_800_000_000, 900)
    assert_sound(tmp_path / "again")
    with uniqdb.open(tmp_path / "again", read_only=True) as db, uniqdb.open(filled, read_only=True) as old:
        assert digest(db) == digest(old)
        assert db.info().store_uuid == old.info().store_uuid
        assert db.count("2016-07").epoch == 1_800_000_000
    assert restore(tmp_path / "again", tmp_path / "twice", HOW).epoch == 1_800_000_001
    assert restore(tmp_path / "copy", tmp_path / "other", replace(HOW, as_new=True)).store_uuid != done.store_uuid
    assert_sound(tmp_path / "other")


def test_restored_in_place_of_what_came_later(filled: Path, tmp_path: Path) -> None:
    backup(filled, tmp_path / "copy")
    fill(filled, slice(0, 100))
    with pytest.raises(UsageError, match="already"):
        restore(tmp_path / "copy", filled, HOW)
    with uniqdb.open(filled, read_only=True) as reader:
        before = reader.info().commits
        assert reader.count("2016-07").epoch == 1
        done = restore(tmp_path / "copy", filled, replace(HOW, replace=True))
        assert done.held == ["g1"]
        with uniqdb.open(filled, options=options(100)) as db:
            assert rows_of(db) == oracle().rows()
            assert db.info().commits > before, "no fragment's name is used for something else"
            db.add_many([T], ["new"])
        reader._store._looked_at_s -= 2
        assert reader.check_if_uid_exists("new")
        assert reader.count("2016-07").epoch == done.epoch
    with uniqdb.open(filled) as db:
        assert db.info().generation == 2
    assert sorted(os.listdir(filled)) == ["MANIFEST", "WRITER", "g2", "requests"]


def test_a_store_that_is_damaged_is_restored(filled: Path, tmp_path: Path) -> None:
    backup(filled, tmp_path / "copy")
    for number, harm in enumerate((cut_off, take_away, scribble)):
        harm(filled)
        done = restore(tmp_path / "copy", filled, Restoring(1_800_000_000 + number, replace=True))
        with uniqdb.open(filled, options=options()) as db:
            assert rows_of(db) == oracle().rows()
            assert db.info().commits > done.epoch


def generation(path: Path) -> Path:
    return next(path.glob("g[0-9]"))


def cut_off(path: Path) -> None:
    os.truncate(generation(path) / "data.mdb", 9_000)


def take_away(path: Path) -> None:
    (generation(path) / "data.mdb").unlink()


def scribble(path: Path) -> None:
    (path / "MANIFEST").write_text("{}")


def test_not_while_somebody_writes_and_not_over_another_store(filled: Path, tmp_path: Path) -> None:
    backup(filled, tmp_path / "copy")
    with uniqdb.open(filled), pytest.raises(StoreBusy):
        restore(tmp_path / "copy", filled, replace(HOW, replace=True))
    fill(tmp_path / "other", slice(0, 5))
    with pytest.raises(UsageError, match="another store"):
        restore(tmp_path / "copy", tmp_path / "other", replace(HOW, replace=True))
    with pytest.raises(UsageError, match="the backup itself"):
        restore(tmp_path / "copy", tmp_path / "copy", replace(HOW, replace=True))
    with pytest.raises(UsageError, match="keeps its uuid"):
        restore(tmp_path / "copy", filled, replace(HOW, replace=True, as_new=True))
    with pytest.raises(CannotWrite, match="there already"):
        restore(tmp_path / "copy", tmp_path, HOW)
    assert_sound(tmp_path / "other")


def test_everything_is_to_be_published_again(store_path: Path, tmp_path: Path) -> None:
    with uniqdb.open(store_path, options=options(100), timezone="Europe/Zurich") as db:
        db.add_many(TIMES, UIDS)
        db.commit()
        window = WindowKey(7, 736_156)
        state = db.write(structs.replace(nothing(), is_publishing=True))
        state = db.write(structs.replace(nothing(), windows=[(window, WindowRow(3, 1), b"{}")]))
        keys = rows_in_handle(db, Database.OUTBOX)
        db.write(structs.replace(nothing(), published=dict.fromkeys(keys, state.commit_number - 1)))
        assert len(rows_in_handle(db, Database.OUTBOX)) == 1
    backup(store_path, tmp_path / "copy")
    restore(tmp_path / "copy", tmp_path / "again", HOW)
    assert rows_in(tmp_path / "again", Database.OUTBOX) == rows_in(store_path, Database.BUCKETS)
    assert window.pack() in rows_in(tmp_path / "again", Database.DUE)
    assert_sound(tmp_path / "again")


def rows_in_handle(db: uniqdb.Engine, database: Database) -> list[bytes]:
    with db.snapshot() as snapshot:
        assert read_state(snapshot.answers.view).publishes
        return [key for key, _ in snapshot.answers.view.raw_rows(database)]
