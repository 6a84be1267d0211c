"""New uids in durable commits: bytes written and stored per uid, speed as the dictionary grows, commit latency.

    .venv/bin/python bench/new_uids.py [--uids 10000000] [--per-commit 50000] [--uid-bytes 20]

``wchar`` is what the process handed to write calls, ``write_bytes`` what reached the block device (/proc/self/io).
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import io_counters, show, show_machine

import uniqdb
from uniqdb import CommitRule, OpenOptions


def uid_batch(first: int, count: int, uid_bytes: int) -> list[str]:
    """Different uids of that many bytes, in no order that helps."""
    mixed = (np.arange(first, first + count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    filler = "0" * (uid_bytes - 16) if uid_bytes >= 16 else ""
    return [f"{value:016x}{filler}" for value in mixed.tolist()]


def run(uids: int, per_commit: int, uid_bytes: int, directory: Path) -> dict[str, object]:
    """Write the uids; returns the figures."""
    path = directory / "bench.uniqdb"
    never = OpenOptions(commit=CommitRule(visits=10**9, interval_s=10**9))
    latencies: list[float] = []
    before = io_counters()
    speeds: dict[int, float] = {}
    with uniqdb.open(path, options=never) as db:
        window_s, window_uids = 0.0, 0
        for first in range(0, uids, per_commit):
            batch = uid_batch(first, per_commit, uid_bytes)
            times = (1_468_244_340 + np.arange(first, first + per_commit) // 1_000).tolist()
            started = time.perf_counter()
            db.add_many(times, batch)
            committing = time.perf_counter()
            db.commit()
            ended = time.perf_counter()
            latencies.append(ended - committing)
            window_s, window_uids = window_s + ended - started, window_uids + per_commit
            done = first + per_commit
            if done % max(uids // 10, per_commit) == 0:
                speeds[done] = window_uids / window_s
                window_s, window_uids = 0.0, 0
        info = db.info()
    after = io_counters()
    latencies.sort()
    tenths = list(speeds.values())
    median = statistics.median(latencies)
    return {
        "uids": info.uids,
        "wchar_per_uid": (after["wchar"] - before["wchar"]) / uids,
        "write_bytes_per_uid": (after["write_bytes"] - before["write_bytes"]) / uids,
        "file_bytes_per_uid": info.file_bytes / uids,
        "file_over_live": info.file_bytes / info.live_bytes,
        "uids_per_s_by_size": {size: round(speed) for size, speed in speeds.items()},
        "speed_last_over_first": tenths[-1] / tenths[0],
        "commit_median_s": median,
        "commit_p99_over_median": latencies[int(len(latencies) * 0.99)] / median,
        "commit_max_over_median": latencies[-1] / median,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uids", type=int, default=10_000_000)
    parser.add_argument("--per-commit", type=int, default=50_000)
    parser.add_argument("--uid-bytes", type=int, default=20)
    parser.add_argument("--dir", default=None, help="where the store is made (default: a temporary directory)")
    options = parser.parse_args()
    show_machine()
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        for name, value in run(options.uids, options.per_commit, options.uid_bytes, Path(directory)).items():
            show(name, value)


if __name__ == "__main__":
    main()
