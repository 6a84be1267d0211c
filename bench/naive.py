"""The program that people write first: a dict of sets, in memory, fed with one decoded line after the other.

    .venv/bin/python bench/naive.py FILE [--with-visits]

It counts different visitors per minute, hour, day, ISO week, month and year in UTC, and prints its time, its peak
memory and a digest of all counts as JSON. It keeps nothing on disk and answers no window but these buckets. It counts
no visits, which would cost it time, unless it is asked to, after the clock was stopped.
"""

import argparse
import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path

from machine import peak_memory_bytes

Bucket = tuple[str, int] | tuple[str, int, int]


def buckets_of(ts: int) -> tuple[Bucket, ...]:
    """The six buckets of an event time, each with a key of its own."""
    moment = datetime.fromtimestamp(ts, UTC)
    year, week, _ = moment.isocalendar()
    return (
        ("minute", ts // 60),
        ("hour", ts // 3_600),
        ("day", ts // 86_400),
        ("week", year, week),
        ("month", moment.year, moment.month),
        ("year", moment.year),
    )


def count_visitors(path: Path) -> dict[Bucket, set[str]]:
    """The program itself. `buckets_of` is written out: a call per visit would slow it down."""
    buckets: defaultdict[Bucket, set[str]] = defaultdict(set)
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            ts, uid = record["ts"], record["uid"]
            moment = datetime.fromtimestamp(ts, UTC)
            year, week, _ = moment.isocalendar()
            for bucket in (
                ("minute", ts // 60),
                ("hour", ts // 3_600),
                ("day", ts // 86_400),
                ("week", year, week),
                ("month", moment.year, moment.month),
                ("year", moment.year),
            ):
                buckets[bucket].add(uid)
    return buckets


def count_visits(path: Path) -> Counter[Bucket]:
    """How many visits each bucket has, in a pass of its own."""
    visits: Counter[Bucket] = Counter()
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            visits.update(buckets_of(json.loads(line)["ts"]))
    return visits


def start_s_of(bucket: Bucket) -> int:
    """The bucket's first second."""
    kind, *numbers = bucket
    if kind in ("minute", "hour", "day"):
        return numbers[0] * {"minute": 60, "hour": 3_600, "day": 86_400}[kind]
    if kind == "week":
        day = date.fromisocalendar(numbers[0], numbers[1], 1)
    else:
        day = date(numbers[0], numbers[1] if kind == "month" else 1, 1)
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def rows_of(figures: Mapping[Bucket, int]) -> Iterator[tuple[str, int, int]]:
    """(granularity, start_s, figure) of every bucket."""
    for bucket, figure in figures.items():
        yield bucket[0], start_s_of(bucket), figure


def digest_of(rows: Iterable[tuple[str, int, int]]) -> str:
    """One text for all rows, in any order."""
    return hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--with-visits", action="store_true", help="count visits, too, after the timed part")
    options = parser.parse_args()
    started = time.perf_counter()
    buckets = count_visitors(options.file)
    result: dict[str, object] = {"elapsed_s": time.perf_counter() - started, "peak_bytes": peak_memory_bytes()}
    result["counts"] = digest_of(rows_of({bucket: len(uids) for bucket, uids in buckets.items()}))
    if options.with_visits:
        result["visits"] = digest_of(rows_of(count_visits(options.file)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
