"""What users get wrong, and what the world does to them: one clear line, and nothing written that should not be."""

import gzip
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import uniqdb
from cli.oracle import model_of
from cli.test_exit_codes import has_visits
from engines import assert_sound, rows_of

Run = Callable[..., Result]
VISITS = "".join(json.dumps({"ts": 1_468_244_384 + number, "uid": f"u{number % 7}"}) + "\n" for number in range(50))


def one_line(done: Result, exit_code: int, *words: str) -> None:
    assert done.exit_code == exit_code, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("uniqdb: ")
    for word in words:
        assert word in done.stderr


def files() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("other.jsonl", b'{"time":1468244384,"visitor":"a"}\n', ["--ts-field time", "--uid-field visitor"]),
        ("ms.jsonl", b'{"ts":1468244384000,"uid":"a"}\n', ["look like milliseconds: try --ts-unit ms;"]),
        ("table.csv", b"ts,uid\n1468244384,a\n", ["one JSON object per line"]),
        ("false.gz", VISITS.encode(), ["named like a gzip file but is none"]),
        ("false.zst", gzip.compress(VISITS.encode()), ["named like a zstd file but is none"]),
    ],
)
def test_refused_input_leaves_no_store_behind(run: Run, name: str, content: bytes, words: list[str]) -> None:
    Path(name).write_bytes(content)
    one_line(run("ingest", name), 65, *words)
    assert files() == [name]
    # So its time zone was not chosen, either.
    Path("good.jsonl").write_text(VISITS)
    assert run("ingest", "good.jsonl", "--timezone", "Europe/Zurich").exit_code == 0


def test_strict_leaves_nothing_of_a_first_commit(run: Run) -> None:
    Path("bad.jsonl").write_text(VISITS + "{bad\n")
    one_line(run("ingest", "bad.jsonl", "--strict"), 65, "bad.jsonl, line 51: malformed")
    assert files() == ["bad.jsonl"]


