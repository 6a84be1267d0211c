"""Asking a store that holds a year: a union of 365 days, the same window by its cover, counts, membership.

    .venv/bin/python bench/windows.py [--days 365] [--uids 2000000] [--visits-per-day 200000] [--processes 5]

Every question is asked in fresh processes that only read: the page cache is warm (one process asks untimed first), the
process's own caches are cold. ``union_of_days_ms`` loads one set per day and unites them all, ``cover_ms`` is the same
window by the fewest buckets that tile it, as ``count`` does it. Both begin with an open store, check every checksum
they meet, and must give the same count. The others are medians of many calls in one process, whose first call, in
``first_..._ms``, loads what the rest find in memory. Each figure is the median of the processes.

The days begin in the middle of a month, so that the cover is not simply twelve months.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from machine import show, show_machine
from new_uids import uid_batch, uids_of
from pyroaring import BitMap

import uniqdb
from uniqdb import CacheSizes, CommitRule, OpenOptions
from uniqdb.bucket_members import load_members
from uniqdb.format import bucket_key
from uniqdb.granularity import Granularity

START_S = 1_452_816_000
"""2016-01-15T00:00:00Z."""
DAY_S = 86_400
UID_BYTES = 20
CALLS = 2_000
UID_ENTRIES_MAX = 10_000_000
WINDOW = "30d"


@dataclass(frozen=True, slots=True)
class Extent:
    """How large the store is."""

    days: int
    uids: int
    visits_per_day: int

    def visitors(self, day: int) -> list[int]:
        """Numbers of the visitors of a day, one per visit; the same in every process."""
        return np.random.default_rng(day).integers(0, self.uids, self.visits_per_day).tolist()

    def period(self) -> str:
        """The month in the middle."""
        return datetime.fromtimestamp(START_S + self.days // 2 * DAY_S, UTC).strftime("%Y-%m")


def build(path: Path, extent: Extent) -> None:
    """One commit per day, its visits spread evenly over the day."""
    options = OpenOptions(
        commit=CommitRule(visits=10**9, interval_s=10**9),
        caches=CacheSizes(uid_entries=min(2 * extent.uids, UID_ENTRIES_MAX)),
    )
    in_day_s = (np.arange(extent.visits_per_day) * DAY_S // extent.visits_per_day).astype(np.int64)
    started = time.perf_counter()
    with uniqdb.open(path, options=options) as db:
        for day in range(extent.days):
            visitors = np.array(extent.visitors(day), np.uint64)
            db.add_many((START_S + day * DAY_S + in_day_s).tolist(), uids_of(visitors, UID_BYTES))
            db.commit()
            if (day + 1) % 50 == 0:
                visits = (day + 1) * extent.visits_per_day
                print(f"# {day + 1} days, {visits / (time.perf_counter() - started):,.0f} visits/s", flush=True)
        info = db.info()
    show("visits", info.visits)
    show("uids", info.uids)
    show("file_mb", info.file_bytes / 1e6)


# ---------------------------------------------------------------- in a process of its own
def ask_union(db: uniqdb.Engine, extent: Extent) -> dict[str, float]:
    """The window as the union of its days, whatever the planner would take."""
    with db.snapshot() as snapshot:
        started = time.perf_counter()
        answers, days = snapshot.answers, []
        for at, row in answers.rows(Granularity.DAY, START_S, START_S + extent.days * DAY_S):
            days.append(load_members(answers.view, bucket_key(Granularity.DAY, at), row))
        count = len(BitMap.union(*days))
        return {"union_of_days_ms": (time.perf_counter() - started) * 1e3, "count": count}


def ask_cover(db: uniqdb.Engine, extent: Extent) -> dict[str, float]:
    """The window as anybody asks for it."""
    started = time.perf_counter()
    count = db.count(f"{extent.days}d").count
    return {"cover_ms": (time.perf_counter() - started) * 1e3, "count": count}


def ask_calls(db: uniqdb.Engine, extent: Extent) -> dict[str, float]:
    """Small questions, asked many times."""
    seen = [uid_batch(number, 1, UID_BYTES)[0] for number in extent.visitors(extent.days // 2)[:CALLS]]
    unseen = [uid_batch(extent.uids + number, 1, UID_BYTES)[0] for number in range(CALLS)]
    random.Random(1).shuffle(seen)
    period, figures = extent.period(), {}
    calls: dict[str, tuple[Callable[[str], object], list[str], bool | None]] = {
        "stored_count": (lambda _: db.count(period), [""] * CALLS, None),
        "exists_hit": (db.check_if_uid_exists, seen, True),
        "exists_miss": (db.check_if_uid_exists, unseen, False),
        "exists_windowed": (lambda uid: db.check_if_uid_exists(uid, window=WINDOW), seen, None),
        "window_count": (lambda _: db.count(WINDOW), [""] * (CALLS // 10), None),
    }
    for name, (call, arguments, expected) in calls.items():
        times_ns, answers = timed(call, arguments)
        assert expected is None or set(answers) == {expected}, name
        figures[f"{name}_us"] = statistics.median(times_ns[1:]) / 1e3
        figures[f"first_{name}_ms"] = times_ns[0] / 1e6
    return figures


def timed(call: Callable[[str], object], arguments: Iterable[str]) -> tuple[list[int], list[object]]:
    """Nanoseconds and answer of each call."""
    times_ns, answers = [], []
    for argument in arguments:
        started = time.perf_counter_ns()
        answer = call(argument)
        times_ns.append(time.perf_counter_ns() - started)
        answers.append(answer)
    return times_ns, answers


QUESTIONS = {"union": ask_union, "cover": ask_cover, "calls": ask_calls}


def ask(path: Path, extent: Extent, processes: int) -> dict[str, float]:
    """Medians over fresh processes; the first of each question warms the page cache and is not counted."""
    figures: dict[str, float] = {}
    counts: set[float] = set()
    for question in QUESTIONS:
        command = [sys.executable, __file__, "--ask", question, "--store", str(path)]
        command += [f"--days={extent.days}", f"--uids={extent.uids}", f"--visits-per-day={extent.visits_per_day}"]
        answers = []
        for _ in range(processes + 1):
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            answers.append(json.loads(done.stdout))
        counts |= {answer.pop("count") for answer in answers if "count" in answer}
        for name in answers[0]:
            figures[name] = statistics.median(answer[name] for answer in answers[1:])
    figures["results_agree"] = int(len(counts) == 1)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--uids", type=int, default=2_000_000)
    parser.add_argument("--visits-per-day", type=int, default=200_000)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--dir", default=None, help="where the store is made (default: a temporary directory)")
    parser.add_argument("--store", type=Path, default=None, help="ask this store, which an earlier run built and kept")
    parser.add_argument("--keep", type=Path, default=None, help="build the store here and keep it")
    parser.add_argument("--ask", choices=QUESTIONS, help="ask one question in this process, answer as JSON")
    options = parser.parse_args()
    extent = Extent(options.days, options.uids, options.visits_per_day)
    if options.ask:
        with uniqdb.open(options.store, read_only=True) as db:
            print(json.dumps(QUESTIONS[options.ask](db, extent)))
        return
    show_machine()
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        path = options.store or options.keep or Path(directory) / "bench.uniqdb"
        if options.store is None:
            build(path, extent)
        figures = ask(path, extent, options.processes)
    for name, value in figures.items():
        show(name, value)
    if not figures["results_agree"]:
        sys.exit("the union of the days and the cover do not agree")


if __name__ == "__main__":
    main()
