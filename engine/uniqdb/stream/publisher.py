"""Publishes records to Kafka: each batch in one transaction, and only by the youngest publisher of a store.

The store's uuid is the producer's transactional id: as soon as another publisher with it begins, Kafka refuses this
one, late requests on the wire included. So the last record of a key is the one that was published last. Every message
carries the uuid in a header, by which a publisher knows its own output again.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from uniqdb.errors import (
    ForeignOutput,
    KafkaUnreachable,
    NotPublished,
    PublisherFenced,
    PublishRefused,
    TopicMissing,
    UniqdbError,
)
from uniqdb.stream.kafka_settings import CLIENT_LOG, STORE_HEADER, KafkaHooks, KafkaSettings, RareLog
from uniqdb.stream.kafka_topic import Brokers, refused_settings, unreachable

PUBLISH_TIMEOUT_S = 30.0
"""How long a transaction may take with all repetitions; beyond, it is undone, or settled by the next one. Never more
than half of what brokers allow: a transaction that they undo themselves looks as if a successor had begun."""
ABORT_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0
_POLL_S = 0.1
_FIRST_STEP_BACK = 64
"""Offsets looked at first for the last record of a partition; four times as many each further time."""
_SEARCH_TIMEOUT_S = 30.0
_ERRORS_KEPT = 100

_FENCED = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}
# Sending the same again ends the same.
_HOPELESS = {
    *(KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.RECORD_LIST_TOO_LARGE),
    *(KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
    *(KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.TOPIC_EXCEPTION, KafkaError.POLICY_VIOLATION),
    *(KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART),
}


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    """One message to publish. ``value`` None deletes the key from a compacted topic."""

    topic: str
    key: bytes
    value: bytes | None


class Publisher:
    """The one publisher of a store. Used by one thread at a time. `close` it.

    Raises, when it is made: UsageError for settings that the client refuses, KafkaUnreachable if no broker answers in
    `KafkaSettings.start_timeout_s`, PublishRefused without the right to publish.
    """

    def __init__(
        self, settings: KafkaSettings, store_uuid: str, hooks: KafkaHooks | None = None, *, waits: bool = True
    ) -> None:
        """``store_uuid``: the text of the store's uuid; a predecessor with the same one is shut out from now on.

        ``waits`` False: Kafka is asked for that, which takes half a second, while the caller goes on; see `has_begun`.
        """
        self._settings, self._store_uuid = settings, store_uuid
        self._hooks = hooks or KafkaHooks()
        self._log = RareLog(self._hooks.on_log)
        self._headers: list[tuple[str, str | bytes | None]] = [(STORE_HEADER, store_uuid.encode())]
        self._errors: deque[KafkaError] = deque(maxlen=_ERRORS_KEPT)
        self._brokers = Brokers(settings)
        self._producer: Producer | None = None
        self._is_fenced = False
        self._undelivered: list[KafkaError] = []
        self._is_closing = False
        self._beginning: threading.Thread | None = None
        self._begin_error: UniqdbError | None = None
        if waits:
            self._ready(settings.start_timeout_s)
        else:
            self._beginning = threading.Thread(target=self._begin, name="uniqdb-publisher", daemon=True)
            self._beginning.start()

    def has_begun(self) -> bool:
        """Whether publishing would not have to wait for the beginning. Raises as the constructor does.

        Where no broker has answered that is no error: the next `publish` asks again.
        """
        if self._beginning is not None:
            if self._beginning.is_alive():
                return False
            self._beginning = None
            if self._begin_error is not None and not isinstance(self._begin_error, KafkaUnreachable):
                raise self._begin_error
        return True

    def _begin(self) -> None:
        try:
            self._begun(self._settings.start_timeout_s)
        except UniqdbError as error:
            self._begin_error = error

    def publish(self, records: Sequence[OutgoingRecord], timeout_s: float = PUBLISH_TIMEOUT_S) -> None:
        """Publish the records in one transaction; returns when it is committed. Nothing is read of a part of it.

        Raises NotPublished (or KafkaUnreachable): publish the same records again, which is right even if they did come
        through. PublishRefused: Kafka will never take them. PublisherFenced: another publisher of this store has begun,
        and this one is done for.
        """
        if not records:
            return
        producer = self._ready(timeout_s)
        end_at_s = time.monotonic() + min(timeout_s, self._settings.transaction_timeout_s / 2)
        self._undelivered = []
        try:
            producer.begin_transaction()
            for record in records:
                self._produce(producer, record, end_at_s)
            self._commit(producer, end_at_s)
        except KafkaException as error:
            raise self._undo(producer, error.args[0]) from error
        except BaseException:
            # Cut off in the middle: what became of the transaction is settled when the next producer begins.
            self._drop()
            raise
        finally:
            self._tell_errors()

    def ensure_topics(self, names: Iterable[str], partitions: int = 1) -> list[str]:
        """Create those of the topics that are missing, compacted, with as many copies as the brokers' default says.

        Returns the names of the created ones. Topics that are there are left as they are. Raises KafkaUnreachable.
        """
        created = self._brokers.missing(names)
        # -1: the brokers' default, which fits clusters of one node and of many.
        config = {"cleanup.policy": "compact"}
        self._brokers.create(NewTopic(name, partitions, replication_factor=-1, config=config) for name in created)
        end_at_s = time.monotonic() + self._settings.start_timeout_s
        # Until every broker that we ask knows them.
        while missing := self._brokers.missing(created):
            if time.monotonic() > end_at_s:
                raise TopicMissing(f"Kafka has no topic {missing[0]}", hint="it was just created: start again")
            time.sleep(_POLL_S)
        return created

    def assert_ours(self, topics: Iterable[str], take_over: bool = False) -> None:
        """Refuse output topics whose last records are not this store's. ``take_over``: publish there all the same.

        Looks at the last record of each partition; where a topic is missing or empty there is nothing to refuse. A few
        requests per partition, more where undone records or ends of transactions fill its end. Raises ForeignOutput,
        KafkaUnreachable.
        """
        if take_over:
            return
        for topic in dict.fromkeys(topics):
            try:
                facts = self._brokers.describe(topic)
            except TopicMissing:
                continue
            ranges = self._brokers.ranges(topic, range(facts.partition_count))
            for partition, (first, end) in sorted(ranges.items()):
                last = self._last_record(TopicPartition(topic, partition), first, end)
                if last is not None:
                    self._assert_ours(last)

    def close(self) -> None:
        """Undo what is under way and leave. A second call does nothing."""
        self._is_closing = True
        if self._beginning is not None:
            self._beginning.join(CLOSE_TIMEOUT_S)
        producer = self._producer
        if producer is not None and not self._is_fenced:
            with contextlib.suppress(KafkaException):  # most often: no transaction is under way
                producer.abort_transaction(CLOSE_TIMEOUT_S)
        self._drop()

    # --- one transaction ---

    def _ready(self, timeout_s: float) -> Producer:
        """A producer that has shut out all its predecessors."""
        if self._beginning is not None:
            self._beginning.join(timeout_s)
            if not self.has_begun():
                raise KafkaUnreachable(
                    "Kafka has not yet answered that publishing may begin", hint="wait, or look at the brokers' logs"
                )
        if self._is_fenced:
            raise self._fenced()
        return self._begun(timeout_s) if self._producer is None else self._producer

    def _begun(self, timeout_s: float) -> Producer:
        end_at_s = time.monotonic() + timeout_s
        config: dict[str, Any] = {
            **self._settings.for_producer(self._store_uuid),
            "error_cb": self._errors.append,
            "logger": CLIENT_LOG,
        }
        try:
            producer = Producer(config)
        except KafkaException as error:
            raise refused_settings(self._settings, error) from error
        while True:
            try:
                producer.init_transactions(max(_POLL_S, min(5.0, end_at_s - time.monotonic())))
                self._producer = producer
                return producer
            except KafkaException as error:
                cause: KafkaError = error.args[0]
                out_of_time = self._is_closing or self._hooks.should_stop() or time.monotonic() >= end_at_s
                if cause.retriable() and not out_of_time:
                    self._tell(cause)
                    continue
                self._producer = producer
                self._drop()
                raise self._explained(cause, is_beginning=True) from error

    def _produce(self, producer: Producer, record: OutgoingRecord, end_at_s: float) -> None:
        while True:
            try:
                producer.produce(
                    record.topic, record.value, record.key, headers=self._headers, on_delivery=self._on_delivery
                )
            except BufferError:
                # The client's queue is full: give it time to send.
                if time.monotonic() > end_at_s:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the queue stayed full")) from None
                producer.poll(_POLL_S)
            else:
                producer.poll(0)
                return

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:  # noqa: ARG002 - the client's signature
        if error is not None:
            self._undelivered.append(error)

    def _commit(self, producer: Producer, end_at_s: float) -> None:
        """Commit, and go on committing where the client says that it can be gone on with."""
        while True:
            try:
                producer.commit_transaction(max(_POLL_S, end_at_s - time.monotonic()))
                return
            except KafkaException as error:
                cause: KafkaError = error.args[0]
                if not cause.retriable() or time.monotonic() >= end_at_s:
                    raise
                self._tell(cause)

    def _undo(self, producer: Producer, cause: KafkaError) -> UniqdbError:
        """Undo the transaction, or leave it to the next producer; the error that says what became of it."""
        reason = next((one for one in self._undelivered if one.code() in _HOPELESS | _FENCED), cause)
        if not cause.fatal() and not cause.retriable():
            try:
                producer.abort_transaction(ABORT_TIMEOUT_S)  # at once, for it holds up those who read the topics
            except KafkaException as error:
                if error.args[0].code() in _FENCED:
                    reason = error.args[0]
        # The next batch begins with another producer. A commit whose answer did not come may still be carried out: the
        # new one waits for its outcome. And after a record that the broker refused the client miscounts: its next
        # transaction fails with "skipped sequence numbers".
        self._drop()
        return self._explained(reason)

    def _explained(self, cause: KafkaError, *, is_beginning: bool = False) -> UniqdbError:
        if cause.code() in _FENCED:
            self._is_fenced = True
            self._drop()
            return self._fenced()
        reason = self._settings.without_secrets(cause.str() or cause.name())
        if cause.code() in _HOPELESS:
            return PublishRefused(
                f"Kafka refuses what is to be published: {reason}",
                hint="look at the output topics, their max.message.bytes, and our right to write to them",
            )
        if is_beginning:
            return unreachable(self._settings, KafkaException(cause), self._errors)
        return NotPublished(f"a transaction was not committed: {reason}", hint="publish the same records again")

    def _fenced(self) -> PublisherFenced:
        return PublisherFenced(
            f"another publisher of the store {self._store_uuid} has begun",
            hint="end the other one, then start this one again; if there is none, a transaction was held up for longer "
            f"than transaction.timeout.ms, {self._settings.transaction_timeout_s:g} s: just start again",
        )

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            # What waits in its queue belongs to a transaction that nobody will commit.
            with contextlib.suppress(KafkaException):
                producer.purge()
                producer.flush(_POLL_S)

    # --- whose topic it is ---

    def _last_record(self, place: TopicPartition, first: int, end: int) -> Message | None:
        """The last record of the partition that can be read, or None."""
        step = _FIRST_STEP_BACK
        upper = end
        while upper > first:
            lower = max(first, upper - step)
            found = self._last_between(TopicPartition(place.topic, place.partition, lower), upper)
            if found is not None:
                return found
            upper, step = lower, step * 4
        return None

    def _last_between(self, start: TopicPartition, upper: int) -> Message | None:
        """The last record from the start's offset to ``upper``, exclusive."""
        config = self._settings.for_consumer(f"uniqdb-{self._store_uuid}")
        # Where the end is reached the broker has nothing to wait for.
        consumer = Consumer({**config, "fetch.wait.max.ms": 10, "error_cb": self._errors.append, "logger": CLIENT_LOG})
        last: Message | None = None
        end_at_s = time.monotonic() + _SEARCH_TIMEOUT_S
        try:
            consumer.assign([start])
            while time.monotonic() < end_at_s:
                message = consumer.poll(_POLL_S)
                if message is None:
                    continue
                error = message.error()
                if error is None and (message.offset() or 0) < upper:
                    last = message
                elif error is None or error.code() == KafkaError._PARTITION_EOF:
                    return last
                else:
                    raise unreachable(self._settings, KafkaException(error), self._errors)
        finally:
            consumer.close()
        raise KafkaUnreachable(
            f"the last record of {start.topic}, partition {start.partition}, could not be read",
            hint="start again when the brokers answer; --take-over does not look at it",
        )

    def _assert_ours(self, last: Message) -> None:
        headers: Mapping[str, object] = dict(last.headers() or ())
        whose = headers.get(STORE_HEADER)
        if whose == self._store_uuid.encode():
            return
        origin = f"from the store {_printable(whose)}" if isinstance(whose, bytes) else "not from uniqdb"
        place = f"topic {last.topic()}, partition {last.partition()}"
        raise ForeignOutput(
            f"{place}: its last record, at offset {last.offset()}, is {origin}",
            hint="name other output topics; --take-over publishes there all the same",
        )

    def _tell(self, error: KafkaError) -> None:
        self._log.say(error.name(), f"Kafka: {self._settings.without_secrets(error.str())}; trying again")

    def _tell_errors(self) -> None:
        while self._errors:
            self._tell(self._errors.popleft())


def _printable(header: bytes) -> str:
    """A header was written by anybody; control characters must not reach a terminal."""
    text = header[:64].decode("utf-8", errors="replace")
    return "".join(char if char.isprintable() else "?" for char in text)
