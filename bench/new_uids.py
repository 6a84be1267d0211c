"""New uids in durable commits: bytes written and stored per uid, speed as the dictionary grows, commit latency.

    .venv/bin/python bench/new_uids.py [--uids 10000000] [--per-commit 50000] [--uid-bytes 20] [--peer lmdb]

With ``--uids 50000000`` speeds are told at 1, 10 and 50 million, each over the million before it; else at each tenth.
``--peer lmdb`` puts the same uids into a plain B-tree afterwards: uid -> number, each batch in key order, in durable
commits of the same size. It gets slower as it grows, so it is stopped after ``--peer-limit-s``, and how far it came is
told.

``own_memory_mb`` is the most that the process held after a commit, without pages of the data file, which it maps.
``wchar`` is what the process handed to write calls, ``write_bytes`` what reached the block device (/proc/self/io).
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from machine import io_counters, own_memory_bytes, peak_memory_bytes, show, show_machine

import uniqdb
from uniqdb import CommitRule, OpenOptions

MILLION = 1_000_000
MARKS = (MILLION, 10 * MILLION, 50 * MILLION)
MAP_BYTES = 2**40


def uid_batch(first: int, count: int, uid_bytes: int) -> list[str]:
    """Different uids of that many bytes, in no order that helps."""
    return uids_of(np.arange(first, first + count, dtype=np.uint64), uid_bytes)


def uids_of(numbers: np.ndarray, uid_bytes: int) -> list[str]:
    """The uids that `uid_batch` gives these numbers."""
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    filler = "0" * (uid_bytes - 16) if uid_bytes >= 16 else ""
    return [f"{value:016x}{filler}" for value in mixed.tolist()]


@dataclass(slots=True)
class Pace:
    """How long each batch took, and its commit."""

    per_commit: int
    batches_s: list[float] = field(default_factory=list)
    commits_s: list[float] = field(default_factory=list)

    def add(self, started: float, committing: float, ended: float) -> None:
        self.batches_s.append(ended - started)
        self.commits_s.append(ended - committing)

    def speed_at(self, mark: int, window: int) -> int:
        """Uids per second over the last ``window`` uids before the mark."""
        batches_s = self.batches_s[max(mark - window, 0) // self.per_commit : mark // self.per_commit]
        return round(len(batches_s) * self.per_commit / sum(batches_s))

    def speeds(self, uids: int) -> dict[int, int]:
        """Speed by number of uids, at the marks that were reached."""
        reached = len(self.batches_s) * self.per_commit
        window = MILLION if uids >= MARKS[-1] else max(uids // 10, self.per_commit)
        marks = MARKS if uids >= MARKS[-1] else range(window, uids + 1, window)
        return {mark: self.speed_at(mark, window) for mark in marks if mark <= reached}

    def latencies(self) -> dict[str, object]:
        ascending = sorted(self.commits_s)
        median = statistics.median(ascending)
        return {
            "commit_median_s": median,
            "commit_p99_over_median": ascending[int(len(ascending) * 0.99)] / median,
            "commit_max_over_median": ascending[-1] / median,
        }


def run(uids: int, per_commit: int, uid_bytes: int, directory: Path) -> dict[str, object]:
    """Write the uids; returns the figures."""
    path = directory / "bench.uniqdb"
    never = OpenOptions(commit=CommitRule(visits=10**9, interval_s=10**9))
    before, pace, memory_bytes = io_counters(), Pace(per_commit), 0
    with uniqdb.open(path, options=never) as db:
        for first in range(0, uids, per_commit):
            batch = uid_batch(first, per_commit, uid_bytes)
            times = (1_468_244_340 + np.arange(first, first + per_commit) // 1_000).tolist()
            started = time.perf_counter()
            db.add_many(times, batch)
            committing = time.perf_counter()
            db.commit()
            pace.add(started, committing, time.perf_counter())
            memory_bytes = max(memory_bytes, own_memory_bytes())
        info = db.info()
    after, speeds = io_counters(), pace.speeds(uids)
    return {
        "uids": info.uids,
        "wchar_per_uid": (after["wchar"] - before["wchar"]) / uids,
        "write_bytes_per_uid": (after["write_bytes"] - before["write_bytes"]) / uids,
        "file_bytes_per_uid": info.file_bytes / uids,
        "file_over_live": info.file_bytes / info.live_bytes,
        "uids_per_s_by_size": speeds,
        "speed_last_over_first": list(speeds.values())[-1] / next(iter(speeds.values())),
        "peak_memory_mb": peak_memory_bytes() / 1e6,
        "own_memory_mb": memory_bytes / 1e6,
        **pace.latencies(),
    }


def run_lmdb(uids: int, per_commit: int, uid_bytes: int, limits: tuple[Path, float]) -> dict[str, object]:
    """The same uids into a B-tree, in a directory, for so many seconds at most."""
    import lmdb

    directory, limit_s = limits
    before, pace = io_counters(), Pace(per_commit)
    begun = time.perf_counter()
    with lmdb.open(str(directory / "btree"), map_size=MAP_BYTES) as env:
        for first in range(0, uids, per_commit):
            batch = uid_batch(first, per_commit, uid_bytes)
            started = time.perf_counter()
            rows = sorted((uid.encode(), at.to_bytes(4, "big")) for at, uid in enumerate(batch, start=first))
            with env.begin(write=True) as txn:
                with txn.cursor() as cursor:
                    cursor.putmulti(rows)
                committing = time.perf_counter()
            pace.add(started, committing, time.perf_counter())
            if time.perf_counter() - begun > limit_s:
                break
        reached = env.stat()["entries"]
    after = io_counters()
    latencies = pace.latencies()
    return {
        "lmdb_uids": reached,
        "lmdb_wchar_per_uid": (after["wchar"] - before["wchar"]) / reached,
        "lmdb_file_bytes_per_uid": (directory / "btree" / "data.mdb").stat().st_size / reached,
        "lmdb_uids_per_s_by_size": pace.speeds(uids),
        "lmdb_uids_per_s_at_its_end": pace.speed_at(reached, min(MILLION, reached)),
        **{f"lmdb_{name}": value for name, value in latencies.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uids", type=int, default=10_000_000)
    parser.add_argument("--per-commit", type=int, default=50_000)
    parser.add_argument("--uid-bytes", type=int, default=20)
    parser.add_argument("--peer", choices=("lmdb",), help="a plain B-tree beside it")
    parser.add_argument("--peer-limit-s", type=float, default=1_800.0)
    parser.add_argument("--dir", default=None, help="where the store is made (default: a temporary directory)")
    options = parser.parse_args()
    show_machine()
    sizes = options.uids, options.per_commit, options.uid_bytes
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        figures = run(*sizes, Path(directory))
        for name, value in figures.items():
            show(name, value)
        if options.peer:
            theirs = run_lmdb(*sizes, (Path(directory), options.peer_limit_s))
            for name, value in theirs.items():
                show(name, value)
            ours_at, theirs_at = figures["uids_per_s_by_size"], theirs["lmdb_uids_per_s_by_size"]
            show("uniqdb_over_lmdb_by_size", {size: round(ours_at[size] / theirs_at[size], 2) for size in theirs_at})


if __name__ == "__main__":
    main()
