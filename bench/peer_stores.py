"""Key-value stores that hold the same uids as uniqdb: how each is filled, opened for reading, and asked.

Used by `bench/peers_lookups.py`. Each is asked through its usual Python binding, in the cheapest way it has: a held
read transaction where there is one, bytes already encoded where it takes bytes, a warm cache large enough for all.
"""

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uniqdb
from uniqdb import CacheSizes, CommitRule, OpenOptions
from uniqdb.compaction import compact

START_S = 1_468_195_200
VISITS_PER_S = 1_000
PER_COMMIT = 50_000
LADDER_PER_COMMIT = 1_000
"""Small commits leave the dictionary a fragment of every size."""
MAP_BYTES = 2**40
CACHE_BYTES = 2**31

Batches = Iterable[list[str]]


@dataclass(frozen=True, slots=True)
class Asker:
    """An open store. ``key`` makes what it is asked by of a uid, before the clock starts."""

    one: Callable[[Any], object]
    many: Callable[[list[Any]], Sequence[object]]
    """As many true answers as uids that it has."""
    key: Callable[[str], Any] = str.encode


# ---------------------------------------------------------------- uniqdb
def fill_uniqdb(path: Path, batches: Batches) -> None:
    """Large commits, then `uniqdb compact`."""
    _fill(path, batches)
    compact(path)


def fill_ladder(path: Path, batches: Batches) -> None:
    """Small commits, nothing after them."""
    steps = range(0, PER_COMMIT, LADDER_PER_COMMIT)
    small = (batch[at : at + LADDER_PER_COMMIT] for batch in batches for at in steps)
    _fill(path, filter(None, small))


