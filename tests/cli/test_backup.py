"""The commands backup, restore, dump, load and merge: what they say, and how they end."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import uniqdb
from engines import assert_sound, rows_of

Run = Callable[..., Result]
RunProcess = Callable[..., subprocess.CompletedProcess[str]]
VISITS = "".join(f'{{"ts":{1468244340 + 600 * number},"uid":"visitor-{number % 7}"}}\n' for number in range(50))


@pytest.fixture
def ingested(run: Run) -> Path:
    assert run("ingest", "--source-name", "web", "-", stdin=VISITS).exit_code == 0
    return Path("visits.uniqdb")


def test_backup_and_restore(run: Run, ingested: Path) -> None:
    done = run("backup", "copies/one")
    assert done.exit_code == 0
    assert done.stderr.startswith("Copied 50 visits to copies/one, as of commit 1: ")
    assert run("ingest", "--source-name", "mail", "-", stdin=VISITS).exit_code == 0
    done = run("restore", "copies/one")
    assert (done.exit_code, "already" in done.stderr) == (2, True)
    done = run("restore", "copies/one", "--yes")
    assert done.exit_code == 0
    assert done.stderr.startswith("./visits.uniqdb holds 50 visits, in epoch ")
    assert_sound(ingested)
    assert run("backup", "copies/one").exit_code == 73
    assert run("restore", "copies/none").exit_code == 66
    with uniqdb.open(ingested):
        done = run("restore", "copies/one", "--yes")
        assert (done.exit_code, "being written by" in done.stderr) == (75, True)


def test_a_copy_beside_the_old_one(run: Run, ingested: Path) -> None:
    run("backup", "copy")
    assert run("restore", "copy", "--store", "second.uniqdb", "--as-new").exit_code == 0
    with uniqdb.open("second.uniqdb", read_only=True) as second, uniqdb.open(ingested, read_only=True) as first:
        assert second.info().store_uuid != first.info().store_uuid
        assert rows_of(second) == rows_of(first)


def test_dump_and_load_through_a_pipe(run: Run, ingested: Path) -> None:
    dumped = run("dump")
    assert dumped.exit_code == 0
    assert dumped.stderr.startswith("Dumped 50 visits of 7 visitors, ")
    done = run("load", "--store", "again.uniqdb", stdin=dumped.stdout_bytes)
    assert done.exit_code == 0
    assert done.stderr == "again.uniqdb holds 50 visits of 7 visitors, time zone UTC.\n"
    done = run("load", "--store", "half.uniqdb", stdin=dumped.stdout_bytes[:-12_000])
    assert done.exit_code == 65
    assert "no whole dump" in done.stderr
    assert run("load", "--store", "again.uniqdb", stdin=dumped.stdout_bytes).exit_code == 73
    with uniqdb.open("again.uniqdb", read_only=True) as again, uniqdb.open(ingested, read_only=True) as first:
        assert rows_of(again) == rows_of(first)
    assert sorted(os.listdir()) == ["again.uniqdb", "visits.uniqdb"]


def test_dump_into_a_file_and_load_in_another_zone(run: Run, ingested: Path) -> None:
    assert run("dump", "visits.tar").exit_code == 0
    assert run("dump", "visits.tar").exit_code == 73
    assert run("load", "none.tar", "--store", "tokyo.uniqdb").exit_code == 66
    assert run("load", "visits.tar", "--store", "tokyo.uniqdb", "--timezone", "Asia/Nowhere").exit_code == 2
    done = run("load", "visits.tar", "--store", "tokyo.uniqdb", "--timezone", "Asia/Tokyo")
    assert done.exit_code == 0
    assert_sound(Path("tokyo.uniqdb"))
    assert ingested.exists()


def test_merge(run: Run, ingested: Path) -> None:
    run("ingest", "--store", "other.uniqdb", "--source-name", "mail", "-", stdin=VISITS.replace("visitor-6", "new"))
    done = run("merge", str(ingested), "other.uniqdb", "--into", "all.uniqdb")
    assert done.exit_code == 0
    assert done.stderr == "all.uniqdb holds 100 visits of 8 visitors; in the 2 stores they were 14.\n"
    assert_sound(Path("all.uniqdb"))
    assert run("merge", "all.uniqdb", "other.uniqdb", "--into", "more.uniqdb").exit_code == 2
    assert run("merge", "all.uniqdb", "other.uniqdb", "--into", "more.uniqdb", "--drop-sources").exit_code == 0
    assert run("merge", "all.uniqdb", "--into", "one.uniqdb").exit_code == 2
    assert run("merge", "all.uniqdb", "none.uniqdb", "--into", "one.uniqdb").exit_code == 66
    assert run("merge", "all.uniqdb", "other.uniqdb", "--into", "more.uniqdb", "--drop-sources").exit_code == 73


def test_a_damaged_store_is_not_dumped_or_copied(run: Run, ingested: Path, run_process: RunProcess) -> None:
    assert run("backup", "copy").exit_code == 0
    data = bytearray((ingested / "g1/data.mdb").read_bytes())
    data[data.rindex(b"visitor-5")] ^= 1
    (ingested / "g1/data.mdb").write_bytes(data)
    for command in ("dump", "backup"):
        done = run_process(command, "out")
        assert (done.returncode, done.stdout) == (74, "")
        assert done.stderr.startswith("uniqdb: damaged data in uids/")
        assert done.stderr.count("\n") == 1
    assert sorted(os.listdir()) == ["copy", "visits.uniqdb"]
    assert run("restore", "copy", "--yes").exit_code == 0
    assert_sound(ingested)
