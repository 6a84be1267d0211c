"""Stores of every format: read, continued, checked, migrated, copied, and the same answers throughout."""

import io
import os
from pathlib import Path

import pytest

import uniqdb
from engines import assert_sound, options
from format.golden import QUEUES, VERSIONS, answers, lay_out, recorded
from uniqdb.backup import backup
from uniqdb.compaction import compact
from uniqdb.dump import dump
from uniqdb.errors import FormatUnsupported, NotFound, StoreBusy, StoreCorrupt, WindowNotKept
from uniqdb.format import FORMAT_VERSION, READABLE_VERSIONS
from uniqdb.loading import Loading, load
from uniqdb.manifest import Manifest, WriterLock, read_manifest, write_manifest
from uniqdb.meta import read_store_row
from uniqdb.migration import migrate
from uniqdb.restore import Restoring, restore
from uniqdb.store import Store

NOW_S = 1_800_000_000


@pytest.fixture(params=VERSIONS)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def golden(store_path: Path, name: str) -> Path:
    lay_out(store_path, name)
    return store_path


def tree(path: Path) -> dict[str, bytes | None]:
    """Every file's bytes, but those of the table of readers, into which every reader writes."""
    return {
        str(one.relative_to(path)): one.read_bytes() if one.is_file() else None
        for one in sorted(path.rglob("*"))
        if one.name != "lock.mdb"
    }


def test_there_is_one_of_every_format() -> None:
    assert set(VERSIONS.values()) == READABLE_VERSIONS


# ---------------------------------------------------------------- every golden store
def test_it_answers_as_ever_and_reading_changes_nothing(golden: Path, name: str) -> None:
    before = tree(golden)
    assert answers(golden) == recorded(name)
    assert_sound(golden)
    assert tree(golden) == before


def test_a_writer_goes_on(golden: Path, name: str) -> None:
    with uniqdb.open(golden, options=options()) as db:
        assert db.check().problems == []
    assert read_manifest(golden).format_version == FORMAT_VERSION
    assert answers(golden) == recorded(name)
    with uniqdb.open(golden, options=options()) as db:
        db.add_many([NOW_S, NOW_S + 1], ["new", "visitor-01"])
    assert_sound(golden)
    with uniqdb.open(golden, read_only=True) as db:
        assert db.count("2027-01").count == 2
        assert db.check_many(["new", "visitor-01"]) == [True, True]


def test_it_is_migrated_and_compacted(golden: Path, name: str) -> None:
    before = tree(golden)
    done = migrate(golden)
    old = VERSIONS[name] != FORMAT_VERSION
    assert (done.from_version, done.to_version, done.is_needed) == (VERSIONS[name], FORMAT_VERSION, old)
    assert (done.after_bytes is not None, done.generation) == ((True, 2) if old else (False, 1))
    if old:
        assert {one.name for one in golden.iterdir()} == {"MANIFEST", "WRITER", "requests", "g2"}
    else:
        assert tree(golden) == before
    assert answers(golden) == recorded(name)
    assert migrate(golden).is_needed is False
    compact(golden)
    store = Store(golden, read_only=True)
    assert read_store_row(store.view(), store.manifest.store_uuid).format_version == FORMAT_VERSION
    store.close()
    assert answers(golden) == recorded(name)


def test_it_is_backed_up_and_restored(golden: Path, name: str, tmp_path: Path) -> None:
    before = tree(golden)
    backup(golden, tmp_path / "backup")
    assert tree(golden) == before
    restore(tmp_path / "backup", tmp_path / "restored", Restoring(now_s=NOW_S))
    assert answers(tmp_path / "backup") == recorded(name)
    assert besides(answers(tmp_path / "restored"), QUEUES) == besides(recorded(name), QUEUES)
    assert_sound(tmp_path / "restored")


def test_it_is_dumped_and_loaded(golden: Path, name: str, tmp_path: Path) -> None:
    out = io.BytesIO()
    if name == "v2_lost":
        with pytest.raises(WindowNotKept):
            dump(golden, out)
        return
    dump(golden, out)
    out.seek(0)
    load(out, tmp_path / "loaded", Loading(now_s=NOW_S))
    assert besides(answers(tmp_path / "loaded"), QUEUES) == besides(recorded(name), QUEUES)
    assert_sound(tmp_path / "loaded")


def besides(found: dict[str, object], names: tuple[str, ...]) -> dict[str, object]:
    return {key: value for key, value in found.items() if key not in names}


# ---------------------------------------------------------------- migrate
def test_a_dry_run_only_says_what_there_is_to_do(store_path: Path) -> None:
    lay_out(store_path, "v1")
    before = tree(store_path)
    done = migrate(store_path, dry_run=True)
    assert (done.is_needed, done.after_bytes, done.generation) == (True, None, 1)
    assert tree(store_path) == before


def test_while_a_writer_runs(store_path: Path) -> None:
    lay_out(store_path, "v1")
    before = tree(store_path)
    lock = WriterLock(store_path)
    try:
        with pytest.raises(StoreBusy, match=str(os.getpid())):
            migrate(store_path)
        assert migrate(store_path, dry_run=True).is_needed
    finally:
        lock.release()
    assert besides(tree(store_path), ("WRITER",)) == before
    with uniqdb.open(store_path), pytest.raises(uniqdb.UsageError, match="open in this process"):
        migrate(store_path, dry_run=True)


def test_readers_go_on(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(store_path, "v1")
    reader = Store(store_path, read_only=True)
    reader.close()
    monkeypatch.setattr("uniqdb.generations._remove_unheld", lambda _path: False)  # as if another process held it
    done = migrate(store_path, readers_wait_s=0.0)
    assert done.held == ("g1",)
    monkeypatch.undo()
    with uniqdb.open(store_path):
        assert not (store_path / "g1").exists(), "the next writer removes it"


def test_a_damaged_store_stays_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "store"
    lay_out(path, "v1")
    data = path / "g1" / "data.mdb"
    content = bytearray(data.read_bytes())
    at = content.rindex(b"visitor-0")
    content[at] ^= 1
    data.write_bytes(content)
    before = tree(path)
    with pytest.raises(StoreCorrupt):
        migrate(path)
    assert besides(tree(path), ("WRITER",)) == before


def test_no_store_and_a_newer_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        migrate(tmp_path / "nothing")
    path = tmp_path / "newer"
    lay_out(path, "v2")
    write_manifest(path, Manifest(read_manifest(path).store_uuid, format_version=FORMAT_VERSION + 1))
    before = tree(path)
    for dry_run in (False, True):
        with pytest.raises(FormatUnsupported, match="has format 3, this uniqdb reads 1, 2"):
            migrate(path, dry_run=dry_run)
    assert tree(path) == before
