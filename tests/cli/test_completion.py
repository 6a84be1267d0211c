"""Completion, asked as the shells ask."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from uniqdb_cli.completion import VARIABLE

Run = Callable[..., Result]
bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def environment(process_environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """``uniqdb`` on the path."""
    program = tmp_path / "bin" / "uniqdb"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m uniqdb_cli "$@"\n')
    program.chmod(0o755)
    return {**process_environment, "PATH": f"{program.parent}:{process_environment['PATH']}"}


def completed(environment: dict[str, str], *words: str) -> list[str]:
    """What bash offers for the last word, through the script that the program prints."""
    line = " ".join(map(shlex.quote, words))
    code = (
        "source <(uniqdb completion bash); complete -p uniqdb >&2 || exit 9; "
        f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _uniqdb_completion uniqdb; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", code], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "complete -o default -F _uniqdb_completion uniqdb" in done.stderr
    return done.stdout.split()


@bash
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["uniqdb", "in"], {"init", "ingest", "info"}),
        (["uniqdb", "query", "--fo"], {"--format"}),
        (["uniqdb", "query", "--by", "m"], {"minute", "month"}),
        (["uniqdb", "members", "--format", ""], {"table", "json", "jsonl", "csv", "value"}),
        (["uniqdb", "config", ""], {"show"}),
        (["uniqdb", "completion", ""], {"bash", "zsh", "fish"}),
        (["uniqdb", "qqq"], set()),
    ],
)
def test_bash_completes(environment: dict[str, str], words: list[str], offered: set[str]) -> None:
    assert set(completed(environment, *words)) == offered


@pytest.mark.parametrize(
    ("shell", "variables", "offered"),
    [
        ("zsh", {"_TYPER_COMPLETE_ARGS": "uniqdb me"}, "members"),
        ("fish", {"_TYPER_COMPLETE_ARGS": "uniqdb me", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}, "members"),
    ],
)
def test_zsh_and_fish_are_answered(
    environment: dict[str, str], shell: str, variables: dict[str, str], offered: str
) -> None:
    asked = {**environment, VARIABLE: f"complete_{shell}", **variables}
    done = subprocess.run(["uniqdb"], capture_output=True, text=True, env=asked, timeout=120, check=False)
    assert done.stderr == ""
    assert offered in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_the_program(run: Run, shell: str) -> None:
    done = run("completion", shell)
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"{VARIABLE}=complete_{shell}" in done.stdout
    if shutil.which(shell) is not None:
        command = [shell, "-n", "-c", done.stdout] if shell != "fish" else [shell, "--no-execute", "-c", done.stdout]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("arguments", [[], ["tcsh"]])
def test_mistakes(run: Run, arguments: list[str]) -> None:
    done = run("completion", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
