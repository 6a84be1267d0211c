"""Sends records as they are into a topic, and knows of each whether it arrived."""

import time
from collections import deque
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from uniqdb.errors import CannotWrite, KafkaUnreachable, PublishRefused, UniqdbError
from uniqdb.stream.kafka_settings import CLIENT_LOG, KafkaSettings
from uniqdb.stream.kafka_topic import refused_settings, unreachable

FLUSH_STEP_S = 0.1
_POLL_EVERY = 500
"""Records between two looks at what has arrived."""
_ERRORS_KEPT = 100
_TRANSIENT = {
    *(KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT),
    *(KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError.NOT_ENOUGH_REPLICAS),
}


class RecordProducer:
    """One idempotent producer: each record arrives once, on all copies, or is known not to have. `close` it.

    ``sent`` records were accepted by `send`; of them ``delivered`` arrived, and ``failed`` did not. Used by one thread.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        """Connects in the background. Raises UsageError for settings that the client refuses."""
        self.topic, self._settings = topic, settings
        self.sent = self.delivered = self.failed = 0
        self._first_failure: KafkaError | None = None
        self._errors: deque[KafkaError] = deque(maxlen=_ERRORS_KEPT)
        config: dict[str, Any] = {
            **settings.for_plain_producer(),
            "error_cb": self._errors.append,
            "logger": CLIENT_LOG,
        }
        try:
            self._producer = Producer(config)
        except KafkaException as error:
            raise refused_settings(settings, error) from error

    def send(self, value: bytes, key: bytes | None) -> None:
        """Accept a record; waits while the client's queue is full. Records of one key keep their order.

        A record that the client refuses (too large) counts as failed.
        """
        self.sent += 1
        while True:
            try:
                self._producer.produce(self.topic, value, key, on_delivery=self._on_delivery)
                break
            except BufferError:
                self._producer.poll(FLUSH_STEP_S)
            except KafkaException as error:
                self._failed(error.args[0])
                break
        if self.sent % _POLL_EVERY == 0:
            self._producer.poll(0)

    def wait(self, timeout_s: float) -> int:
        """Wait until all arrived or are known not to; how many are still under way after the timeout."""
        end_at_s = time.monotonic() + timeout_s
        while left := int(self._producer.flush(FLUSH_STEP_S)):
            if time.monotonic() >= end_at_s:
                return left
        return 0

    def failure(self) -> UniqdbError | None:
        """What to tell if not every record is known to have arrived; None if each is."""
        missing = self.sent - self.delivered
        cause = self._first_failure
        if not missing:
            return None
        what = f"{missing:,} of {self.sent:,} records were not delivered to {self.topic}"
        if cause is None:
            return KafkaUnreachable(f"{what}: no answer in time", hint="check that the broker runs; send them again")
        if cause.code() in _TRANSIENT:
            reason = unreachable(self._settings, KafkaException(cause), self._errors)
            return KafkaUnreachable(f"{what}: {reason.message}", hint=reason.hint)
        reason_text = self._settings.without_secrets(str(cause.str()).strip().rstrip("."))
        kind = CannotWrite if cause.code() == KafkaError._FATAL else PublishRefused
        return kind(f"{what}: {reason_text}", hint="look at the topic's settings and rights; the others have arrived")

    def close(self) -> None:
        """Leave; what is still under way is given up."""
        self._producer.purge()
        self._producer.flush(1.0)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:  # noqa: ARG002 - the client's signature
        if error is None:
            self.delivered += 1
        else:
            self._failed(error)

    def _failed(self, cause: KafkaError) -> None:
        self.failed += 1
        if self._first_failure is None:
            self._first_failure = cause
