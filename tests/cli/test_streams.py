"""Standard streams that are closed, full, or left by their reader: the exit code stays the answer, in one line at most.

With Python's output buffered, as for a user, and unbuffered, as in many containers: there writes fail at other moments.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]
RunProcess = Callable[..., subprocess.CompletedProcess[str]]
VISITS = "".join(f'{{"ts":{1468195200 + number * 90},"uid":"{number % 7}"}}\n' for number in range(300))
DISK_FULL = "uniqdb: cannot write: No space left on device. Check the space on the disk.\n"
CLOSE = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-"}
DIFFERS = ["verify", "--against", "other.jsonl"]
ANSWERS_NO = [
    *(["exists", "nobody", "--format", form] for form in ("table", "value")),
    *([*DIFFERS, "--by", "day", "--format", form] for form in ("table", "jsonl")),
]
ANSWERS = [
    *(["query", "--format", form] for form in ("table", "csv")),
    *(["info"], ["members", "--period", "2016"], ["generate", "--visits", "3"]),
]


@pytest.fixture(params=["buffered", "unbuffered"])
def environment(request: pytest.FixtureRequest, process_environment: dict[str, str]) -> dict[str, str]:
    unbuffered = {"PYTHONUNBUFFERED": "1"} if request.param == "unbuffered" else {}
    return {**process_environment, **unbuffered}


@pytest.fixture
def store(here: Path, run: Run) -> Path:
    """A store in the default place, and a file that it was not fed with."""
    (here / "v.jsonl").write_text(VISITS)
    (here / "other.jsonl").write_text('{"ts":1468195200,"uid":"x"}\n')
    assert run("ingest", "v.jsonl").exit_code == 0
    return here / "visits.uniqdb"


def run_into(output: int, environment: dict[str, str], arguments: list[str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "uniqdb_cli", *arguments]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )


def run_closed(stream: str, environment: dict[str, str], arguments: list[str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "uniqdb_cli", *arguments]
    return subprocess.run(
        ["/bin/sh", "-c", f'"$@" {CLOSE[stream]}', "sh", *command],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )


@pytest.fixture
def nobody_reads() -> Iterator[int]:
    """The end to write to of a pipe whose reader is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.mark.usefixtures("store")
def test_a_no_is_a_no_whoever_reads_it(environment: dict[str, str], nobody_reads: int) -> None:
    for arguments in ANSWERS_NO:
        done = run_into(nobody_reads, environment, arguments)
        assert done.returncode == 1, (arguments, done.stderr)
        # The summary of `verify` counts also what nobody read.
        expected = (
            "" if arguments[0] == "exists" else " buckets of the store ./visits.uniqdb differ from the recount of "
        )
        assert expected in done.stderr
        assert done.stderr.count("\n") == (arguments[0] == "verify")


@pytest.mark.usefixtures("store")
def test_the_summary_counts_every_difference_though_nobody_reads(
    process_environment: dict[str, str], nobody_reads: int
) -> None:
    with_reader = run_into(subprocess.DEVNULL, process_environment, DIFFERS)
    assert run_into(nobody_reads, process_environment, DIFFERS).stderr == with_reader.stderr


def test_damage_is_damage_whoever_reads_it(process_environment: dict[str, str], store: Path, nobody_reads: int) -> None:
    data = bytearray((store / "g1" / "data.mdb").read_bytes())
    for at in range(2 * 4096 + 100, len(data), 512):
        data[at] ^= 1
    (store / "g1" / "data.mdb").write_bytes(data)
    for arguments in (["check"], ["query", "--by", "minute"]):
        done = run_into(nobody_reads, process_environment, arguments)
        assert done.returncode == 74, (arguments, done.stderr)
        assert done.stderr.startswith("uniqdb: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("store")
def test_a_yes_that_nobody_reads_ends_silently(process_environment: dict[str, str], nobody_reads: int) -> None:
    for arguments in ANSWERS:
        done = run_into(nobody_reads, process_environment, arguments)
        assert (done.returncode, done.stderr) == (0, ""), arguments


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.usefixtures("store")
def test_an_answer_that_cannot_be_written_is_73(environment: dict[str, str]) -> None:
    with Path("/dev/full").open("wb") as full:
        for arguments in ANSWERS_NO:
            done = run_into(full.fileno(), environment, arguments)
            assert (done.returncode, done.stderr) == (73, DISK_FULL), arguments


@pytest.mark.usefixtures("store")
def test_a_closed_output_is_as_good_as_none(process_environment: dict[str, str]) -> None:
    for arguments in [*ANSWERS, *ANSWERS_NO]:
        done = run_closed("stdout", process_environment, arguments)
        assert done.returncode == (1 if arguments in ANSWERS_NO else 0), (arguments, done.stderr)
        assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("store")
def test_errors_never_stand_among_the_answers(process_environment: dict[str, str]) -> None:
    done = run_closed("stderr", process_environment, ["query", "--window", "soon"])
    assert (done.returncode, done.stdout) == (2, "")
    done = run_closed("stderr", process_environment, DIFFERS)
    assert done.returncode == 1
    assert all(line.startswith('{"granularity":') for line in done.stdout.splitlines())


@pytest.mark.usefixtures("store")
def test_a_closed_input_is_an_empty_one(process_environment: dict[str, str]) -> None:
    assert run_closed("stdin", process_environment, ["verify", "--against", "v.jsonl", "-"]).returncode == 0
    assert run_closed("stdin", process_environment, ["verify", "--against", "-", "--by", "year"]).returncode == 1
