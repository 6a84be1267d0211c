"""A reader of stores written from docs/format.md alone: it shares no code with the engine, and finds the same."""

import datetime
import io
import json
import re
from functools import reduce
from pathlib import Path
from struct import Struct, unpack_from
from zoneinfo import ZoneInfo

import lmdb
import msgspec
import numpy as np
import pytest
from msgspec import structs
from pyroaring import BitMap
from xxhash import xxh3_64_hexdigest, xxh3_64_intdigest, xxh3_128_digest

import uniqdb
from engines import options
from uniqdb import DictionarySizes
from uniqdb.compaction import compact
from uniqdb.forgetting import forget
from uniqdb.intake import Place, open_intake
from uniqdb.meta import GapRow, KafkaPlace, SourceRow
from uniqdb.outbox import WindowKey, read_outbox
from uniqdb.quarantine import Quarantined
from uniqdb.stream.driver import ingest_file
from uniqdb.stream.emission import work_out
from uniqdb.stream.ingest_options import IngestOptions
from uniqdb.stream.partition import partition_source_key
from uniqdb.writer import Commit, nothing

PAGE = Path(__file__).parents[2] / "docs" / "format.md"
NUMBERS = {"meta": 1, "uids": 2, "units": 3, "buckets": 4, "sources": 5, "quarantine": 6, "clocks": 7, "held": 8}
KINDS = ("minute", "hour", "day", "week", "month", "year")
NUMBERS.update((kind, 11 + place) for place, kind in enumerate(KINDS))
NUMBERS.update(outbox=9, due=10, windows=17)
ENTRY = Struct("<QHHII")
SMALL = DictionarySizes(young_bytes=30_000, young_merge_bytes=600, partition_entries=64, partition_bytes=4_000)
"""With these sizes the store is left in the middle of a drain."""


def row(database: str, key: bytes, value: bytes) -> bytes:
    """The payload of a sealed row."""
    assert unpack_from("<Q", value)[0] == xxh3_64_intdigest(value[8:], xxh3_64_intdigest(key, NUMBERS[database]))
    return value[8:]


def fragment(database: str, key: bytes, value: bytes) -> bytes:
    """The payload of a fragment."""
    checksum, payload_bytes, blocks = unpack_from("<QII", value)
    seed, at = xxh3_64_intdigest(key, NUMBERS[database]), 16 + 8 * blocks
    assert len(value) == at + payload_bytes
    assert (blocks == 0) == (payload_bytes <= 65_536)
    assert checksum == xxh3_64_intdigest(value[8:at] if blocks else value[8:], seed)
    for number, expected in enumerate(unpack_from(f"<{blocks}Q", value, 16)):
        block = value[at + 65_536 * number : at + 65_536 * (number + 1)]
        assert expected == xxh3_64_intdigest(block, (seed + number + 1) % 2**64)
    return value[at:]


