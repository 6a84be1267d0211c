"""How long the command line takes to say something: whole processes, from their start to their end.

    .venv/bin/python bench/startup.py [--rounds 20]

`uniqdb --help` and `uniqdb --version` load no library that they do not need; beside them an empty Python, which is the
least that any of them can take. By turns, medians, as it passes and in processor time, which other work on the machine
disturbs less. Target for the help: 0.25 s.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

from machine import show, show_machine

COMMANDS = {
    "python": ["-c", ""],
    "version": ["-m", "uniqdb_cli", "--version"],
    "help": ["-m", "uniqdb_cli", "--help"],
    "help_of_query": ["-m", "uniqdb_cli", "query", "--help"],
}


def seconds_of(arguments: list[str]) -> tuple[float, float]:
    """How long it takes, and how much of that is processor time."""
    before, started = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    processor_s = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, processor_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    show_machine()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            taken[name].append(seconds_of(arguments))
    for name, times_s in taken.items():
        show(f"{name}_s", statistics.median(elapsed_s for elapsed_s, _ in times_s))
        show(f"{name}_processor_s", statistics.median(processor_s for _, processor_s in times_s))


if __name__ == "__main__":
    main()
