"""docs/cli.md is what the program says, and every command shows how it is used."""

import runpy

import pytest

from tidy.house import ROOT

reference = runpy.run_path(str(ROOT / "tools" / "cli_reference.py"))
COMMANDS: list[tuple[str, ...]] = list(reference["commands"]())


def test_the_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert page == reference["page"](), "run tools/cli_reference.py"


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
