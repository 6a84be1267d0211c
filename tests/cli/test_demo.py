"""`uniqdb demo`: it runs through, what it prints can be typed, and it removes nothing that is not its own."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from cli.oracle import model_of
from uniqdb_cli.demo import Step, _shown

Run = Callable[..., Result]
RunProcess = Callable[..., subprocess.CompletedProcess[str]]


def test_demo(run_process: RunProcess, process_environment: dict[str, str]) -> None:
    done = run_process("demo", "--visits", "3000", "--dir", "a demo")
    assert done.returncode == 0, done.stderr
    commands = [line[2:] for line in done.stdout.splitlines() if line.startswith("$ ")]
    words = [shlex.split(command) for command in commands]
    assert [word[3] for word in words[:3]] == ["generate", "ingest", "query"]
    shown = {word[word.index("--by") + 1] for word in words if "--by" in word}
    assert shown == {"minute", "hour", "day", "week", "month", "year"}
    assert "exists" in words[-2]

    rows = model_of(Path("a demo/visits.jsonl")).rows()
    (year,) = [count for (kind, _), (count, _) in rows.items() if kind == "year"]
    shown_years = [line.split() for line in done.stdout.splitlines() if line.startswith("2016-01-01 ")]
    assert [cells[2] for cells in shown_years] == [f"{year:,}"]
    for (kind, _), (count, _) in rows.items():
        assert kind != "month" or f" {count:,} " in done.stdout
    assert "365d" in done.stdout

    endings = [line.strip() for line in done.stdout.split("Try:\n")[1].splitlines() if line.strip()]
    assert len(endings) == 3
    for ending in [commands[2], *endings]:
        again = subprocess.run(
            ["/bin/sh", "-c", ending], capture_output=True, env=process_environment, timeout=120, check=False
        )
        assert (again.returncode, again.stderr) == (0, b""), ending
        assert again.stdout


def test_a_former_demo_is_replaced_but_nothing_else_is_touched(run: Run, run_process: RunProcess) -> None:
    other = Path("uniqdb-demo")
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    done = run("demo")
    assert done.exit_code == 73
    assert done.stderr == "uniqdb: uniqdb-demo is there and is no former demo. Name another with --dir.\n"
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]

    (other / ".uniqdb-demo").touch()
    (other / "visits.uniqdb").mkdir()
    (other / "visits.uniqdb" / "old").touch()
    again = run_process("demo", "--visits", "100")
    assert again.returncode == 0, again.stderr
    assert "Left alone in uniqdb-demo: thesis.txt." in again.stderr
    assert (other / "thesis.txt").read_text() == "years of work"
    assert not (other / "visits.uniqdb" / "old").exists()
    # What it makes is not for version control.
    assert (other / ".gitignore").read_text() == "*\n"


def test_the_program_is_shown_as_it_was_called(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    step = Step("", ["info", "--store", "a b/visits.uniqdb"])
    script = here / ".venv" / "bin" / "uniqdb"
    script.parent.mkdir(parents=True)
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", [".venv/bin/uniqdb", "demo"])
    assert _shown(step.arguments) == ".venv/bin/uniqdb info --store 'a b/visits.uniqdb'"
    monkeypatch.setattr(sys, "argv", [str(script), "demo"])
    assert _shown(step.arguments) == ".venv/bin/uniqdb info --store 'a b/visits.uniqdb'"
    monkeypatch.setenv("PATH", os.pathsep.join(["/nowhere", str(script.parent)]))
    assert _shown(step.arguments) == "uniqdb info --store 'a b/visits.uniqdb'"
    monkeypatch.setattr(sys, "argv", ["/elsewhere/uniqdb_cli/__main__.py", "demo"])
    assert _shown(step.arguments).endswith("-m uniqdb_cli info --store 'a b/visits.uniqdb'")
