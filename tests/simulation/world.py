"""One seed, one run: the service between a broker, a disk and a clock that all misbehave, against Python sets.

The engine, `StreamService`, `KafkaSource`, `Publisher`, sweeps, requests, backups are the real ones. What is around
them is not: Kafka is `fake_kafka`, time is a number, a process that dies is an exception after which the handle is
given up without being closed. A run is a sequence of steps; before each turn of the service's loop the world does one
thing: somebody visits, time passes, something breaks, a request comes in, somebody looks.

After each durable commit the sets are moved on by what the commit says it has read. What is published is compared when
it is produced, everything else at each restart, now and then, and in the end.
"""

import gc
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import lmdb  # to make LMDB refuse

import uniqdb
from engines import TINY
from model import GRANULARITIES
from simulation.fake_kafka import Cluster, Died, FakeTime, Item, replaced, standing_in
from simulation.truth import Bucket, Sent, Truth
from uniqdb import compaction, creation, engine, request_handlers, requests, store
from uniqdb import restore as restoring
from uniqdb.backup import backup
from uniqdb.errors import CommitFailed, KafkaUnreachable, PublisherFenced
from uniqdb.horizons import read_retention
from uniqdb.manifest import data_directory
from uniqdb.options import CacheSizes, CommitRule, OpenOptions, Retention
from uniqdb.page_walk import write_stamp
from uniqdb.recent_times import EventTimeLimits
from uniqdb.request_handlers import CLOCK_RESET, FORGET, PUBLISH_TRAILING, QUARANTINE_ACCEPT, QUARANTINE_DISCARD
from uniqdb.restore import Restoring, restore
from uniqdb.standing import Standing, read_standing
from uniqdb.stream import hourly_sweep, kafka_settings, kafka_source, kafka_topic, publisher, publishing, room, service
from uniqdb.stream.kafka_settings import Accept, KafkaHooks, KafkaSettings
from uniqdb.stream.service import ServiceOptions, StreamService
from uniqdb.sweeping import SWEEP
from uniqdb.writer import Commit, Writer

INPUT, DAY_S, T = "visits", 86_400, 1_468_281_600
TIMED = (engine, requests, request_handlers, store, compaction, service, room, publishing, hourly_sweep, kafka_source)
TIMED_TOO = (kafka_settings, kafka_topic, publisher)
RETENTIONS = (
    Retention(),
    Retention(minute_days=1, hour_days=2, day_days=8, week_days=15, month_days=40, year_days=400, count_days=0),
    Retention(minute_days=1, hour_days=1, day_days=2, week_days=9, month_days=16, year_days=30, count_days=45),
)
NAMES = {*GRANULARITIES, "window"}
OUTPUTS = ("minute", "hour", "day", "week", "month", "year")


STEPS_PER_TURN = (1, 4, 12, 30, 60)
"""Somebody visits faster than the service turns."""


class Wrong(AssertionError):
    """The truth is another one."""


@dataclass
class Seen:
    """What a run has done, to be added up over seeds."""

    steps: int = 0
    records: int = 0
    commits: int = 0
    deaths: int = 0
    restarts: int = 0
    published: int = 0
    compared: int = 0
    failed_commits: int = 0
    restored: int = 0
    backups: int = 0
    compactions: int = 0
    forgotten: int = 0
    reviews: int = 0
    sweeps: int = 0
    lost_offsets: int = 0


