"""Ways to run the command line: in this process (fast), or as a process of its own where that is what is tested."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from uniqdb_cli.main import app

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and no setting in the environment."""
    for name in [name for name in os.environ if name.startswith("UNIQDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here: Path) -> Callable[..., Result]:  # noqa: ARG001 - it changes the current directory
    """Run a command; anything but an exit code is a bug and is raised."""

    def call(*arguments: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=stdin, catch_exceptions=False)

    return call


@pytest.fixture
def process_environment(here: Path) -> dict[str, str]:  # noqa: ARG001 - as above
    """For processes of their own: they import what this process imports, and buffer their output as for a user."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT / "engine"), str(ROOT / "cli")])}


@pytest.fixture
def run_process(process_environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def call(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "uniqdb_cli", *arguments]
        # Without an input of its own it must not read the test run's.
        source: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        return subprocess.run(
            command, capture_output=True, text=True, env=process_environment, timeout=120, check=False, **source
        )

    return call


@pytest.fixture
def write_lines(here: Path) -> Callable[[str, Sequence[object]], Path]:
    """Write records as JSON lines."""

    def write(name: str, records: Sequence[object]) -> Path:
        path = here / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    return write
