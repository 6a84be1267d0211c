"""``uniqdb completion``: the script that lets a shell complete commands and options."""

import os
from enum import StrEnum
from typing import Annotated

import typer

VARIABLE = "_UNIQDB_COMPLETE"
"""A shell that completes calls the program with this variable set (Typer's protocol)."""


class Shell(StrEnum):
    """The shells that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_default=False)],
) -> None:
    """Print a shell's completion script.

    With it the shell completes commands, options and their values.

    For good: put the first line into ~/.bashrc, or the second one into ~/.zshrc (after compinit).

    \b
      source <(uniqdb completion bash)
      source <(uniqdb completion zsh)
      uniqdb completion fish > ~/.config/fish/completions/uniqdb.fish
    """
    from typer.completion import get_completion_script

    print(get_completion_script(prog_name="uniqdb", complete_var=VARIABLE, shell=shell.value))


def prepare_completion() -> None:
    """Make Typer's answers known if this call is a shell's question; otherwise cost nothing."""
    if VARIABLE in os.environ:
        from typer.completion import completion_init

        completion_init()
