"""``uniqdb demo``: the whole way from made-up visits to counts, as commands that can be typed again."""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from uniqdb.errors import CannotWrite, UniqdbError
from uniqdb_cli.output import is_terminal, printable, say

DEFAULT_DIR = Path("uniqdb-demo")
MARK_NAME = ".uniqdb-demo"
VISITS_NAME, STORE_NAME = "visits.jsonl", "visits.uniqdb"
OWN_NAMES = frozenset({MARK_NAME, ".gitignore", VISITS_NAME, STORE_NAME})
FIRST_DAY, DAYS, LAST_DAY = "2016-07-11", 60, "2016-09-08"
UNKNOWN_UID = "0000000000000000000"
NO = 1


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the demo and the sentence before it."""

    title: str
    arguments: Sequence[str]
    answers: frozenset[int] = frozenset({0})
    """Exit codes that are answers, not failures."""


def demo(
    visits: Annotated[int, typer.Option(metavar="N", min=100, help="How many visits to generate.")] = 1_000_000,
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where to; a former demo there is replaced.")
    ] = DEFAULT_DIR,
) -> None:
    """See it work, from visits to answers.

    Makes up visits of 60 days, counts them and asks questions. Each step is a command that you can type yourself.

    \b
      uniqdb demo
      uniqdb demo --visits 50000 --dir /tmp/uniqdb-demo
    """
    started_at_s = time.monotonic()
    _prepare(directory)
    places = directory / VISITS_NAME, directory / STORE_NAME
    for step in _first_steps(visits, *places):
        _run(step)
    uid = _first_uid(places[0])
    for step in _questions(places[1], uid):
        _run(step)
    print(f"\nThat took {time.monotonic() - started_at_s:.0f} s. The store is {printable(str(places[1]))}. Try:\n")
    for step in _endings(places[1], uid):
        print(f"  {_shown(step.arguments)}")


# ---------------------------------------------------------------- the steps
def _first_steps(visits: int, file: Path, store: Path) -> Iterator[Step]:
    size = ["--visits", str(visits), "--days", str(DAYS), "--start", FIRST_DAY]
    users = ["--users", str(max(10, visits // 10)), "--skew", "0.6", "--daily-rhythm"]
    faults = ["--lateness", "0.3", "5", "--malformed", "0.0001", "--record-bytes", "200"]
    yield Step("Make up visits", ["generate", *size, *users, *faults, "--output", str(file)])
    yield Step("Count them", ["ingest", str(file), "--store", str(store)])


def _questions(store: Path, uid: str) -> Iterator[Step]:
    def query(*options: str) -> list[str]:
        return ["query", *options, "--store", str(store), "--format", "table"]

    evening = f"{LAST_DAY}T20"
    yield Step(
        "Each of the last minutes", query("--by", "minute", "--from", f"{evening}:55", "--to", f"{LAST_DAY}T21:00")
    )
    yield Step("Each of the last hours", query("--by", "hour", "--from", f"{LAST_DAY}T18", "--to", f"{LAST_DAY}T23"))
    yield Step("Each of the last days", query("--by", "day", "--from", "2016-09-02", "--to", LAST_DAY))
    yield Step("Each week", query("--by", "week"))
    yield Step("Each month", query("--by", "month"))
    yield Step("Each year", query("--by", "year"))
    yield Step("The last 7, 30, 90, 180 and 365 days", query())
    asked = ["exists", uid, UNKNOWN_UID, "--window", "30d", "--store", str(store), "--format", "table"]
    yield Step("Were these visitors here?", asked, frozenset({0, NO}))
    yield Step("Is every checksum and every count right?", ["check", "--store", str(store)])


def _endings(store: Path, uid: str) -> Iterator[Step]:
    yield Step("", ["query", "--store", str(store), "--window", "30d"])
    yield Step("", ["exists", uid, "--store", str(store)])
    yield Step("", ["info", "--store", str(store)])


def _first_uid(file: Path) -> str:
    """A visitor that is surely there: of the first line that is a visit."""
    import json

    with file.open("rb") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and isinstance(record.get("uid"), str) and isinstance(record.get("ts"), int):
                return str(record["uid"])
    return UNKNOWN_UID


# ---------------------------------------------------------------- running them
class _StepFailed(UniqdbError):
    """A command of the demo failed; it has said why."""


def _run(step: Step) -> None:
    import subprocess

    bold, plain = ("\033[1m", "\033[0m") if is_terminal(sys.stdout) else ("", "")
    print(f"\n{step.title}\n{bold}$ {_shown(step.arguments)}{plain}", flush=True)
    code = subprocess.run([sys.executable, "-m", "uniqdb_cli", *step.arguments], check=False).returncode
    if code not in step.answers:
        failed = _StepFailed(f"that command ended with {code}", hint="its own message, above, says why")
        failed.exit_code = code if code > 0 else 128 - code
        raise failed


def _shown(arguments: Sequence[str]) -> str:
    """The command as it can be pasted where the demo was started."""
    return shlex.join([*_program(), *arguments])


def _program() -> list[str]:
    """How this program was called: by name if the shell finds it, else by its shortest path."""
    called = Path(sys.argv[0])
    if called.name != "uniqdb":
        python = "python" if _is_same(shutil.which("python"), sys.executable) else _near(Path(sys.executable))
        return [python, "-m", "uniqdb_cli"]
    return ["uniqdb"] if _is_same(shutil.which("uniqdb"), str(called)) else [_near(called)]


def _is_same(found: str | None, wanted: str) -> bool:
    # Not resolved: a virtual environment's python is a link to another one that lacks the package.
    return found is not None and os.path.abspath(found) == os.path.abspath(wanted)


def _near(path: Path) -> str:
    """Relative if it lies below the current directory."""
    absolute = Path(os.path.abspath(path))
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


# ---------------------------------------------------------------- the directory
def _prepare(directory: Path) -> None:
    """An empty directory of ours. Nothing is removed that a demo did not make."""
    try:
        if directory.exists() and any(directory.iterdir()) and not (directory / MARK_NAME).is_file():
            raise CannotWrite(f"{directory} is there and is no former demo", hint="name another with --dir")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / MARK_NAME).write_text("Made by `uniqdb demo`, which may replace what it finds here.\n")
        (directory / ".gitignore").write_text("*\n")
        (directory / VISITS_NAME).unlink(missing_ok=True)
        if (directory / STORE_NAME).is_dir():
            shutil.rmtree(directory / STORE_NAME)
    except OSError as error:
        raise CannotWrite(
            f"cannot write {directory}: {error.strerror}", hint="name another directory with --dir"
        ) from None
    others = sorted(one.name for one in directory.iterdir() if one.name not in OWN_NAMES)
    if others:
        say(f"Left alone in {directory}: {', '.join(others)}.")
