"""A Kafka that is a few lists in this process, with the faults of a real one. No thread, no waiting: time is passed in.

It speaks to the engine's own `KafkaSource` and `Publisher` in place of the client library: see `standing_in`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from uniqdb.errors import KafkaUnreachable, TopicMissing
from uniqdb.stream import kafka_source, publisher
from uniqdb.stream.kafka_identity import TopicFacts, TopicIdentity
from uniqdb.stream.kafka_settings import Start

CLUSTER = "cluster"
Fault = Callable[[str], None]
"""Called where something may go wrong, with the name of the place; raises, or does nothing."""


class Died(BaseException):
    """The process ends here: nothing that it does afterwards reaches disk or Kafka."""


@dataclass
class FakeTime:
    """Stands for the module ``time``. Sleeping takes no time at all."""

    wall_s: float
    monotonic_s: float = 1_000.0

    def time(self) -> float:
        return self.wall_s

    def time_ns(self) -> int:
        return int(self.wall_s * 1e9)

    def monotonic(self) -> float:
        return self.monotonic_s

    def perf_counter(self) -> float:
        return self.monotonic_s

    def sleep(self, seconds: float) -> None:
        self.pass_by(max(seconds, 0.001))

    def pass_by(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds


@dataclass
class Log:
    """One partition. ``end`` lies behind the last record, and behind ends of transactions after it."""

    records: list[Message] = field(default_factory=list)
    first: int = 0
    end: int = 0

    def from_offset(self, offset: int, most: int) -> list[Message]:
        """Records at or behind an offset."""
        low, high = 0, len(self.records)
        while low < high:
            middle = (low + high) // 2
            if (self.records[middle].offset() or 0) < offset:
                low = middle + 1
            else:
                high = middle
        return self.records[low : low + most]


Item = tuple[str, bytes, bytes | None]
"""Topic, key, value."""


@dataclass
class Transaction:
    """What a producer has sent and not ended. ``commits``: whether its commit is under way, or carried out already."""

    items: list[Item] = field(default_factory=list)
    commits: str = ""


@dataclass
class Cluster:
    """The broker, its topics and what may befall it."""

    time: FakeTime
    rng: Random
    fault: Fault
    on_produced: Callable[[str, bytes, bytes | None], None]
    on_committed: Callable[[list[Item]], None]
    input: str
    topics: dict[str, list[Log]] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    open: dict[str, Transaction] = field(default_factory=dict)
    away_until_s: float = 0.0
    trouble: float = 0.0
    """How often a client's call meets one of its faults."""
    leaves_out: bool = False
    """Whether reading may leave out records until it is asked again; then the topic has no lawful gaps."""
    left_out: set[tuple[str, int, int]] = field(default_factory=set)

    def create(self, topic: str, partitions: int) -> None:
        self.topics[topic] = [Log() for _ in range(partitions)]
        self.ids[topic] = f"id-{topic}"

    @property
    def is_away(self) -> bool:
        return self.time.monotonic_s < self.away_until_s

    def chance(self) -> bool:
        return self.trouble > 0 and self.rng.random() < self.trouble

    def append(self, topic: str, partition: int, message: tuple[bytes | None, bytes | None, int, Any]) -> int:
        """Add a record (key, value, timestamp in ms, headers); its offset."""
        key, value, at_ms, headers = message
        log = self.topics[topic][partition]
        log.records.append(
            Message(
                topic=topic,
                partition=partition,
                offset=log.end,
                key=key,
                value=value,
                headers=headers,
                timestamp=(1, at_ms),
            )
        )
        log.end += 1
        return log.end - 1

    def apply(self, identity: str, transaction: Transaction) -> None:
        """The records of a transaction become readable."""
        at_ms = int(self.time.wall_s * 1_000)
        for topic, key, value in transaction.items:
            # Of what is published only the last record is ever read here.
            self.topics[topic][0].records.clear()
            self.append(topic, 0, (key, value, at_ms, [("uniqdb-store", identity.encode())]))
        for topic in {item[0] for item in transaction.items}:
            self.topics[topic][0].end += 1  # the end of the transaction takes an offset
        self.on_committed(transaction.items)


def failure(code: int, *, retriable: bool = False, fatal: bool = False) -> KafkaException:
    return KafkaException(KafkaError(code, "injected", fatal=fatal, retriable=retriable))


