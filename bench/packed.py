"""Reading gzip and zstd files: how much of the time is unpacking, and how much is ours.

    .venv/bin/python bench/packed.py [--records 1000000] [--record-bytes 300] [--rounds 3]

The same generated records as a plain, a gzip (level 6) and a zstd (level 3) file, in the page cache, by turns, each in
a new store; medians. Unpacking alone is timed, too: what a packed file may cost is that, and the plain file's time.
"""

import argparse
import gzip
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from ingest import write_input
from machine import pin_to_one_core, show, show_machine

import uniqdb
from uniqdb.stream.byte_stream import open_stream
from uniqdb.stream.driver import ingest_file

try:
    from compression import zstd
except ImportError:
    from backports import zstd


def unpack_s(path: Path) -> float:
    """Seconds to read and unpack the file and do nothing with it."""
    started = time.perf_counter()
    stream = open_stream(path)
    while stream.read():
        pass
    stream.close()
    return time.perf_counter() - started


def ingest_s(path: Path, store: Path, records: int) -> float:
    """Seconds to count it, durably, into a new store."""
    started = time.perf_counter()
    with uniqdb.open(store) as db:
        visits = ingest_file(db, path).visits
    elapsed_s = time.perf_counter() - started
    assert visits == records, f"{visits} of {records} visits"
    shutil.rmtree(store)
    return elapsed_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--record-bytes", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    show_machine()
    pin_to_one_core()
    with tempfile.TemporaryDirectory() as directory:
        plain = Path(directory) / "visits.jsonl"
        write_input(plain, options.records, options.record_bytes, 100)
        paths = {"plain": plain, "gzip": plain.with_suffix(".jsonl.gz"), "zstd": plain.with_suffix(".jsonl.zst")}
        paths["gzip"].write_bytes(gzip.compress(plain.read_bytes(), 6))
        paths["zstd"].write_bytes(zstd.compress(plain.read_bytes(), 3))
        unpacking: dict[str, list[float]] = {name: [] for name in paths}
        counting: dict[str, list[float]] = {name: [] for name in paths}
        for _ in range(options.rounds):
            for name, path in paths.items():
                unpacking[name].append(unpack_s(path))
                counting[name].append(ingest_s(path, Path(directory) / "store.uniqdb", options.records))
        plain_s = statistics.median(counting["plain"])
        show("plain_visits_per_s", round(options.records / plain_s))
        for name in ("gzip", "zstd"):
            packed_s, alone_s = statistics.median(counting[name]), statistics.median(unpacking[name])
            show(f"{name}_visits_per_s", round(options.records / packed_s))
            show(f"{name}_unpacking_share", alone_s / packed_s)
            show(f"{name}_over_unpacking_and_plain", packed_s / (alone_s + plain_s))


if __name__ == "__main__":
    main()
