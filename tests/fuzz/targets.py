"""What is fuzzed: each target takes bytes and may raise nothing but the errors that are documented.

Where there are two ways to the same answer, both are gone and compared.
"""

import bz2
import contextlib
import gzip
import io
import os
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

import uniqdb
from engines import options, rows_of
from uniqdb import lmdb_pages
from uniqdb.audit import read_audits
from uniqdb.bucket_members import decode_members, inline_members
from uniqdb.change_set import ChangeSet
from uniqdb.dump import dump
from uniqdb.dump_reading import DumpContent
from uniqdb.errors import InputRefused, NotFound, StoreCorrupt, UniqdbError, UsageError, WindowNotKept
from uniqdb.field_settings import FieldSettings
from uniqdb.format import (
    BucketRow,
    Database,
    Directory,
    FragmentEntry,
    FragmentId,
    FragmentView,
    MembersState,
    open_row,
    seal_fragment,
    seal_row,
)
from uniqdb.manifest import read_manifest
from uniqdb.outbox import read_due, read_outbox
from uniqdb.quarantine import read_counted, read_quarantine
from uniqdb.quarantine_review import QuarantineFilter
from uniqdb.request_handlers import filter_arguments, forget_arguments, request_handlers, reset_arguments
from uniqdb.requests import RequestDesk
from uniqdb.store import Store
from uniqdb.stream.byte_stream import open_stream
from uniqdb.stream.compression import Damaged
from uniqdb.stream.driver import ingest_file
from uniqdb.stream.ingest_options import IngestOptions
from uniqdb.visit import Reason
from uniqdb.visit_decoder import VisitDecoder, line_ends
from uniqdb_cli import settings as cli_settings
from uniqdb_cli.kafka_config import client_settings

T = 1_468_244_384
LINES = [
    b'{"ts":1468244384,"uid":"fbfcbfc80d60cb19266"}',
    b'{"uid":"ann","ts":"1468244384","page":{"ts":1,"uid":"x"},"n":[1,2,{"a":null}]}',
    b'{"ts":1468244384.0,"uid":12345}',
    b'{"at":{"ms":1468244384123},"who":{"id":"\\u00e9\\ud83d\\ude00"},"ts":1,"uid":"y"}',
    '{"ts":"2016-07-11T13:39:44+02:00","uid":"Zürich \\n"}'.encode(),
    b'{"ts":1468244384,"uid":"a","ts":1468244385,"uid":"b"}',
    b'{"ts":-1,"uid":""}',
    b"",
]


@dataclass(frozen=True, slots=True)
class Target:
    """``examples`` are the corpus; ``take`` is given a mutated one."""

    name: str
    examples: list[bytes]
    take: Callable[[bytes], None]


# ---------------------------------------------------------------- records and files
_FIELDS = [
    FieldSettings(),
    FieldSettings("at.ms", "who.id", "ms"),
    FieldSettings(ts_unit="iso8601"),
    FieldSettings(ts_unit="ns", line_bytes_max=100),
]
_DECODERS = [VisitDecoder(one) for one in _FIELDS]


def records(data: bytes) -> None:
    """A block at once, and its lines one by one: the same visits."""
    decoder = _DECODERS[len(data) % len(_DECODERS)]
    block = data if data.endswith(b"\n") else data + b"\n"
    ends = line_ends(block)
    found = decoder.decode(block, ends)
    starts = [0, *(ends[:-1] + 1).tolist()]
    single = []
    for start, end in zip(starts, ends.tolist(), strict=True):
        line = block[start:end]
        if line.strip(b" \t\r"):
            outcome = decoder.decode_one(line)
            decoder.decodable(line)
            if not isinstance(outcome, Reason):
                single.append(outcome)
    at_once = list(zip(found.event_times_s.tolist(), list(found.uids), strict=True))
    assert at_once == single, (at_once, single)
    assert all(1 <= len(uid.encode("utf-8", "surrogatepass")) <= 1_024 for _, uid in at_once)


