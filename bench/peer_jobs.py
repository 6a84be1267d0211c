"""The job of `bench/peers_ingest.py`, once per peer: exact different uids and visits of all six granularities, in UTC.

    python bench/peer_jobs.py PEER FILE FOLDER

Prints a digest of (granularity, start, count, visits) of every bucket, and the seconds of the work without imports.
Each peer does it the fastest way that was found: what was tried besides stands in docs/benchmarks.md.

Most of them work upwards, as uniqdb does: different (minute, uid) first, of those different (hour, uid), of those
(day, uid), and weeks, months and years from days. Two peers need a hand for calendars; nobody is sent through one.
"""

import argparse
import gc
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from naive import buckets_of, digest_of, start_s_of
from processes import CORES, size_bytes

Row = tuple[str, int, int, int]
"""(granularity, start_s, count, visits)."""
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
LONG = ("week", "month", "year")
BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Peer:
    """A row of the table."""

    title: str
    run: Callable[[Path, Path], Iterable[Row]]
    modules: tuple[str, ...] = ()
    keeps: str = "nothing"
    """What is on disk afterwards."""
    large: bool = True
    """Whether it is asked to do the large sizes, too."""


# ---------------------------------------------------------------- uniqdb
def count_with_uniqdb(path: Path, folder: Path, **options: Any) -> Iterator[Row]:
    """As anybody would: the file into a new store, everything synced; then all counts are read.

    ``options`` are those of `IngestOptions`.
    """
    import uniqdb

    store = folder / "bench.uniqdb"
    summary = uniqdb.ingest(store, path, uniqdb.IngestOptions(**options) if options else None)
    assert not summary.refused, summary
    with uniqdb.open(store) as db:
        for granularity in uniqdb.Granularity:
            for one in db.series(granularity):
                yield one.granularity, one.start_ts, one.count, one.visits


# ---------------------------------------------------------------- databases
def count_with_duckdb(path: Path, folder: Path, *, keeps: bool = False) -> Iterator[Row]:
    import duckdb

    db = duckdb.connect(str(folder / "visits.duckdb") if keeps else ":memory:")
    db.execute(f"set threads={CORES}; set preserve_insertion_order=false; set temp_directory='{folder}'")
    kind = "table" if keeps else "temp table"
    source = f"read_json('{path}', format='newline_delimited', columns={{ts: 'BIGINT', uid: 'VARCHAR'}})"
    sources = (("minutes", "ts // 60", "count(*)", source), ("hours", "number // 60", "sum(visits)", "minutes"))
    for name, number, visits, finer in (*sources, ("days", "number // 24", "sum(visits)", "hours")):
        columns = f"{number} as number, uid, {visits} as visits"
        db.execute(f"create {kind} {name} as select {columns} from {finer} group by all")
    for word, unit_s in (("minute", MINUTE_S), ("hour", HOUR_S), ("day", DAY_S)):
        found = db.execute(f"select number, count(*), sum(visits)::BIGINT from {word}s group by number").fetchall()
        yield from ((word, at * unit_s, count, visits) for at, count, visits in found)
    for word in LONG:
        start = f"date_trunc('{word}', make_timestamp(number * {DAY_S} * 1000000))"
        found = db.execute(
            f"select epoch({start})::BIGINT as start, count(distinct uid), sum(visits)::BIGINT from days group by start"
        ).fetchall()
        yield from ((word, at, count, visits) for at, count, visits in found)
    db.close()


def count_with_duckdb_file(path: Path, folder: Path) -> Iterator[Row]:
    return count_with_duckdb(path, folder, keeps=True)


def count_with_clickhouse(path: Path, folder: Path) -> Iterator[Row]:
    """Lines come in as text and are taken apart by its function for JSON, which skips faster than its JSON format."""
    from chdb.session import Session

    db = Session(str(folder / "clickhouse"))
    limits = f"settings max_threads={CORES}, input_format_parallel_parsing=1"
    for name in ("minutes", "hours", "days"):
        db.query(f"create table {name} (at UInt32, uid String, visits UInt64) engine=Memory")
    visit = "JSONExtract(line, 'Tuple(ts UInt32, uid String)') as visit"
    source = f"(select {visit} from file('{path}', LineAsString, 'line String'))"
    columns = "intDiv(visit.ts, 60) as at, visit.uid as uid, count()"
    db.query(f"insert into minutes select {columns} from {source} group by at, uid {limits}")
    for name, finer, parts in (("hours", "minutes", 60), ("days", "hours", 24)):
        columns = f"intDiv(at, {parts}) as up, uid, sum(visits)"
        db.query(f"insert into {name} select {columns} from {finer} group by up, uid {limits}")
    for word, unit_s in (("minute", MINUTE_S), ("hour", HOUR_S), ("day", DAY_S)):
        columns = f"'{word}', toUInt64(at) * {unit_s}, count(), sum(visits)"
        yield from _tsv(db.query(f"select {columns} from {word}s group by at {limits}", "TSV"))
    starts = {"week": "toStartOfWeek(day, 1)", "month": "toStartOfMonth(day)", "year": "toStartOfYear(day)"}
    for word, start in starts.items():
        columns = f"'{word}', toUInt64(toDate({start})) * {DAY_S}, uniqExact(uid), sum(visits)"
        days = "(select toDate(toUInt16(at)) as day, uid, visits from days)"
        yield from _tsv(db.query(f"select {columns} from {days} group by {start} {limits}", "TSV"))
    db.close()