class Reading:
    """Everything in a store."""

    def __init__(self, path: Path) -> None:
        self.met: set[str] = set()  # parts of the format that this store has
        manifest = json.loads((path / "MANIFEST").read_text())
        text = "{store_uuid}/{generation}/{format_version}".format(**manifest)
        assert manifest["checksum"] == xxh3_64_hexdigest(text.encode())
        with (
            lmdb.open(str(path / f"g{manifest['generation']}"), max_dbs=32, readonly=True) as env,
            env.begin() as txn,
        ):
            tables = {name: env.open_db(name.encode(), txn=txn, create=False) for name in NUMBERS}
            self.raw = {name: dict(txn.cursor(db=table)) for name, table in tables.items()}
        self.rows = {
            name: {key: row(name, key, value) for key, value in self.raw[name].items()}
            for name in (
                "meta",
                "units",
                "buckets",
                "sources",
                "quarantine",
                "clocks",
                "held",
                "outbox",
                "due",
                "windows",
            )
        }
        self.store, self.state = (msgspec.msgpack.decode(self.rows["meta"][name]) for name in (b"store", b"state"))
        assert self.store["store_uuid"] == manifest["store_uuid"]
        self.listed: set[tuple[str, bytes]] = set()

    def unit(self, key: bytes) -> tuple[int, list[tuple[int, int, bytes]]]:
        """The note, and (commit number, entries, payload) of each fragment."""
        payload = self.rows["units"][key]
        note, count, _ = unpack_from("<QHH", payload)
        database, start = ("uids", key) if key[0] >= 0x10 else (KINDS[key[0] - 1], key[1:])
        found = []
        for commit, place, _, entries, size_bytes in ENTRY.iter_unpack(payload[12:]):
            name = start + commit.to_bytes(8, "big") + place.to_bytes(2, "big")
            self.listed.add((database, name))
            self.met |= {"blocks"} if self.raw[database][name][12] else set()
            found.append((commit, entries, fragment(database, name, self.raw[database][name])))
            assert len(found[-1][2]) == size_bytes
        assert len(found) == count <= 64
        return note, found

    def members(self, key: bytes) -> BitMap:
        row = self.rows["buckets"][key]
        if row[25] == 2:
            self.met.add("inline")
            assert key not in self.rows["units"]
            ordinals = unpack_from(f"<{(len(row) - 28) // 4}I", row, 28)
            assert len(row) % 4 == 0
            assert list(ordinals) == sorted(set(ordinals))
            return BitMap(ordinals)
        assert len(row) == 28
        sets = []
        for _, entries, payload in self.unit(key)[1]:
            assert payload[1:4] == bytes(3)
            data = payload[4:]
            array = payload[0] == 1
            self.met.add("array" if array else "roaring")
            sets.append(BitMap(unpack_from(f"<{len(data) // 4}I", data)) if array else BitMap.deserialize(data))
            assert len(sets[-1]) == entries
        assert sum(map(len, sets)) == len(reduce(BitMap.union, sets))
        return reduce(BitMap.union, sets)

    def uids(self) -> dict[int, bytes]:
        """uid ordinal -> uid."""
        next_ordinal, layout, drain_through, drain_cursor = unpack_from("<QQQQ", self.rows["meta"][b"dictionary"])
        self.met |= {"drain"} if drain_cursor else set()
        self.met |= {"split"} if layout else set()
        pairs: list[tuple[int, bytes]] = []
        expected = 0
        for key in sorted(key for key in self.rows["units"] if key[0] >= 0x10):
            last, found = self.unit(key)
            first = int.from_bytes(key[1:], "big")
            assert key[0] == 0x10 or first == expected
            expected = last + 1 if key[0] == 0x11 else 0
            for commit, entries, payload in found:
                pairs += self.columns(
                    payload, entries, drain_cursor if key[0] == 0x10 and commit <= drain_through else 0
                )
        assert expected == 2**64
        self.next_ordinal = next_ordinal
        assert len(dict(pairs)) == len(pairs)
        assert all(ordinal < next_ordinal for ordinal, _ in pairs)
        return dict(pairs)

    def columns(self, payload: bytes, entries: int, cursor: int) -> list[tuple[int, bytes]]:
        n, blob_bytes = unpack_from("<II", payload)
        assert n == entries
        hashes, offsets = unpack_from(f"<{n}Q", payload, 8), unpack_from(f"<{n}I", payload, 8 + 8 * n)
        ordinals, lengths = unpack_from(f"<{n}I", payload, 8 + 12 * n), unpack_from(f"<{n}H", payload, 8 + 16 * n)
        blob = payload[8 + 18 * n :]
        assert len(blob) == blob_bytes
        uids = [blob[at : at + size] for at, size in zip(offsets, lengths, strict=True)]
        assert list(hashes) == sorted(xxh3_64_intdigest(uid, self.store["hash_seed"]) for uid in uids)
        return [one for one, of in zip(zip(ordinals, uids, strict=True), hashes, strict=True) if of >= cursor]

    def end_s(self, kind: str, start_s: int) -> int:
        """Where a bucket ends, by the zone's rules in the store. For zones that are always a whole offset from UTC."""
        if kind in ("minute", "hour", "day", "week"):
            return start_s + {"minute": 60, "hour": 3_600, "day": 86_400, "week": 7 * 86_400}[kind]
        zone = ZoneInfo.from_file(io.BytesIO(self.store["zone_tzif"]))
        start = datetime.datetime.fromtimestamp(start_s, zone)
        year, month = divmod(start.month, 12) if kind == "month" else (1, 0)
        return int(start.replace(year=start.year + year, month=month + 1).timestamp())

    def statuses(self) -> set[int]:
        """The statuses that occur; each is that of its bucket by what is closed."""
        through_s = self.state["closed_through_s"]
        found = set()
        for key, payload in self.rows["buckets"].items():
            end_s = self.end_s(KINDS[key[0] - 1], int.from_bytes(key[1:], "big"))
            assert (payload[24] > 0) == (end_s <= through_s)
            found.add(payload[24])
        return found

    def waiting(self) -> dict[str, dict[bytes, tuple[int, bytes]]]:
        """``outbox``, by what is to be published: keys behind their first byte, with commit number and record."""
        found: dict[str, dict[bytes, tuple[int, bytes]]] = {"bucket": {}, "window": {}, "refused": {}}
        for key, payload in self.rows["outbox"].items():
            kind = {0x20: "window", 0x30: "refused"}.get(key[0], "bucket")
            assert len(key) == (7 if kind == "window" else 9)
            assert (kind == "window") == (len(payload) > 8) or (kind, payload[8:]) == ("refused", b"\1")
            found[kind][key if kind == "bucket" else key[1:]] = unpack_from("<Q", payload)[0], payload[8:]
        return found

    def clock(self, name: str, times_s: list[int]) -> list[tuple[int, ...]]:
        """The held visits (event time, line) of the source, after a look at what is remembered of it.

        ``times_s``: all its plausible times.
        """
        rows = {key: msgspec.msgpack.decode(row) for key, row in self.rows["sources"].items()}
        (key,) = [key for key, row in rows.items() if row["name"] == name]
        recent, number, clock_s, ahead_limit_s, late_limit_s, pairs = msgspec.msgpack.decode(self.rows["clocks"][key])
        assert list(unpack_from(f"<{len(recent) // 8}q", recent)) == times_s[-1_000:]
        assert (number, clock_s) == (len(times_s), rows[key]["clock_s"])
        assert ahead_limit_s >= rows[key]["ahead_limit_s"]
        assert late_limit_s >= rows[key]["late_limit_s"]
        held = {int.from_bytes(at[16:], "big"): row for at, row in self.rows["held"].items() if at[:16] == key}
        visits = {ticket: msgspec.msgpack.decode(row) for ticket, row in held.items()}
        assert [[ticket, visit[0]] for ticket, visit in sorted(visits.items())] == pairs
        assert len(pairs) == rows[key]["held"]
        assert all(times_s[ticket - 1] == visit[0] for ticket, visit in visits.items())
        return [tuple(visit) for _, visit in sorted(visits.items())]