class FakeBrokers:
    """Answers as `uniqdb.stream.kafka_topic.Brokers`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def _assert_there(self, timeout_s: float) -> None:
        if self._cluster.is_away or self._cluster.chance():
            self._cluster.time.pass_by(timeout_s)
            raise KafkaUnreachable("Kafka is away", hint="wait")

    def describe(self, topic: str, timeout_s: float = 10.0) -> TopicFacts:
        self._assert_there(timeout_s)
        if topic not in self._cluster.topics:
            raise TopicMissing(f"no topic {topic}", hint="create it")
        identity = TopicIdentity(CLUSTER, self._cluster.ids[topic])
        return TopicFacts(identity, len(self._cluster.topics[topic]), "delete")

    def ask(self, topic: str, timeout_s: float = 10.0) -> "Future[Any]":  # noqa: ARG002 - as the real one
        answer: Future[Any] = Future()
        answer.set_result(None)
        return answer

    def topic_of(self, topic: str, question: Any, timeout_s: float = 10.0) -> tuple[int, str]:  # noqa: ARG002
        self._assert_there(timeout_s)
        return len(self._cluster.topics[topic]), self._cluster.ids[topic]

    def offsets(self, topic: str, partitions: Iterable[int], at: Any, timeout_s: float = 10.0) -> dict[int, int]:
        self._assert_there(timeout_s)
        logs = self._cluster.topics[topic]
        return {one: logs[one].first if at is Start.EARLIEST else logs[one].end for one in partitions}

    def ranges(self, topic: str, partitions: Iterable[int], timeout_s: float = 10.0) -> dict[int, tuple[int, int]]:
        self._assert_there(timeout_s)
        logs = self._cluster.topics[topic]
        return {one: (logs[one].first, logs[one].end) for one in partitions}

    def missing(self, topics: Iterable[str], timeout_s: float = 10.0) -> list[str]:
        self._assert_there(timeout_s)
        return [topic for topic in dict.fromkeys(topics) if topic not in self._cluster.topics]

    def create(self, topics: Iterable[Any], timeout_s: float = 10.0) -> None:
        self._assert_there(timeout_s)
        for topic in topics:
            self._cluster.create(topic.topic, 1)


class FakeConsumer:
    """Reads in order from where it was assigned; loses nothing for good, but shows some of a real one's ways."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._at: dict[tuple[str, int], int] = {}
        self._told_end: dict[tuple[str, int], int] = {}

    def assign(self, places: Sequence[TopicPartition]) -> None:
        self._at = {(one.topic, one.partition): one.offset for one in places}

    def poll(self, timeout_s: float) -> Message | None:
        try:
            found = self.consume(1, timeout_s)
        except KafkaException:
            return None
        return found[0] if found else None

    def consume(self, most: int, timeout_s: float) -> list[Message]:
        cluster = self._cluster
        cluster.fault("consume")
        cluster.time.pass_by(timeout_s if cluster.is_away else timeout_s * 0.3)
        if cluster.is_away:
            return []
        if cluster.chance():
            if cluster.rng.random() < 0.5:
                raise failure(KafkaError._TRANSPORT, retriable=True)
            return [Message(error=KafkaError(KafkaError._ALL_BROKERS_DOWN, "injected"))]
        found: list[Message] = []
        places = list(self._at)
        cluster.rng.shuffle(places)
        for place in places:
            if len(found) < most:
                found += self._read(place, min(most - len(found), cluster.rng.choice([1, 5, 50, 400])))
        return found

    def _read(self, place: tuple[str, int], most: int) -> list[Message]:
        (topic, partition), cluster = place, self._cluster
        log, at = cluster.topics[topic][partition], self._at[place]
        if not log.first <= at <= log.end:
            del self._at[place]
            gone = KafkaError(KafkaError._AUTO_OFFSET_RESET, "injected: offset out of range")
            return [Message(topic=topic, partition=partition, offset=at, error=gone)]
        if topic == cluster.input and cluster.chance():
            at = self._astray(place, at, log)
        found = log.from_offset(at, most)
        if found:
            self._at[place] = (found[-1].offset() or 0) + 1
        elif at < log.end or self._told_end.get(place) != log.end:
            self._at[place] = self._told_end[place] = log.end
            end = KafkaError(KafkaError._PARTITION_EOF, "end")
            return [Message(topic=topic, partition=partition, offset=log.end, error=end)]
        return found

    def _astray(self, place: tuple[str, int], at: int, log: Log) -> int:
        """Shows again what it has shown, or leaves out what it shows when it is asked again: never twice the same."""
        cluster = self._cluster
        moved = max(log.first, min(log.end, at + cluster.rng.randrange(-20, 20)))
        if moved <= at:
            return moved
        places = {(*place, offset) for offset in range(at, moved)}
        if not cluster.leaves_out or places & cluster.left_out:
            return at
        cluster.left_out |= places
        return moved

    def close(self) -> None:
        self._at = {}