class Files:
    """Inputs as files, plain and compressed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        plain = b"\n".join(LINES) + b"\n"
        block = b"\n".join([b'{"ts":%d,"uid":"u%d"}' % (T + n, n % 7) for n in range(3_000)]) + b"\n"
        self.examples = [plain, gzip.compress(plain), gzip.compress(block), gzip.compress(plain) * 2, _zstd(block)]
        self._number = 0

    def _file(self, data: bytes, ending: str) -> Path:
        self._number += 1
        path = self._folder / f"input{self._number % 2}{ending}"
        path.write_bytes(data)
        return path

    def read(self, data: bytes) -> None:
        """The stream of bytes below the lines."""
        path = self._file(data, "")
        try:
            stream = open_stream(path)
        except InputRefused:
            return
        try:
            stream.head()
            while stream.read():
                pass
        except (InputRefused, Damaged):
            pass
        finally:
            stream.close()

    def ingest(self, data: bytes) -> None:
        """All the way into a store."""
        store, path = self._folder / "ingested.uniqdb", self._file(data, ".jsonl")
        shutil.rmtree(store, ignore_errors=True)
        with uniqdb.open(store, options=options()) as db:
            try:
                summary = ingest_file(db, path, IngestOptions(wall_clock=lambda: 4e9))
            except InputRefused:
                return
            accounted = db.info().completeness
            received = summary.visits + summary.held + sum(summary.refused.values())
            assert received in (summary.records, summary.records + 1), "one more for where it is damaged"
            assert accounted.accepted == summary.visits


def _zstd(data: bytes) -> bytes:
    with contextlib.suppress(ImportError):
        from compression import zstd  # noqa: PLC0415 - of Python 3.14

        return bytes(zstd.compress(data))
    with contextlib.suppress(ImportError):
        import zstandard  # noqa: PLC0415 - where it is installed

        return bytes(zstandard.compress(data))
    return b"\x28\xb5\x2f\xfd" + bz2.compress(data)


# ---------------------------------------------------------------- what stands in a store
class Stored:
    """Values of a real store. With the checksum made right again a reader has nothing but its own care."""

    def __init__(self, folder: Path) -> None:
        path = folder / "stored.uniqdb"
        rng = random.Random(5)
        with uniqdb.open(path, options=options(300)) as db:
            times = [T + rng.randrange(9) * 9_000 for _ in range(1_500)]
            db.add_many(times, [f"visitor-{rng.randrange(900)}" for _ in times])
            db.add_many([T], [""], source="calls")
            db.add_many([T] * 30, [f"c{n}" for n in range(30)], source="calls")
            db.commit()
            view = db._store.view()
            self._values = [
                (database, bytes(key), bytes(value)) for database in Database for key, value in view.raw_rows(database)
            ]
        self.examples = [
            bytes((database,)) + len(key).to_bytes(2, "big") + key + value
            for database, key, value in self._values[:: max(1, len(self._values) // 150)]
        ]
        dump(path, folder / "dump.tar")
        self.page_examples = [(path / "g1" / "data.mdb").read_bytes()]
        self.manifest_examples = [(path / "MANIFEST").read_bytes()]
        self.dump_examples = [(folder / "dump.tar").read_bytes()]
        self._folder, self.path = folder, path

    @staticmethod
    def _parts(data: bytes) -> tuple[Database, bytes, bytes] | None:
        if len(data) < 3:
            return None
        try:
            database = Database(data[0])
        except ValueError:
            return None
        length = int.from_bytes(data[1:3], "big")
        return database, data[3 : 3 + length], data[3 + length :]

    def sealed(self, data: bytes) -> None:
        """Values as they stand there: the checksum is the first to notice."""
        parts = self._parts(data)
        if parts is None or not parts[1]:
            return
        database, key, value = parts
        with contextlib.suppress(StoreCorrupt):
            open_row(database, key, value)
        with contextlib.suppress(StoreCorrupt):
            FragmentView(database, key, memoryview(value), None).whole()

    def unsealed(self, data: bytes) -> None:
        """The same behind checksums that hold."""
        parts = self._parts(data)
        if parts is None or not parts[1]:
            return
        database, key, value = parts
        with contextlib.suppress(StoreCorrupt):
            _read_row(database, key, value[8:])
        with contextlib.suppress(StoreCorrupt):
            _read_fragment(database, key, value[16:])

    def manifest(self, data: bytes) -> None:
        place = self._folder / "manifest"
        (place / "g1").mkdir(parents=True, exist_ok=True)
        (place / "g1" / "data.mdb").write_bytes(b"x")
        (place / "MANIFEST").write_bytes(data)
        with contextlib.suppress(StoreCorrupt, NotFound):
            read_manifest(place)

    def dump(self, data: bytes) -> None:
        """Read as a dump to its end."""
        try:
            content = DumpContent(io.BytesIO(data), "dump")
            for _ in content.uids():
                pass
            content.nameless()
            for _ in content.buckets():
                pass
            for _ in content.rows():
                pass
            content.finish()
        except InputRefused:
            pass
        except UniqdbError as error:
            raise AssertionError(f"{type(error).__name__} is not what a dump is refused with") from error

    def pages(self, data: bytes) -> None:
        """LMDB's pages, walked."""
        path = self._folder / "pages.mdb"
        path.write_bytes(data)
        assert isinstance(lmdb_pages.problems_of(path), list)


