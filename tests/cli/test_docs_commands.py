"""What the documents show is run: commands in a shell, Python as it stands, each with the output that is shown.

A page's blocks run one after the other in one directory, as a reader would run them. ``...`` in an output stands for
anything within a line (durations); in a Python block the output is the comment after a ``print``.
"""

import contextlib
import doctest
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
ELSEWHERE = {"docs/exports.md": "needs pyarrow, DuckDB, Polars and ClickHouse; tests/exports runs it where these are"}
"""Pages that another test runs, and why."""
NOT_RUN = {
    "git clone": "the clone is this tree",
    "git pull": "as above",
    "conda ": "needs conda",
    "python -m pip install ipykernel": "make test-docs runs the notebook in an environment that has it",
    "python -m pip install '.[notebook]'": "as above",
    "python -m ipykernel install": "writes into the home directory; as above",
    "cd uniqdb": "as above",
    "make": "builds environments and runs this very test; the build server runs it",
    ". .venv/bin/activate": "the environment of the test run takes its place",
    "uniqdb serve-stream": "needs a broker; tests/kafka runs it",
    "uniqdb publish-trailing": "as above",
    "uniqdb sum": "adds stores that such services fill; tests/kafka/test_shards.py runs it",
    "uniqdb serve-http": "has no end; tests/web runs it",
    "curl ": "asks that server; tests/web asks it the same",
    'python -m pip install "uniqdb[http]"': "the environment of the test run takes its place",
    "python -m pip install pyarrow": "as above",
    "openssl rand": "needs openssl; tests/web makes a token",
    "uniqdb dev-broker": "tests/kafka/test_dev_broker.py runs the README's way with it",
    "uniqdb generate --visits 5000 ": "as above",
    "uniqdb generate --live": "has no end; tests/kafka runs it",
    "uniqdb subscribe": "as above",
    "uniqdb produce": "as above",
    "uniqdb topics": "as above",
    "docker ": "needs a Docker daemon; tests/unit/test_deploy.py runs compose where there is one",
    "uniqdb ingest --follow": "has no end; tests/stream follows files",
    "psql ": "needs a PostgreSQL with that table; the page's Python does the same with SQLite",
    "sqlite3 ": "needs a file with that table; as above",
    "sudo ": "changes the machine; tests/kafka/test_service_manager.py runs the service under a manager of its own",
    "systemctl ": "as above",
    "journalctl ": "as above",
}
"""Beginnings of commands that are shown but not run, and why."""
NEEDS = {"redis-cli": "redis-server"}
"""Programs that pages use and not every machine has, and what to install for them. The build server has them."""
BLOCK = re.compile(r"^( *)```(console|sh|python)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^\s*print\(.*\)  # (.*)$", re.MULTILINE)


@dataclass(slots=True)
class Step:
    """A command or a program, and the lines that it is said to print (None: nothing is said)."""

    kind: str
    code: str
    shown: list[str] | None = field(default=None)


def steps_of(page: str) -> Iterator[Step]:
    for indent, kind, indented in BLOCK.findall(page):
        body = re.sub(rf"^{indent}", "", indented, flags=re.MULTILINE)
        if kind == "python":
            yield Step(kind, body, PRINTED.findall(body))
        elif kind == "sh":
            yield from (Step("shell", line) for line in body.splitlines() if line.strip())
        else:
            step: Step | None = None
            for line in body.splitlines():
                if line.startswith("$ "):
                    if step is not None:
                        yield step
                    step = Step("shell", line[2:], [])
                else:
                    assert step is not None, "a console block begins with a command"
                    step.shown = [*(step.shown or []), line.rstrip()]
            if step is not None:
                yield step


def is_run(step: Step) -> bool:
    return step.kind == "python" or not any(step.code.split("  #")[0].startswith(begin) for begin in NOT_RUN)


def same_lines(shown: list[str], printed: list[str]) -> bool:
    patterns = [".*".join(map(re.escape, line.split("..."))) for line in shown]
    return len(shown) == len(printed) and all(map(re.fullmatch, patterns, printed))


def environment_of(folder: Path, python: str | Path) -> dict[str, str]:
    """``uniqdb`` on the path, no setting from outside."""
    folder.mkdir()
    program = folder / "uniqdb"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} -m uniqdb_cli "$@"\n')
    program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("UNIQDB_")}
    sources = os.pathsep.join([str(ROOT / "engine"), str(ROOT / "cli")])
    path = os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)])
    return {**kept, "PATH": path, "PYTHONPATH": sources, "COLUMNS": "100", "PYTHONUTF8": "1"}


