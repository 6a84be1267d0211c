"""What the tests do to a Kafka cluster beside the code that is tested: topics, records, transactions."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, OffsetSpec

from uniqdb.stream.kafka_settings import KafkaSettings

LIMIT_S = 60.0
"""Nothing here takes so long unless it is broken, on a machine with much else to do either."""
REQUEST_S = 10.0
"""One attempt: a broker that was frozen or killed may never answer a request that it had received."""

_PASSING = frozenset(
    {
        *(KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._WAIT_COORD),
        *(KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.REQUEST_TIMED_OUT),
        *(KafkaError.BROKER_NOT_AVAILABLE, KafkaError.NETWORK_EXCEPTION, KafkaError.NOT_CONTROLLER),
        *(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR),
    }
)
"""What a broker, or a client without one, says for a moment after an outage."""

Answer = TypeVar("Answer")


def patiently(ask: Callable[[], Answer], *passing: int) -> Answer:
    """Ask again while the broker is not yet back from an outage. Any other error is raised at once."""
    end_at_s = time.monotonic() + LIMIT_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in {*_PASSING, *passing} or time.monotonic() > end_at_s:
                raise
        time.sleep(0.05)


class Cluster:
    """A broker, or several that are asked as one, and ways to write to it."""

    def __init__(self, broker: Any, copies: int = 1) -> None:
        """``broker``: a `LocalBroker`, or what has its ``bootstrap``. Each record is kept in so many copies."""
        self.broker, self._copies = broker, copies
        self._config: dict[str, Any] = {"bootstrap.servers": broker.bootstrap, "log_level": 0}
        self._admin = AdminClient(self._config)

    def settings(self, **options: Any) -> KafkaSettings:
        return KafkaSettings(client={"bootstrap.servers": self.broker.bootstrap}, **options)

    def create(self, topic: str, partitions: int = 1, **config: Any) -> str:
        """Keywords are settings of the topic, with _ for the dots. Records are kept, however old their times are."""
        dotted = {"retention.ms": "-1"} | {key.replace("_", "."): str(value) for key, value in config.items()}
        new = NewTopic(topic, partitions, self._copies, config=dotted)
        self._change(
            lambda: self._admin.create_topics([new], request_timeout=REQUEST_S), KafkaError.TOPIC_ALREADY_EXISTS
        )
        return topic

    def topics(self) -> set[str]:
        return set(self._asked(lambda: self._admin.list_topics(timeout=REQUEST_S)).topics)

    def _asked(self, ask: Callable[[], Answer], *passing: int) -> Answer:
        """After an outage with another client: late answers may have the old one end the whole process."""

        def attempt() -> Answer:
            try:
                return ask()
            except KafkaException:
                self._admin = AdminClient(self._config)
                raise

        return patiently(attempt, *passing)

    def _partitions(self, topic: str) -> list[int]:
        """Without one it would look like a topic without records: a topic that is not there is an error."""

        def ask() -> list[int]:
            found = self._admin.list_topics(topic, timeout=REQUEST_S).topics[topic]
            if found.error is not None:
                raise KafkaException(found.error)
            return sorted(found.partitions)

        # One that was made a moment ago may not yet be known.
        return self._asked(ask, KafkaError.UNKNOWN_TOPIC_OR_PART)

    def _change(self, ask: Callable[[], dict[Any, Any]], already_done: int | None = None) -> None:
        """``already_done``: the error that says, of a repeated request, that the first had come to its end."""
        attempts = 0

        def attempt() -> None:
            nonlocal attempts
            attempts += 1
            for future in ask().values():
                try:
                    future.result(LIMIT_S)
                except KafkaException as error:
                    if attempts == 1 or error.args[0].code() != already_done:
                        raise

        self._asked(attempt)

    def facts(self, topic: str) -> tuple[int, str]:
        """Number of partitions and cleanup policy."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        config = self._asked(
            lambda: self._admin.describe_configs([resource], request_timeout=REQUEST_S)[resource].result(LIMIT_S)
        )
        return len(self._partitions(topic)), config["cleanup.policy"].value

    def delete(self, topic: str) -> None:
        self._change(
            lambda: self._admin.delete_topics([topic], request_timeout=REQUEST_S), KafkaError.UNKNOWN_TOPIC_OR_PART
        )

    def recreate(self, topic: str) -> None:
        self.delete(topic)
        # The name is free a moment later.
        until(lambda: topic not in self.topics())
        self.create(topic)

    def add_partitions(self, topic: str, total: int) -> None:
        new = NewPartitions(topic, total)
        self._change(
            lambda: self._admin.create_partitions([new], request_timeout=REQUEST_S), KafkaError.INVALID_PARTITIONS
        )

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        place = TopicPartition(topic, partition, before)
        self._change(lambda: self._admin.delete_records([place], request_timeout=REQUEST_S))

    def cut_back(self, topic: str, partition: int, records: int) -> None:
        """Keep only the first records of a log on disk, each written by itself. The broker is stopped."""
        folder = self.broker.folder / "data" / f"{topic}-{partition}"
        log = folder / f"{0:020}.log"
        data, end_bytes = log.read_bytes(), 0
        for _ in range(records):
            end_bytes += 12 + int.from_bytes(data[end_bytes + 8 : end_bytes + 12], "big")
        log.write_bytes(data[:end_bytes])
        for name in (f"{0:020}.index", f"{0:020}.timeindex"):
            (folder / name).unlink()

    def end_offset(self, topic: str, partition: int = 0) -> int:
        """Behind the last record or marker, also of transactions that are not over."""
        place, latest = TopicPartition(topic, partition), OffsetSpec.latest()
        uncommitted = IsolationLevel.READ_UNCOMMITTED
        return self._asked(
            lambda: (
                self._admin.list_offsets({place: latest}, isolation_level=uncommitted, request_timeout=REQUEST_S)[place]
                .result(LIMIT_S)
                .offset
            )
        )

    def write(self, topic: str, values: Iterable[bytes | None], partition: int = 0, **message: Any) -> None:
        # One after the other: the leader of a topic that was just made may refuse the first batch but not the second.
        config = {"message.max.bytes": 20_000_000, "linger.ms": 5, "max.in.flight.requests.per.connection": 1}
        producer = Producer(self._config | config)
        self._produce(producer, topic, values, partition=partition, **message)
        assert producer.flush(LIMIT_S) == 0

    def write_in_transaction(
        self, topic: str, values: Sequence[bytes | None], *, commits: bool = True, **message: Any
    ) -> None:
        producer = Producer(self._config | {"transactional.id": f"test-{topic}"})
        patiently(lambda: producer.init_transactions(REQUEST_S))
        producer.begin_transaction()
        self._produce(producer, topic, values, **{"partition": 0} | message)
        assert producer.flush(LIMIT_S) == 0
        if commits:
            patiently(lambda: producer.commit_transaction(REQUEST_S))
        else:
            patiently(lambda: producer.abort_transaction(REQUEST_S))

    def _produce(self, producer: Producer, topic: str, values: Iterable[bytes | None], **message: Any) -> None:
        failed: list[Any] = []
        for value in values:
            while True:
                try:
                    producer.produce(
                        topic, value, on_delivery=lambda error, _: failed.append(error) if error else None, **message
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush(LIMIT_S)
        assert failed == []

    def read_all(self, topic: str, isolation: str = "read_committed") -> list[Any]:
        """Every message of the topic, as a consumer of the user's would see them."""
        config = {"group.id": "test", "auto.offset.reset": "error", "enable.partition.eof": True}
        consumer = Consumer(self._config | config | {"isolation.level": isolation})
        partitions = self._partitions(topic)
        consumer.assign([TopicPartition(topic, one, 0) for one in partitions])
        found: list[Any] = []
        ended, end_at_s = set(), time.monotonic() + LIMIT_S
        while len(ended) < len(partitions):
            assert time.monotonic() < end_at_s, "the topic has no end"
            message = consumer.poll(0.5)
            if message is None:
                continue
            error = message.error()
            if error is None:
                found.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            elif error.code() not in _PASSING:
                raise KafkaException(error)
        consumer.close()
        return found


def until(is_so: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    end_at_s = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end_at_s, "it did not come to pass"
        time.sleep(0.02)