class World:
    """Everything around one store. Make it, `run` it."""

    def __init__(self, seed: int, steps: int, folder: Path) -> None:
        self.rng, self.steps, self.folder = Random(seed), steps, folder
        self.seen, self.store = Seen(), folder / "sim.uniqdb"
        rng = self.rng
        self.time = FakeTime(float(T + rng.randrange(400 * DAY_S)))
        self.zone = rng.choice(["UTC", "UTC", "Europe/Zurich", "Australia/Lord_Howe"])
        self.limits = EventTimeLimits(rng.choice([600, 30]), rng.choice([DAY_S, 3_600]))
        limits = self.limits.ahead_limit_s, self.limits.late_limit_s
        self.truth, self.cluster = Truth(self.zone, limits), self._cluster()
        self.sent: list[list[Sent]] = [[] for _ in self.cluster.topics[INPUT]]
        self.users = rng.choice([8, 60, 1_000])
        self.pace_s = rng.choice([0.02, 0.2, 2.0, 20.0])
        self.skew_s = 0.0
        self.options = OpenOptions(
            commit=CommitRule(10**6, 1e12),
            caches=CacheSizes(rng.choice([2, 50, 10**6]), rng.choice([1_000, 10**8]), (0, 64, 2**10)[seed % 3]),
            dictionary=TINY,
            wall_clock=self._wall,
            retention=rng.choice(RETENTIONS),
        )
        self.commit_visits = rng.choice([3, 20, 200])
        self.db: uniqdb.Engine | None = None
        self.current: Commit | None = None
        self.calls: list[tuple[int, str]] = []
        self.request: tuple[str, dict[str, Any]] | None = None
        self.script: list[Callable[[World], None]] = []
        """Steps to be done before any others."""
        self.steps_per_turn: tuple[int, ...] = STEPS_PER_TURN
        self.pending: requests._Pending | None = None
        self.reset, self.finishing = "", False
        self.broken: Exception | None = None
        self.is_dead = self.wants_stop = self.ends = False
        self.dies_at, self.disk_full_for = "", 0
        self.snapshots: list[tuple[uniqdb.Snapshot, list[Any]]] = []
        self.saved: tuple[Path, Truth] | None = None
        self.last: dict[tuple[str, bytes], dict[str, Any]] = {}
        self.highest: dict[tuple[str, bytes], dict[str, Any]] = {}
        self.orphans: set[Bucket] = set()

    def _cluster(self) -> Cluster:
        cluster = Cluster(self.time, self.rng, self._fault, self._produced, self._committed_to_kafka, INPUT)
        cluster.create(INPUT, self.rng.choice([1, 2, 3]))
        cluster.trouble = self.rng.choice([0.0, 0.02, 0.1])
        cluster.leaves_out = self.rng.random() < 0.5
        return cluster

    def _wall(self) -> float:
        return self.time.wall_s + self.skew_s

    # ------------------------------------------------------------ the whole run
    def run(self) -> Seen:
        """All steps, then everything published, then all compared. Raises AssertionError."""
        with self._surroundings():
            while self.seen.steps < self.steps:
                self._life()
                self._between_lives()
            self._quiet()
            for _ in range(60):
                if self._life():
                    break
            else:
                raise Wrong("the service does not come to an end")
            self._final()
        if self.broken is not None:
            raise self.broken
        return self.seen

    @contextmanager
    def _surroundings(self) -> Iterator[None]:
        parts: dict[tuple[Any, str], Any] = {(module, "time"): self.time for module in (*TIMED, *TIMED_TOO)}
        parts |= standing_in(self.cluster)
        parts |= {
            (store, "_write"): self._failing_write(store._write),
            (store.Store, "commit"): self._watched_store(store.Store.commit),
            (Writer, "commit"): self._watched_writer(Writer.commit),
            (request_handlers, "reset_clock"): self._watched_reset(request_handlers.reset_clock),
            (creation, "new_hash_seed"): lambda: self.rng.getrandbits(64),
            (restoring, "standing_of"): standing_here,  # the real one starts a process, too
            (store, "assert_pages"): lambda *_, **__: None,  # it starts a process; see tests/crash/damaging.py
        }
        collecting = gc.isenabled()
        gc.disable()
        try:
            with replaced(parts):
                yield
        finally:
            self._give_up()
            if collecting:
                gc.enable()

    def _life(self) -> bool:
        """One process: opened, run, ended somehow. Whether it came to its own end."""
        self.is_dead = self.wants_stop = False
        self.seen.restarts += 1
        running: Stepped | None = None
        try:
            self.db = uniqdb.open(self.store, timezone=self.zone, options=self.options)
            if self.rng.random() < 0.3:
                self.compare()
            running = self._service(self.db)
            running.run()
            running.close()
            self._close_snapshots()
            self.db.close()
            self._assert_calls_are_in()
            self.db = None
            return self.ends
        except Died:
            self.seen.deaths += 1
        except (CommitFailed, PublisherFenced, KafkaUnreachable):
            self.seen.failed_commits += 1
            if running is None and not self.wants_stop and not self.cluster.trouble and not self.disk_full_for:
                self.time.pass_by(60)
        finally:
            self._give_up()
        return False

    def _service(self, db: uniqdb.Engine) -> "Stepped":
        settings = KafkaSettings(
            {"bootstrap.servers": "fake:1"}, accept=frozenset({Accept.LOST_OFFSETS}), start_timeout_s=30.0
        )
        options = ServiceOptions(
            INPUT,
            limits=self.limits,
            commit_visits=self.commit_visits,
            until_caught_up=self.ends,
            wall_clock=self._wall,
        )
        return Stepped(self, db, settings, options)

    def _give_up(self) -> None:
        """What the kernel does for a process that is killed: nothing is closed, locks are gone."""
        db, self.db = self.db, None
        self.snapshots.clear()
        self.calls.clear()
        self.is_dead = True
        if db is None or db._store.closed:
            return
        opened = db._store
        opened.drop_view()
        for one in (opened._opened, *opened._retired):
            for view in list(one.pinned):
                view.end("the process has died")
            one.close()
        opened._closed, opened._unusable = True, "the process has died"
        opened._release_lock()
        write_stamp(data_directory(opened.path, opened.manifest))

    def _close_snapshots(self) -> None:
        for snapshot, rows in self.snapshots:
            assert [*snapshot.series("day"), *snapshot.series("hour")] == rows
            snapshot.close()
        self.snapshots.clear()

    def _assert_calls_are_in(self) -> None:
        if self.calls:
            raise Wrong(f"{len(self.calls)} visits of calls were not committed by close")

    def _between_lives(self) -> None:
        """What is done while no service runs."""
        if not (self.store / "MANIFEST").exists():
            return
        self.time.pass_by(self.rng.choice([1, 5, 600]))
        if self.rng.random() < 0.04:
            compaction.compact(self.store, self.options, renumber=self.rng.random() < 0.5, readers_wait_s=0.0)
            self.seen.compactions += 1
        if self.saved is not None and self.rng.random() < 0.05:
            self._restore(*self.saved)
        if self.rng.random() < 0.3:
            # A partition that was never read is begun where it begins.
            known = self.truth.positions.keys() & (self.saved[1] if self.saved else self.truth).positions.keys()
            for number in known:
                self._expire_log(self.cluster.topics[INPUT][number])

    def _restore(self, place: Path, truth: Truth) -> None:
        restore(place, self.store, Restoring(int(self.time.wall_s), replace=True))
        # Buckets that only what is lost had are published still: nobody takes a key back that the store never had.
        self.orphans |= self.truth.rows().keys()
        self.truth = truth.copy()
        self.seen.restored += 1

    def _expire_log(self, log: Any) -> None:
        """Retention of the input topic: old records go, whether they were read or not."""
        if self.rng.random() < 0.2 and log.records:
            keep = self.rng.randrange(len(log.records) + 1)
            log.first = max(log.first, (log.records[keep].offset() or 0) if keep < len(log.records) else log.end)
            log.records = [one for one in log.records if (one.offset() or 0) >= log.first]

    def _quiet(self) -> None:
        """Nothing goes wrong any more, and the service ends when it has read and published everything."""
        self.cluster.trouble, self.disk_full_for, self.dies_at = 0.0, 0, ""
        self.cluster.away_until_s, self.skew_s, self.ends = 0.0, 0.0, True
        self.time.pass_by(120)

    # ------------------------------------------------------------ faults
    def _fault(self, place: str) -> None:
        if self.is_dead:
            raise Died
        if self.dies_at == place:
            self.dies_at, self.is_dead = "", True
            raise Died

    def _failing_write(self, write: Callable[..., None]) -> Callable[..., None]:
        def failing(txn: Any, handles: Any, changes: Any) -> None:
            self._fault("before commit")
            if self.disk_full_for:
                self.disk_full_for -= 1
                if self.rng.random() < 0.5:
                    write(txn, handles, changes)
                raise lmdb.DiskError("no space left, injected")
            write(txn, handles, changes)
            self._fault("within commit")

        return failing

    def _watched_store(self, commit: Callable[..., None]) -> Callable[..., None]:
        def watched(opened: Any, changes: Any, *, based_on: int, is_upkeep: bool = False) -> None:
            commit(opened, changes, based_on=based_on, is_upkeep=is_upkeep)
            if self.db is not None and opened is self.db._store:
                try:
                    self._durable(opened, is_upkeep=is_upkeep)
                except Exception as error:  # one in the midst of a request would only be its answer
                    self.broken = error
                    raise
                self._fault("after commit")

        return watched

    def _watched_writer(self, commit: Callable[..., Any]) -> Callable[..., Any]:
        def watched(writer: Any, wanted: Commit) -> Any:
            self.current = wanted
            try:
                return commit(writer, wanted)
            finally:
                self.current = None

        return watched

    def _watched_reset(self, reset: Callable[..., Any]) -> Callable[..., Any]:
        def watched(db: uniqdb.Engine, name: str, *, end: bool) -> Any:
            self.reset = name
            try:
                return reset(db, name, end=end)
            finally:
                self.reset = ""

        return watched

    def ask(self, kind: str, arguments: dict[str, Any]) -> None:
        """Hand a request in, as another process does, unless one waits already."""
        waiting = self.pending
        if waiting is not None and waiting.answer() is None and any(map(Path.exists, waiting_files(waiting))):
            return
        self.request = kind, arguments
        self.pending = requests._Pending.begin(self.store, requests._Request(kind, arguments))

    # ------------------------------------------------------------ what became durable
    def _durable(self, opened: Any, *, is_upkeep: bool) -> None:
        self.seen.commits += 1
        if is_upkeep or self.current is None:
            row = read_retention(opened.view())
            self._assert_not_too_early(row)
            self.truth.sweep(row.members_from_s, row.rows_from_s)
            self.seen.sweeps += 1
            return
        commit, truth = self.current, self.truth
        if commit.erasure is not None:
            truth.forget(set(commit.erasure.uids), keep_counts=commit.erasure.keep_counts)
            self.seen.forgotten += 1
            return
        accepted = len(commit.gone.rows) if not commit.gone.discarded else 0
        calls = len(commit.uids) - sum(one.end - one.start for one in commit.advances) - accepted
        for time_s, uid in self.calls[:calls]:
            truth.count(time_s, uid)
        del self.calls[:calls]
        if commit.gone.rows or commit.gone.counted:
            self._review()
        for gap in commit.gaps:
            self._give_up_offsets(gap)
        for row in commit.sources.values():
            if row.kafka is not None:
                self._read_by(row)

    def _give_up_offsets(self, gap: Any) -> None:
        number = int(gap.source.rpartition("/")[2])
        if gap.resumed_at > self.cluster.topics[INPUT][number].first:
            raise Wrong(f"offsets are given up that are there: {gap}")
        what = number, gap.expected, gap.resumed_at
        self.seen.lost_offsets += what not in self.truth.gaps  # when its end is found it is written once more
        self.truth.gaps.add(what)

    def _read_by(self, row: Any) -> None:
        number, next_offset = row.kafka.partition, row.kafka.next_offset
        start = self.truth.positions.get(number, 0)
        self.truth.read(number, row.name, self._sent_between(number, start, next_offset), next_offset)
        if self.reset == row.name:
            self.truth.begin_anew(number, row.name)
            self.reset = ""
        if self.finishing:
            self.truth.end(number, row.name)

    def _sent_between(self, partition: int, start: int, end: int) -> list[Sent]:
        if end < start:
            raise Wrong(f"partition {partition} goes back from {start} to {end}")
        records = self.sent[partition]
        low, high = 0, len(records)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if records[middle].offset < start else (low, middle)
        found = []
        for one in records[low:]:
            if one.offset >= end:
                break
            found.append(one)
        return found

    def _review(self) -> None:
        assert self.request is not None
        kind, arguments = self.request
        if kind == QUARANTINE_ACCEPT:
            self.truth.accept(set(arguments["reasons"]))
        else:
            self.truth.discard(set(arguments["reasons"]))
        self.seen.reviews += 1

    def _assert_not_too_early(self, row: Any) -> None:
        # Whatever the wall clock says, the clock of the visits is not further ahead than they may be.
        ahead_s = max((one.ahead_s for one in self.truth.judges.values()), default=0)
        for word, kept_from_s in row.members_from_s.items():
            kept_s = self.options.retention.members_s(word)
            if kept_s is None or kept_from_s + kept_s > self.time.wall_s + ahead_s + 1:
                raise Wrong(f"{word} was swept up to {kept_from_s} at {self.time.wall_s}")

    # ------------------------------------------------------------ what is published
    def _produced(self, topic: str, key: bytes, value: bytes | None) -> None:
        if value is None or not key.startswith((b"minute", b"hour", b"day", b"week", b"month", b"year")):
            return
        self.seen.published += 1
        record = json.loads(value)
        bucket = record["granularity"], record["start_ts"]
        if (record["count"], record["visits"]) != self.truth.row(bucket) and self.truth.counts(bucket):
            raise Wrong(f"published {record}, true {self.truth.row(bucket)}")
        before = self.highest.get((topic, key))
        if before is not None and before["epoch"] == record["epoch"]:
            if record["revision"] < before["revision"]:
                raise Wrong(f"published an older revision: {record} after {before}")
            if record["revision"] == before["revision"] and _told(record) != _told(before):
                raise Wrong(f"one revision, two records: {record} and {before}")
            if record["status"] == "provisional" and before["status"] != "provisional":
                raise Wrong(f"opened again: {record} after {before}")

    def _committed_to_kafka(self, items: list[Item]) -> None:
        for topic, key, value in items:
            if value is None or topic.endswith("quarantine"):
                continue
            record = json.loads(value)
            self.last[topic, key] = record
            before = self.highest.get((topic, key))
            order = record["epoch"], record["revision"]
            if before is None or order >= (before["epoch"], before["revision"]):
                self.highest[topic, key] = record

    # ------------------------------------------------------------ comparing
    def compare(self) -> None:
        assert self.db is not None
        if self.disk_full_for:
            return
        self.db.commit()
        self.truth.assert_equals(self.db)
        self.seen.compared += 1

    def _final(self) -> None:
        with uniqdb.open(self.store, options=self.options) as db:
            self.db = db
            self.compare()
            assert db.check().problems == []
            self._assert_published(db)
        self.db = None

    def _assert_published(self, db: uniqdb.Engine) -> None:
        epoch = db.info().epoch
        for kind in GRANULARITIES:
            for one in db.series(kind):
                key = f"{kind}|{self.zone}|{one.start_ts}".encode()
                topic = f"visits_per_{kind}"
                found = self.highest.get((topic, key))
                if found is None or found != json.loads(one.to_json()):
                    raise Wrong(f"{topic} has {found} and the store {one}")
                if self.last[topic, key] != found:
                    raise Wrong(f"the last record is {self.last[topic, key]}, the newest {found}")
        rows = self.truth.rows()
        for (topic, _), record in self.highest.items():
            bucket = record["granularity"], record["start_ts"]
            if record["granularity"] == "window":
                self._assert_window(db, record, epoch)
            elif bucket not in rows and bucket not in self.orphans and self.truth.counts(bucket):
                raise Wrong(f"{topic} has {record} of a bucket that nobody visited")

    def _assert_window(self, db: uniqdb.Engine, record: dict[str, Any], epoch: int) -> None:
        inside = self.truth.days_between(record["start_ts"], record["end_ts"])
        if record["status"] != "provisional" and record["end_ts"] > self.time.wall_s + 3 * DAY_S:
            raise Wrong(f"a window of days to come is settled: {record}")
        is_settled = record["epoch"] == epoch and record["status"] != "provisional"
        if inside is not None and is_settled and record["count"] != len(inside):
            raise Wrong(f"published {record}, true {len(inside)}")
        if inside is not None and is_settled:
            now = db.count(record["window"], as_of=date.fromisoformat(record["as_of"]))
            if now.complete != record["complete"]:
                raise Wrong(f"published {record}, complete now: {now.complete}")


