"""The stores that `bench/peers_windows.py` asks for the different visitors of a year: how each is filled and asked.

All hold the same visits: a day and a uid of 20 bytes. The databases are asked in two forms each: over a table of days
and uids as they came, and over the best form that was found for this one question, with uids numbered beforehand.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from new_uids import uids_of
from processes import CORES
from windows import UID_BYTES, Extent, build

DAYS_PER_FILE = 20

Ask = Callable[[], int]
"""The count of the whole window."""


# ---------------------------------------------------------------- uniqdb
def fill_uniqdb(path: Path, extent: Extent) -> None:
    build(path, extent)


@contextmanager
def ask_uniqdb(path: Path, extent: Extent) -> Iterator[Ask]:
    import uniqdb

    with uniqdb.open(path, read_only=True) as db:
        yield lambda: db.count(f"{extent.days}d").count


# ---------------------------------------------------------------- databases
def _files_of(path: Path, extent: Extent) -> Iterator[Path]:
    """The visits as Parquet files, one after the other; each is gone when the next is asked for."""
    import pyarrow as pa
    from pyarrow import parquet

    names = uids_of(np.arange(extent.uids, dtype=np.uint64), UID_BYTES)
    uids = pa.array(names, pa.large_string())
    del names
    file = path.with_suffix(".parquet")
    for first in range(0, extent.days, DAYS_PER_FILE):
        days = range(first, min(first + DAYS_PER_FILE, extent.days))
        number = np.concatenate([np.array(extent.visitors(day), np.uint32) for day in days])
        day = np.repeat(np.array(days, np.uint16), extent.visits_per_day)
        parquet.write_table(pa.table({"day": day, "number": number, "uid": uids.take(pa.array(number))}), file)
        yield file
    file.unlink()


def _duckdb(path: Path, *, read_only: bool) -> Any:
    import duckdb

    db = duckdb.connect(str(path / "visits.duckdb"), read_only=read_only)
    db.execute(f"set threads={CORES}")
    return db


def fill_duckdb(path: Path, extent: Extent) -> None:
    """Days and uids as text, each visit a row."""
    path.mkdir()
    db = _duckdb(path, read_only=False)
    db.execute("create table visits (day usmallint, uid varchar)")
    for file in _files_of(path, extent):
        db.execute(f"insert into visits select day, uid from read_parquet('{file}')")
    db.close()


def fill_duckdb_numbers(path: Path, extent: Extent) -> None:
    """Different pairs of day and number of the uid."""
    path.mkdir()
    db = _duckdb(path, read_only=False)
    db.execute("create table visits (day usmallint, number uinteger)")
    for file in _files_of(path, extent):
        pairs = f"select distinct day, number from read_parquet('{file}')"
        db.execute(f"insert into visits {pairs} order by day, number")
    db.close()


@contextmanager
def _ask_duckdb(path: Path, extent: Extent, column: str) -> Iterator[Ask]:
    db = _duckdb(path, read_only=True)
    query = f"select count(distinct {column}) from visits where day >= 0 and day < {extent.days}"
    yield lambda: int(db.execute(query).fetchall()[0][0])
    db.close()


def ask_duckdb(path: Path, extent: Extent) -> Any:
    return _ask_duckdb(path, extent, "uid")


def ask_duckdb_numbers(path: Path, extent: Extent) -> Any:
    return _ask_duckdb(path, extent, "number")


def _clickhouse(path: Path) -> Any:
    from chdb.session import Session

    return Session(str(path))


def fill_clickhouse(path: Path, extent: Extent) -> None:
    """Days and uids as text, each visit a row of a MergeTree."""
    db = _clickhouse(path)
    db.query("create table visits (day UInt16, uid String) engine=MergeTree order by (day, uid)")
    for file in _files_of(path, extent):
        db.query(f"insert into visits select day, uid from file('{file}', Parquet) settings max_threads={CORES}")
    db.query("optimize table visits final")
    db.close()


def fill_clickhouse_bitmaps(path: Path, extent: Extent) -> None:
    """A bitmap of numbers for each day."""
    db = _clickhouse(path)
    db.query(
        "create table visits (day UInt16, who AggregateFunction(groupBitmap, UInt32)) "
        "engine=AggregatingMergeTree order by day"
    )
    for file in _files_of(path, extent):
        columns = "assumeNotNull(day) as day, groupBitmapState(assumeNotNull(number))"
        bitmaps = f"select {columns} from file('{file}', Parquet) group by day"
        db.query(f"insert into visits {bitmaps} settings max_threads={CORES}")
    db.query("optimize table visits final")
    db.close()


@contextmanager
def _ask_clickhouse(path: Path, extent: Extent, aggregate: str) -> Iterator[Ask]:
    db = _clickhouse(path)
    query = f"select {aggregate} from visits where day >= 0 and day < {extent.days} settings max_threads={CORES}"
    yield lambda: int(db.query(query, "TSV").bytes())
    db.close()


def ask_clickhouse(path: Path, extent: Extent) -> Any:
    return _ask_clickhouse(path, extent, "uniqExact(uid)")


def ask_clickhouse_bitmaps(path: Path, extent: Extent) -> Any:
    return _ask_clickhouse(path, extent, "groupBitmapMerge(who)")


@dataclass(frozen=True, slots=True)
class WindowStore:
    """A row of the table."""

    title: str
    fill: Callable[[Path, Extent], None]
    ask: Callable[[Path, Extent], Any]
    modules: tuple[str, ...] = ()


WINDOW_STORES = {
    "uniqdb": WindowStore("uniqdb, all granularities", fill_uniqdb, ask_uniqdb),
    "clickhouse_bitmaps": WindowStore(
        "ClickHouse: groupBitmapMerge of daily bitmaps of numbers",
        fill_clickhouse_bitmaps,
        ask_clickhouse_bitmaps,
        ("chdb", "pyarrow"),
    ),
    "clickhouse": WindowStore(
        "ClickHouse: uniqExact of a MergeTree of days and uids", fill_clickhouse, ask_clickhouse, ("chdb", "pyarrow")
    ),
    "duckdb_numbers": WindowStore(
        "DuckDB: count(distinct) of pairs of day and number",
        fill_duckdb_numbers,
        ask_duckdb_numbers,
        ("duckdb", "pyarrow"),
    ),
    "duckdb": WindowStore("DuckDB: count(distinct) of days and uids", fill_duckdb, ask_duckdb, ("duckdb", "pyarrow")),
}