def test_a_damaged_file_is_counted_as_far_as_it_goes(run: Run) -> None:
    packed = gzip.compress(VISITS.encode() * 40)
    Path("cut.jsonl.gz").write_bytes(packed[: len(packed) * 3 // 4])
    Path("good.jsonl").write_text(VISITS)
    done = run("ingest", "cut.jsonl.gz", "good.jsonl")
    assert done.exit_code == 65
    assert "cut.jsonl.gz cannot be read beyond byte" in done.stderr
    assert "50 visits from good.jsonl" in done.stderr
    listed = run("quarantine", "list", "--format", "jsonl")
    (row,) = map(json.loads, listed.stdout.splitlines())
    assert (row["reason"], row["origin"]) == ("damaged", "cut.jsonl.gz")
    assert f"beyond byte {row['position']:,}" in done.stderr


def test_of_several_files_each_refusal_is_said_once(run: Run) -> None:
    Path("a.gz").write_text(VISITS)
    Path("b.jsonl").write_text(VISITS)
    Path("c.jsonl").write_text(VISITS.replace("u", "v", 1) * 2)
    done = run("ingest", "a.gz", "b.jsonl", "c.jsonl")
    assert done.exit_code == 65
    errors = [line for line in done.stderr.splitlines() if line.startswith("uniqdb: ")]
    assert len(errors) == 2
    assert "named like a gzip file" in errors[0]
    assert errors[1].startswith("uniqdb: not every input could be read.")


def test_a_store_of_another_zone_and_a_question_before_the_first_visit(run: Run) -> None:
    Path("v.jsonl").write_text(VISITS)
    run("init", "--timezone", "Asia/Kolkata")
    one_line(run("ingest", "v.jsonl", "--timezone", "UTC"), 2, "Asia/Kolkata, not UTC")
    one_line(run("query", "--window", "30d"), 66, "no visits yet")
    with uniqdb.open("visits.uniqdb", read_only=True) as db:
        assert db.info().commits == 0


def test_what_does_not_go_together(run: Run) -> None:
    Path("a.jsonl").write_text(VISITS)
    Path("b.jsonl").write_text(VISITS)
    Path("c.gz").write_bytes(gzip.compress(VISITS.encode()))
    one_line(run("ingest", "a.jsonl", "b.jsonl", "--source-name", "x"), 2, "one by one")
    one_line(run("ingest", "a.jsonl", "a.jsonl"), 2, "named twice")
    one_line(run("ingest", "--follow", "-"), 2, "cannot be followed")
    one_line(run("ingest", "a.jsonl", "missing.jsonl"), 66, "missing.jsonl does not exist")
    one_line(run("quarantine", "list", "--reason", "ugly"), 2, "no reason 'ugly'", "malformed")
    assert files() == ["a.jsonl", "b.jsonl", "c.gz"]
    followed = run("ingest", "--follow", "c.gz")
    assert followed.exit_code == 65
    assert "cannot be followed" in followed.stderr


def test_a_full_disk_is_73_and_the_rest_is_read_when_there_is_room(
    run: Run, process_environment: dict[str, str]
) -> None:
    run("generate", "--visits", "60000", "--users", "60000", "--days", "2", "--record-bytes", "64", "-o", "v.jsonl")
    # A limit on the size of files is a full disk that needs no disk of its own.
    limited = (
        "import resource, sys; from uniqdb_cli.main import run; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)); sys.argv[0] = 'uniqdb'; run()"
    )
    command = [sys.executable, "-c", limited, "ingest", "v.jsonl", "--commit-visits", "5000"]
    done = subprocess.run(command, capture_output=True, text=True, env=process_environment, timeout=120, check=False)
    assert done.returncode == 73, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("uniqdb: the commit was undone")
    assert_sound(Path("visits.uniqdb"))
    with uniqdb.open("visits.uniqdb", read_only=True) as db:
        (source,) = db.info().sources
        assert 0 < db.info().visits == source.visits < 60_000
    assert run("ingest", "v.jsonl").exit_code == 0
    with uniqdb.open("visits.uniqdb", read_only=True) as db:
        assert rows_of(db) == model_of(Path("v.jsonl")).rows()


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_following_ends_with_a_signal_and_goes_on_later(
    run: Run, process_environment: dict[str, str], number: signal.Signals, exit_code: int
) -> None:
    path = Path("v.jsonl")
    path.write_text(VISITS)
    command = [sys.executable, "-m", "uniqdb_cli", "ingest", "--follow", "v.jsonl"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=process_environment) as process:
        patience_s = time.monotonic() + 60
        visits = 0
        while visits < 100 and time.monotonic() < patience_s:
            time.sleep(0.1)
            try:
                with uniqdb.open("visits.uniqdb", read_only=True) as db:
                    visits = db.info().visits
            except uniqdb.NotFound:
                continue
            if visits == 50 and path.stat().st_size == len(VISITS):
                with path.open("a") as file:
                    file.write(VISITS)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert visits == 100
    assert process.returncode == exit_code, errors
    assert errors.splitlines()[-1].endswith("Run the same command again to continue there.")
    with path.open("a") as file:
        file.write(VISITS)
    assert "50 visits from v.jsonl" in run("ingest", "v.jsonl").stderr


def test_the_quarantine_in_every_format(run: Run) -> None:
    Path("v.jsonl").write_bytes(VISITS.encode() + b'{bad \xff\x1b[31m\n{"ts":-5,"uid":"old"}\n{"ts":1}\n')
    assert run("ingest", "v.jsonl").exit_code == 0
    rows = [json.loads(line) for line in run("quarantine", "list").stdout.splitlines()]
    assert [(row["id"], row["reason"], row["line"]) for row in rows] == [
        (0, "malformed", 51),
        (1, "implausible", 52),
        (2, "no_uid", 53),
    ]
    assert rows[0]["record"] == "{bad \\xff\x1b[31m"
    assert (rows[1]["event_time_s"], rows[1]["uid"], rows[1]["record"]) == (-5, "old", "")
    assert json.loads(run("quarantine", "list", "--format", "json").stdout) == rows
    assert run("quarantine", "list", "--format", "csv").stdout.count("\n") == 4
    assert run("quarantine", "list", "--format", "value", "--reason", "no_uid").stdout == "2\n"
    assert run("quarantine", "list", "--format", "value", "--max", "2").stdout == "0\n1\n"
    assert run("quarantine", "list", "--format", "value", "--to", "2001-01-01T00:00").stdout == "1\n2\n"
    assert run("quarantine", "list", "--source", "elsewhere").stdout == ""
    table = run("quarantine", "list", "--format", "table").stdout
    assert "1969-12-31T23:59:55+00:00 old" in table
    assert "\x1b" not in table
    assert run("quarantine", "list", "--counts", "--format", "value").stdout == "3\n"
    (first, *_) = map(json.loads, run("quarantine", "list", "--counts").stdout.splitlines())
    assert first == {"origin": "v.jsonl", "reason": "implausible", "kept": 1, "counted": 0}


def test_a_full_quarantine_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIQDB_QUARANTINE_MAX_ROWS", "1")
    Path("v.jsonl").write_text(VISITS + "{bad\n" * 5)
    done = run("ingest", "v.jsonl")
    assert done.exit_code == 0
    assert "Quarantine is full: 4 refused records are only counted" in done.stderr
    listed = run("quarantine", "list")
    assert listed.stdout.count("\n") == 1
    assert listed.stderr.startswith("4 more are only counted")
    (counts,) = map(json.loads, run("quarantine", "list", "--counts").stdout.splitlines())
    assert (counts["kept"], counts["counted"]) == (1, 4)


def test_a_pipe_that_drips_can_be_interrupted(run: Run, process_environment: dict[str, str]) -> None:
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "uniqdb_cli", "ingest", "-"]
    with subprocess.Popen(command, stdin=reader, stderr=subprocess.PIPE, text=True, env=process_environment) as process:
        os.close(reader)
        os.write(writer, VISITS.encode())
        patience_s = time.monotonic() + 60
        while not has_visits(Path("visits.uniqdb")) and time.monotonic() < patience_s:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        os.close(writer)
    assert process.returncode == 130, errors
    assert "what was read is committed; a pipe cannot be continued" in errors
    assert run("query", "--by", "year").stdout.count('"visits":50') == 1


@pytest.mark.parametrize(
    ("record", "advice"),
    [
        (
            {"timestamp": 1_468_244_384_123, "user_id": "a"},
            "values around 1.5e+12 look like milliseconds: try --ts-field timestamp --ts-unit ms --uid-field user_id;",
        ),
        ({"meta": {"at": 1_468_244_384}, "user": {"id": 7}}, "try --ts-field meta.at --uid-field user.id;"),
        ({"ts": "1468244384000000", "uid": 1}, "values around 1.5e+15 look like microseconds: try --ts-unit us;"),
        ({"ts": "2016-07-11T13:39:44Z", "uid": 1}, "look like ISO 8601: try --ts-unit iso8601;"),
        ({"event time": 1_468_244_384, "client": "a"}, "try --ts-field 'event time'; name the uid with --uid-field;"),
        (
            {"page_id": 1, "created_at": "2016-07-11"},
            "2016-07-11 look like ISO 8601: try --ts-field created_at --ts-unit iso8601;",
        ),
        ({"a": 1, "b": 2}, "name the time with --ts-field; name the uid with --uid-field;"),
        ({"ts": 1_468_244_384, "uid": ""}, "check the values of the time and the uid;"),
        # What cannot be shown as it is cannot be typed either.
        ({"time\x1b": 1_468_244_384, "uid": "a"}, "name the time with --ts-field;"),
    ],
)
def test_the_advice_on_a_refused_input_can_be_typed(
    run: Run, write_lines: Callable[..., Path], record: dict[str, object], advice: str
) -> None:
    write_lines("v.jsonl", [record])
    done = run("ingest", "v.jsonl")
    assert done.exit_code == 65
    assert advice in done.stderr
    if "; try " in done.stderr or ": try " in done.stderr:
        flags = shlex.split(advice.split("try ")[1].split(";", maxsplit=1)[0])
        again = run("ingest", "v.jsonl", *flags)
        assert again.exit_code == (65 if "name the uid" in done.stderr else 0), again.stderr