def _told(record: dict[str, Any]) -> dict[str, Any]:
    """A gap, or an older first visit, changes whether a count is complete; its revision is about the count."""
    return {name: value for name, value in record.items() if name != "complete"}


def standing_here(path: Path) -> Standing:
    """How far the store at a path has come."""
    opened = store.Store(path, read_only=True)
    try:
        return read_standing(opened.view(), opened.manifest.store_uuid)
    finally:
        opened.close()


def waiting_files(pending: requests._Pending) -> list[Path]:
    """The two names that a request has until it is answered."""
    return [pending._named(requests._REQUEST), pending._named(requests._CLAIMED)]


class Stepped(StreamService):
    """The service, before each turn of which the world does something."""

    def __init__(self, world: World, db: uniqdb.Engine, settings: KafkaSettings, options: ServiceOptions) -> None:
        self._world = world
        super().__init__(db, settings, options, KafkaHooks(should_stop=lambda: world.wants_stop))

    def _turn(self) -> None:
        world = self._world
        for _ in range(0 if world.ends else world.rng.choice(world.steps_per_turn)):
            step(world)
        super()._turn()

    def _finish(self) -> None:
        self._world.finishing = True
        try:
            super()._finish()
        finally:
            self._world.finishing = False


# ---------------------------------------------------------------- steps
def step(world: World) -> None:
    """One thing that happens."""
    if world.broken is not None:
        raise world.broken
    world.seen.steps += 1
    if world.seen.steps >= world.steps:
        world.wants_stop = True
    what = world.script.pop(0) if world.script else world.rng.choices(_STEPS, _WEIGHTS)[0]
    what(world)


