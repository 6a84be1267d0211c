"""How far a topic was read, told to Kafka for lag monitors only: nothing that uniqdb does depends on it."""

import contextlib
import threading
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from uniqdb.stream.kafka_settings import CLIENT_LOG, KafkaSettings

_POLL_S = 1.0


class OffsetReports:
    """Reports under the name of a consumer group, through a consumer of its own that never joins it.

    Two ways of librdkafka 2.16 are avoided. An administrator's client (``alter_consumer_group_offsets``) ends the whole
    process when no broker answers (an assertion, https://github.com/confluentinc/librdkafka/issues/4605). And a
    consumer that is destroyed while a report is under way and no broker answers turns in circles for ever: it is left
    to a thread that waits for the answer first.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self._consumer: Consumer | None = None
        self._is_waiting = threading.Event()
        self._error: KafkaError | None = None

    def report(self, positions: Mapping[int, int]) -> KafkaError | None:
        """Begin to report; what befell the one before. None is begun while one is under way. It does not wait."""
        try:
            consumer = self._connected()
            consumer.poll(0)  # has it tell what became of the last one
            befell, self._error = self._error, None
            if not self._is_waiting.is_set():
                self._is_waiting.set()
                places = [TopicPartition(self._topic, one, at) for one, at in sorted(positions.items())]
                consumer.commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            self._is_waiting.clear()
            told: KafkaError = error.args[0]
            return told
        return befell

    def _connected(self) -> Consumer:
        if self._consumer is None:
            own = {"on_commit": self._answered, "logger": CLIENT_LOG, "error_cb": lambda _error: None}
            self._consumer = Consumer({**self._settings.for_consumer(f"uniqdb-{self._topic}"), **own})
        return self._consumer

    def _answered(self, error: KafkaError | None, _places: object) -> None:
        self._error = error
        self._is_waiting.clear()

    def close(self) -> None:
        """Leave, without waiting. A second call does nothing."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None and self._is_waiting.is_set():
            threading.Thread(target=_wait_for_answer, args=(consumer, self._is_waiting), daemon=True).start()


def _wait_for_answer(consumer: Consumer, is_waiting: threading.Event) -> None:
    with contextlib.suppress(KafkaException):
        while is_waiting.is_set():
            consumer.poll(_POLL_S)
