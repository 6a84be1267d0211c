"""The program as a whole: help, version, errors in one line, closed pipes, closed and full outputs, output helpers."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import uniqdb
from uniqdb.errors import NotFound
from uniqdb_cli.output import error_line, print_table, printable

Run = Callable[..., Result]
RunProcess = Callable[..., subprocess.CompletedProcess[str]]
COMMANDS = [
    *(
        "init",
        "ingest",
        "query",
        "cohorts",
        "stickiness",
        "exists",
        "members",
        "info",
        "top",
        "check",
        "verify",
        "generate",
        "demo",
    ),
    *("completion", "serve-stream", "publish-trailing", "serve-http", "sweep", "forget", "compact"),
    "migrate",
    *("backup", "restore", "dump", "load", "merge", "sum", "produce", "subscribe"),
    *("export", "topics", "dev-broker", "quarantine", "clock", "config"),
]
HEAVY = {
    "numpy",
    "lmdb",
    "msgspec",
    "pyroaring",
    "xxhash",
    "rich",
    "confluent_kafka",
    "tomllib",
    "starlette",
    "uvicorn",
    "pyarrow",
}


def test_help_lists_every_command(run: Run) -> None:
    done = run("--help")
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.split("Commands:\n")[1].splitlines()] == COMMANDS
    assert "..." not in done.stdout.split("Commands:\n")[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example(run: Run, command: str) -> None:
    for flag in ("--help", "-h"):
        done = run(command, flag)
        assert done.exit_code == 0
        assert f"\n    uniqdb {command}" in done.stdout
        assert "\b" not in done.stdout


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"uniqdb {uniqdb.__version__}\n"


def test_without_a_command_it_shows_the_help(run: Run) -> None:
    done = run()
    assert "Commands:" in done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["query", "--help"], ["--version"], ["query", "--wrong"]])
def test_nothing_heavy_is_loaded_before_it_is_needed(process_environment: dict[str, str], arguments: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "uniqdb_cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=process_environment, timeout=120, check=False)
    loaded = {match.split(".")[0] for match in re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE)}
    assert "uniqdb_cli" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("arguments", [["qwery"], ["query", "--wrong"], ["ingest"], ["ingest", "a", "a"]])
def test_usage_errors_are_2(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr


def test_a_setting_that_does_not_exist_is_2(run: Run) -> None:
    Path("uniqdb.toml").write_text('stroe = "x"\n')
    done = run("query")
    assert done.exit_code == 2
    assert done.stderr == "uniqdb: uniqdb.toml: there is no setting 'stroe'. Did you mean store?\n"


def test_a_settings_file_is_used_by_the_commands(run: Run) -> None:
    Path("other.toml").write_text('store = "from-file.uniqdb"\ntimezone = "Asia/Tokyo"\n')
    assert run("init", "--config", "other.toml").exit_code == 0
    with uniqdb.open("from-file.uniqdb", read_only=True) as db:
        assert db.timezone == "Asia/Tokyo"
    assert run("info", "--config", "missing.toml").exit_code == 66


def test_errors_of_a_real_process_are_one_line(run_process: RunProcess) -> None:
    done = run_process("query", "--store", "no\x1b[31m\nthing")
    assert (done.returncode, done.stdout) == (66, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("uniqdb: there is no store at ")
    assert "no\\x1b[31m\\nthing" in done.stderr


@pytest.mark.parametrize("arguments", [["generate", "--visits", "200000"], ["query", "--by", "minute", "--fill"]])
def test_a_reader_that_has_seen_enough_ends_it_silently(
    run: Run, process_environment: dict[str, str], arguments: list[str]
) -> None:
    run("ingest", "-", stdin='{"ts":1468195200,"uid":"a"}\n{"ts":1470195200,"uid":"a"}\n')
    command = [sys.executable, "-m", "uniqdb_cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=process_environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert errors == b""
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [["generate", "--visits", "5"], ["info"]])
def test_a_full_disk_behind_standard_output_is_73(
    run: Run, process_environment: dict[str, str], arguments: list[str]
) -> None:
    run("init")
    command = [sys.executable, "-m", "uniqdb_cli", *arguments]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=process_environment, timeout=120, check=False
        )
    assert done.returncode == 73
    assert done.stderr == "uniqdb: cannot write: No space left on device. Check the space on the disk.\n"


def test_generate_into_a_file_that_cannot_be_written(run: Run) -> None:
    done = run("generate", "--visits", "5", "-o", "no/such/place.jsonl")
    assert done.exit_code == 73
    assert done.stderr.startswith("uniqdb: cannot write no/such/place.jsonl: No such file or directory. ")


@pytest.mark.parametrize(
    ("arguments", "lines", "last_s"),
    [
        (["--visits", "0"], 0, None),
        (["--visits", "7"], 7, 6),
        (["--visits", "10", "--rate", "0.1"], 10, 90),
        (["--visits", "4", "--days", "2"], 4, 3 * 43200),
        (["--days", "0.01", "--rate", "0.125"], 108, 107 * 8),
        (["--days", "0.001"], 86, 85),
        ([], 10_000, 9_999),
    ],
)
def test_generate_makes_the_third_of_visits_days_and_rate(
    run: Run, arguments: list[str], lines: int, last_s: int | None
) -> None:
    done = run("generate", *arguments, "--record-bytes", "64", "--start", "2016-07-11T02:00:00+02:00")
    found = done.stdout.splitlines()
    assert len(found) == lines
    if last_s is not None:
        assert f'"ts":{1468195200 + last_s}' in found[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--visits", "1", "--days", "1", "--rate", "1"],
        ["--visits", "-1"],
        ["--days", "0"],
        ["--rate", "nan"],
        ["--start", "soon"],
        ["--malformed", "2"],
        ["--record-bytes", "10"],
        ["--users", "0"],
        ["--lateness", "0.5"],
        ["--lateness", "0.5", "0"],
    ],
)
def test_generate_refuses_what_cannot_be(run: Run, arguments: list[str]) -> None:
    done = run("generate", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")


# ---------------------------------------------------------------- output helpers
def test_printable() -> None:
    assert printable("Zürich, 東京 \U0001f600") == "Zürich, 東京 \U0001f600"
    assert printable("a\x1b[0m\n\t\u202e\udcff\x00") == "a\\x1b[0m\\n\\t\\u202e\\udcff\\x00"


@pytest.mark.parametrize(
    ("hint", "end"),
    [
        ("check the path", "Check the path."),
        ("--again reads it anew", "--again reads it anew."),
        ("did you mean x?", "Did you mean x?"),
    ],
)
def test_error_line(hint: str, end: str) -> None:
    assert error_line(NotFound("there is no file x", hint=hint)) == f"uniqdb: there is no file x. {end}"


def test_a_narrow_terminal_cuts_no_digit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    row = ["2016-07-11T00:00+00:00", "1,234,567,890", "[bold]not markup[/bold] :smile:"]
    print_table("title", ["from", "unique visitors#", "note"], [row, ["", "5", ""]])
    text = capsys.readouterr().out
    assert all(cell in text for cell in row)
    assert all(line == line.rstrip() for line in text.splitlines())
    lines = text.splitlines()
    assert lines[-1].rindex("5") == lines[-2].index("1,234,567,890") + len("1,234,567,890") - 1


def test_closed_standard_output_is_no_crash(process_environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "uniqdb_cli", "init"]
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@" >&-', "sh", *command],
        stderr=subprocess.PIPE,
        text=True,
        env=process_environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert os.path.isdir("visits.uniqdb")
