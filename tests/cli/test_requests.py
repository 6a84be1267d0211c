"""Commands that write while another process is the store's writer."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import uniqdb
from engines import assert_sound

Run = Callable[..., Result]
WriteLines = Callable[[str, Sequence[object]], Path]
T, DAY_S = 1_468_244_340, 86_400
STORE = "visits.uniqdb"


def steady(start_s: int, seconds: int) -> list[object]:
    return [{"ts": start_s + at, "uid": f"v{at % 30}"} for at in range(seconds)]


LINES = [*steady(T, 200), {"ts": T - 5 * DAY_S, "uid": "old"}, "no record", *steady(T + 200, 1_200)]


def until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s, "it does not come true"
        time.sleep(0.01)


def visits() -> int:
    if not Path(STORE, "MANIFEST").exists():
        return 0
    with uniqdb.open(STORE, read_only=True) as db:
        return db.info().visits


def waiting() -> list[Path]:
    return list(Path(STORE, "requests").glob("*.request"))


@pytest.fixture
def process(process_environment: dict[str, str]) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start a command as a process; those that still run when the test is over are killed."""
    begun: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **more: Any) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "uniqdb_cli", *arguments]
        pipe = subprocess.PIPE
        begun.append(
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=process_environment, **more)
        )
        return begun[-1]

    yield start
    for one in begun:
        with one:
            one.kill()


@contextmanager
def frozen(child: "subprocess.Popen[str]") -> Iterator[None]:
    child.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        child.send_signal(signal.SIGCONT)


Process = Callable[..., "subprocess.Popen[str]"]


def test_quarantine_and_clock_while_a_file_is_followed(run: Run, process: Process, write_lines: WriteLines) -> None:
    write_lines("visits.jsonl", LINES)
    follower = process("ingest", "--follow", "visits.jsonl")
    until(lambda: visits() == 1_400)
    done = run("quarantine", "accept", "--reason", "too_late")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "1 visit counted.\n")
    assert run("exists", "old").exit_code == 0
    assert run("quarantine", "accept", "--from", "2016-07-01", "--to", "2016-07-31").stderr == "0 visits counted.\n"
    assert run("quarantine", "accept", "--all").stderr == (
        "0 visits counted.\n1 cannot be counted and stay in quarantine: not_an_object 1.\n"
    )
    assert run("quarantine", "discard", "--all").stderr == "1 record thrown away.\n"
    reset = run("clock", "reset", "visits.jsonl")
    assert reset.stderr == "visits.jsonl has no clock now; its next visits start one.\n"
    (shown,) = map(json.loads, run("clock", "show", "--format", "jsonl").stdout.splitlines())
    assert (shown["state"], shown["clock_s"]) == ("open", None)
    missing = run("clock", "reset", "b.jsonl")
    assert (missing.exit_code, missing.stderr) == (
        66,
        "uniqdb: there is no source 'b.jsonl'. The sources are: visits.jsonl.\n",
    )
    with Path("visits.jsonl").open("a") as file:
        file.writelines(json.dumps(one) + "\n" for one in steady(T + 90 * DAY_S, 100))
    until(lambda: visits() == 1_501)
    (shown,) = map(json.loads, run("clock", "show", "--format", "jsonl").stdout.splitlines())
    assert shown["clock_s"] >= T + 90 * DAY_S, "the next visits have started it"
    assert run("clock", "reset", "visits.jsonl", "--end").stderr == "visits.jsonl is over.\n"
    follower.send_signal(signal.SIGINT)
    assert follower.wait(60) == 130
    assert list(Path(STORE, "requests").iterdir()) == []
    assert_sound(Path(STORE))


def test_a_pipe_that_is_silent_serves(run: Run, process: Process) -> None:
    reader = process("ingest", "-")
    assert reader.stdin is not None
    reader.stdin.writelines(json.dumps(one) + "\n" for one in LINES)
    reader.stdin.flush()
    until(lambda: visits() == 1_400)
    assert run("quarantine", "discard", "--reason", "not_an_object").stderr == "1 record thrown away.\n"
    assert reader.poll() is None


def test_a_frozen_writer(run: Run, process: Process, write_lines: WriteLines) -> None:
    """Ctrl-C withdraws what it has not taken up; when it is killed, the command does it itself."""
    write_lines("visits.jsonl", LINES)
    follower = process("ingest", "--follow", "visits.jsonl")
    until(lambda: visits() == 1_400)
    with frozen(follower):
        interrupted = process("quarantine", "discard", "--all")
        until(waiting)
        interrupted.send_signal(signal.SIGINT)
        _, said = interrupted.communicate(timeout=60)
        assert interrupted.returncode == 130
        assert said == "Interrupted: the request to the process that writes the store is withdrawn.\n"
        assert not waiting()
    time.sleep(0.3)
    assert run("quarantine", "list", "--counts", "--format", "value").stdout == "2\n"
    with frozen(follower):
        both = [process("quarantine", "discard", "--reason", reason) for reason in ("not_an_object", "too_late")]
        until(lambda: len(waiting()) == 2)
        follower.send_signal(signal.SIGKILL)
        follower.wait(60)
        for one in both:
            assert one.communicate(timeout=60) == ("", "1 record thrown away.\n")
            assert one.returncode == 0
    assert list(Path(STORE, "requests").iterdir()) == []
    assert_sound(Path(STORE))


def test_a_writer_that_does_not_serve(
    run: Run, write_lines: WriteLines, process_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines("visits.jsonl", LINES)
    assert run("ingest", "visits.jsonl").exit_code == 0
    program = f"import time, uniqdb\nwith uniqdb.open({STORE!r}):\n    print(flush=True)\n    time.sleep(60)"
    monkeypatch.setattr("uniqdb_cli.writing.TAKEN_UP_S", 0.2)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=process_environment) as writer:
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            done = run("quarantine", "discard", "--all")
        finally:
            writer.kill()
    assert (done.exit_code, done.stderr.count("\n")) == (75, 1)
    assert f"is being written by process {writer.pid}, which does not serve requests" in done.stderr
    assert os.listdir(Path(STORE, "requests")) == []
    assert run("quarantine", "list", "--counts", "--format", "value").stdout == "2\n"
