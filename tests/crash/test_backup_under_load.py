"""Backups while another process ingests: each is one commit, and the oracle at its position; so is what is restored."""

import json
import shutil
import signal
from pathlib import Path

import pytest

import uniqdb
from crash.test_kill import Campaign, start, visits_file
from engines import assert_sound, rows_of
from model import Model
from uniqdb.backup import backup
from uniqdb.intake import read_held
from uniqdb.restore import Restoring, restore


def oracle_at(lines: list[str], copy: Path) -> Model:
    """What the first lines of the file come to, without the visits that are held."""
    with uniqdb.open(copy, read_only=True) as db, db.snapshot() as snapshot:
        read = sum(source.lines for source in db.info().sources)
        held = {row.line for _, row in read_held(snapshot.answers.view, b"")}
    model = Model()
    visits = [json.loads(line) for number, line in enumerate(lines[:read], start=1) if number not in held]
    model.add([visit["ts"] for visit in visits], [visit["uid"] for visit in visits])
    return model


def backups(folder: Path, wanted: int, visits: int) -> dict[str, int]:
    source, store, copy, again = (folder / name for name in ("visits.jsonl", "live.uniqdb", "copy", "again"))
    visits_file(source, visits)
    lines = source.read_text().splitlines()
    seen = {"backups": 0, "in the midst": 0}
    while seen["backups"] < wanted:
        shutil.rmtree(store, ignore_errors=True)
        with start(store, source, Campaign(0, visits, 100, "tiny")) as child:
            assert child.stdout is not None
            child.stdout.readline()
            while child.poll() is None and seen["backups"] < wanted:
                done = backup(store, copy)
                seen["backups"] += 1
                seen["in the midst"] += 0 < done.visits < visits
                restored = restore(copy, again, Restoring(1_800_000_000))
                assert_sound(again)
                truth = oracle_at(lines, copy).rows()
                for path in (copy, again):
                    with uniqdb.open(path, read_only=True) as db:
                        assert rows_of(db) == truth
                        assert db.info().visits == done.visits == restored.visits
                        assert db.info().epoch == (1 if path == copy else 1_800_000_000)
                shutil.rmtree(copy)
                shutil.rmtree(again)
            child.send_signal(signal.SIGKILL)
    assert_sound(store)
    return seen


def test_ten_backups_under_write_load(tmp_path: Path) -> None:
    assert backups(tmp_path, 10, 4_000)["in the midst"] > 2


@pytest.mark.soak
def test_a_hundred_backups_under_write_load(tmp_path: Path) -> None:
    seen = backups(tmp_path, 100, 60_000)
    print(seen, flush=True)
    assert seen["in the midst"] > 60
