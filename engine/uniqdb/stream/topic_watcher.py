"""Looks at the records of a topic as they come, for people and scripts. It keeps no position anywhere."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from uniqdb.errors import KafkaUnreachable
from uniqdb.stream.kafka_admin import TopicAdmin, no_topic
from uniqdb.stream.kafka_settings import CLIENT_LOG, KafkaHooks, KafkaSettings, RareLog
from uniqdb.stream.kafka_topic import refused_settings, unreachable

GROUP = "uniqdb-subscribe"
"""Named because the client wants a name; nothing is kept under it."""
POLL_S = 0.2
BATCH_RECORDS = 500
LOOK_INTERVAL_POLLS = 15
"""So many polls without a record, and it is looked whether the topic is still there."""
_ERRORS_KEPT = 100
_GONE = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
_DENIED = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}


@dataclass(frozen=True, slots=True)
class SeenRecord:
    """One record. ``value`` None: there is none, which deletes its key from a compacted topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class TopicWatcher:
    """The records of all partitions, those of transactions only once they are committed. `close` it."""

    def __init__(
        self, settings: KafkaSettings, topic: str, hooks: KafkaHooks | None = None, *, from_beginning: bool = False
    ) -> None:
        """Starts at the end of the topic, or at its first record that is left.

        Raises NotFound for a topic that is not there, UsageError for settings that the client refuses,
        KafkaUnreachable (see `TopicAdmin`).
        """
        self.topic, self._settings, self._hooks = topic, settings, hooks or KafkaHooks()
        self._log = RareLog(self._hooks.on_log)
        self._errors: deque[KafkaError] = deque(maxlen=_ERRORS_KEPT)
        self._admin = TopicAdmin(settings)
        ranges = self._admin.ranges(topic, self._admin.partition_count(topic))
        config: dict[str, Any] = {
            **settings.for_watcher(GROUP),
            "error_cb": self._errors.append,
            "logger": CLIENT_LOG,
        }
        try:
            self._consumer = Consumer(config)
        except KafkaException as error:
            raise refused_settings(settings, error) from error
        places = [(number, first if from_beginning else end) for number, (first, end) in ranges.items()]
        self._consumer.assign([TopicPartition(topic, number, at) for number, at in places])

    def records(self, is_over: Callable[[], bool] = lambda: False) -> Iterator[SeenRecord | None]:
        """The records as they come, in order within each partition; None whenever there is nothing new for a moment.

        Ends when ``is_over`` says so. An outage is waited out and told. Raises NotFound when the topic is deleted.
        """
        quiet = 0
        while not is_over():
            messages = self._consumer.consume(BATCH_RECORDS, POLL_S)
            self._tell_errors()
            seen = [record for message in messages if (record := self._record(message)) is not None]
            yield from seen
            quiet = 0 if seen else quiet + 1
            if not seen:
                yield None
            if quiet % LOOK_INTERVAL_POLLS == LOOK_INTERVAL_POLLS - 1:
                self._look()

    def close(self) -> None:
        """Leave."""
        self._consumer.close()

    def _record(self, message: Message) -> SeenRecord | None:
        error = message.error()
        if error is None:
            key, value = message.key(), message.value()
            # The client's types allow text, too; what comes from a broker is bytes.
            return SeenRecord(int(message.partition() or 0), int(message.offset() or 0), _bytes(key), _bytes(value))
        if error.code() in _GONE:
            raise no_topic(self.topic)
        if error.code() in _DENIED:
            raise unreachable(self._settings, KafkaException(error), ())
        if error.code() not in (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET):
            self._errors.append(error)
        return None

    def _look(self) -> None:
        """A topic that was deleted says nothing by itself."""
        try:
            self._admin.partition_count(self.topic)
        except KafkaUnreachable as error:
            self._log.say("unreachable", f"{error.message}; waiting for it")

    def _tell_errors(self) -> None:
        while self._errors:
            error = self._errors.popleft()
            if error.code() != KafkaError._ALL_BROKERS_DOWN:
                self._log.say(error.name(), f"Kafka: {self._settings.without_secrets(error.str())}; waiting for it")


def _bytes(content: str | bytes | None) -> bytes | None:
    return content.encode() if isinstance(content, str) else content
