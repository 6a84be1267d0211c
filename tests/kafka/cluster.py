"""What the tests do to a Kafka cluster beside the code that is tested: topics, records, transactions."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

from uniqdb.stream.kafka_settings import KafkaSettings
from uniqdb_cli.local_broker import LocalBroker

LIMIT_S = 30.0
"""Nothing here takes so long unless it is broken."""


class Cluster:
    """One broker, and ways to write to it."""

    def __init__(self, broker: LocalBroker) -> None:
        self.broker = broker
        self._config: dict[str, Any] = {"bootstrap.servers": broker.bootstrap, "log_level": 0}
        self._admin = AdminClient(self._config)

    def settings(self, **options: Any) -> KafkaSettings:
        return KafkaSettings(client={"bootstrap.servers": self.broker.bootstrap}, **options)

    def create(self, topic: str, partitions: int = 1, **config: Any) -> str:
        """Keywords are settings of the topic, with _ for the dots."""
        dotted = {key.replace("_", "."): str(value) for key, value in config.items()}
        _wait(self._admin.create_topics([NewTopic(topic, partitions, 1, config=dotted)]))
        return topic

    def topics(self) -> set[str]:
        return set(self._admin.list_topics(timeout=LIMIT_S).topics)

    def facts(self, topic: str) -> tuple[int, str]:
        """Number of partitions and cleanup policy."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        config = self._admin.describe_configs([resource])[resource].result(LIMIT_S)
        partitions = self._admin.list_topics(topic, timeout=LIMIT_S).topics[topic].partitions
        return len(partitions), config["cleanup.policy"].value

    def delete(self, topic: str) -> None:
        _wait(self._admin.delete_topics([topic]))

    def recreate(self, topic: str) -> None:
        self.delete(topic)
        # The name is free a moment later.
        until(lambda: topic not in self.topics())
        self.create(topic)

    def add_partitions(self, topic: str, total: int) -> None:
        _wait(self._admin.create_partitions([NewPartitions(topic, total)]))

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        _wait(self._admin.delete_records([TopicPartition(topic, partition, before)]))

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

    def write(self, topic: str, values: Iterable[bytes | None], partition: int = 0, **message: Any) -> None:
        producer = Producer(self._config | {"message.max.bytes": 20_000_000, "linger.ms": 5})
        self._produce(producer, topic, values, partition=partition, **message)
        assert producer.flush(LIMIT_S) == 0

    def write_in_transaction(
        self, topic: str, values: Sequence[bytes | None], *, commits: bool = True, **message: Any
    ) -> None:
        producer = Producer(self._config | {"transactional.id": f"test-{topic}"})
        producer.init_transactions(LIMIT_S)
        producer.begin_transaction()
        self._produce(producer, topic, values, **{"partition": 0} | message)
        assert producer.flush(LIMIT_S) == 0
        if commits:
            producer.commit_transaction(LIMIT_S)
        else:
            producer.abort_transaction(LIMIT_S)

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
        partitions = sorted(self._admin.list_topics(topic, timeout=LIMIT_S).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, one, 0) for one in partitions])
        found, ended, end_at_s = [], 0, time.monotonic() + LIMIT_S
        while ended < len(partitions):
            assert time.monotonic() < end_at_s, "the topic has no end"
            message = consumer.poll(0.5)
            if message is None:
                continue
            if message.error() is None:
                found.append(message)
            else:
                ended += 1
        consumer.close()
        return found


def until(is_so: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    end_at_s = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end_at_s, "it did not come to pass"
        time.sleep(0.02)


def _wait(futures: dict[Any, Any]) -> None:
    for future in futures.values():
        future.result(LIMIT_S)