def _tsv(answer: Any) -> Iterator[Row]:
    for line in answer.bytes().decode().splitlines():
        word, *numbers = line.split("\t")
        at, count, visits = map(int, numbers)
        yield word, at, count, visits


def count_with_polars(path: Path, folder: Path) -> Iterator[Row]:  # noqa: ARG001  # it keeps nothing
    os.environ["POLARS_MAX_THREADS"] = str(CORES)
    import polars as pl

    visits = pl.read_ndjson(path, schema={"ts": pl.Int64, "uid": pl.String}).select(
        at=pl.col("ts") // 60, uid=pl.col("uid").cast(pl.Categorical).to_physical()
    )
    minutes = visits.group_by("at", "uid").agg(visits=pl.len().cast(pl.Int64))
    del visits
    hours = minutes.group_by(pl.col("at") // 60, "uid").agg(pl.col("visits").sum())
    days = hours.group_by(pl.col("at") // 24, "uid").agg(pl.col("visits").sum())
    for word, unit_s, frame in (("minute", MINUTE_S, minutes), ("hour", HOUR_S, hours), ("day", DAY_S, days)):
        for at, count, number in frame.group_by("at").agg(count=pl.len(), number=pl.col("visits").sum()).iter_rows():
            yield word, at * unit_s, count, number
    moment = pl.from_epoch(pl.col("at") * DAY_S)
    for word, step in zip(LONG, ("1w", "1mo", "1y"), strict=True):
        start = moment.dt.truncate(step).dt.epoch("s")
        for row in days.group_by(start).agg(pl.col("uid").n_unique(), pl.col("visits").sum()).iter_rows():
            yield (word, *row)


# ---------------------------------------------------------------- sets of Python
Minutes = dict[int, tuple[set[str], int]]
"""Minute number -> its uids, its visits."""


def count_with_json(path: Path, folder: Path) -> Iterator[Row]:  # noqa: ARG001  # as above
    gc.disable()
    uids: dict[int, set[str]] = {}
    visits: dict[int, int] = {}
    with path.open("rb") as lines:
        for line in lines:
            record = json.loads(line)
            at = record["ts"] // 60
            try:
                uids[at].add(record["uid"])
                visits[at] += 1
            except KeyError:
                uids[at], visits[at] = {record["uid"]}, 1
    return unite_upwards({at: (uids[at], visits[at]) for at in uids})


def count_with_msgspec(path: Path, folder: Path) -> Iterator[Row]:  # noqa: ARG001  # as above
    return unite_upwards(minutes_of(path, 0, path.stat().st_size))


def count_with_msgspec_twice(path: Path, folder: Path) -> Iterator[Row]:  # noqa: ARG001  # as above
    """Each half of the file by a process of its own; the parent unites."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    half = _line_start(path, path.stat().st_size // 2)
    parts = ((path, 0, half), (path, half, path.stat().st_size))
    with ProcessPoolExecutor(CORES, mp_context=get_context("fork")) as pool:
        minutes: Minutes = {}
        for found in pool.map(minutes_of, *zip(*parts, strict=True)):
            for at, (uids, visits) in found.items():
                known, before = minutes.get(at, (set(), 0))
                minutes[at] = (known | uids if known else uids), before + visits
    return unite_upwards(minutes)


def minutes_of(path: Path, start: int, end: int) -> Minutes:
    """The sets of the minutes of a part of the file, decoded in blocks by msgspec."""
    import msgspec

    visit = msgspec.defstruct("Visit", [("ts", int), ("uid", str)], gc=False)
    decoder = msgspec.json.Decoder(visit)
    gc.disable()
    uids: dict[int, set[str]] = {}
    visits: dict[int, int] = {}
    for block in blocks(path, start, end):
        for record in decoder.decode_lines(block):
            at = record.ts // 60
            try:
                uids[at].add(record.uid)
                visits[at] += 1
            except KeyError:
                uids[at], visits[at] = {record.uid}, 1
    return {at: (uids[at], visits[at]) for at in uids}


def blocks(path: Path, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a part of the file in blocks of whole lines."""
    with path.open("rb") as file:
        file.seek(start)
        while (left := end - file.tell()) > 0:
            block = file.read(min(BLOCK_BYTES, left))
            yield block if block.endswith(b"\n") or file.tell() >= end else block + file.readline()


def _line_start(path: Path, near: int) -> int:
    with path.open("rb") as file:
        file.seek(near)
        file.readline()
        return file.tell()


def count_with_bytewax(path: Path, folder: Path) -> Iterator[Row]:  # noqa: ARG001  # as above
    """Batches are decoded by msgspec and put into sets at once, so that few items go through the flow."""
    import bytewax.operators as op
    import msgspec
    from bytewax.connectors.files import FileSource
    from bytewax.dataflow import Dataflow
    from bytewax.testing import TestingSink, run_main

    decoder = msgspec.json.Decoder(msgspec.defstruct("Visit", [("ts", int), ("uid", str)], gc=False))

    def decode(lines: Sequence[str]) -> list[tuple[str, tuple[set[str], int]]]:
        minutes: dict[int, list[str]] = {}
        for record in decoder.decode_lines("\n".join(lines)):
            minutes.setdefault(record.ts // 60, []).append(record.uid)
        return [(str(at), (set(uids), len(uids))) for at, uids in minutes.items()]

    def add(known: tuple[set[str], int], more: tuple[set[str], int]) -> tuple[set[str], int]:
        known[0].update(more[0])
        return known[0], known[1] + more[1]

    gc.disable()
    found: list[tuple[str, tuple[set[str], int]]] = []
    flow = Dataflow("minutes")
    lines = op.input("visits", flow, FileSource(path, batch_size=10_000))
    minutes = op.fold_final("uids", op.flat_map_batch("decode", lines, decode), lambda: (set(), 0), add)
    op.output("counts", minutes, TestingSink(found))
    run_main(flow)
    return unite_upwards({int(at): pair for at, pair in found})


def unite_upwards(minutes: Minutes) -> Iterator[Row]:
    """All rows from the sets of the minutes."""
    for at, (uids, visits) in minutes.items():
        yield "minute", at * MINUTE_S, len(uids), visits
    hours = _united((("hour", at // 60), pair) for at, pair in minutes.items())
    days = _united((("day", at // 24), pair) for (_, at), pair in hours.items())
    longer = _united(
        (bucket, pair) for (_, at), pair in days.items() for bucket in buckets_of(at * DAY_S) if bucket[0] in LONG
    )
    for found in (hours, days, longer):
        for bucket, (uids, visits) in found.items():
            yield str(bucket[0]), start_s_of(bucket), len(uids), visits


def _united(parts: Iterable[tuple[Any, tuple[set[str], int]]]) -> dict[Any, tuple[set[str], int]]:
    gathered: dict[Any, list[tuple[set[str], int]]] = {}
    for bucket, pair in parts:
        gathered.setdefault(bucket, []).append(pair)
    return {
        bucket: (set().union(*(uids for uids, _ in pairs)), sum(visits for _, visits in pairs))
        for bucket, pairs in gathered.items()
    }


PEERS = {
    "uniqdb": Peer("uniqdb", count_with_uniqdb, keeps="everything, durably"),
    "uniqdb_alone": Peer(
        "uniqdb, one process", partial(count_with_uniqdb, processes=0), keeps="everything, durably", large=False
    ),
    "duckdb": Peer("DuckDB, in memory", count_with_duckdb, ("duckdb",)),
    "duckdb_file": Peer("DuckDB, into its file", count_with_duckdb_file, ("duckdb",), "minutes, hours, days"),
    "clickhouse": Peer("ClickHouse (chdb), in memory", count_with_clickhouse, ("chdb",)),
    "polars": Peer("Polars, in memory", count_with_polars, ("polars",)),
    "msgspec_twice": Peer("msgspec and sets, two processes", count_with_msgspec_twice, ("msgspec",), large=False),
    "msgspec": Peer("msgspec and sets", count_with_msgspec, ("msgspec",), large=False),
    "bytewax": Peer("Bytewax with msgspec and sets", count_with_bytewax, ("bytewax", "msgspec"), large=False),
    "json": Peer("json and sets", count_with_json, large=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path, help="an empty one")
    options = parser.parse_args()
    peer = PEERS[options.peer]
    for name in peer.modules:
        __import__(name)
    started = time.perf_counter()
    rows = list(peer.run(options.file, options.folder))
    result = {"work_s": time.perf_counter() - started, "buckets": len(rows), "digest": digest_of(rows)}
    print(json.dumps(result | {"disk_bytes": size_bytes(options.folder) if peer.keeps != "nothing" else 0}))


if __name__ == "__main__":
    main()
