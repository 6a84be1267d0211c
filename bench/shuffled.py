"""A shuffled export: visits in no order at all, against the same visits sorted by time.

    .venv/bin/python bench/shuffled.py [--visits 10000000] [--uids 1000000] [--days 730]

Every commit touches about as many minutes as it has visits, all over the file. Printed are the speed of either order,
the size of either file, and whether both stores have the same counts and visits in every bucket.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import show, show_machine
from naive import digest_of

import uniqdb
from uniqdb.granularity import Granularity
from uniqdb.stream.driver import ingest_file

START_S = 1_420_070_400
DAY_S = 86_400
BLOCK_RECORDS = 100_000


def write_input(path: Path, visits: int, uids: int, days: int, *, shuffled: bool) -> None:
    """Made-up visits, the same for both orders."""
    rng = np.random.default_rng(5)
    times = np.sort(rng.integers(START_S, START_S + days * DAY_S, visits))
    users = rng.integers(0, uids, visits)
    if shuffled:
        order = rng.permutation(visits)
        times, users = times[order], users[order]
    with path.open("w") as file:
        for first in range(0, visits, BLOCK_RECORDS):
            block = slice(first, first + BLOCK_RECORDS)
            for at, user in zip(times[block].tolist(), users[block].tolist(), strict=True):
                file.write(f'{{"ts":{at},"uid":"visitor{user:07d}","page":"/p/{user % 97}"}}\n')


def ingest(path: Path, store: Path) -> tuple[float, int, str]:
    """(visits per second, bytes of the file, digest of all rows)."""
    started = time.perf_counter()
    with uniqdb.open(store) as db:
        summary = ingest_file(db, path)
    visits_per_s = summary.visits / (time.perf_counter() - started)
    with uniqdb.open(store, read_only=True) as db:
        rows = (
            (one.granularity, one.start_ts, one.count, one.visits) for kind in Granularity for one in db.series(kind)
        )
        digest = digest_of(rows)  # type: ignore[arg-type]  # rows of four
    return visits_per_s, (store / "g1" / "data.mdb").stat().st_size, digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=10_000_000)
    parser.add_argument("--uids", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=730)
    parser.add_argument("--dir", default=None, help="where input and stores are made (default: a temporary directory)")
    options = parser.parse_args()
    show_machine()
    figures: dict[bool, tuple[float, int, str]] = {}
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        for shuffled in (False, True):
            path, store = Path(directory) / "visits.jsonl", Path(directory) / f"shuffled-{shuffled}.uniqdb"
            write_input(path, options.visits, options.uids, options.days, shuffled=shuffled)
            figures[shuffled] = ingest(path, store)
            name = "shuffled" if shuffled else "sorted"
            show(f"{name}_visits_per_s", round(figures[shuffled][0]))
            show(f"{name}_file_mb", figures[shuffled][1] / 1e6)
    show("shuffled_over_sorted_file", figures[True][1] / figures[False][1])
    agree = figures[True][2] == figures[False][2]
    show("results_agree", int(agree))
    if not agree:
        sys.exit("the two orders do not agree")


if __name__ == "__main__":
    main()
