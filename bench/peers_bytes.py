"""Bytes on disk for the same memberships: uniqdb against SQLite, RocksDB and DuckDB.

    .venv-bench/bin/python bench/peers_bytes.py [--visits 2000000] [--uids 200000] [--days 30]

A membership is "this uid came in this bucket", of one of six granularities. Every store has each of them once, and the
uids with their numbers, which is how somebody who minds bytes would lay them out in a database: the uid's bytes once, a
number of four bytes in each bucket. uniqdb keeps besides what the others do not: numbers of visits, states, positions.
Databases are vacuumed or compacted; uniqdb is measured as its commits left it, and compacted.

For uniqdb it is also told what a membership costs in buckets of 100 members and more, by granularity: the sets alone,
without keys, checksums and the four bytes in front of each.
"""

import argparse
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from machine import show, show_machine
from naive import buckets_of, start_s_of
from new_uids import uids_of
from processes import lacking, not_left_out, size_bytes, table

import uniqdb
from uniqdb import CommitRule, OpenOptions
from uniqdb.compaction import compact
from uniqdb.format import BucketRow, Database, MembersState, fragment_key, parse_bucket_key
from uniqdb.granularity import Granularity

START_S, DAY_S = 1_468_195_200, 86_400
UID_BYTES = 20
PER_COMMIT = 50_000
LARGE_MEMBERS = 100
PAYLOAD_HEAD_BYTES = 4
"""The kind of a set, in front of it."""
BATCH = 200_000

Memberships = dict[int, tuple[np.ndarray, np.ndarray]]
"""Granularity -> start and number of the uid, ascending by both."""


