"""A new data file in the place of the old one: readers, locks, modes, and what runs that ended early have left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import uniqdb
from engines import digest, options
from uniqdb.compaction import Compaction, compact
from uniqdb.errors import CannotWrite, StoreBusy, StoreCorrupt
from uniqdb.fresh_data import FreshData
from uniqdb.generations import next_generation
from uniqdb.limits import GENERATION_LOOK_S
from uniqdb.manifest import read_manifest

T = 1_468_244_340
PATH = os.pathsep.join(str(Path(__file__).resolve().parents[2] / part) for part in ("engine", "tests"))
READER = """
import sys, uniqdb.store
uniqdb.store.GENERATION_LOOK_S = 0.1
db = uniqdb.open(sys.argv[1], read_only=True)
snapshot = None
for line in sys.stdin:
    word = line.strip()
    if word == "snapshot":
        snapshot = db.snapshot()
    elif word == "close":
        snapshot.close()
    answer = (snapshot if word == "old" else db).count("2016").count
    members = len(list(db.members("day", 1468244340)))
    print(answer, db.check_if_uid_exists("u7"), members, db.info().generation, flush=True)
"""


def fill(path: Path) -> str:
    with uniqdb.open(path, options=options(60)) as db:
        for first in range(0, 400, 50):
            numbers = range(first, first + 50)
            db.add_many([T + number * 400 for number in numbers], [f"u{number * 7 % 130}" for number in numbers])
        db.commit()
        return digest(db)


def quickly(path: Path, **more: bool) -> Compaction:
    return compact(path, options(), readers_wait_s=0.2, **more)


@contextmanager
def reader(path: Path) -> Iterator[Callable[[str], list[str]]]:
    """A process that has the store open, and answers."""
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": PATH},
    ) as child:

        def ask(word: str) -> list[str]:
            assert child.stdin is not None
            assert child.stdout is not None
            print(word, file=child.stdin, flush=True)
            return child.stdout.readline().split()

        yield ask
        child.kill()


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_a_reader_turns_to_the_new_generation_and_its_snapshot_keeps_the_old_one(store_path: Path) -> None:
    fill(store_path)
    with reader(store_path) as ask:
        before = ask("snapshot")
        assert before[3] == "1"
        assert quickly(store_path).held == ["g1"]
        time.sleep(0.15)
        assert ask("now") == [*before[:3], "2"]
        assert ask("old")[0] == before[0], "the snapshot is of the old one"
        with uniqdb.open(store_path, options=options()) as db:
            assert names(store_path) == ["MANIFEST", "WRITER", "g1", "g2", "requests"]
            db.add_many([T], ["somebody new"])
        assert int(ask("now")[0]) == int(before[0]) + 1
        assert ask("old")[0] == before[0]
        ask("close")
        time.sleep(0.15)
        ask("now")
        uniqdb.open(store_path).close()
        assert names(store_path) == ["MANIFEST", "WRITER", "g2", "requests"]
        time.sleep(0.15)
        assert quickly(store_path, renumber=True).held == ["g2"], "a reader that asks nothing holds what it has"
        ask("now")
        assert quickly(store_path).held == ["g3"]


def test_an_old_generation_is_held_as_long_as_one_of_its_snapshots(store_path: Path) -> None:
    fill(store_path)
    program = (
        "from pathlib import Path; from uniqdb.compaction import compact; "
        f"compact(Path({str(store_path)!r}), readers_wait_s=0.0)"
    )
    with uniqdb.open(store_path, read_only=True) as db:
        store, snapshot = db._store, db.snapshot()
        before = snapshot.count("2016").count
        subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": PATH})
        for retired in (1, 1):
            store._looked_at_s -= GENERATION_LOOK_S
            assert db.count("2016").count == snapshot.count("2016").count == before
            assert (db.info().generation, len(store._retired)) == (2, retired)
        snapshot.close()
        store._looked_at_s -= GENERATION_LOOK_S
        assert (db.count("2016").count, len(store._retired)) == (before, 0)


def test_a_reader_that_was_killed_holds_nothing(store_path: Path) -> None:
    fill(store_path)
    with reader(store_path) as ask:
        ask("snapshot")
    assert quickly(store_path).held == []
    assert names(store_path) == ["MANIFEST", "WRITER", "g2", "requests"]


def test_it_is_private_and_nothing_of_the_old_one_is_left(store_path: Path) -> None:
    before = fill(store_path)
    done = quickly(store_path)
    modes = {path.relative_to(store_path).as_posix(): path.stat().st_mode & 0o777 for path in store_path.rglob("*")}
    assert modes == {
        **{"MANIFEST": 0o600, "WRITER": 0o600, "requests": 0o700},
        **{"g2": 0o700, "g2/data.mdb": 0o600, "g2/lock.mdb": 0o600, "g2/closed": 0o600},
    }
    assert done.after_bytes < done.before_bytes
    with uniqdb.open(store_path, options=options()) as db:
        assert digest(db) == before
        info = db.info()
        assert info.file_bytes - info.live_bytes < 20 * 4_096, "no more than what its own last transactions freed"
        counts = db.check().counts
        assert counts["fragments"] < 40
        db.add_many([T + number for number in range(500)], [f"w{number}" for number in range(500)])
    second = quickly(store_path)
    assert second.generation == 3


def test_while_another_process_writes_it_is_busy(store_path: Path) -> None:
    fill(store_path)
    program = f"import sys, uniqdb\nwith uniqdb.open({str(store_path)!r}):\n    print(flush=True)\n    sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": PATH},
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(StoreBusy, match=str(writer.pid)):
            quickly(store_path)
        writer.kill()
    assert quickly(store_path).generation == 2


def test_what_killed_runs_have_left_is_removed_by_the_next_writer(store_path: Path) -> None:
    fill(store_path)
    for name in ("g2", "g2.new", "g17", "g3.gone"):
        (store_path / name).mkdir()
        (store_path / name / "data.mdb").write_bytes(b"half of it")
    (store_path / "MANIFEST.new").write_text("half of it")
    (store_path / "notes.txt").write_text("mine")
    (store_path / "g2x").mkdir()
    with uniqdb.open(store_path, read_only=True):
        assert "g17" in names(store_path), "a reader removes nothing"
    uniqdb.open(store_path).close()
    assert names(store_path) == ["MANIFEST", "WRITER", "g1", "g2x", "notes.txt", "requests"]


def test_a_disk_that_refuses_leaves_the_store_as_it_was(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fill(store_path)
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "MANIFEST.new":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(CannotWrite, match="No space left"):
        quickly(store_path)
    monkeypatch.undo()
    uniqdb.open(store_path).close()
    assert names(store_path) == ["MANIFEST", "WRITER", "g1", "requests"]
    with uniqdb.open(store_path, read_only=True) as db:
        assert digest(db) == before


def test_rows_out_of_order_are_refused(store_path: Path) -> None:
    fill(store_path)
    with pytest.raises(StoreCorrupt, match="ascend"):
        write_out_of_order(store_path)
    assert names(store_path) == ["MANIFEST", "WRITER", "g1", "requests"]


def write_out_of_order(path: Path) -> None:
    meta = uniqdb.format.Database.META
    with next_generation(path, read_manifest(path)) as directory, FreshData(directory) as fresh:
        fresh.put(meta, b"b", b"1")
        fresh.put(meta, b"a", b"2")


def test_a_damaged_store_is_not_compacted(tmp_path: Path) -> None:
    path = tmp_path / "store"
    fill(path)
    with uniqdb.open(path, options=options()) as db:
        store = db._store
        with store._env.begin(write=True) as txn:
            handle = store.handle_of(uniqdb.format.Database.BUCKETS)
            key, value = next(iter(txn.cursor(db=handle)))
            txn.put(key, value[:-1] + bytes([value[-1] ^ 1]), db=handle)
    with pytest.raises(StoreCorrupt, match="checksum"):
        quickly(path)
    assert names(path) == ["MANIFEST", "WRITER", "g1", "requests"]


def test_a_forked_child_holds_nothing(store_path: Path) -> None:
    fill(store_path)
    with uniqdb.open(store_path, options=options()):
        child = os.fork()
        if not child:
            time.sleep(30)
            os._exit(0)
    try:
        assert quickly(store_path).held == []
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