class FakeProducer:
    """Transactions of one id: of two producers only the younger may write."""

    def __init__(self, cluster: Cluster, config: Mapping[str, Any]) -> None:
        self._cluster, self._id = cluster, str(config["transactional.id"])
        self._epoch = -1

    def _assert_ours(self) -> None:
        if self._cluster.epochs[self._id] != self._epoch:
            raise failure(KafkaError._FENCED, fatal=True)

    def init_transactions(self, timeout_s: float) -> None:
        cluster = self._cluster
        cluster.fault("init")
        if cluster.is_away or cluster.chance():
            cluster.time.pass_by(timeout_s)
            raise failure(KafkaError._TIMED_OUT, retriable=True)
        before = cluster.open.pop(self._id, None)
        # Its predecessor's commit may still be on its way: it is carried out, or not, before this one begins.
        if before is not None and before.commits == "sent":
            cluster.apply(self._id, before)
        self._epoch = cluster.epochs[self._id] = cluster.epochs.get(self._id, 0) + 1

    def begin_transaction(self) -> None:
        self._assert_ours()
        self._cluster.open[self._id] = Transaction()

    def produce(self, topic: str, value: bytes | None, key: bytes, headers: Any, on_delivery: Any) -> None:
        self._cluster.fault("produce")
        self._assert_ours()
        self._cluster.on_produced(topic, key, value)
        if self._cluster.chance():
            on_delivery(KafkaError(KafkaError._MSG_TIMED_OUT, "injected"), None)
            raise failure(KafkaError._MSG_TIMED_OUT)
        assert headers
        self._cluster.open[self._id].items.append((topic, key, value))

    def commit_transaction(self, timeout_s: float) -> None:
        cluster = self._cluster
        cluster.fault("before commit of Kafka")
        self._assert_ours()
        transaction = cluster.open[self._id]
        if cluster.is_away or (transaction.commits == "" and cluster.chance()):
            kind = cluster.rng.randrange(3)
            cluster.time.pass_by(timeout_s / 2)
            if kind == 0:
                raise failure(KafkaError._TIMED_OUT, retriable=True)
            if kind == 1:  # it is on its way, and nobody hears of it
                transaction.commits = transaction.commits or "sent"
                raise failure(KafkaError._TRANSPORT, retriable=True)
            raise failure(KafkaError._INCONSISTENT)
        if transaction.commits != "done":
            cluster.apply(self._id, transaction)
        if cluster.chance():
            transaction.commits = "done"
            raise failure(KafkaError._TIMED_OUT, retriable=True)
        del cluster.open[self._id]
        cluster.fault("after commit of Kafka")

    def abort_transaction(self, timeout_s: float) -> None:
        cluster = self._cluster
        self._assert_ours()
        if cluster.is_away:
            cluster.time.pass_by(timeout_s)
            raise failure(KafkaError._TIMED_OUT, retriable=True)
        transaction = cluster.open.get(self._id)
        if transaction is None:
            raise failure(KafkaError._STATE)
        if not transaction.commits:
            del cluster.open[self._id]

    def poll(self, timeout_s: float) -> int:
        self._cluster.time.pass_by(timeout_s)
        return 0

    def purge(self) -> None:
        """Nothing waits here."""

    def flush(self, timeout_s: float) -> int:  # noqa: ARG002 - as the real one
        return 0


class _AtOnce:
    """Stands for a thread: what it is to do is done when it starts."""

    def __init__(self, target: Callable[[], None], **_: Any) -> None:
        self._target = target

    def start(self) -> None:
        self._target()

    def is_alive(self) -> bool:
        return False

    def join(self, timeout_s: float | None = None) -> None:
        """It has ended."""


class _NoReports:
    """Lag monitors hear nothing."""

    def report(self, positions: Mapping[int, int]) -> None:
        """Nobody looks at it."""

    def close(self) -> None:
        """Nothing is open."""


@contextmanager
def replaced(parts: Mapping[tuple[Any, str], Any]) -> Iterator[None]:
    """Attributes of modules and classes, for a while."""
    before = {place: getattr(*place) for place in parts}
    try:
        for (owner, name), value in parts.items():
            setattr(owner, name, value)
        yield
    finally:
        for (owner, name), value in before.items():
            setattr(owner, name, value)


def standing_in(cluster: Cluster) -> dict[tuple[Any, str], Any]:
    """What to replace so that the engine's own source and publisher speak to this cluster."""

    def consumer(_config: object) -> FakeConsumer:
        return FakeConsumer(cluster)

    def brokers(_settings: object) -> FakeBrokers:
        return FakeBrokers(cluster)

    return {
        (kafka_source, "Consumer"): consumer,
        (kafka_source, "Brokers"): brokers,
        (kafka_source, "OffsetReports"): lambda *_: _NoReports(),
        (publisher, "Consumer"): consumer,
        (publisher, "Brokers"): brokers,
        (publisher, "Producer"): lambda config: FakeProducer(cluster, config),
        (publisher, "threading"): SimpleNamespace(Thread=_AtOnce),
    }
