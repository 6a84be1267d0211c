"""Many small commits over a year: fragments per unit, bytes written against bytes kept, the price of a tiny commit.

    .venv/bin/python bench/many_commits.py [--commits 100000] [--uids 5000000]

Each commit holds 1,000 visits; 10 % of them are by new visitors until all uids are used up. Event times walk through a
year, 316 seconds per commit. Then 2,000 commits of 10 visits each follow, a second apart, as a quiet live stream makes
them.

``fragments_max`` is the most fragments that any unit was seen with: days and everything coarser, and the dictionary,
are looked at every 50 commits, minutes and hours too every 5,000 and at the end (a minute gets a handful of commits,
an hour about a dozen). ``wchar`` is what the process handed to write calls, ``write_bytes`` what reached the block
device (/proc/self/io).
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from machine import io_counters, peak_memory_bytes, show, show_machine
from new_uids import uid_batch

import uniqdb
from uniqdb import CommitRule, OpenOptions
from uniqdb.format import Database, Directory, open_row
from uniqdb.granularity import Granularity

START_S = 1_451_606_400
"""2016-01-01T00:00:00Z."""
STEP_S = 366 * 86_400 // 100_000
"""From one commit to the next: with 100,000 of them it is a year, with fewer a part of it."""
VISITS_PER_COMMIT, NEW_PER_COMMIT = 1_000, 100
SMALL_VISITS, SMALL_NEW = 10, 1
UID_BYTES = 20
HOT_EVERY_COMMITS = 50


@dataclass(slots=True)
class Traffic:
    """Made-up visits: new uids in order, known ones drawn evenly from those before."""

    uids_max: int
    used: int = 0
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    known: list[str] = field(default_factory=list)

    def visits(self, span_s: tuple[int, int], count: int, new: int) -> tuple[list[int], list[str]]:
        """Times within the span and uids."""
        new = min(new, self.uids_max - self.used) if self.known else count
        fresh = uid_batch(self.used, new, UID_BYTES)
        self.used += new
        uids = fresh
        if count > new:
            uids = fresh + [self.known[at] for at in self.random.integers(0, len(self.known), count - new).tolist()]
        self.known += fresh
        return self.random.integers(*span_s, count).tolist(), uids


def fragment_counts(db: uniqdb.Engine, first: Granularity = Granularity.MINUTE) -> Iterator[int]:
    """Fragments of every unit: of the granularity's buckets, of all coarser ones', of the dictionary's units."""
    with db.snapshot() as snapshot:
        for key, value in snapshot.answers.view.raw_rows(Database.UNITS, bytes((first,))):
            yield len(Directory.unpack(key, open_row(Database.UNITS, key, value)).fragments)


def file_bytes(db: uniqdb.Engine) -> int:
    """Size of the data file. Asking the file system opens nothing: LMDB's locks are safe."""
    return sum(path.stat().st_size for path in db.path.glob("g*/data.mdb"))


def write_year(db: uniqdb.Engine, traffic: Traffic, commits: int, report_every: int) -> dict[str, object]:
    """The 1,000-visit commits; prints how it goes, so that a broken run still tells."""
    latencies: list[float] = []
    fragments_max, begun = 0, io_counters()["wchar"]
    for commit in range(commits):
        start_s = START_S + commit * STEP_S
        times, uids = traffic.visits((start_s, start_s + STEP_S), VISITS_PER_COMMIT, NEW_PER_COMMIT)
        started = time.perf_counter()
        db.add_many(times, uids)
        db.commit()
        latencies.append(time.perf_counter() - started)
        done = commit + 1
        if done % report_every == 0 or done == commits:
            fragments_max = max(fragments_max, *fragment_counts(db))
            size_bytes, wchar = file_bytes(db), io_counters()["wchar"] - begun
            recent = latencies[-report_every:]
            print(
                f"# {done:,} commits, {traffic.used:,} uids, fragments at most {fragments_max}, "
                f"wchar {wchar / 1e6:,.0f} MB, file {size_bytes / 1e6:,.0f} MB, ratio {wchar / size_bytes:.1f}, "
                f"commit mean {statistics.mean(recent) * 1e3:.2f} ms, max {max(recent) * 1e3:.1f} ms, memory "
                f"{peak_memory_bytes() / 1e6:,.0f} MB",
                flush=True,
            )
        elif done % HOT_EVERY_COMMITS == 0:
            fragments_max = max(fragments_max, *fragment_counts(db, Granularity.DAY))
    wchar = io_counters()["wchar"] - begun
    info = db.info()
    assert info.uids == traffic.used, f"{traffic.used} uids were added, the store has {info.uids}"
    latencies.sort()
    return {
        "commits": commits,
        "uids": info.uids,
        "fragments_max": fragments_max,
        "wchar_mb": wchar / 1e6,
        "file_mb": info.file_bytes / 1e6,
        "wchar_over_file": wchar / info.file_bytes,
        "commit_mean_ms": statistics.mean(latencies) * 1e3,
        "commit_median_ms": statistics.median(latencies) * 1e3,
        "commit_p99_ms": percentile_99(latencies) * 1e3,
        "commit_max_ms": latencies[-1] * 1e3,
    }


def write_small(db: uniqdb.Engine, traffic: Traffic, begin_s: int, commits: int) -> dict[str, object]:
    """The 10-visit commits, each measured by itself."""
    written: list[float] = []
    traffic.uids_max += commits * SMALL_NEW
    for commit in range(commits):
        at_s = begin_s + commit
        db.add_many(*traffic.visits((at_s, at_s + 1), SMALL_VISITS, SMALL_NEW))
        before = io_counters()["wchar"]
        db.commit()
        written.append(io_counters()["wchar"] - before)
    written.sort()
    return {
        "small_commits": commits,
        "small_wchar_mean_kb": statistics.mean(written) / 1e3,
        "small_wchar_median_kb": statistics.median(written) / 1e3,
        "small_wchar_p99_kb": percentile_99(written) / 1e3,
        "small_wchar_max_kb": written[-1] / 1e3,
    }


def percentile_99(ascending: list[float]) -> float:
    return next(islice(ascending, int(len(ascending) * 0.99), None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=100_000)
    parser.add_argument("--uids", type=int, default=5_000_000)
    parser.add_argument("--small-commits", type=int, default=2_000)
    parser.add_argument("--report-every", type=int, default=5_000, help="commits between two lines of progress")
    parser.add_argument("--dir", default=None, help="where the store is made (default: a temporary directory)")
    options = parser.parse_args()
    show_machine()
    never = OpenOptions(commit=CommitRule(visits=10**9, interval_s=10**9))
    traffic, begin_s = Traffic(options.uids), START_S + options.commits * STEP_S
    with (
        tempfile.TemporaryDirectory(dir=options.dir) as directory,
        uniqdb.open(Path(directory) / "bench.uniqdb", options=never) as db,
    ):
        for name, value in write_year(db, traffic, options.commits, options.report_every).items():
            show(name, value)
        for name, value in write_small(db, traffic, begin_s, options.small_commits).items():
            show(name, value)
        show("fragments_at_the_end", max(fragment_counts(db)))
        started = time.perf_counter()
        report = db.check()
        show("check_s", time.perf_counter() - started)
        show("problems", len(report.problems))
        for problem in report.problems[:10]:
            print(f"# {problem}")


if __name__ == "__main__":
    main()
