"""The pages of reference are what the program says of itself, and every command shows how it is used."""

import re
import runpy
from pathlib import Path

import pytest

import uniqdb
from tidy.house import ROOT, project_files
from uniqdb_cli.settings import KEYS

reference = runpy.run_path(str(ROOT / "tools" / "cli_reference.py"))
pages = runpy.run_path(str(ROOT / "tools" / "reference_pages.py"))
COMMANDS: list[tuple[str, ...]] = list(reference["commands"]())


def test_the_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert page == reference["page"](), "run tools/cli_reference.py"


@pytest.mark.parametrize("name", pages["PAGES"])
def test_a_page_made_of_the_sources_is_up_to_date(name: str) -> None:
    page = (ROOT / "docs" / name).read_text("utf-8")
    assert page == pages["PAGES"][name]().rstrip("\n") + "\n", "run tools/reference_pages.py"


def test_they_hold_everything() -> None:
    api = (ROOT / "docs" / "api.md").read_text("utf-8")
    assert [name for name in uniqdb.__all__ if f"## {name}\n" not in api and f"| `{name}` |" not in api] == []
    settings = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert [key for key in KEYS if f"| `{key}` | `UNIQDB_{key.upper()}` |" not in settings] == []


def test_what_is_left_out_of_the_page_of_python_is_there_to_be_left_out() -> None:
    for name, hidden in pages["INSIDE"].items():
        assert [method for method in sorted(hidden) if not hasattr(getattr(uniqdb, name), method)] == []


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_help_has_an_example(words: tuple[str, ...]) -> None:
    text = reference["help_text"](words)
    assert f"\n    {' '.join(('uniqdb', *words))}" in text
    assert "\b" not in text


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_option_is_explained(words: tuple[str, ...]) -> None:
    options = reference["help_text"](words).split("\nOptions:\n")[1].split("\n\n")[0].splitlines()
    names = [number for number, line in enumerate(options) if line.startswith("  -")]
    for number in names:
        explained = len(options[number].split("  ")) > 2 or options[number + 1].startswith("      ")
        assert explained, options[number]


def test_nested_commands_are_there() -> None:
    assert ("config", "show") in COMMANDS
    assert () in COMMANDS


HELP = {words: reference["help_text"](words) for words in COMMANDS}
MENTIONED = re.compile(r"\buniqdb ((?:[a-z-]+)(?: [a-z]+)?)([^`\n|]*)")


def unknown_options(text: str) -> list[str]:
    """Options that a text gives to a command which has none of that name."""
    found = []
    for match in MENTIONED.finditer(text):
        words = tuple(match.group(1).split())
        command = words if words in HELP else words[:1]
        if command in HELP:
            options = re.findall(r"(?<!\S)--[a-z][a-z-]+", match.group(2))
            found += [f"{' '.join(command)} {one}" for one in options if one not in (*HELP[command].split(), "--help")]
    return found


def test_the_documents_name_no_option_that_is_not_there() -> None:
    pages = [path for path in project_files() if path.suffix == ".md" and path != Path("CHANGELOG.md")]
    found = {path.as_posix(): wrong for path in pages if (wrong := unknown_options((ROOT / path).read_text("utf-8")))}
    assert found == {}


def test_rule_unknown_options() -> None:
    assert unknown_options("`uniqdb query --window 30d` and `uniqdb clock show --format json`, uniqdb --version") == []
    assert unknown_options("`uniqdb clock show --completeness`; `uniqdb query --widnow 7d`") == [
        "clock show --completeness",
        "query --widnow",
    ]
