"""What ``make soak`` runs after the long tests: the large sizes, each figure against its target.

    .venv/bin/python bench/soak.py [--output FILE] [--quick]

It takes about half an hour. Every line is appended to the output file as it comes, so that a broken campaign still
leaves its figures. The exit code is 1 if a program failed or a target was missed. With ``--quick`` it takes seconds,
its figures mean nothing, and targets are shown but not judged.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from machine import figure_of, machine
from run import Program, run_program

OUTPUT_DEFAULT = Path(tempfile.gettempdir()) / "uniqdb-soak-figures.txt"


@dataclass(frozen=True, slots=True)
class Target:
    """A figure of a program and its bound, inclusive."""

    program: str
    figure: str
    bound: float
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


NEW, LONG, COMMITS, WINDOWS, INGEST, INGEST_2KB, SHUFFLED, PACKED, CLOCK = (
    "10,000,000 new uids",
    "1,024-byte uids",
    "100,000 commits",
    "windows over a year",
    "300-byte records",
    "2,048-byte records",
    "a shuffled export",
    "packed files",
    "clock on and off",
)
PROGRAMS = (
    Program(NEW, ("bench/new_uids.py",), ("--uids=10000", "--per-commit=1000")),
    Program(
        LONG,
        ("bench/new_uids.py", "--uids=200000", "--per-commit=5000", "--uid-bytes=1024"),
        ("--uids=1000", "--per-commit=100"),
    ),
    Program(
        COMMITS,
        ("bench/many_commits.py",),
        ("--commits=40", "--uids=3000", "--small-commits=20", "--report-every=20"),
    ),
    Program(WINDOWS, ("bench/windows.py",), ("--days=10", "--uids=500", "--visits-per-day=300", "--processes=1")),
    Program(INGEST, ("bench/ingest.py",), ("--records=3000", "--rounds=1")),
    Program(
        INGEST_2KB,
        ("bench/ingest.py", "--records=300000", "--record-bytes=2048"),
        ("--records=500", "--rounds=1"),
    ),
    Program(SHUFFLED, ("bench/shuffled.py",), ("--visits=5000", "--uids=500", "--days=20")),
    Program(PACKED, ("bench/packed.py",), ("--records=3000", "--rounds=1")),
    Program(CLOCK, ("bench/clock.py",), ("--records=3000", "--rounds=1")),
)
TARGETS = (
    Target(NEW, "wchar_per_uid", 1_000),
    Target(NEW, "file_bytes_per_uid", 80),
    Target(NEW, "file_over_live", 2),
    Target(NEW, "speed_last_over_first", 0.5, at_least=True),
    Target(NEW, "commit_p99_over_median", 4),
    Target(LONG, "uids", 200_000, at_least=True),
    Target(COMMITS, "fragments_max", 64),
    Target(COMMITS, "wchar_over_file", 30),
    Target(COMMITS, "small_wchar_mean_kb", 200),
    Target(COMMITS, "small_wchar_p99_kb", 200),
    Target(COMMITS, "small_wchar_max_kb", 200),
    Target(COMMITS, "problems", 0),
    Target(WINDOWS, "union_of_days_ms", 120),
    Target(WINDOWS, "cover_ms", 40),
    Target(WINDOWS, "stored_count_us", 20),
    Target(WINDOWS, "results_agree", 1, at_least=True),
    Target(INGEST, "uniqdb_over_naive", 4, at_least=True),
    Target(INGEST, "results_agree", 1, at_least=True),
    Target(INGEST_2KB, "results_agree", 1, at_least=True),
    Target(SHUFFLED, "shuffled_visits_per_s", 50_000, at_least=True),
    Target(SHUFFLED, "shuffled_over_sorted_file", 3),
    Target(SHUFFLED, "results_agree", 1, at_least=True),
    Target(PACKED, "gzip_over_unpacking_and_plain", 1.1),
    Target(PACKED, "zstd_over_unpacking_and_plain", 1.1),
    Target(CLOCK, "on_over_off_at_100_a_s", 0.9, at_least=True),
    Target(CLOCK, "on_over_off_at_1_a_s", 0.9, at_least=True),
)
Figures = Mapping[tuple[str, str], float]


def table(targets: Sequence[Target], figures: Figures) -> list[str]:
    """One line per target. A figure that is not there is a target that was missed."""
    lines = [f"{'program':24} {'figure':36} {'target':>12} {'reached':>14}"]
    for target in targets:
        value = figures.get((target.program, target.figure))
        wanted = f"{'>=' if target.at_least else '<='} {target.bound:,g}"
        reached = "none" if value is None else f"{value:,.3f}"
        verdict = "" if value is not None and target.is_met(value) else "  MISSED"
        lines.append(f"{target.program:24} {target.figure:36} {wanted:>12} {reached:>14}{verdict}")
    return lines


def missed(targets: Sequence[Target], figures: Figures) -> list[Target]:
    """Targets whose figure is out of bounds or was never printed."""
    found = ((target, figures.get((target.program, target.figure))) for target in targets)
    return [target for target, value in found if value is None or not target.is_met(value)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=OUTPUT_DEFAULT, help=f"appended to (default: {OUTPUT_DEFAULT})")
    parser.add_argument(
        "--quick", action="store_true", help="seconds instead of half an hour; the figures mean nothing"
    )
    options = parser.parse_args()
    figures: dict[tuple[str, str], float] = {}
    failed: list[str] = []
    with options.output.open("a", encoding="utf-8", buffering=1) as output:

        def say(line: str) -> None:
            print(line, flush=True)
            output.write(line + "\n")

        say(f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}: {machine()}")
        for program in PROGRAMS:

            def take(line: str, title: str = program.title) -> None:
                say(line)
                found = figure_of(line)
                if found is not None:
                    figures[title, found[0]] = found[1]

            if run_program(program, take, quick=options.quick):
                failed.append(program.title)
                say(f"{program.title}: failed")
        say("")
        for line in table(TARGETS, figures):
            say(line)
    print(f"\nAll of it is in {options.output}.")
    if failed or (missed(TARGETS, figures) and not options.quick):
        sys.exit(1)


if __name__ == "__main__":
    main()