def shuffle(number: int) -> str:
    return f"visitor {number * number % 7_919} é"


BEGUN = [1_468_300_000 + 11 * number for number in range(120)]
"""Times of a file that is not read to its end: late for what the file before it has closed."""
BEGUN[70], BEGUN[100] = BEGUN[70] + 2**26, BEGUN[100] - 2**26
CALLED = [999_990_000 + 7 * number for number in range(30)]
"""Times of calls in the name of a source."""


@pytest.mark.parametrize(("sizes", "commit_visits"), [(SMALL, 150), (DictionarySizes(), 9_000)])
def test_an_independent_reader_finds_the_same(store_path: Path, sizes: DictionarySizes, commit_visits: int) -> None:
    times_s = [1_468_244_384 + 23 * n for n in range(9_000)]
    lines = [f'{{"ts":{time_s},"uid":"{shuffle(n)}"}}\n' for n, time_s in enumerate(times_s)]
    source, begun = store_path.with_name("visits.jsonl"), store_path.with_name("begun.jsonl")
    source.write_text("".join([*lines, "no visit\n"]))
    records = [f'{{"ts":{time_s},"uid":"{shuffle(n)}"}}' for n, time_s in enumerate(BEGUN)]
    begun.write_text("\n".join(records) + "\n")
    expected = {}
    with uniqdb.open(store_path, timezone="Asia/Kolkata", options=options()) as db:
        db.add_many(CALLED, ["caller"] * len(CALLED), source="app")
    with uniqdb.open(store_path, options=options(commit_visits, sizes)) as db:
        for first in range(0, 3_000, 150):
            db.add_many(
                range(10**9 + first, 10**9 + first + 150), [f"older {n % 977}" for n in range(first, first + 150)]
            )
            db.commit()
        ingest_file(db, source, IngestOptions(commit_visits=commit_visits))
        ingest_file(db, begun, should_stop=lambda: True)
        for kind in KINDS:
            for record in db.series(kind):
                expected[kind, record.start_ts] = record.count, record.visits, record.revision, record.status
        months = {one.start_ts: set(db.members("month", one.start_ts)) for one in db.series("month")}
        info = db.info()
    reading = Reading(store_path)
    uids = reading.uids()
    found, finer = {}, {}
    for key, payload in reading.rows["buckets"].items():
        kind, start_s = KINDS[key[0] - 1], int.from_bytes(key[1:], "big")
        count, visits, revision, finer[kind, start_s], status, kept, _ = unpack_from("<QQIIBBH", payload)
        assert kept in (0, 2)
        found[kind, start_s] = count, visits, revision, ("provisional", "final", "amended")[status]
        members = reading.members(key)
        assert len(members) == count
        if kind == "month":
            assert {uids[ordinal].decode() for ordinal in members} == months[start_s]
    assert found == expected
    for kind, below in [("hour", "minute"), ("day", "hour"), ("week", "day"), ("month", "day"), ("year", "month")]:
        of_kind = [rows for (one, _), rows in finer.items() if one == kind]
        assert sum(of_kind) == sum(one == below for one, _ in found)
    assert reading.listed == {(name, key) for name in ("uids", *KINDS) for key in reading.raw[name]}
    assert reading.met == {"inline", "roaring"} | ({"array", "drain", "split"} if sizes is SMALL else {"blocks"})
    state = reading.state
    assert (state["commit_number"], state["visits"], len(uids)) == (info.commits, info.visits, info.uids)
    assert len(uids) == reading.next_ordinal
    assert (state["event_time_s_min"], state["event_time_s_max"]) == (info.event_time_s_min, info.event_time_s_max)
    kinds = [kind for kind, _ in found]
    assert (state["weeks"], state["years"]) == (kinds.count("week"), kinds.count("year"))
    sources = {row["name"]: row for row in map(msgspec.msgpack.decode, reading.rows["sources"].values())}
    assert sources == {one.name: msgspec.to_builtins(one) for one in info.sources}
    read = sources["visits.jsonl"]
    assert (read["position_bytes"], read["lines"], read["finished"]) == (source.stat().st_size, 9_001, True)
    assert (sources["begun.jsonl"]["visits"], sources["begun.jsonl"]["finished"]) == (118, False)
    assert (sources["app"]["kind"], sources["app"]["finished"]) == ("call", True)
    assert xxh3_128_digest(b"call\0app") in reading.rows["sources"]
    assert reading.clock("visits.jsonl", times_s) == reading.clock("app", CALLED) == []
    starts = {n: sum(len(record.encode()) + 1 for record in records[:n]) for n in (70, 100)}
    assert reading.clock("begun.jsonl", BEGUN) == [
        (BEGUN[n], shuffle(n), at, n + 1, xxh3_64_hexdigest(records[n].encode())) for n, at in starts.items()
    ]
    assert reading.rows["clocks"].keys() == reading.rows["sources"].keys()
    assert reading.statuses() == {0, 1, 2}
    assert (read["clock_s"], sources["app"]["clock_s"]) == (times_s[-1], CALLED[-1])
    assert state["ended_clock_s"] == times_s[-1]
    assert state["closed_through_s"] == times_s[-1] - 5, "it stays where the file that ended has brought it"
    assert state["clock_s"] == sources["begun.jsonl"]["clock_s"] == sorted(BEGUN)[-21], "one lies too far ahead"
    assert state["reference_s"] > times_s[-1]
    assert set(state["late_visits"]) == {"minute", "hour", "day"}
    assert state["late_visits"]["minute"] == 118
    (refused,) = map(msgspec.msgpack.decode, reading.rows["quarantine"].values())
    place = {"origin": "visits.jsonl", "position": read["position_bytes"] - 9, "line": 9_001}
    whole = {"record": b"no visit", "record_hash": xxh3_64_hexdigest(b"no visit")}
    assert refused == {"reason": "malformed", **place, **whole}


