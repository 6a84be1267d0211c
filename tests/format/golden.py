"""Stores of every format, as rows in hexadecimal text, and what they answer, as JSON: laid out, asked, recorded.

    PYTHONPATH=engine:tests:tests/format python tests/format/golden.py v2_full

records one anew. That is right only together with a new format version, for stores of the old one are out there, or
where what changes is free by the format: in which order the uids of a fragment stand in its blob.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb  # to put the recorded rows into a store below the engine
import msgspec
from msgspec import structs

import uniqdb
from engines import options
from lost import Fate, lose, span_at
from model import GRANULARITIES
from swept import DAY_S, SOURCE_KEY, brief_options
from uniqdb import WindowNotKept
from uniqdb.calendar_zone import CalendarZone
from uniqdb.creation import write_empty_store
from uniqdb.forgetting import forget
from uniqdb.format import Database
from uniqdb.intake import read_held
from uniqdb.manifest import Manifest, read_manifest, write_manifest
from uniqdb.meta import GapRow, KafkaPlace, SourceRow
from uniqdb.options import Retention
from uniqdb.outbox import read_due, read_outbox
from uniqdb.quarantine import Quarantined, read_counted, read_quarantine
from uniqdb.stream.emission import work_out
from uniqdb.sweeping import SweepRun
from uniqdb.writer import nothing

HERE = Path(__file__).parent
VERSIONS = {"v1": 1, "v2": 2, "v2_full": 2, "v2_lost": 2}
"""The recorded stores and their formats. ``v1`` and ``v2``: see test_golden.py. ``v2_full`` holds the rest of what
format 2 has: swept members, forgotten visitors, partitions, gaps, counted-only refusals. ``v2_lost`` has lost spans."""
STORE_UUID = "00000000-0000-4000-8000-000000000001"
ZONE = "Asia/Kolkata"  # a small TZif file that is not going to change
T = 1_468_244_384
KEPT = Retention(1, 2, 9, 9, 16, 30)
QUEUES = ("outbox", "due")


# ---------------------------------------------------------------- laid out
def rows(path: Path) -> Iterator[str]:
    """Every row of every named database: name, key, value."""
    env = lmdb.open(str(path / f"g{read_manifest(path).generation}"), max_dbs=32, readonly=True)
    with env.begin() as txn:
        for database in Database:
            handle = env.open_db(database.file_name, txn=txn, create=False)
            for key, value in txn.cursor(db=handle):
                yield f"{database.file_name.decode()} {key.hex()} {value.hex()}"
    env.close()


def lay_out(path: Path, name: str) -> None:
    """Make the recorded store; of a database that its format did not have there is none."""
    (path / "g1").mkdir(parents=True)
    (path / "requests").mkdir()
    lines = [line.split(" ") for line in (HERE / f"golden_{name}.txt").read_text().splitlines()]
    known = {line[0].encode() for line in lines}
    later = {Database.CLOCKS, Database.HELD, Database.OUTBOX, Database.DUE, Database.WINDOWS}
    env = lmdb.open(str(path / "g1"), max_dbs=32, map_size=1 << 24)
    handles = {
        database.file_name: env.open_db(database.file_name)
        for database in Database
        if VERSIONS[name] > 1 or database not in later or database.file_name in known
    }
    with env.begin(write=True) as txn:
        for database, key, value in lines:
            txn.put(bytes.fromhex(key), bytes.fromhex(value), db=handles[database.encode()])
    env.close()
    write_manifest(path, Manifest(STORE_UUID, format_version=VERSIONS[name]))


# ---------------------------------------------------------------- asked
def answers(path: Path) -> Any:
    """All that a store answers and remembers, whatever the layout; as from JSON."""
    with uniqdb.open(path, read_only=True) as db, db.snapshot() as snapshot:
        info, view = db.info(), snapshot.answers.view
        records = [one for kind in GRANULARITIES for one in db.series(kind)]
        found = {
            "zone": db.timezone,
            "records": [[one.granularity, one.start_ts, one.count, one.visits, one.status] for one in records],
            "whole": [[one.complete, one.revision] for one in records],
            "members": [_told(lambda one=one: sorted(db.members(one.granularity, one.start_ts))) for one in records],
            "windows": {text: _told(lambda text=text: db.count(text).count) for text in ("2d", "7d", "30d", "36h")},
            "all": _told(lambda: db.count().count),
            "seen": db.check_many([*(f"visitor-{number:02d}" for number in range(40)), "nobody"]),
            "quarantine": [*read_quarantine(view), *read_counted(view)],
            "held": [row for _, row in read_held(view, b"")],
            "sources": info.sources,
            "completeness": info.completeness,
            "kept_from_s": info.kept_from_s,
            "erasures": info.erasures,
            "lost": info.lost,
            "uids": info.uids,
            "outbox": [row.key.hex() for row in read_outbox(view, b"", b"\xff", 10_000)],
            "due": [key.pack().hex() for key in read_due(view)],
        }
    return json.loads(msgspec.json.encode(found))


def _told(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except WindowNotKept:
        return "not kept"


def recorded(name: str) -> Any:
    """What was recorded when the store was; fields that sources have been given since have their defaults."""
    found = json.loads((HERE / f"golden_{name}.json").read_text())
    rows = msgspec.convert(found["sources"], list[SourceRow])
    return {**found, "sources": msgspec.to_builtins(rows)}


# ---------------------------------------------------------------- recorded
def write_full(path: Path) -> None:
    """Twenty days of calls and of two partitions, published, partly forgotten, swept; late visits since."""
    write_empty_store(path, CalendarZone.from_name(ZONE), STORE_UUID, 7)
    with uniqdb.open(path, options=replace(brief_options(KEPT), quarantine_max_rows=2)) as db:
        times = [T + step * DAY_S // 3 for step in range(60)]
        uids = [f"visitor-{step * 7 % 37:02d}" for step in range(60)]
        for first in range(0, 60, 20):
            db.add_many(times[first : first + 20], uids[first : first + 20])
            db.commit()
        db.add_many([times[-1]] * 80, [f"crowd-{number}" for number in range(80)])
        db.add_many([*times[-25:], T + 300 * DAY_S], [*uids[:25], "held reader"], source="shop")
        db.commit()
        db.write(structs.replace(partitions(T + 20 * DAY_S), refused=[refused(number) for number in range(5)]))
        db.write(
            structs.replace(nothing(), gaps=[GapRow("visits/1", 20, 25, "lost_offsets", T + DAY_S, T + DAY_S + 3_600)])
        )
        db.write(structs.replace(nothing(), is_publishing=True))
        with db.snapshot() as snapshot:
            view = snapshot.answers.view
            first, window = read_outbox(view, b"", b"\xff", 1)[0], next(read_due(view))
            windows = [work_out(snapshot, window)]
            db.write(structs.replace(nothing(), published={first.key: first.commit_number}, windows=windows))
        forget(db, ["visitor-07"], keep_counts=True)
        forget(db, ["visitor-14", "crowd-3"])
        run = SweepRun(db, T + 20 * DAY_S, forced=True)
        run.name = "0" * 32
        run.to_the_end()
        db.add_many([T, times[-1]], ["late", "late"])


def partitions(clock_s: int) -> "uniqdb.writer.Commit":
    """A commit with two partitions of a topic, of which one is idle."""
    sources = {}
    for number in (0, 1):
        place = KafkaPlace(
            topic="visits",
            partition=number,
            next_offset=25,
            cluster_id="cluster",
            topic_id="topic",
            closing_clock_s=clock_s,
            idle=number == 1,
        )
        key = SOURCE_KEY[:15] + bytes([number])
        name = f"visits/{number}"
        sources[key] = SourceRow(kind="kafka", name=name, ts_field="ts", uid_field="uid", ts_unit="s", kafka=place)
    return structs.replace(nothing(), sources=sources)


def refused(number: int) -> Quarantined:
    return Quarantined("malformed", "visits/0", b"{bad", number, 0)


def write_lost(path: Path) -> None:
    """Of every granularity some buckets are lost: of some the count is left, of some all, of some nothing."""
    write_empty_store(path, CalendarZone.from_name(ZONE), STORE_UUID, 7)
    with uniqdb.open(path, options=options()) as db:
        times = [T + step * DAY_S // 3 for step in range(60)]
        db.add_many(times, [f"visitor-{step * 7 % 37:02d}" for step in range(60)])
        db.add_many([times[0]] * 80, [f"crowd-{number}" for number in range(80)])
        db.commit()
        spans = [span_at(db, kind, times[3 * at], 2) for at, kind in enumerate(GRANULARITIES[:5])]
        fates = list(Fate)
        lose(db, [*spans, span_at(db, "minute", T)], lambda bucket: fates[bucket[1] // 60 % 3])
        db.add_many(times, ["late"] * 60)


WRITERS = {"v2_full": write_full, "v2_lost": write_lost}


def record(name: str) -> None:
    """Write the two files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        if name in WRITERS:
            WRITERS[name](path)
            (HERE / f"golden_{name}.txt").write_text("".join(f"{line}\n" for line in rows(path)))
            shutil.rmtree(path)
        lay_out(path, name)
        lines = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in answers(path).items())
        (HERE / f"golden_{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    for one in sys.argv[1:]:
        record(one)
