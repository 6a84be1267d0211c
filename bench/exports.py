"""How long it takes to export the days of a year, and in how much memory.

    .venv-bench/bin/python bench/exports.py [--store DIR] [--rounds 3]

Whole processes of `uniqdb export`, start of Python included, page cache warm; seconds are medians, memory is the most
of all rounds. ``own memory`` leaves out the pages of the store's file, which the system takes back when it needs them.
Without pyarrow the Parquet rows are left out. The sets and the members of the last 30 days must give the count that the
store gives. The store is the one that `bench/windows.py --keep` leaves; it is only read.
"""

import argparse
import base64
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from machine import own_memory_bytes, show, show_machine
from processes import SAMPLE_S
from pyroaring import BitMap
from windows import WINDOW, Extent, build

import uniqdb

EXPORTS = (
    ("counts", "csv"),
    ("counts", "parquet"),
    ("members", "csv"),
    ("members", "jsonl"),
    ("members", "parquet"),
    ("sets", "jsonl"),
    ("sets", "parquet"),
    ("sets", "clickhouse"),
)


@dataclass(slots=True)
class Taken:
    """What the rounds of one export took."""

    elapsed_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    own_bytes: int = 0
    size_bytes: int = 0


def export(store: Path, what: tuple[str, str], place: Path, taken: Taken) -> None:
    """One export in a process of its own."""
    kind, form = what
    command = [sys.executable, "-m", "uniqdb_cli", "export", kind, "--by", "day", "--format", form]
    started, cpu_before_s = time.perf_counter(), cpu_of_children_s()
    with subprocess.Popen(
        [*command, "--output", str(place), "--store", str(store)], stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None:
            taken.own_bytes = max(taken.own_bytes, own_memory_bytes(process.pid))
            time.sleep(SAMPLE_S)
        taken.elapsed_s.append(time.perf_counter() - started)
        assert process.stderr is not None
        said = process.stderr.read()
    taken.cpu_s.append(cpu_of_children_s() - cpu_before_s)
    if process.returncode:
        sys.exit(f"{kind} as {form}: {said}")
    files = [place, *place.glob("*")] if place.is_dir() else [place]
    taken.size_bytes = sum(one.stat().st_size for one in files if one.is_file())


def cpu_of_children_s() -> float:
    """Processor time of all that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def window_of_sets(folder: Path, first_s: int, end_s: int) -> int:
    """Different visitors of an interval, of exported sets alone."""
    with (folder / "sets.jsonl").open() as lines:
        rows = [row for row in map(json.loads, lines) if first_s <= row["start_ts"] < end_s]
    return len(BitMap.union(BitMap(), *(BitMap.deserialize(base64.b64decode(row["set"])) for row in rows)))


def window_of_members(file: Path, first_s: int, end_s: int) -> int:
    """The same of exported members."""
    with file.open() as lines:
        next(lines)
        rows = (line.split(",", 2) for line in lines)
        return len({uid for _, at, uid in rows if first_s <= int(at) < end_s})


def measure(store: Path, folder: Path, rounds: int) -> bool:
    """Print the table; returns whether the exports agree with the store."""
    has_parquet = find_spec("pyarrow") is not None
    table = {what: Taken() for what in EXPORTS if has_parquet or what[1] != "parquet"}
    for number in range(rounds):
        for what, taken in table.items():
            place = folder / f"{'-'.join(what)}-{number}"
            export(store, what, place, taken)
            if number < rounds - 1:
                subprocess.run(["rm", "-rf", str(place)], check=True)
    if not has_parquet:
        print("# left out: Parquet: pyarrow is not installed")
    print("\n| export by day | seconds | processor time | on disk | own memory |\n|---|---|---|---|---|")
    for (kind, form), taken in table.items():
        times = f"{statistics.median(taken.elapsed_s):.1f} | {statistics.median(taken.cpu_s):.1f} s"
        sizes = f"{taken.size_bytes / 1e6:,.1f} MB | {taken.own_bytes / 1e6:,.0f} MB"
        print(f"| {kind}, {form} | {times} | {sizes} |")
    print()
    with uniqdb.open(store, read_only=True) as db:
        record, info = db.count(WINDOW), db.info()
    show("days", len((folder / f"counts-csv-{rounds - 1}").read_text().splitlines()) - 1)
    show("uids", info.uids)
    show("visits", info.visits)
    edges_s = record.start_ts, record.end_ts
    by_sets = window_of_sets(folder / f"sets-jsonl-{rounds - 1}", *edges_s)
    by_members = window_of_members(folder / f"members-csv-{rounds - 1}", *edges_s)
    agree = by_sets == by_members == record.count
    show("results_agree", int(agree))
    return agree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=None, help="a store of days; by default one is built")
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--uids", type=int, default=2_000_000)
    parser.add_argument("--visits-per-day", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", default=None, help="where all is written (default: a temporary directory)")
    options = parser.parse_args()
    show_machine()
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        store = options.store or Path(directory) / "bench.uniqdb"
        if options.store is None:
            build(store, Extent(options.days, options.uids, options.visits_per_day))
        agree = measure(store, Path(directory), options.rounds)
    if not agree:
        sys.exit("the exports and the store do not agree")


if __name__ == "__main__":
    main()
