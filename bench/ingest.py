"""Reading a file of JSON lines: uniqdb, durable, against a dict of sets in memory, on one core, in the same run.

    .venv/bin/python bench/ingest.py [--records 1000000] [--record-bytes 300] [--rate 100] [--rounds 3]

Both read the same generated file, whose bytes are in the page cache, in processes of their own, by turns. Timed is the
work without the start of Python: for uniqdb that is making the store, reading, and closing it with everything synced
to disk. About one visit in ten is by a new visitor. The results must agree in every count of all six granularities,
and in every number of visits.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import peak_memory_bytes, pin_to_one_core, show, show_machine
from naive import digest_of

import uniqdb
from uniqdb.granularity import Granularity
from uniqdb.stream.driver import ingest_file
from uniqdb_cli.generator import GeneratorSettings, generate_blocks

HERE = Path(__file__).resolve().parent
VISITS_PER_VISITOR = 10


def write_input(path: Path, records: int, record_bytes: int, rate: int) -> None:
    """The input, generated, synced (so that writing it back disturbs no round) and in the page cache."""
    settings = GeneratorSettings(
        records=records,
        duration_s=max(records // rate, 1),
        users=max(records // VISITS_PER_VISITOR, 1),
        record_bytes=record_bytes,
    )
    with path.open("wb") as file:
        for block in generate_blocks(settings):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def ingest_once(path: Path, store: Path) -> dict[str, object]:
    """What one process of uniqdb does."""
    started = time.perf_counter()
    with uniqdb.open(store) as db:
        summary = ingest_file(db, path)
    result: dict[str, object] = {"elapsed_s": time.perf_counter() - started, "peak_bytes": peak_memory_bytes()}
    assert not summary.refused, summary
    with uniqdb.open(store, read_only=True) as db:
        records = [one for granularity in Granularity for one in db.series(granularity)]
        result["file_bytes"] = db.info().file_bytes
    result["counts"] = digest_of((one.granularity, one.start_ts, one.count) for one in records)
    result["visits"] = digest_of((one.granularity, one.start_ts, one.visits) for one in records)
    return result


def run_once(*command: str | Path) -> dict[str, float]:
    """Run one of the two programs in a process of its own."""
    done = subprocess.run([sys.executable, *map(str, command)], stdout=subprocess.PIPE, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def run(records: int, path: Path, rounds: int) -> dict[str, object]:
    """Compare the two; returns the figures."""
    store = path.with_suffix(".uniqdb")
    truth = run_once(HERE / "naive.py", path, "--with-visits")
    naive, ours, agree = [], [], True
    for _ in range(rounds):
        naive.append(run_once(HERE / "naive.py", path))
        ours.append(run_once(HERE / "ingest.py", "--once", path, store))
        shutil.rmtree(store)
        agree = agree and naive[-1]["counts"] == ours[-1]["counts"] == truth["counts"]
        agree = agree and ours[-1]["visits"] == truth["visits"]
    naive_s = statistics.median(one["elapsed_s"] for one in naive)
    ours_s = statistics.median(one["elapsed_s"] for one in ours)
    return {
        "naive_visits_per_s": round(records / naive_s),
        "uniqdb_visits_per_s": round(records / ours_s),
        "uniqdb_over_naive": naive_s / ours_s,
        "uniqdb_over_naive_worst": min(one["elapsed_s"] for one in naive) / max(one["elapsed_s"] for one in ours),
        "naive_peak_mb": max(one["peak_bytes"] for one in naive) / 1e6,
        "uniqdb_peak_mb": max(one["peak_bytes"] for one in ours) / 1e6,
        "store_mb": ours[-1]["file_bytes"] / 1e6,
        "results_agree": int(agree),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--record-bytes", type=int, default=300)
    parser.add_argument("--rate", type=int, default=100, help="visits per second of event time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", default=None, help="where input and store are made (default: a temporary directory)")
    parser.add_argument("--once", nargs=2, type=Path, metavar=("FILE", "STORE"), help="one process of uniqdb alone")
    options = parser.parse_args()
    if options.once:
        print(json.dumps(ingest_once(*options.once)))
        return
    show_machine()
    pin_to_one_core()
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        path = Path(directory) / "visits.jsonl"
        write_input(path, options.records, options.record_bytes, options.rate)
        show("records", options.records)
        show("record_bytes", options.record_bytes)
        figures = run(options.records, path, options.rounds)
    for name, value in figures.items():
        show(name, value)
    if not figures["results_agree"]:
        sys.exit("the two programs do not agree")


if __name__ == "__main__":
    main()