def somebody_visits(world: World) -> None:
    rng, logs = world.rng, world.cluster.topics[INPUT]
    world.time.pass_by(rng.expovariate(1 / world.pace_s))
    partition = rng.randrange(len(logs))
    send(world, partition, random_record(world))
    if not world.cluster.leaves_out and rng.random() < 0.03:
        logs[partition].end += rng.randrange(1, 4)  # the end of a transaction, or a compacted record


def random_record(world: World) -> tuple[bytes | None, Sent]:
    rng, now_s = world.rng, int(world.time.wall_s)
    time_s, uid = now_s, f"visitor-{rng.randrange(world.users):05}-x"
    dice = rng.random()
    if dice < 0.25:
        time_s -= rng.randrange(0, 90)
    elif dice < 0.27:
        time_s -= rng.randrange(0, 3 * DAY_S)
    elif dice < 0.28:
        time_s += rng.randrange(0, 2 * DAY_S)
    elif dice < 0.29:
        time_s ^= 1 << rng.randrange(34)
    elif dice < 0.30:
        bad = rng.choice(
            [(b"", "no_value"), (b"{", "malformed"), (b'{"ts":"noon","uid":"%s"}' % uid.encode(), "bad_ts")]
        )
        return bad[0], Sent(0, now_s, 0, uid if bad[1] == "bad_ts" else "", bad[1])
    return visit(time_s, uid)