def _read_row(database: Database, key: bytes, payload: bytes) -> None:
    """As the engine reads a row of this database; what it makes of the others, `Crafted` knows."""
    open_row(database, key, seal_row(database, key, payload))
    if database is Database.BUCKETS:
        row = BucketRow.unpack(key, payload)
        if row.members is MembersState.INLINE:
            inline_members(key, row)
    elif database is Database.UNITS:
        Directory.unpack(key, payload)


def _read_fragment(database: Database, key: bytes, payload: bytes) -> None:
    sealed = seal_fragment(database, key, payload)
    whole = FragmentView(database, key, memoryview(sealed), None).whole()
    if database is not Database.UIDS:
        decode_members(database, key, FragmentEntry(FragmentId(1, 0), 3, len(payload)), bytes(whole))


class Crafted:
    """A store in which one value is another, with a checksum that holds: somebody has made it so."""

    def __init__(self, folder: Path, stored: Stored) -> None:
        self._template, self._path, self.examples = stored.path, folder / "crafted.uniqdb", stored.examples

    def ask(self, data: bytes) -> None:
        parts = Stored._parts(data)
        if parts is None or not 0 < len(parts[1]) <= 500:
            return
        database, key, value = parts
        shutil.rmtree(self._path, ignore_errors=True)
        shutil.copytree(self._template, self._path)
        store = Store(self._path, read_only=False)
        is_fragment = database is Database.UIDS or database.name in _MEMBERS
        sealed = seal_fragment(database, key, value[16:]) if is_fragment else seal_row(database, key, value[8:])
        changes = ChangeSet()
        changes.put_sealed(database, {key: sealed})
        store.commit(changes, based_on=store.view().txn_id)
        store.close()
        for question in _QUESTIONS:
            # A row whose zone, settings or numbers make no sense is refused in words, too.
            refusals = contextlib.suppress(StoreCorrupt, WindowNotKept, NotFound, UsageError)
            with refusals, uniqdb.open(self._path, read_only=True, options=options()) as db:
                question(db)
        with contextlib.suppress(StoreCorrupt, UsageError):
            writing = uniqdb.open(self._path, options=options())
            try:
                writing.add_many([T, T + 9_000], ["visitor-1", "somebody new"])
                writing.commit()
            finally:
                writing._store.close()  # what cannot be committed keeps a handle open


