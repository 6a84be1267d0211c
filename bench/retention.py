"""Three simulated years under retention: how large the store becomes, and whether every kept bucket is right.

    .venv/bin/python bench/retention.py [--visits 30000000] [--uids 2000000] [--days 1096] [--defaults]

Visitors come and go: of the uids a window that moves on with time is active, and one visit in 500 is by somebody from
long ago. Both clocks are injected. Members are kept for 7 days (minutes), 35 (hours), 90 (days and weeks), 183 (months)
and 366 (years), counts for 366; with ``--defaults`` as long as they are by default. Every quarter of a year all kept
buckets are compared with Python sets, which know nothing of the engine, and which forget what is swept.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from machine import peak_memory_bytes, show, show_machine
from msgspec import structs

import uniqdb
from uniqdb.bucket_members import load_members
from uniqdb.format import BucketRow, Database, MembersState
from uniqdb.granularity import Granularity
from uniqdb.meta import KafkaPlace, SourceRow
from uniqdb.options import OpenOptions, Retention
from uniqdb.sweeping import SweepRun
from uniqdb.writer import Commit, nothing

I64Array = npt.NDArray[np.int64]
DAY_S = 86_400
START_S = 1_420_070_400  # 2015-01-01
SHORT = Retention(7, 35, 90, 90, 183, 366, 366)
BATCHES_PER_DAY = 4
QUARTER_DAYS = 91
ACTIVE_FRACTION, RETURNING_FRACTION = 0.25, 0.002


def batches(visits: int, uids: int, days: int) -> Iterator[tuple[I64Array, I64Array]]:
    """(event times, numbers of uids) of each quarter of a day."""
    rng = np.random.default_rng(8)
    per_batch, length_s = visits // (days * BATCHES_PER_DAY), DAY_S // BATCHES_PER_DAY
    active = max(int(uids * ACTIVE_FRACTION), 1)
    for batch in range(days * BATCHES_PER_DAY):
        begin_s = START_S + batch * length_s
        times_s = np.sort(rng.integers(begin_s, begin_s + length_s, per_batch))
        first = (uids - active) * batch // (days * BATCHES_PER_DAY)
        numbers = first + rng.integers(0, active, per_batch)
        if first:
            returning = rng.random(per_batch) < RETURNING_FRACTION
            numbers[returning] = rng.integers(0, first, int(returning.sum()))
        yield times_s, numbers


def starts_of(times_s: I64Array) -> dict[str, I64Array]:
    """Where the buckets begin, in UTC, by numpy's calendar."""
    seconds = times_s.astype("datetime64[s]")
    day = times_s // DAY_S
    coarse = {
        name: seconds.astype(f"datetime64[{unit}]").astype("datetime64[s]").astype(np.int64)
        for name, unit in (("month", "M"), ("year", "Y"))
    }
    week = ((day + 3) // 7 * 7 - 3) * DAY_S  # the first day of 1970 was a Thursday
    return {"minute": times_s // 60 * 60, "hour": times_s // 3_600 * 3_600, "day": day * DAY_S, "week": week, **coarse}


class Oracle:
    """Sets of the numbers of uids, of the kept buckets only."""

    def __init__(self) -> None:
        self.sets: dict[str, dict[int, set[int]]] = {kind.word: {} for kind in Granularity}
        self.seen: set[int] = set()

    def add(self, times_s: I64Array, numbers: I64Array) -> None:
        self.seen.update(numbers.tolist())
        for word, starts_s in starts_of(times_s).items():
            for start_s in np.unique(starts_s).tolist():
                self.sets[word].setdefault(start_s, set()).update(numbers[starts_s == start_s].tolist())

    def forget(self, kept_from_s: dict[str, int]) -> None:
        for word, from_s in kept_from_s.items():
            for start_s in [at for at in self.sets[word] if at < from_s]:
                del self.sets[word][start_s]

    def wrong_buckets(self, db: uniqdb.Engine) -> int:
        """Kept buckets whose members or counts are not the sets, and sets without a bucket."""
        wrong = 0
        with db.snapshot() as snapshot:
            view, dictionary = snapshot.answers.view, snapshot.answers.facts.dictionary
            number_of = np.full(dictionary.row(view).next_ordinal, -1, np.int64)
            for _, columns in dictionary.scan(view):
                texts = columns.uids(np.arange(len(columns)))
                number_of[columns.ordinals] = [int(text[1:]) for text in texts]
            for granularity in Granularity:
                left = dict(self.sets[granularity.word])
                for key, payload in view.rows(Database.BUCKETS, bytes((granularity,)), bytes((granularity + 1,))):
                    row = BucketRow.unpack(key, payload)
                    if row.members is MembersState.SWEPT:
                        continue
                    ordinals = np.frombuffer(load_members(view, key, row).to_array(), np.uint32)
                    found = set(number_of[ordinals].tolist())
                    expected = left.pop(int.from_bytes(key[1:], "big"), set())
                    wrong += not (found == expected and row.unique_count == len(expected) == len(ordinals))
                wrong += len(left)
        return wrong


def clocked(times_s: I64Array, numbers: I64Array, clock_s: int) -> Commit:
    place = KafkaPlace(topic="t", partition=0, next_offset=0, closing_clock_s=clock_s)
    row = SourceRow(kind="kafka", name="t/0", ts_field="ts", uid_field="uid", ts_unit="s", kafka=place)
    uids = [f"v{number:011}" for number in numbers.tolist()]
    return structs.replace(nothing(), event_times_s=times_s, uids=uids, sources={b"t/0".ljust(16, b"."): row})


def simulate(path: Path, options: argparse.Namespace) -> bool:
    retention = Retention() if options.defaults else SHORT
    oracle, rng = Oracle(), random.Random(8)
    size_at_two_years = largest_after = wrong = runs = 0
    swept_s = 0.0
    with uniqdb.open(path, options=OpenOptions(retention=retention)) as db:
        for number, (times_s, numbers) in enumerate(batches(options.visits, options.uids, options.days)):
            clock_s = int(times_s[-1])
            db.write(clocked(times_s, numbers, clock_s))
            oracle.add(times_s, numbers)
            began = time.perf_counter()
            run, runs = SweepRun(db, clock_s + rng.randrange(-60, 60)), runs + 1
            run.to_the_end()
            swept_s += time.perf_counter() - began
            if (number + 1) % BATCHES_PER_DAY:
                continue
            day = (number + 1) // BATCHES_PER_DAY
            if day % 7 == 0 or day == options.days:
                info = db.info()
                oracle.forget(info.kept_from_s)
                if day <= options.days * 2 // 3:
                    size_at_two_years = info.file_bytes
                largest_after = max(largest_after, info.file_bytes)
            if day % QUARTER_DAYS == 0 or day == options.days:
                oracle.forget(db.info().kept_from_s)
                wrong += oracle.wrong_buckets(db)
                info = db.info()
                rows = sum(info.buckets.values())
                print(
                    f"# day {day}: {info.file_bytes / 2**20:,.1f} MiB, {info.live_bytes / 2**20:,.1f} in use, "
                    f"{info.uids:,} uids, {rows:,} bucket rows, {wrong} wrong buckets",
                    flush=True,
                )
        info = db.info()
        problems = len(db.check().problems)
    growth = largest_after / max(size_at_two_years, 1)
    show("visits", info.visits)
    show("different_uids", len(oracle.seen))
    show("uids_kept", info.uids)
    show("uids_dropped", info.uids_dropped)
    show("returned_as_new", info.ordinals_used - len(oracle.seen))
    show("bytes_after_two_years", size_at_two_years)
    show("bytes_largest_later", largest_after)
    show("growth_after_two_years", growth)
    show("wrong_buckets", wrong)
    show("problems", problems)
    show("sweep_runs", runs)
    show("sweeping_s", swept_s)
    show("peak_memory_bytes", peak_memory_bytes())
    return not wrong and not problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=30_000_000)
    parser.add_argument("--uids", type=int, default=2_000_000)
    parser.add_argument("--days", type=int, default=1_096)
    parser.add_argument("--defaults", action="store_true")
    options = parser.parse_args()
    show_machine()
    with tempfile.TemporaryDirectory(prefix="uniqdb-retention-") as folder:
        if not simulate(Path(folder) / "visits.uniqdb", options):
            raise SystemExit("the store is wrong")


if __name__ == "__main__":
    main()