def test_an_independent_reader_finds_nobody_who_was_forgotten(store_path: Path) -> None:
    """First while counts fall, then while they stay; and both again in the next generation, numbered anew."""
    uids = [f"visitor {number % 150}" for number in range(2_000)]
    with uniqdb.open(store_path, timezone="Asia/Kolkata", options=options(100, SMALL)) as db:
        db.add_many([10**9 + 60 * number for number in range(2_000)], uids)
        db.write(
            structs.replace(nothing(), is_publishing=True, refused=[Quarantined("malformed", "f", b"visitor 7", 12)])
        )
        assert forget(db, ["visitor 7", "visitor 8"]).buckets > 30
        assert forget(db, ["visitor 9", "nobody"], keep_counts=True).uids == 1
    left = {uid.encode() for uid in uids} - {b"visitor 7", b"visitor 8", b"visitor 9"}
    for generation in (1, 2):
        reading = Reading(store_path)
        found = reading.uids()
        assert set(found.values()) == left
        (nameless,) = BitMap.deserialize(reading.rows["meta"][b"nameless"])
        assert nameless not in found
        assert reading.next_ordinal == (150 if generation == 1 else 148)
        for key, payload in reading.rows["buckets"].items():
            count, visits, *_ = unpack_from("<QQIIBBH", payload)
            members = set(reading.members(key))
            assert members <= {*found, nameless}
            assert (len(members), visits > 0) == (count, True)
        assert 0 in {unpack_from("<Q", payload)[0] for payload in reading.rows["buckets"].values()}
        audits = [key for key in sorted(reading.rows["meta"]) if key.startswith(b"audit")]
        last = reading.state["commit_number"] - (generation - 1)
        assert audits == [b"audit" + number.to_bytes(8, "big") for number in (last - 1, last)]
        first, second = (msgspec.msgpack.decode(reading.rows["meta"][key]) for key in audits)
        assert (first["uids"], first["unknown"], first["refused"], first["keep_counts"]) == (2, 0, 1, False)
        assert (second["uids"], second["unknown"], second["buckets"], second["keep_counts"]) == (1, 1, 0, True)
        assert reading.waiting()["refused"] == {bytes(8): (last - 1, b"\1")}
        assert reading.state["discarded"] == {"malformed": 1}
        assert reading.listed == {(name, key) for name in ("uids", *KINDS) for key in reading.raw[name]}
        compact(store_path, options(), renumber=True)


