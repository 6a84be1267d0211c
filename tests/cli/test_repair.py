"""``uniqdb check`` of damaged stores, and ``--repair``: what comes back, what is told, exit codes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import uniqdb
from engines import assert_sound, options, rows_of
from uniqdb import WindowNotKept
from uniqdb.granularity import Granularity
from uniqdb.lmdb_pages import PAGE_BYTES, PageDamage, PageFile, leaf_nodes

Run = Callable[..., Result]
T = 1_468_244_340
DAYS = 5
DIRECTORY_BYTES = [8 + 12 + 20 * fragments for fragments in range(1, 10)]
"""Lengths of rows of ``units``: in ``buckets`` the same key has a row of 36 bytes."""


@pytest.fixture
def store(here: Path) -> Path:
    """A store in the current directory, by its default name."""
    path = here / "visits.uniqdb"
    with uniqdb.open(path, options=options(500)) as db:
        for day in range(DAYS):
            times = [T + day * 86_400 + number * 7 for number in range(1_000)]
            db.add_many(times, [f"visitor-{(day * 37 + number) % 700}" for number in range(1_000)])
        db.add_many([T, T], ["", ""])
    return path


def leaves(path: Path) -> dict[int, bytes]:
    """Every page with entries, in use or not."""
    file, found = PageFile(path / "g1" / "data.mdb"), {}
    for number in range(file.pages):
        page = file.page(number)
        try:
            leaf_nodes(page, number)
        except PageDamage:
            continue
        found[number] = page
    file.close()
    return found


def overwrite(path: Path, number: int, page: bytes = bytes(PAGE_BYTES)) -> None:
    with (path / "g1" / "data.mdb").open("r+b") as file:
        file.seek(number * PAGE_BYTES)
        file.write(page)


def wipe(path: Path, key: bytes) -> None:
    """Spoil the value under this key wherever a version of it stands, by more than can be mended."""
    wiped = 0
    for number, page in leaves(path).items():
        at = page.find(key)
        if at >= 0:
            start = at + len(key) + 12
            spoiled = bytes(byte ^ 0x5A for byte in page[start : start + 6])
            overwrite(path, number, page[:start] + spoiled + page[start + 6 :])
            wiped += 1
    assert wiped


def key_of(granularity: Granularity, time_s: int) -> bytes:
    length_s = {Granularity.MINUTE: 60, Granularity.HOUR: 3_600, Granularity.DAY: 86_400}[granularity]
    return bytes((granularity,)) + (time_s // length_s * length_s).to_bytes(8, "big")


def everything(path: Path) -> object:
    with uniqdb.open(path, read_only=True) as db:
        return rows_of(db), db.count("7d").count, db.check_many([f"visitor-{number}" for number in range(710)])


def test_a_sound_store_is_left_alone(run: Run, store: Path) -> None:
    def content() -> dict[Path, bytes]:
        return {one: one.read_bytes() for one in store.rglob("*") if one.is_file() and one.name != "lock.mdb"}

    before = content()
    done = run("check", "--repair")
    assert (done.exit_code, done.stderr) == (0, "")
    assert content() == before


def test_an_hour_is_made_of_its_minutes(run: Run, store: Path) -> None:
    before = everything(store)
    wipe(store, key_of(Granularity.HOUR, T + 86_400 + 3_600))
    assert run("check").exit_code == 74
    done = run("check", "--repair")
    assert done.exit_code == 0
    assert "made anew: the hour of 2016-07-12T14:00:00+00:00: all of it, from finer ones" in done.stdout
    assert "nothing is lost" in done.stderr
    assert everything(store) == before
    assert_sound(store)


def test_a_directory_is_made_of_its_fragments(run: Run, store: Path) -> None:
    before = everything(store)
    day = key_of(Granularity.DAY, T + 86_400)
    wiped = 0
    for number, page in leaves(store).items():
        for node in leaf_nodes(page, number):
            if node.key == day and len(node.data) in DIRECTORY_BYTES:
                start = page.find(node.data) + 20
                spoiled = bytes(byte ^ 0x5A for byte in page[start : start + 6])
                overwrite(store, number, page[:start] + spoiled + page[start + 6 :])
                wiped += 1
    assert wiped
    done = run("check", "--repair")
    assert "from its fragments" in done.stdout or "from finer ones" in done.stdout
    assert (done.exit_code, everything(store)) == (0, before)
    assert_sound(store)


def test_a_lost_minute_is_told_and_not_answered(run: Run, store: Path) -> None:
    before = everything(store)
    wipe(store, key_of(Granularity.MINUTE, T + 600))
    done = run("check", "--repair")
    assert done.exit_code == 74
    (lost,) = [line for line in done.stdout.splitlines() if line.startswith("LOST")]
    assert lost == "LOST: minutes from 2016-07-11T13:49:00+00:00 to 2016-07-11T13:50:00+00:00"
    assert_sound(store)
    assert run("query", "--period", "2016-07-11T13:49").exit_code == 70
    assert run("query", "--from", "2016-07-11T13:40", "--to", "2016-07-11T13:50").exit_code == 70
    assert run("query", "--period", "2016-07-11T13").exit_code == 0
    with uniqdb.open(store, read_only=True) as db:
        rows = rows_of(db)
        assert set(before[0].items()) - set(rows.items()) == {  # type: ignore[index]
            item
            for item in before[0].items()  # type: ignore[index]
            if item[0] == ("minute", (T + 600) // 60 * 60)
        }
    assert "lost to damage" in run("info", "--format", "table").stdout
    with uniqdb.open(store, options=options(500)) as db:
        db.add_many([T + 601, T + 700], ["visitor-1", "a new one"])
    assert_sound(store)


def test_lost_names_are_told_and_not_guessed(run: Run, store: Path) -> None:
    for number, page in leaves(store).items():
        if b"visitor-" in page:
            overwrite(store, number)
    file = PageFile(store / "g1" / "data.mdb")
    large = [number for number in range(2, file.pages) if b"visitor-" in file.page(number)]
    file.close()
    for number in large:
        overwrite(store, number)
    done = run("check", "--repair")
    assert done.exit_code == 74
    assert "LOST: the names of 700 visitors: whoever of them comes back counts once more" in done.stdout
    assert_sound(store)
    assert run("exists", "visitor-1").exit_code == 70
    with uniqdb.open(store, options=options(500)) as db:
        assert db.count("2016").count == 700
        with pytest.raises(WindowNotKept, match="names of 700 were lost"):
            db.check_many(["visitor-1"], "7d")
        with pytest.raises(WindowNotKept, match="names"):
            list(db.members("day", T // 86_400 * 86_400))
        db.add_many([T + DAYS * 86_400], ["visitor-1"])
        assert (db.count("2016").count, db.count("2016").complete) == (701, False)
        assert db.check_if_uid_exists("visitor-1")


def test_without_the_calendar_there_is_no_hope(run: Run, store: Path) -> None:
    wipe(store, b"store")
    before = sorted(store.rglob("*"))
    done = run("check", "--repair")
    assert done.exit_code == 74
    assert done.stderr.splitlines()[-1] == (
        "uniqdb: the row meta/store is lost; nothing can be derived without it. "
        "Restore a backup, or ingest the input anew."
    )
    assert sorted(store.rglob("*")) == before


def test_a_damaged_manifest_comes_back(run: Run, store: Path) -> None:
    before = everything(store)
    (store / "MANIFEST").write_text("{}")
    assert run("check").exit_code == 74
    assert run("query").exit_code == 74
    assert run("check", "--repair").exit_code == 0
    assert everything(store) == before
    assert_sound(store)


def test_all_of_it_as_json(run: Run, store: Path) -> None:
    wipe(store, key_of(Granularity.MINUTE, T + 600))
    found = json.loads(run("check", "--format", "json").stdout)
    assert (found["sound"], found["repaired"]) == (False, None)
    assert found["problems"]
    found = json.loads(run("check", "--repair", "--format", "jsonl").stdout)
    assert (found["sound"], found["problems"]) == (True, [])
    assert len(found["repaired"]["lost"]) == 1
    assert run("check", "--format", "csv").exit_code == 2


def test_not_while_somebody_writes(run: Run, run_process: Callable[..., object], store: Path) -> None:
    with uniqdb.open(store, options=options(500)) as db:
        wipe_at = key_of(Granularity.HOUR, T)
        wipe(store, wipe_at)
        done = run_process("check", "--repair")
        assert done.returncode == 75  # type: ignore[attr-defined]
        assert "is being written by process" in done.stderr  # type: ignore[attr-defined]
        db.close()
    assert run("check", "--repair").exit_code == 0


def test_the_damaged_data_stays_until_it_is_removed(run: Run, store: Path) -> None:
    wipe(store, key_of(Granularity.MINUTE, T + 600))
    run("check", "--repair")
    assert sorted(one.name for one in store.iterdir()) == ["MANIFEST", "WRITER", "g1.damaged", "g2", "requests"]
    with uniqdb.open(store, options=options(500)) as db:
        db.add_new_data(T, "x")
    assert (store / "g1.damaged" / "data.mdb").exists()


def test_a_lost_commit_is_told(run: Run, store: Path) -> None:
    with (store / "g1" / "data.mdb").open("r+b") as file:
        file.seek(16)
        file.write(b"nothing that can be mended")
    done = run("check", "--repair")
    assert done.exit_code == 74
    assert "LOST: perhaps the newest commit" in done.stdout
    assert_sound(store)