@dataclass(frozen=True, slots=True)
class Visits:
    """Made-up ones in the order of time: a tenth of the visitors makes half of the visits."""

    times_s: np.ndarray
    numbers: np.ndarray
    uids: int

    def memberships(self) -> Memberships:
        """Each once."""
        found: Memberships = {}
        days, day_of = np.unique(self.times_s // DAY_S * DAY_S, return_inverse=True)
        for granularity in Granularity:
            unit_s = {"minute": 60, "hour": 3_600, "day": DAY_S}.get(granularity.word)
            if unit_s:
                starts = self.times_s // unit_s * unit_s
            else:
                words = [one for day in days.tolist() for one in buckets_of(day) if one[0] == granularity.word]
                starts = np.array([start_s_of(one) for one in words], np.int64)[day_of]
            pairs = np.unique(starts << 32 | self.numbers)
            found[int(granularity)] = pairs >> 32, pairs & 0xFFFFFFFF
        return found


def made_up(visits: int, uids: int, days: int) -> Visits:
    random = np.random.default_rng(11)
    numbers = random.integers(0, uids, visits)
    is_frequent = random.random(visits) < 0.5
    numbers[is_frequent] //= 10
    return Visits(np.sort(random.integers(START_S, START_S + days * DAY_S, visits)), numbers, uids)


# ---------------------------------------------------------------- uniqdb
def fill_uniqdb(path: Path, visits: Visits) -> None:
    with uniqdb.open(path, options=OpenOptions(commit=CommitRule(visits=10**9, interval_s=10**9))) as db:
        for first in range(0, len(visits.times_s), PER_COMMIT):
            part = slice(first, first + PER_COMMIT)
            db.add_many(visits.times_s[part].tolist(), uids_of(visits.numbers[part], UID_BYTES))
            db.commit()


@dataclass(slots=True)
class Large:
    """What the sets of the buckets of 100 members and more take."""

    buckets: int = 0
    memberships: int = 0
    set_bytes: int = 0
    stored_bytes: int = 0
    """With keys, checksums and heads, as LMDB is given them."""

    def cells(self, word: str) -> list[str]:
        per = [f"{size / self.memberships:.2f}" for size in (self.set_bytes, self.stored_bytes)] if self.buckets else []
        return [word, f"{self.buckets:,}", f"{self.memberships:,}", *(per or ["", ""])]


def large_buckets(path: Path) -> dict[Granularity, Large]:
    """Read through the store's own view, which verifies all of it."""
    found = {granularity: Large() for granularity in Granularity}
    with uniqdb.open(path, read_only=True) as db, db.snapshot() as snapshot:
        view = snapshot.answers.view
        for key, payload in view.rows(Database.BUCKETS, b"", bytes((Granularity.YEAR + 1,))):
            row, (granularity, _) = BucketRow.unpack(key, payload), parse_bucket_key(key)
            if row.unique_count < LARGE_MEMBERS:
                continue
            large, database, directory = found[granularity], Database.of(granularity), view.directory(key)
            assert row.members is MembersState.KEPT, row
            assert directory is not None
            large.buckets += 1
            for entry in directory.fragments:
                name = fragment_key(key, entry.id)
                value = view.get(database, name)
                assert value is not None
                large.memberships += entry.entries
                large.set_bytes += len(view.fragment(database, name).whole()) - PAYLOAD_HEAD_BYTES
                large.stored_bytes += len(name) + len(value)
    return found


# ---------------------------------------------------------------- the others
def _chunks(memberships: Memberships) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    for granularity, (starts, numbers) in memberships.items():
        for first in range(0, len(starts), BATCH):
            yield granularity, starts[first : first + BATCH], numbers[first : first + BATCH]


def fill_sqlite(path: Path, uids: list[str], memberships: Memberships) -> int:
    path.mkdir()
    db = sqlite3.connect(path / "memberships.sqlite")
    db.execute("create table uids (uid text primary key, number integer) without rowid")
    columns = "granularity, start, number"
    db.execute(f"create table members ({columns}, primary key ({columns})) without rowid")
    with db:
        db.executemany("insert into uids values (?, ?)", sorted(zip(uids, range(len(uids)), strict=True)))
        for granularity, starts, numbers in _chunks(memberships):
            rows = zip([granularity] * len(starts), starts.tolist(), numbers.tolist(), strict=True)
            db.executemany("insert into members values (?, ?, ?)", rows)
    db.execute("vacuum")
    count = int(db.execute("select count(*) from members").fetchone()[0])
    db.close()
    return count


def fill_rocksdb(path: Path, uids: list[str], memberships: Memberships) -> int:
    import rocksdict

    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_compression_type(rocksdict.DBCompressionType.zstd())
    db = rocksdict.Rdict(str(path), options=options)
    for first in range(0, len(uids), BATCH):
        writes = rocksdict.WriteBatch(raw_mode=True)
        for number, uid in enumerate(uids[first : first + BATCH], start=first):
            writes.put(b"u" + uid.encode(), number.to_bytes(4, "big"))
        db.write(writes)
    for granularity, starts, numbers in _chunks(memberships):
        keys = np.empty(len(starts), [("granularity", "u1"), ("start", ">u4"), ("number", ">u4")])
        keys["granularity"], keys["start"], keys["number"] = granularity, starts, numbers
        writes = rocksdict.WriteBatch(raw_mode=True)
        packed = keys.tobytes()
        for at in range(0, len(packed), keys.itemsize):
            writes.put(packed[at : at + keys.itemsize], b"")
        db.write(writes)
    db.flush()
    db.compact_range(None, None)
    count = sum(1 for key in db.keys() if key[:1] != b"u")  # noqa: SIM118  # iterating over it is not the same
    db.close()
    return count


def fill_duckdb(path: Path, uids: list[str], memberships: Memberships) -> int:
    import duckdb
    import pyarrow as pa

    path.mkdir()
    db = duckdb.connect(str(path / "memberships.duckdb"))
    named = pa.table({"uid": uids, "number": pa.array(np.arange(len(uids), dtype=np.uint32))})
    db.register("named", named)
    db.execute("create table uids as select * from named order by uid")
    db.execute("create table members (granularity utinyint, start uinteger, number uinteger)")
    for granularity, (starts, numbers) in memberships.items():
        db.register("part", pa.table({"start": starts.astype(np.uint32), "number": numbers.astype(np.uint32)}))
        db.execute(f"insert into members select {granularity}, start, number from part order by start, number")
    db.execute("checkpoint")
    count = int(db.execute("select count(*) from members").fetchall()[0][0])
    db.close()
    return count


@dataclass(frozen=True, slots=True)
class Kind:
    """A database and what it needs."""

    title: str
    fill: Callable[[Path, list[str], Memberships], int]
    modules: tuple[str, ...] = ()


KINDS = {
    "duckdb": Kind("DuckDB, sorted", fill_duckdb, ("duckdb", "pyarrow")),
    "rocksdb": Kind("RocksDB, zstd", fill_rocksdb, ("rocksdict",)),
    "sqlite": Kind("SQLite, WITHOUT ROWID", fill_sqlite),
}


@dataclass(slots=True)
class Sizes:
    """The table."""

    memberships: int
    uids: int
    rows: list[list[str]] = field(default_factory=list)

    def add(self, name: str, title: str, path: Path) -> None:
        size = size_bytes(path)
        show(f"{name}_mb", size / 1e6)
        self.rows.append([title, f"{size / 1e6:,.1f} MB", f"{size / self.memberships:.2f}", f"{size / self.uids:.0f}"])


def compare(visits: Visits, folder: Path) -> None:
    memberships = visits.memberships()
    total = sum(len(starts) for starts, _ in memberships.values())
    sizes = Sizes(total, len(np.unique(visits.numbers)))
    show("memberships", total)
    ours, wrong = folder / "visits.uniqdb", []
    fill_uniqdb(ours, visits)
    sizes.add("uniqdb", "uniqdb, as committed", ours)
    before = large_buckets(ours)
    compact(ours)
    sizes.add("uniqdb_compacted", "uniqdb, compacted", ours)
    after = large_buckets(ours)
    with uniqdb.open(ours, read_only=True) as db:
        if sum(one.count for granularity in Granularity for one in db.series(granularity)) != total:
            wrong.append("uniqdb")
    names = uids_of(np.arange(visits.uids, dtype=np.uint64), UID_BYTES)
    for name in not_left_out((name, kind.title, lacking(kind.modules)) for name, kind in KINDS.items()):
        kind = KINDS[name]
        if kind.fill(folder / name, names, memberships) != total:
            wrong.append(name)
        sizes.add(name, kind.title, folder / name)
    for state, large in (("committed", before), ("compacted", after)):
        everything = sum(one.memberships for one in large.values())
        show(f"{state}_large_memberships", everything)
        show(f"{state}_large_set_bytes", sum(one.set_bytes for one in large.values()) / max(everything, 1))
    show("results_agree", int(not wrong))
    print(f"\n{len(visits.times_s):,} visits, {visits.uids:,} uids, {total:,} memberships:\n")
    print(table(("", "on disk", "bytes a membership", "bytes a uid"), sizes.rows))
    print(f"\nuniqdb, compacted, buckets of {LARGE_MEMBERS} members and more:\n")
    head = ("", "buckets", "memberships", "bytes of sets a membership", "with keys and checksums")
    print(table(head, [one.cells(granularity.word) for granularity, one in after.items()]))
    if wrong:
        sys.exit(f"not all memberships are there: {', '.join(wrong)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=2_000_000)
    parser.add_argument("--uids", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--dir", default=None, help="where stores are made (default: a temporary directory)")
    options = parser.parse_args()
    show_machine()
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        compare(made_up(options.visits, options.uids, options.days), Path(folder))


if __name__ == "__main__":
    main()