def test_the_worked_example_is_what_is_written(store_path: Path) -> None:
    with uniqdb.open(store_path) as db:
        db.add_new_data(1468244384, "a")
    reading = Reading(store_path)
    page = PAGE.read_text("utf-8")
    shown = re.findall(r"^(\w+) +([0-9a-f]{18,}) +([0-9a-f]+)$", page, re.MULTILINE)
    assert len(shown) == 6
    for database, key, value in ((name, bytes.fromhex(key), bytes.fromhex(value)) for name, key, value in shown):
        if database == "uids":
            seed = int(re.search(r"`hash_seed`, here (\d+)", page)[1])  # type: ignore[index]  # absent: the test fails
            assert fragment(database, key, value)[8:16] == xxh3_64_intdigest(b"a", seed).to_bytes(8, "little")
            assert fragment(database, key, reading.raw[database][key])[16:] == fragment(database, key, value)[16:]
        else:
            assert reading.raw[database][key] == value
    text, checksum = re.search(r"`(\S+/1/2)`, its checksum `(\w+)`", page).groups()  # type: ignore[union-attr]  # as above
    assert xxh3_64_hexdigest(text.encode()) == checksum


TOPIC_KEY = xxh3_128_digest(b"kafka\0visits\0003")
DAY_S = 86_400
FIRST_DAY = datetime.date(2016, 7, 11)
LIVE = [1_468_244_384 + 600 * number for number in range(6 * 144)]
"""Six days of a partition's times; Kolkata's midnights are at 18:30 UTC."""


