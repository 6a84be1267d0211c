"""The N-th write or sync fails, N = 1 to all, once or for good, EIO or ENOSPC: an error of ours, no visit lost."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest

import uniqdb
from crash.shimmed import build, run
from uniqdb.manifest import writer_process


def campaign(folder: Path, every: int, seed: int = 0) -> dict[str, Any]:
    root = folder / "root"
    root.mkdir()
    found: dict[str, Any] = json.loads(run(build(folder), "failing_io.py", root, str(root), str(every), str(seed)))
    print(found["seen"], flush=True)
    assert found["complaints"] == []
    return found["seen"]


def test_some_writes_and_syncs_fail(tmp_path: Path) -> None:
    seen = campaign(tmp_path, 11)
    assert seen["cases"] > 20
    assert seen["noticed"] > 10, "hardly any failure was noticed: this shows nothing"


@pytest.mark.soak
def test_each_write_and_each_sync_fails(tmp_path: Path) -> None:
    campaign(tmp_path, 1)


def test_a_writer_opens_and_closes_where_nothing_can_be_written(store_path: Path) -> None:
    """It ended in a traceback, and the lock stayed taken for as long as the process lived."""
    uniqdb.open(store_path).close()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with uniqdb.open(store_path) as db:
            assert writer_process(store_path) == "unknown"
            with pytest.raises(uniqdb.StoreBusy):
                uniqdb.open(store_path)
            assert db.info().visits == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    uniqdb.open(store_path).close()


def test_a_handle_whose_lmdb_has_given_up_says_so_and_can_be_closed(tmp_path: Path) -> None:
    """Asking raised an error of LMDB's own, and with visits that waited the handle could not be closed any more."""
    root = tmp_path / "root"
    root.mkdir()
    *heard, more, seen = json.loads(run(build(tmp_path), "panicking.py", root, str(root / "s.uniqdb")))
    assert heard == ["CommitFailed 73", *["CannotWrite 73"] * 4]
    assert more in (0, 1), "of a commit that failed at its very end nobody knows"
    assert seen == [True, more == 1]