def _fill(path: Path, batches: Batches) -> None:
    options = OpenOptions(commit=CommitRule(visits=10**9, interval_s=10**9), caches=CacheSizes(uid_entries=1_000))
    first = 0
    with uniqdb.open(path, options=options) as db:
        for batch in batches:
            db.add_many([START_S + (first + at) // VISITS_PER_S for at in range(len(batch))], batch)
            db.commit()
            first += len(batch)


@contextmanager
def ask_reader(path: Path) -> Iterator[Asker]:
    """Another process than the writer: it looks at each call whether there was a commit."""
    with uniqdb.open(path, read_only=True) as db:
        yield Asker(db.check_if_uid_exists, db.check_many, str)


@contextmanager
def ask_writer(path: Path) -> Iterator[Asker]:
    """The handle that may write."""
    with uniqdb.open(path) as db:
        yield Asker(db.check_if_uid_exists, db.check_many, str)


@contextmanager
def ask_snapshot(path: Path) -> Iterator[Asker]:
    """All answers from one commit."""
    with uniqdb.open(path, read_only=True) as db, db.snapshot() as snapshot:
        yield Asker(snapshot.check_if_uid_exists, snapshot.check_many, str)


# ---------------------------------------------------------------- the others
def fill_lmdb(path: Path, batches: Batches) -> None:
    """A B-tree keyed by uid, with the uid's number as its value."""
    import lmdb

    first = 0
    with lmdb.open(str(path), map_size=MAP_BYTES, sync=False) as env:
        for batch in batches:
            with env.begin(write=True) as txn, txn.cursor() as cursor:
                numbered = ((uid.encode(), at.to_bytes(4, "big")) for at, uid in enumerate(batch, start=first))
                cursor.putmulti(sorted(numbered))
            first += len(batch)


@contextmanager
def ask_lmdb(path: Path) -> Iterator[Asker]:
    """A held read transaction."""
    import lmdb

    with lmdb.open(str(path), map_size=MAP_BYTES, readonly=True) as env, env.begin() as txn, txn.cursor() as cursor:
        yield Asker(txn.get, cursor.getmulti)


def _rocksdb_options() -> Any:
    import rocksdict

    table = rocksdict.BlockBasedOptions()
    table.set_bloom_filter(10, False)
    table.set_block_cache(rocksdict.Cache(CACHE_BYTES))
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    options.increase_parallelism(2)
    return options


def fill_rocksdb(path: Path, batches: Batches) -> None:
    import rocksdict

    db, first = rocksdict.Rdict(str(path), options=_rocksdb_options()), 0
    for batch in batches:
        writes = rocksdict.WriteBatch(raw_mode=True)
        for at, uid in enumerate(batch, start=first):
            writes.put(uid.encode(), at.to_bytes(4, "big"))
        db.write(writes)
        first += len(batch)
    db.flush()
    db.compact_range(None, None)
    db.close()


@contextmanager
def ask_rocksdb(path: Path) -> Iterator[Asker]:
    """Compacted, with Bloom filters, all blocks in its cache once they were read."""
    import rocksdict

    db = rocksdict.Rdict(str(path), options=_rocksdb_options(), access_type=rocksdict.AccessType.read_only())
    yield Asker(db.get, db.get)
    db.close()


def fill_sqlite(path: Path, batches: Batches) -> None:
    path.mkdir()
    db, first = sqlite3.connect(path / "uids.sqlite"), 0
    # Filling it is not what is measured: nothing is synced, and all of it stays in memory.
    db.executescript(f"pragma journal_mode=off; pragma synchronous=off; pragma cache_size=-{CACHE_BYTES // 1024}")
    db.execute("create table uids (uid text primary key, number integer) without rowid")
    for batch in batches:
        with db:
            db.executemany("insert into uids values (?, ?)", ((uid, at) for at, uid in enumerate(batch, start=first)))
        first += len(batch)
    db.execute("vacuum")
    db.close()


@contextmanager
def ask_sqlite(path: Path) -> Iterator[Asker]:
    """A prepared statement in a held read transaction, the file mapped into memory."""
    db = sqlite3.connect(path / "uids.sqlite", isolation_level=None)
    db.execute(f"pragma mmap_size={CACHE_BYTES * 16}")
    db.execute("begin")
    one = db.cursor()

    def get(uid: str) -> object:
        return one.execute("select 1 from uids where uid = ?", (uid,)).fetchone()

    def get_many(uids: list[str]) -> list[object]:
        marks = ",".join("?" * len(uids))
        return one.execute(f"select uid from uids where uid in ({marks})", uids).fetchall()

    yield Asker(get, get_many, str)
    db.close()


@contextmanager
def ask_sqlite_each(path: Path) -> Iterator[Asker]:
    """As most programs do it: no transaction is held, so that each answer is fresh, at the price of a lock each."""
    db = sqlite3.connect(path / "uids.sqlite")
    db.execute(f"pragma mmap_size={CACHE_BYTES * 16}")

    def get(uid: str) -> object:
        return db.execute("select 1 from uids where uid = ?", (uid,)).fetchone()

    def get_many(uids: list[str]) -> list[object]:
        marks = ",".join("?" * len(uids))
        return db.execute(f"select uid from uids where uid in ({marks})", uids).fetchall()

    yield Asker(get, get_many, str)
    db.close()


def fill_redis(path: Path, batches: Batches) -> None:
    """Its own snapshot file, which the server that is asked loads."""
    path.mkdir()
    with _redis(path) as client:
        for batch in batches:
            client.mset(dict.fromkeys(batch, b"1"))
        client.save()


@contextmanager
def ask_redis(path: Path) -> Iterator[Asker]:
    """A server of its own behind a Unix socket; a batch is one MGET."""
    with _redis(path) as client:
        yield Asker(client.get, client.mget)


@contextmanager
def _redis(path: Path) -> Iterator[Any]:
    import redis

    socket = path / "redis.sock"
    words = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(path), "--save", ""]
    with ExitStack() as at_end:
        server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        at_end.callback(server.wait)
        at_end.callback(server.terminate)
        client = redis.Redis(unix_socket_path=str(socket), socket_timeout=None)  # to save millions takes its time
        at_end.callback(client.close)
        for _ in range(6_000):
            try:
                if client.ping():
                    break
            except redis.exceptions.ConnectionError:  # also while it loads its file
                time.sleep(0.01)
        yield client


@dataclass(frozen=True, slots=True)
class StoreKind:
    """How a store is filled; several askers may ask the same one."""

    fill: Callable[[Path, Batches], None]
    modules: tuple[str, ...] = ()
    program: str = ""
    """Must be on PATH."""

    def lacks(self) -> str:
        """Why it cannot be had here, beside its modules; empty if nothing is missing."""
        return f"no {self.program} on PATH" if self.program and shutil.which(self.program) is None else ""


STORES = {
    "compacted": StoreKind(fill_uniqdb),
    "ladder": StoreKind(fill_ladder),
    "lmdb": StoreKind(fill_lmdb, ("lmdb",)),
    "rocksdb": StoreKind(fill_rocksdb, ("rocksdict",)),
    "sqlite": StoreKind(fill_sqlite),
    "redis": StoreKind(fill_redis, ("redis",), "redis-server"),
}


@dataclass(frozen=True, slots=True)
class AskerKind:
    """A row of the table."""

    title: str
    store: str
    ask: Callable[[Path], Any]


ASKERS = {
    "compacted_reader": AskerKind("uniqdb, compacted: reader", "compacted", ask_reader),
    "compacted_writer": AskerKind("uniqdb, compacted: writer", "compacted", ask_writer),
    "compacted_snapshot": AskerKind("uniqdb, compacted: `snapshot()`", "compacted", ask_snapshot),
    "ladder_reader": AskerKind("uniqdb, many fragments: reader", "ladder", ask_reader),
    "ladder_writer": AskerKind("uniqdb, many fragments: writer", "ladder", ask_writer),
    "ladder_snapshot": AskerKind("uniqdb, many fragments: `snapshot()`", "ladder", ask_snapshot),
    "lmdb": AskerKind("lmdb, held transaction", "lmdb", ask_lmdb),
    "rocksdb": AskerKind("RocksDB (rocksdict)", "rocksdb", ask_rocksdb),
    "sqlite": AskerKind("SQLite (sqlite3), held transaction", "sqlite", ask_sqlite),
    "sqlite_each": AskerKind("SQLite (sqlite3), a transaction for each", "sqlite", ask_sqlite_each),
    "redis": AskerKind("Redis, Unix socket", "redis", ask_redis),
}