def window_key(days: int, last: datetime.date) -> bytes:
    return days.to_bytes(2, "big") + last.toordinal().to_bytes(4, "big")


def partition_commit(db: uniqdb.Engine, row: SourceRow, times_s: list[int], refused: list[Quarantined]) -> Commit:
    """What a service writes of a partition, without Kafka."""
    with db.snapshot() as snapshot:
        intake = open_intake(snapshot.answers.view, TOPIC_KEY, row)
    uids = [f"v{time_s % 97}" for time_s in times_s]
    intake.take(np.array(times_s, np.int64), uids, times_s[-1] + DAY_S, lambda _: Place(5, 0, "00"))
    taken = intake.cut(is_open=True)
    assert row.kafka is not None
    place = msgspec.structs.replace(row.kafka, next_offset=row.kafka.next_offset + len(times_s), idle=False)
    place = msgspec.structs.replace(place, closing_clock_s=intake.clock_s)
    commit = nothing().then(taken, refused)
    commit.sources[TOPIC_KEY] = msgspec.structs.replace(
        row, visits=row.visits + len(taken.uids), clock_s=intake.clock_s, held=intake.held, kafka=place
    )
    return commit


def write_published(db: uniqdb.Engine) -> dict[str, int]:
    """The numbers of the commits: 1 starts to publish, 2 closes days, 3 is late, 4 acknowledges and works out."""
    place = KafkaPlace(topic="visits", partition=3, next_offset=40, cluster_id="cluster", topic_id="topic")
    row = SourceRow(kind="kafka", name="visits/3", ts_field="ts", uid_field="uid", ts_unit="s", kafka=place)
    done = {"first": db.write(structs.replace(nothing(), is_publishing=True)).commit_number}
    commit = partition_commit(db, row, LIVE, [Quarantined("no_value", "visits/3", b"", 39)])
    # Its end is found at once: found later, all that it touches would wait again from then on.
    commit.gaps.extend(GapRow("visits/3", 12, 20, "lost_offsets", 0, to_s) for to_s in (None, LIVE[0]))
    done["closing"] = db.write(commit).commit_number
    late = partition_commit(db, commit.sources[TOPIC_KEY], [LIVE[0] + 2 * DAY_S], [])
    done["late"] = db.write(late).commit_number
    with db.snapshot() as snapshot:
        rows = {one.key: one.commit_number for one in read_outbox(snapshot.answers.view, b"", b"\xff", 10_000)}
        day = next(key for key, number in rows.items() if key[0] == 3 and number == done["closing"])
        touched = next(key for key, number in rows.items() if key[0] == 6)
        window = work_out(snapshot, WindowKey(7, FIRST_DAY.toordinal() + 4))
        # That of the year was put there again after it was read: it is not acknowledged by the older number.
        published = {day: done["closing"], touched: done["closing"]}
        done["last"] = db.write(structs.replace(nothing(), published=published, windows=[window])).commit_number
    return done


