"""What ``make bench`` runs: ingest against a dict of sets, single operations, new uids, the start of the command line;
a couple of minutes in all.

    .venv/bin/python bench/run.py [--quick]

With ``--quick`` it takes seconds and shows only that everything works: its figures mean nothing.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from machine import MACHINE_SHOWN, show_machine

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run with the Python that runs this, and what is added for a quick run."""

    title: str
    command: tuple[str, ...]
    quick: tuple[str, ...] = ()
    quick_environment: Mapping[str, str] = field(default_factory=dict)


def run_program(program: Program, on_line: Callable[[str], None], *, quick: bool) -> int:
    """Run it and hand over each line as it comes; returns the exit code."""
    command = [sys.executable, *program.command, *(program.quick if quick else ())]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", MACHINE_SHOWN: "1"}
    environment |= program.quick_environment if quick else {}
    on_line(f"\n== {program.title}: {' '.join(['python', *command[1:]])}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=HERE.parent) as process:
        assert process.stdout is not None
        for line in process.stdout:
            on_line(line.rstrip("\n"))
    return process.returncode


PROGRAMS = (
    Program(
        "a file of 300-byte records, one core",
        ("bench/ingest.py",),
        ("--records=5000", "--rounds=1"),
    ),
    Program(
        "single operations",
        ("-m", "pytest", "bench/micro.py", "-q", "-p", "no:cacheprovider", "--benchmark-columns=median,ops,rounds"),
        ("--benchmark-disable",),
        {"BENCH_UIDS": "1000"},
    ),
    Program(
        "new uids in commits of 50,000",
        ("bench/new_uids.py", "--uids=1000000"),
        ("--uids=10000", "--per-commit=1000"),
    ),
    Program("the start of the command line", ("bench/startup.py",), ("--rounds=1",)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; the figures mean nothing")
    options = parser.parse_args()
    show_machine()
    failed = [
        one.title for one in PROGRAMS if run_program(one, lambda line: print(line, flush=True), quick=options.quick)
    ]
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
