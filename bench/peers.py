"""What ``make bench-peers`` runs: every comparison with another engine, one table after the other.

    .venv-bench/bin/python bench/peers.py [TABLE ...] [--quick] [--output FILE]

All tables together take about two hours and 40 GB of disk; each can be asked for by its name. With ``--quick`` they
take a minute and show only that everything works: their figures mean nothing. Peers that are not installed are left
out, and the output says so. The programs end with Markdown tables, ready for bench/RESULTS.md; see docs/benchmarks.md.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from machine import machine
from run import Program, run_program

LARGE_PEERS = ("uniqdb", "duckdb", "duckdb_file", "clickhouse", "polars")
QUICK_WINDOWS = ("--days=20", "--uids=500", "--visits-per-day=300", "--rounds=1")

TABLES = {
    "ingest": Program(
        "six granularities from the same files",
        ("bench/peers_ingest.py",),
        ("--visits=3000", "--rounds=1", "--record-bytes", "300"),
    ),
    "ingest-large": Program(
        "20 million visits by 10 million uids",
        (
            *("bench/peers_ingest.py", "--visits=20000000", "--uids=10000000", "--record-bytes", "300"),
            *("--rounds=1", "--peers", *LARGE_PEERS),
        ),
        ("--visits=3000", "--uids=1500"),
    ),
    "lookups": Program(
        "is this uid there",
        ("bench/peers_lookups.py", "--uids=10000000"),
        ("--uids=6000", "--rounds=1"),
    ),
    "windows": Program("the visitors of a year", ("bench/peers_windows.py",), QUICK_WINDOWS),
    "windows-large": Program(
        "the same of 50 million uids",
        ("bench/peers_windows.py", "--stores", "uniqdb", "--uids=50000000"),
        QUICK_WINDOWS,
    ),
    "bytes": Program(
        "bytes on disk for the same memberships",
        ("bench/peers_bytes.py",),
        ("--visits=20000", "--uids=2000", "--days=3"),
    ),
    "new-uids": Program(
        "new uids beside a B-tree",
        ("bench/new_uids.py", "--uids=50000000", "--peer=lmdb"),
        ("--uids=20000", "--per-commit=1000"),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}; none: all of them")
    parser.add_argument("--quick", action="store_true", help="a minute instead of hours; the figures mean nothing")
    parser.add_argument("--output", type=Path, default=Path(tempfile.gettempdir()) / "uniqdb-peer-figures.txt")
    options = parser.parse_args()
    if unknown := sorted(set(options.tables) - set(TABLES)):
        parser.error(f"no such table: {', '.join(unknown)}")
    failed = []
    with options.output.open("a", encoding="utf-8") as file:

        def tell(line: str) -> None:
            """To both, as it comes: what a run that breaks off had is not lost."""
            print(line, flush=True)
            file.write(line + "\n")
            file.flush()

        tell(machine())
        for name in options.tables or TABLES:
            if run_program(TABLES[name], tell, quick=options.quick):
                failed.append(name)
        tell(f"\nfailed: {', '.join(failed)}" if failed else "\nall of them ran, and all results agree")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
