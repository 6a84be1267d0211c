"""What ``make bench-peers`` runs: every comparison with another engine, one table after the other.

    .venv-bench/bin/python bench/peers.py [TABLE ...] [--quick] [--output FILE]

All tables together take about two hours and 40 GB of disk; each can be asked for by its name. With ``--quick`` they
take a minute and show only that everything works: their figures mean nothing. Peers that are not installed are left
out, and the output says so. The programs end with Markdown tables, ready for bench/RESULTS.md; at the end stands what
was aimed at, and the exit code is 1 if any of it was missed. See docs/benchmarks.md.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from machine import figure_of, machine
from run import Program, run_program
from soak import Target, missed, table

LARGE_PEERS = ("uniqdb", "duckdb", "duckdb_file", "clickhouse", "polars")
QUICK_WINDOWS = ("--days=20", "--uids=500", "--visits-per-day=300", "--rounds=1")

TABLES = {
    "ingest": Program(
        "six granularities from the same files",
        ("bench/peers_ingest.py",),
        ("--visits=3000", "--rounds=1"),
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

TARGETS = (
    Target("ingest", "uniqdb_over_best_peer_at_300_bytes", 1.0, at_least=True),
    Target("ingest", "uniqdb_over_best_peer_at_2048_bytes", 1.0, at_least=True),
    Target("ingest", "uniqdb_peak_mb_at_2048_bytes", 600),
    Target("ingest-large", "uniqdb_over_duckdb_at_300_bytes", 1.0, at_least=True),
    Target("lookups", "cold_compacted_over_lmdb", 0.5, at_least=True),
    Target("lookups", "cold_ladder_over_lmdb", 0.25, at_least=True),
    Target("lookups", "hot_reader_over_lmdb", 1.0, at_least=True),
    Target("lookups", "hot_writer_over_lmdb", 3.0, at_least=True),
    Target("lookups", "hot_snapshot_over_lmdb", 3.0, at_least=True),
    Target("lookups", "batch_over_lmdb", 2.0, at_least=True),
    Target("lookups", "cold_over_sqlite", 5.0, at_least=True),
    Target("lookups", "hot_over_sqlite", 5.0, at_least=True),
    Target("lookups", "cold_over_rocksdb", 2.0, at_least=True),
    Target("lookups", "hot_over_rocksdb", 2.0, at_least=True),
    *(
        Target("lookups", f"{state}_{who}_p99_us", 20)
        for state in ("compacted", "ladder")
        for who in ("reader", "writer", "snapshot")
    ),
    Target("windows", "uniqdb_cold_ms", 40),
    Target("windows", "uniqdb_repeated_ms", 1),
    Target("windows", "uniqdb_writer_after_commit_ms", 1),
    Target("windows", "uniqdb_reader_after_commit_ms", 1),
    Target("bytes", "committed_large_set_bytes", 4),
    Target("bytes", "compacted_large_set_bytes", 4),
    Target("new-uids", "speed_last_over_first", 0.5, at_least=True),
    Target("new-uids", "commit_p99_over_median", 4),
    Target("new-uids", "commit_max_over_median", 10),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}; none: all of them")
    parser.add_argument("--quick", action="store_true", help="a minute instead of hours; the figures mean nothing")
    parser.add_argument("--output", type=Path, default=Path(tempfile.gettempdir()) / "uniqdb-peer-figures.txt")
    options = parser.parse_args()
    if unknown := sorted(set(options.tables) - set(TABLES)):
        parser.error(f"no such table: {', '.join(unknown)}")
    names, failed = options.tables or list(TABLES), []
    figures: dict[tuple[str, str], float] = {}
    with options.output.open("a", encoding="utf-8") as file:

        def tell(line: str) -> None:
            """To both, as it comes: what a run that breaks off had is not lost."""
            print(line, flush=True)
            file.write(line + "\n")
            file.flush()

        tell(machine())
        for name in names:

            def take(line: str, name: str = name) -> None:
                tell(line)
                if found := figure_of(line):
                    figures[name, found[0]] = found[1]

            if run_program(TABLES[name], take, quick=options.quick):
                failed.append(name)
        targets = [target for target in TARGETS if target.program in names]
        tell("")
        for line in table(targets, figures):
            tell(line)
        tell(f"\nfailed: {', '.join(failed)}" if failed else "\nall of them ran, and all results agree")
    if failed or (missed(targets, figures) and not options.quick):
        sys.exit(1)


if __name__ == "__main__":
    main()
