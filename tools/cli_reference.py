"""Write docs/cli.md from the program itself: every command's help, as it is printed.

Run it with the Python of the environment when a command changes: `.venv/bin/python tools/cli_reference.py`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from uniqdb_cli.main import app

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "cli.md"
HEAD = """\
# The command line

Every command with its options, examples and formats, as `uniqdb COMMAND --help` prints it. `tools/cli_reference.py`
writes this page.
"""


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command, in the order of the help; first those of the program itself, none."""
    return _below(typer.main.get_command(app), ())


def _below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield words
    for name, one in getattr(command, "commands", {}).items():
        yield from _below(one, (*words, name))


def help_text(words: tuple[str, ...]) -> str:
    """What ``--help`` prints; the runner of tests has 80 columns wherever it runs."""
    done = CliRunner().invoke(app, [*words, "--help"], prog_name="uniqdb", catch_exceptions=False)
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()).strip()


def page() -> str:
    """All of docs/cli.md."""
    parts = [HEAD]
    for words in commands():
        parts.append(f"## {' '.join(('uniqdb', *words))}\n\n```text\n{help_text(words)}\n```\n")
    return "\n".join(parts)


def main() -> None:
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