def visit(time_s: int, uid: str) -> tuple[bytes | None, Sent]:
    """A record that is one."""
    return json.dumps({"ts": time_s, "uid": uid}).encode(), Sent(0, 0, time_s, uid)


def send(world: World, partition: int, record: tuple[bytes | None, Sent]) -> None:
    """A record is written to the topic now."""
    value, sent = record
    at_ms = int(world.time.wall_s * 1_000)
    offset = world.cluster.append(INPUT, partition, (None, value, at_ms, None))
    world.sent[partition].append(sent._replace(offset=offset, broker_s=at_ms // 1_000))
    world.seen.records += 1


def somebody_calls(world: World) -> None:
    """A visit without a source waits in the handle for the next commit."""
    assert world.db is not None
    time_s, uid = int(world.time.wall_s) - world.rng.randrange(7_200), f"visitor-{world.rng.randrange(99):05}-x"
    if world.skew_s >= 0:  # else the engine takes today for the future
        world.calls.append((time_s, uid))
        world.db.add_many([time_s], [uid])


def time_passes(world: World) -> None:
    world.time.pass_by(world.rng.choice([0.5, 1, 5, 30, 600, 3_600]))


def much_time_passes(world: World) -> None:
    world.time.pass_by(world.rng.choice([0.3, 1, 1, 3]) * DAY_S)


def the_wall_clock_jumps(world: World) -> None:
    world.skew_s = 0.0 if world.skew_s else world.rng.choice([-365 * DAY_S, -3_600, 3_600, 365 * DAY_S])


def kafka_goes_away(world: World) -> None:
    world.cluster.away_until_s = world.time.monotonic_s + world.rng.choice([0.5, 3, 60, 400])


def the_process_dies(world: World) -> None:
    places = ["consume", "produce", "init", "before commit of Kafka", "after commit of Kafka"]
    world.dies_at = world.rng.choice([*places, "before commit", "within commit", "after commit", "after commit", "now"])
    world._fault("now")


def it_is_asked_to_stop(world: World) -> None:
    world.wants_stop = True


def the_disk_is_full(world: World) -> None:
    world.disk_full_for = world.rng.choice([1, 2, 5])


def a_request_comes(world: World) -> None:
    rng = world.rng
    kind = rng.choice([QUARANTINE_ACCEPT, QUARANTINE_DISCARD, FORGET, FORGET, SWEEP, CLOCK_RESET, PUBLISH_TRAILING])
    arguments: dict[str, Any] = {}
    if kind in (QUARANTINE_ACCEPT, QUARANTINE_DISCARD):
        arguments = {"reasons": rng.sample(["ahead", "too_late", "bad_ts", "malformed"], 2)}
    elif kind == FORGET:
        uids = [f"visitor-{rng.randrange(world.users):05}-x" for _ in range(rng.choice([1, 3, 20]))]
        arguments = {"uids": sorted(set(uids)), "keep_counts": rng.random() < 0.5}
    elif kind == CLOCK_RESET:
        arguments = {"source": f"{INPUT}/0", "end": False}
    elif kind == SWEEP:
        arguments = {"forced": rng.random() < 0.5}
    world.ask(kind, arguments)


def somebody_takes_a_snapshot(world: World) -> None:
    assert world.db is not None
    if len(world.snapshots) > 2:
        world._close_snapshots()
    snapshot = world.db.snapshot()
    world.snapshots.append((snapshot, [*snapshot.series("day"), *snapshot.series("hour")]))


def somebody_asks(world: World) -> None:
    assert world.db is not None
    for _ in range(3):
        uid = f"visitor-{world.rng.randrange(world.users):05}-x"
        is_seen = world.truth.is_live(uid) or any(uid == one for _, one in world.calls)
        if world.db.check_if_uid_exists(uid) != is_seen:
            raise Wrong(f"{uid} was seen: {is_seen}")


def somebody_compares(world: World) -> None:
    world.compare()


def a_backup_is_made(world: World) -> None:
    assert world.db is not None
    place = world.folder / f"backup{world.seen.steps}"
    backup(world.db, place)
    if world.saved is not None:
        shutil.rmtree(world.saved[0])
    world.saved = place, world.truth.copy()
    world.seen.backups += 1


def a_partition_is_added(world: World) -> None:
    logs = world.cluster.topics[INPUT]
    if len(logs) < 4:
        logs.append(type(logs[0])())
        world.sent.append([])


_STEPS_AND_WEIGHTS: list[tuple[Callable[[World], None], float]] = [
    (somebody_visits, 200),
    (time_passes, 14),
    (somebody_calls, 3),
    (much_time_passes, 0.8),
    (the_wall_clock_jumps, 0.3),
    (kafka_goes_away, 0.5),
    (the_process_dies, 1.5),
    (it_is_asked_to_stop, 0.5),
    (the_disk_is_full, 0.6),
    (a_request_comes, 1.2),
    (somebody_takes_a_snapshot, 0.6),
    (somebody_asks, 2),
    (somebody_compares, 0.3),
    (a_backup_is_made, 0.25),
    (a_partition_is_added, 0.05),
]
_STEPS = [one for one, _ in _STEPS_AND_WEIGHTS]
_WEIGHTS = [weight for _, weight in _STEPS_AND_WEIGHTS]