def test_an_independent_reader_finds_what_waits(store_path: Path) -> None:
    with uniqdb.open(store_path, timezone="Asia/Kolkata", options=options()) as db:
        numbers = write_published(db)
        assert partition_source_key("visits", 3) == TOPIC_KEY
        expected = {(kind, one.start_ts): one.revision for kind in KINDS for one in db.series(kind)}
        record = db.count("7d", as_of=FIRST_DAY + datetime.timedelta(4))
    reading = Reading(store_path)
    assert list(numbers.values()) == [1, 2, 3, 4]
    assert reading.state["publishes"] is True
    gap = {"source": "visits/3", "expected": 12, "resumed_at": 20, "reason": "lost_offsets", "from_s": 0}
    assert reading.state["gaps"] == [{**gap, "to_s": LIVE[0]}]
    (source,) = (msgspec.msgpack.decode(row) for row in reading.rows["sources"].values())
    assert list(reading.rows["sources"]) == [TOPIC_KEY]
    assert (source["kind"], source["name"], source["position_bytes"]) == ("kafka", "visits/3", 0)
    assert source["kafka"] == {
        **{"topic": "visits", "partition": 3, "next_offset": 40 + len(LIVE) + 1},
        **{"cluster_id": "cluster", "topic_id": "topic", "closing_clock_s": LIVE[-20], "idle": False},
        **{"delay_s": 0, "last_arrival_s": None, "largest_arrival_s": None},
        **{"shard": "", "topic_partitions": 0},
    }
    assert reading.state["clock_s"] == LIVE[-20]

    waiting = reading.waiting()
    assert waiting["refused"] == {bytes(8): (2, b"")}
    assert list(waiting["window"]) == [window_key(7, FIRST_DAY + datetime.timedelta(4))]
    ((number, sent),) = waiting["window"].values()
    assert number == 4
    assert msgspec.json.decode(sent) == {**record.to_dict(), "revision": 1, "status": "final"}
    assert reading.rows["windows"] == {b"\x20" + key: bytes([1, 0, 0, 0, 1, 0, 0, 0]) for key in waiting["window"]}

    late_s = LIVE[0] + 2 * DAY_S
    of_late = {"minute": 60, "hour": 3_600, "day": DAY_S}
    day_starts = [key for key in expected if key[0] == "day"]
    found = {
        (KINDS[key[0] - 1], int.from_bytes(key[1:], "big")): number for key, (number, _) in waiting["bucket"].items()
    }
    assert found.keys() == expected.keys() - {min(day_starts)}, "one day was published"
    touched = {
        (kind, start_s)
        for kind, start_s in expected
        if start_s <= late_s < start_s + of_late.get(kind, 400 * DAY_S)
        and (kind != "week" or late_s < start_s + 7 * DAY_S)
    }
    assert {key for key, number in found.items() if number == 3} == touched
    assert {key for key, number in found.items() if number != 3} == found.keys() - touched
    assert set(found.values()) == {2, 3}

    # Days by the calendar alone: the clock stands in the sixth of them, so the first five are closed.
    zone = ZoneInfo("Asia/Kolkata")
    last = datetime.datetime.fromtimestamp(reading.state["closed_through_s"], zone).date()
    closed = [FIRST_DAY + datetime.timedelta(ahead) for ahead in range((last - FIRST_DAY).days)]
    assert len(closed) >= 5
    due = {window_key(days, day) for day in closed for days in (7, 30, 90, 180, 365)}
    assert {key[1:] for key in reading.rows["due"]} == due - waiting["window"].keys()
    assert {key[:1] for key in reading.rows["due"]} == {b"\x20"}
    assert set(reading.rows["due"].values()) == {b""}