_MEMBERS = {"MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "YEAR"}


def _all_rows(db: uniqdb.Engine) -> None:
    rows_of(db)
    db.count("7d")


def _everybody(db: uniqdb.Engine) -> None:
    db.check_many([f"visitor-{number}" for number in range(0, 900, 50)])
    db.check_if_uid_exists("visitor-3")
    list(db.members("year", T))


def _whatever_waits(db: uniqdb.Engine) -> None:
    with db.snapshot() as snapshot:
        view = snapshot.answers.view
        list(read_due(view))
        read_outbox(view, b"", b"\xff", 1_000)
        list(read_quarantine(view))
        list(read_counted(view))
        list(read_audits(view))


_QUESTIONS: tuple[Callable[[uniqdb.Engine], object], ...] = (
    _all_rows,
    _everybody,
    _whatever_waits,
    uniqdb.Engine.info,
    uniqdb.Engine.check,
)


# ---------------------------------------------------------------- what users and other processes write
class Requests:
    """Files in ``requests/``, carried out by the handlers of a real store."""

    def __init__(self, folder: Path) -> None:
        self._db = uniqdb.open(folder / "asked.uniqdb", options=options())
        self._db.add_many([T] * 40, [f"v{number}" for number in range(40)], source="calls")
        self._db.add_new_data("noon", "x")
        self._db.commit()
        self._desk = RequestDesk(self._db.path, request_handlers(self._db))
        self._folder = self._db.path / "requests"
        self.examples = [
            msgspec.json.encode({"kind": kind, "arguments": arguments})
            for kind, arguments in (
                ("quarantine-accept", filter_arguments(QuarantineFilter(frozenset({"ahead"}), "calls", 1, 2))),
                ("quarantine-discard", filter_arguments(QuarantineFilter(ids=frozenset({0, 7})))),
                ("clock-reset", reset_arguments("calls", end=False)),
                ("forget", forget_arguments(["v1", "nobody"], keep_counts=True)),
                ("sweep", {"forced": True, "run": ""}),
                ("nothing", {}),
            )
        ]

    def serve(self, data: bytes) -> None:
        (self._folder / "1-a.request").write_bytes(data)
        self._desk._served_at_s = -1.0
        assert self._desk.serve() == 1
        answer = (self._folder / "1-a.answer").read_bytes()
        assert b"The store's writer failed" not in answer
        assert b"writer failed with" not in answer, answer
        assert not list(self._folder.glob("*.claimed"))

    def close(self) -> None:
        assert self._db.check().problems == []
        self._db.close()


_FAR_YEARS = re.compile(r"2[2-9]\d\d|[3-9]\d{3}|\d{5}")


class Texts:
    """Windows, periods, moments, uids: what a user types."""

    def __init__(self, folder: Path) -> None:
        with uniqdb.open(folder / "typed.uniqdb", timezone="Europe/Zurich", options=options()) as db:
            db.add_many([T, T + 90_000], ["ann", "ben"])
        self._db = uniqdb.open(folder / "typed.uniqdb", read_only=True)
        self.examples = [
            *(b"30d", b"24h", b"90m", b"2016", b"2016-07", b"2016-W28", b"2016-07-11", b"2016-07-11T13"),
            *(b"2016-07-11T13:39", b"2016-07-11T13:39:00+02:00", b"2016-10-30T02:30", b"2016-03-27T02:30"),
            *(b"2000-01-01", b"today", b"365d"),
        ]

    def ask(self, data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape" if len(data) % 2 else "replace")
        if _FAR_YEARS.search(text):  # a window of millennia is answered, but takes seconds and hundreds of megabytes
            return
        db = self._db
        questions: list[Callable[[], object]] = [
            lambda: db.count(text),
            lambda: db.count("7d", as_of=text),
            lambda: db.count_between("2016-07-11", text),
            lambda: list(db.series("day", text, "2016-07-14")),
            lambda: list(db.members("day", text)),
            lambda: db.check_if_uid_exists(text, text),
            lambda: db.check_if_uid_exists(text),
            lambda: db.check_many([text], "30d", as_of=text),
        ]
        with contextlib.suppress(UsageError, NotFound, WindowNotKept):
            questions[len(data) % len(questions)]()

    def close(self) -> None:
        self._db.close()


class SettingsFiles:
    """``uniqdb.toml`` and the client's INI file."""

    def __init__(self, folder: Path) -> None:
        root = Path(__file__).resolve().parents[2] / "config"
        self._place = folder / "settings"
        self.examples = [
            (root / "uniqdb.toml").read_bytes(),
            b'store = "x"\nts_unit = "ms"\nminute_retention_days = 7\n',
        ]
        self.client_examples = [
            (root / "kafka_config.ini").read_bytes(),
            b"[kafka]\nbootstrap.servers = localhost:9092\nsasl.password = file:/nowhere\nx = env:NOTHING\n",
        ]

    def settings(self, data: bytes) -> None:
        self._place.write_bytes(data)
        with contextlib.suppress(UsageError, NotFound):
            cli_settings.sourced_settings(self._place)

    def client(self, data: bytes) -> None:
        self._place.write_bytes(data)
        with contextlib.suppress(UsageError, NotFound):
            client_settings(cli_settings.Settings(kafka_config=str(self._place)))


class CommandLines:
    """Arguments of the commands that only look."""

    def __init__(self, folder: Path) -> None:
        self._store = str(folder / "typed.uniqdb")
        self.examples = [
            *(b"query\x1f--window\x1f30d", b"query\x1f--period\x1f2016-07\x1f--format\x1fjson"),
            *(b"query\x1f--by\x1fday\x1f--from\x1f2016-07-11\x1f--to\x1f2016-07-12",),
            *(b"exists\x1fann\x1f--window\x1f7d", b"members\x1f--period\x1f2016-07-11\x1f--format\x1fcsv"),
            *(b"info\x1f--format\x1fjson", b"quarantine\x1flist\x1f--reason\x1fahead", b"clock\x1fshow"),
            *(b"query\x1f--as-of\x1f2016-07-11\x1f--format\x1ftable", b"--version", b"config\x1fshow"),
        ]

    def run(self, data: bytes) -> None:
        words = data.decode("utf-8", "surrogateescape").replace("\0", "").split("\x1f")
        # Empty buckets of all the years there are may be asked for, and take their time.
        if words[0] not in _LOOKING or {"--output", "--store", "--config", "--fill"} & set(words):
            return
        from uniqdb_cli import main  # noqa: PLC0415 - it takes a while

        before, sys.argv = sys.argv, ["uniqdb", *words]
        os.environ["UNIQDB_STORE"] = self._store
        out = io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape")
        err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
        code: object = 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main.run()
        except SystemExit as ended:
            code = ended.code
        finally:
            sys.argv = before
            del os.environ["UNIQDB_STORE"]
            err.flush()
        said = err.buffer.getvalue()  # type: ignore[attr-defined]  # it is a BytesIO
        assert code in (None, 0, 1, 2, 65, 66, 70), (words, code, said[-500:])
        assert b"Traceback" not in said, (words, said[-2_000:])


_LOOKING = {"query", "exists", "members", "info", "clock", "--version", "config", "quarantine"}


# ---------------------------------------------------------------- all of them
@contextlib.contextmanager
def target(name: str, folder: Path) -> Iterator[Target]:
    """The target of this name; ``folder`` is empty, and its own."""
    with contextlib.ExitStack() as stack:
        if name == "records":
            yield Target(name, [b"\n".join(LINES), *LINES], records)
        elif name in ("files", "ingest"):
            files = Files(folder)
            yield Target(name, files.examples, files.read if name == "files" else files.ingest)
        elif name == "requests":
            asked = Requests(folder)
            stack.callback(asked.close)
            yield Target(name, asked.examples, asked.serve)
        elif name in ("texts", "arguments"):
            typed = Texts(folder)
            if name == "arguments":
                typed.close()
                commands = CommandLines(folder)
                yield Target(name, commands.examples, commands.run)
            else:
                stack.callback(typed.close)
                yield Target(name, typed.examples, typed.ask)
        elif name in ("settings", "client settings"):
            files_of = SettingsFiles(folder)
            if name == "settings":
                yield Target(name, files_of.examples, files_of.settings)
            else:
                yield Target(name, files_of.client_examples, files_of.client)
        else:
            stored = Stored(folder)
            yield {
                "sealed values": Target(name, stored.examples, stored.sealed),
                "values": Target(name, stored.examples, stored.unsealed),
                "crafted stores": Target(name, stored.examples, Crafted(folder, stored).ask),
                "MANIFEST": Target(name, stored.manifest_examples, stored.manifest),
                "dumps": Target(name, stored.dump_examples, stored.dump),
                "pages": Target(name, stored.page_examples, stored.pages),
            }[name]