@contextlib.contextmanager
def redis_of_our_own(environment: dict[str, str]) -> Iterator[None]:
    """A Redis that is asked through a socket in a file, so that `redis-cli` meets it and no other."""
    folder = Path(environment["PATH"].partition(os.pathsep)[0])
    # A path in tmp_path may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="redis-") as place:
        socket, client = Path(place) / "socket", shutil.which("redis-cli")
        command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", place]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                patience_s = time.monotonic() + 30
                while not socket.exists() and time.monotonic() < patience_s:
                    time.sleep(0.05)
                program = folder / "redis-cli"
                program.write_text(f'#!/bin/sh\nexec {client} -s {socket} "$@"\n')
                program.chmod(0o755)
                yield
            finally:
                server.terminate()


def assert_page_does_what_it_shows(page: str, folder: Path, python: str | Path = sys.executable) -> None:
    """Run a page's blocks in an empty folder, beside a Redis if it has one asked."""
    here, environment, text = folder / "here", environment_of(folder / "bin", python), (ROOT / page).read_text("utf-8")
    here.mkdir()
    with contextlib.ExitStack() as stack:
        for program, package in NEEDS.items():
            if f"$ {program} " in text or f'"{program}"' in text:
                if shutil.which(program) is None or shutil.which(package) is None:
                    assert not os.environ.get("CI"), f"{page} needs {package}: .ci/run installs it"
                    pytest.skip(f"needs {package}")
                stack.enter_context(redis_of_our_own(environment))
        run_page(page, list(filter(is_run, steps_of(text))), (here, python), environment)


def run_page(page: str, steps: list[Step], where: tuple[Path, str | Path], environment: dict[str, str]) -> None:
    """Run the blocks in a folder, those of Python by this program."""
    here, python = where
    for step in steps:
        command = ["/bin/sh", "-c", step.code] if step.kind == "shell" else [str(python), "-c", step.code]
        done = subprocess.run(
            command,
            cwd=here,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
        printed = [line.rstrip() for line in done.stdout.decode().splitlines()]
        assert done.returncode == 0, f"{page}: {step.code}\n{done.stdout.decode()}"
        while printed and not printed[-1]:
            printed.pop()
        if step.shown is not None:
            assert same_lines(step.shown, printed), f"{page}: {step.code}\nprinted " + "\n".join(printed)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ELSEWHERE])
def test_page_does_what_it_shows(page: str, tmp_path: Path) -> None:
    assert_page_does_what_it_shows(page, tmp_path)


def test_readme_has_something_to_run() -> None:
    steps = [step for step in steps_of((ROOT / "README.md").read_text("utf-8")) if is_run(step)]
    assert sum(step.kind == "python" and bool(step.shown) for step in steps) >= 2
    assert sum(step.kind == "shell" and bool(step.shown) for step in steps) >= 8


def test_a_wrong_output_is_noticed() -> None:
    assert same_lines(["took ... s (1)"], ["took 0.1 s (1)"])
    assert not same_lines(["took ... s (1)"], ["took 0.1 s (2)"])
    assert not same_lines(["a"], ["a", "b"])
    page = "```console\n$ one\nout\n$ two\n```\n```sh\nmake test  # x\n```\n```python\nprint(1)  # 1\n```\n"
    found = list(steps_of(page))
    assert [(step.code, step.shown) for step in found[:2]] == [("one", ["out"]), ("two", [])]
    assert [is_run(step) for step in found] == [True, True, False, True]
    assert found[3].shown == ["1"]


def test_every_exception_is_used() -> None:
    assert [page for page in ELSEWHERE if page not in PAGES] == []
    commands = [step.code for page in PAGES for step in steps_of((ROOT / page).read_text("utf-8"))]
    assert [begin for begin in NOT_RUN if not any(code.startswith(begin) for code in commands)] == []


MODULES_WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT / "engine").with_suffix("").parts)
    for path in (ROOT / "engine").rglob("*.py")
    if ">>> " in path.read_text("utf-8")
)


@pytest.mark.parametrize("name", MODULES_WITH_EXAMPLES)
def test_examples_in_docstrings(name: str, tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed


def test_opening_a_store_has_an_example() -> None:
    assert "uniqdb.engine" in MODULES_WITH_EXAMPLES
