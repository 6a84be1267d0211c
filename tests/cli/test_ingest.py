"""`uniqdb init` and `uniqdb ingest`: files, pipes, field settings, resuming, interrupting."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import Result

import uniqdb
from cli.oracle import model_of
from engines import assert_sound, rows_of

Run = Callable[..., Result]
WriteLines = Callable[[str, Sequence[object]], Path]
FAULTS = ("--lateness", "0.2", "90", "--malformed", "0.01", "--flipped-bits", "0.005")


def store_rows(path: str = "visits.uniqdb") -> dict[tuple[str, int], tuple[int, int]]:
    assert_sound(Path(path))
    with uniqdb.open(path, read_only=True) as db:
        return rows_of(db)


def test_init(run: Run) -> None:
    done = run("init", "shop.uniqdb", "--timezone", "Europe/Zurich")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "Created the store shop.uniqdb, time zone Europe/Zurich.\n"
    with uniqdb.open("shop.uniqdb", read_only=True) as db:
        assert db.timezone == "Europe/Zurich"
    again = run("init", "--store", "shop.uniqdb")
    assert again.exit_code == 2
    assert "shop.uniqdb already" in again.stderr
    assert run("init", "a", "--store", "b").exit_code == 2
    assert run("init", "odd.uniqdb", "--timezone", "Mars/Base").exit_code == 2
    assert not Path("odd.uniqdb").exists()


def test_init_takes_the_default_store(run: Run) -> None:
    assert run("init").exit_code == 0
    assert Path("visits.uniqdb/MANIFEST").is_file()


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_a_file_is_counted_as_plain_sets_would(run: Run, zone: str) -> None:
    arguments = ["--visits", "3000", "--days", "40", "--users", "300", *FAULTS, "-o", "visits.jsonl"]
    assert run("generate", *arguments).exit_code == 0
    done = run("ingest", "visits.jsonl", "--timezone", zone, "--commit-visits", "700")
    model = model_of(Path("visits.jsonl"), zone)
    visits = sum(number for (kind, _), number in model.visits.items() if kind == "year")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ""
    assert f"Created the store ./visits.uniqdb, time zone {zone}." in done.stderr
    assert f"{visits:,} visits from visits.jsonl in " in done.stderr
    assert f"{3000 - visits:,} records refused and kept in quarantine: " in done.stderr
    assert store_rows() == model.rows()


def test_a_finished_file_is_not_counted_twice(run: Run) -> None:
    run("generate", "--visits", "50", "-o", "visits.jsonl")
    run("ingest", "visits.jsonl")
    before = store_rows()
    again = run("ingest", "visits.jsonl")
    assert again.exit_code == 0
    assert again.stderr == "Nothing new in visits.jsonl: it was read to its end before.\n"
    assert store_rows() == before
    third = run("ingest", "visits.jsonl", "--again")
    assert "50 visits from visits.jsonl" in third.stderr
    assert {key: (count, 2 * visits) for key, (count, visits) in before.items()} == store_rows()


def test_a_file_that_grew_is_continued(run: Run) -> None:
    run("generate", "--visits", "60", "--users", "9", "-o", "whole.jsonl")
    lines = Path("whole.jsonl").read_bytes().splitlines(keepends=True)
    growing = Path("growing.jsonl")
    growing.write_bytes(b"".join(lines[:40]))
    run("ingest", "growing.jsonl")
    growing.write_bytes(b"".join(lines))
    done = run("ingest", "growing.jsonl")
    assert f"Continued growing.jsonl at byte {sum(map(len, lines[:40])):,}.\n20 visits from" in done.stderr
    assert store_rows() == model_of(growing).rows()


def test_a_pipe(run: Run) -> None:
    run("generate", "--visits", "500", "--days", "3", "--users", "40", *FAULTS, "-o", "visits.jsonl")
    done = run("ingest", "-", stdin=Path("visits.jsonl").read_bytes())
    assert done.exit_code == 0
    assert " visits from standard input in " in done.stderr
    assert store_rows() == model_of(Path("visits.jsonl")).rows()


def test_fields_and_units(run: Run, write_lines: WriteLines) -> None:
    path = write_lines(
        "clicks.jsonl",
        [
            {"ts": 1, "uid": "decoy", "time": 1468244384999, "user": {"id": "a"}},
            {"time": 1468244385000, "user": {"id": 5}},
        ],
    )
    flags = ["--ts-field", "time", "--uid-field", "user.id", "--ts-unit", "ms"]
    done = run("ingest", path.name, *flags)
    assert "2 visits" in done.stderr
    assert store_rows()["minute", 1468244340] == (2, 2)
    assert [run("exists", uid).exit_code for uid in ("a", "5", "decoy")] == [0, 0, 1]
    other = run("ingest", path.name, *flags[:-1], "s")
    assert other.exit_code == 65
    assert "--ts-unit ms" in other.stderr


def test_iso_times_without_an_offset_are_utc_and_it_says_so(run: Run, write_lines: WriteLines) -> None:
    write_lines(
        "iso.jsonl", [{"ts": "2016-07-11T13:39:44", "uid": "a"}, {"ts": "2016-07-11T15:39:44+02:00", "uid": "b"}]
    )
    done = run("ingest", "iso.jsonl", "--ts-unit", "iso8601", "--timezone", "Europe/Zurich")
    assert "time zone Europe/Zurich. Times without an offset count as UTC.\n" in done.stderr
    assert store_rows()["minute", 1468244340] == (2, 2)


def test_input_without_a_visit_is_refused(run: Run, write_lines: WriteLines) -> None:
    write_lines("ms.jsonl", [{"time": 1468244384000, "user": "a"}] * 3)
    done = run("ingest", "ms.jsonl")
    assert done.exit_code == 65
    (line,) = done.stderr.splitlines()
    assert line.startswith("uniqdb: ms.jsonl holds no visit in its first 3 records")
    assert "--ts-field time" in line
    assert "--uid-field user" in line
    assert sorted(path.name for path in Path().iterdir()) == ["ms.jsonl"]
    run("init")
    assert run("ingest", "ms.jsonl").exit_code == 65
    with uniqdb.open("visits.uniqdb", read_only=True) as db:
        assert (db.info().quarantined, db.info().commits) == ({}, 0)
    assert "--ts-unit ms" in run("ingest", "ms.jsonl", "--ts-field", "time", "--uid-field", "user").stderr


def test_strict(run: Run, write_lines: WriteLines) -> None:
    write_lines("bad.jsonl", [{"ts": 1468244384, "uid": "a"}, {"ts": 1468244384}])
    done = run("ingest", "bad.jsonl", "--strict")
    assert done.exit_code == 65
    assert "bad.jsonl, line 2: no_uid" in done.stderr
    assert run("ingest", "bad.jsonl").exit_code == 0


@pytest.mark.parametrize("name", ["missing.jsonl", ".", "two\nlines\x1b[31m"])
def test_a_file_that_cannot_be_read_creates_no_store(run: Run, name: str) -> None:
    done = run("ingest", name)
    assert done.exit_code == 66
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr
    assert not Path("visits.uniqdb").exists()


def test_another_time_zone_is_refused(run: Run, write_lines: WriteLines) -> None:
    write_lines("a.jsonl", [{"ts": 1468244384, "uid": "a"}])
    run("init", "--timezone", "Asia/Kolkata")
    done = run("ingest", "a.jsonl", "--timezone", "UTC")
    assert done.exit_code == 2
    assert "time zone Asia/Kolkata, not UTC" in done.stderr
    assert run("ingest", "a.jsonl").exit_code == 0


def test_a_store_that_cannot_be_made(run: Run, write_lines: WriteLines) -> None:
    write_lines("a.jsonl", [{"ts": 1468244384, "uid": "a"}])
    done = run("ingest", "a.jsonl", "--store", "a.jsonl/store")
    assert done.exit_code == 73
    assert done.stderr.startswith("uniqdb: cannot write ")
    Path("full").mkdir()
    Path("full/other").write_text("x")
    assert run("ingest", "a.jsonl", "--store", "full").exit_code == 73
    assert Path("full/other").read_text() == "x"


def test_a_second_writer_is_told_who_the_first_is(run: Run, run_process: Run, write_lines: WriteLines) -> None:
    write_lines("a.jsonl", [{"ts": 1468244384, "uid": "a"}])
    run("init")
    with uniqdb.open("visits.uniqdb"):
        done = run_process("ingest", "a.jsonl")  # type: ignore[assignment]
    assert done.returncode == 75  # type: ignore[attr-defined]
    assert f"is being written by process {os.getpid()}. " in done.stderr


def start_slow_ingest(environment: dict[str, str]) -> subprocess.Popen[str]:
    """An ingest of many small commits, which is in the middle of them when this returns."""
    command = [sys.executable, "-m", "uniqdb_cli", "ingest", "visits.jsonl", "--commit-visits", "50"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    patience_s = time.monotonic() + 60
    while time.monotonic() < patience_s and process.poll() is None:
        try:
            with uniqdb.open("visits.uniqdb", read_only=True) as db:
                if db.info().commits > 5:
                    return process
        except uniqdb.NotFound:
            pass
        time.sleep(0.01)
    raise AssertionError(f"it ended before it could be interrupted: {process.communicate()}")


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_ingest_is_continued(
    run: Run,
    process_environment: dict[str, str],
    number: signal.Signals,
    exit_code: int,
) -> None:
    run("generate", "--visits", "30000", "--days", "1", "--users", "300", "--record-bytes", "64", "-o", "visits.jsonl")
    process = start_slow_ingest(process_environment)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == exit_code, errors
    assert "Traceback" not in errors
    last = errors.splitlines()[-1]
    assert last.startswith(f"Interrupted by signal {number.value} at byte ")
    assert last.endswith("Run the same command again to continue there.")
    position = last.split("at byte ")[1].split(":")[0]

    with uniqdb.open("visits.uniqdb", read_only=True) as db:
        (source,) = db.info().sources
        assert f"{source.position_bytes:,}" == position
        assert not source.finished
        assert 0 < db.info().visits == source.visits < 30_000
    assert_sound(Path("visits.uniqdb"))

    done = run("ingest", "visits.jsonl")
    assert f"Continued visits.jsonl at byte {position}." in done.stderr
    assert store_rows() == model_of(Path("visits.jsonl")).rows()


def test_the_sample_is_what_the_generator_makes(run: Run) -> None:
    data = Path(__file__).resolve().parents[2] / "data"
    flags = ["--visits", "2000", "--days", "40", "--users", "400", "--skew", "0.8", "--daily-rhythm"]
    made = run("generate", *flags, "--lateness", "0.3", "5", "--seed", "7")
    assert made.stdout_bytes == (data / "sample_visits.jsonl").read_bytes()
    ten = run("generate", "--visits", "10", "--days", "1", "--users", "6", "--record-bytes", "150", "--seed", "7")
    examples = [json.loads(line) for line in ten.stdout.splitlines()]
    text = (data / "sample_data.json").read_text("utf-8")
    assert text == json.dumps(examples, indent=2, ensure_ascii=False) + "\n"
