"""Topics as an operator sees them: which there are, what is in them, create and delete.

Unlike the service, whoever asks here waits in front of a terminal: a broker that is not there is told soon.
"""

import re
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import ConfigResource, ConfigSource, NewTopic, OffsetSpec

from uniqdb.errors import InputRefused, KafkaUnreachable, NotFound, UniqdbError, UsageError
from uniqdb.stream.kafka_settings import KafkaSettings
from uniqdb.stream.kafka_topic import admin_client, unreachable

ANSWER_TIMEOUT_S = 10.0
"""How long one answer may take."""
DOWN_S = 2.0
"""So long no broker of the list takes a connection before it is given up: one that is just starting is waited for."""
VISIBLE_TIMEOUT_S = 10.0
"""How long a change may take until it is seen."""
OFFSETS_ATTEMPTS = 20
_STEP_S = 0.1
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_NO_RIGHT = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}
_WRONG_REQUEST = {
    *(KafkaError.INVALID_PARTITIONS, KafkaError.INVALID_REPLICATION_FACTOR, KafkaError.INVALID_CONFIG),
    *(KafkaError.TOPIC_EXCEPTION, KafkaError.INVALID_REQUEST, KafkaError.POLICY_VIOLATION, KafkaError._INVALID_ARG),
}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TopicSummary:
    """One topic of a list. ``copies`` of each partition, the leader's included."""

    name: str
    partitions: int
    copies: int


@dataclass(frozen=True, slots=True)
class PartitionFacts:
    """One partition: broker ids, and its readable offsets ``[first, end)``. ``leader`` None: there is none now."""

    partition: int
    leader: int | None
    copies: tuple[int, ...]
    in_sync: tuple[int, ...]
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class TopicDetails:
    """All about one topic. ``config``: what was set for it alone; None without the right to see it."""

    name: str
    topic_id: str
    partitions: tuple[PartitionFacts, ...]
    config: dict[str, str] | None


def assert_topic_name(name: str) -> None:
    """Raise UsageError for a name that no topic can have."""
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise UsageError(
            f"no topic can be named {name!r}", hint="use letters, digits, dots, underscores and hyphens, at most 249"
        )


class TopicAdmin:
    """Asks and changes the topics of one cluster. Used by one thread at a time.

    Every method may raise KafkaUnreachable: after `DOWN_S` if nobody takes a connection, after `ANSWER_TIMEOUT_S` if
    somebody does but does not answer, and at once without the right. A topic that is not there: NotFound.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        """Connects on the first question. Raises UsageError for settings that the client refuses."""
        self._settings = settings
        self._client, self._errors = admin_client(settings)

    def topics(self) -> list[TopicSummary]:
        """The topics by name, without those that Kafka keeps for itself. One request, and one for each hundred."""
        names = sorted(self._names())
        found = []
        for first in range(0, len(names), 100):
            part = names[first : first + 100]
            asked = self._client.describe_topics(TopicCollection(part), request_timeout=ANSWER_TIMEOUT_S)
            for name in part:
                try:
                    answer = self._answer(asked[name])
                except NotFound:
                    continue  # deleted meanwhile
                if not answer.is_internal:
                    copies = max((len(one.replicas) for one in answer.partitions), default=0)
                    found.append(TopicSummary(name, len(answer.partitions), copies))
        return found

    def partition_count(self, topic: str) -> int:
        """How many partitions the topic has. One request."""
        assert_topic_name(topic)
        asked = self._client.describe_topics(TopicCollection([topic]), request_timeout=ANSWER_TIMEOUT_S)
        return len(self._answer(asked[topic], topic).partitions)

    def describe(self, topic: str) -> TopicDetails:
        """All about the topic. Four requests."""
        assert_topic_name(topic)
        asked = self._client.describe_topics(TopicCollection([topic]), request_timeout=ANSWER_TIMEOUT_S)
        answer = self._answer(asked[topic], topic)
        ranges = self.ranges(topic, len(answer.partitions))
        partitions = tuple(
            PartitionFacts(
                one.id,
                None if one.leader is None or one.leader.id < 0 else int(one.leader.id),
                tuple(int(node.id) for node in one.replicas),
                tuple(int(node.id) for node in one.isr),
                *ranges[one.id],
            )
            for one in answer.partitions
        )
        # As Kafka itself writes it: in base 64 for addresses.
        topic_id = str(answer.topic_id).translate(str.maketrans("+/", "-_"))
        return TopicDetails(topic, topic_id, partitions, self._own_config(topic))

    def ranges(self, topic: str, partition_count: int) -> dict[int, tuple[int, int]]:
        """Of each partition the first readable offset, and the one behind the last. Two requests."""
        firsts = self._offsets(topic, partition_count, OffsetSpec.earliest())
        ends = self._offsets(topic, partition_count, OffsetSpec.latest())
        return {number: (firsts[number], ends[number]) for number in range(partition_count)}

    def create(self, topic: str, partitions: int | None, copies: int | None, *, is_compacted: bool = False) -> None:
        """Create a topic and wait until it is seen. None: what the brokers have as default.

        Raises UsageError for what the brokers do not allow, InputRefused if the topic is there already.
        """
        assert_topic_name(topic)
        policy = {"cleanup.policy": "compact"} if is_compacted else {}
        new = NewTopic(topic, partitions or -1, replication_factor=copies or -1, config=policy)
        self._answer(self._client.create_topics([new], request_timeout=ANSWER_TIMEOUT_S)[topic], topic)
        self._until_seen(topic, is_there=True)

    def delete(self, topic: str) -> None:
        """Delete a topic with all its records and wait until it is gone."""
        assert_topic_name(topic)
        self._answer(self._client.delete_topics([topic], request_timeout=ANSWER_TIMEOUT_S)[topic], topic)
        self._until_seen(topic, is_there=False)

    # ------------------------------------------------------------ questions
    def _names(self) -> set[str]:
        end_at_s = time.monotonic() + ANSWER_TIMEOUT_S
        self._errors.clear()
        down_since_s: float | None = None
        while True:
            try:
                return set(self._client.list_topics(timeout=1.0).topics)
            except KafkaException as error:
                self._client.poll(0)  # has it tell what befell its connections
                down_since_s = self._down_since_s(down_since_s)
                if self._is_hopeless(down_since_s) or time.monotonic() > end_at_s:
                    raise unreachable(self._settings, error, self._errors) from error

    def _own_config(self, topic: str) -> dict[str, str] | None:
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        asked = self._client.describe_configs([resource], request_timeout=ANSWER_TIMEOUT_S)[resource]
        try:
            entries = self._answer(asked, topic)
        except KafkaUnreachable:  # a right of its own
            return None
        own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        return {name: str(entry.value) for name, entry in sorted(entries.items()) if entry.source == own}

    def _offsets(self, topic: str, partition_count: int, spec: OffsetSpec) -> dict[int, int]:
        asked = {TopicPartition(topic, number): spec for number in range(partition_count)}
        for attempt in range(OFFSETS_ATTEMPTS):
            answers = self._client.list_offsets(
                asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ANSWER_TIMEOUT_S
            )
            try:
                return {one.partition: int(self._answer(answer, topic).offset) for one, answer in answers.items()}
            except KafkaUnreachable as error:
                # A topic that was made a moment ago has no leaders yet.
                cause = error.__cause__
                waits = isinstance(cause, KafkaException) and cause.args[0].retriable()
                if not waits or attempt == OFFSETS_ATTEMPTS - 1:
                    raise
            time.sleep(_STEP_S)
        return {}

    def _until_seen(self, topic: str, *, is_there: bool) -> None:
        """Brokers tell each other a moment later: until the one that is asked has heard of it."""
        end_at_s = time.monotonic() + VISIBLE_TIMEOUT_S
        while (topic in self._names()) is not is_there and time.monotonic() < end_at_s:
            time.sleep(_STEP_S)

    def _answer(self, question: "Future[_T]", topic: str = "") -> _T:
        end_at_s = time.monotonic() + ANSWER_TIMEOUT_S + 1
        self._errors.clear()
        down_since_s: float | None = None
        while True:
            try:
                return question.result(_STEP_S)
            except FutureTimeoutError as error:
                self._client.poll(0)  # has it tell what befell its connections
                down_since_s = self._down_since_s(down_since_s)
                if self._is_hopeless(down_since_s) or time.monotonic() > end_at_s:
                    raise unreachable(self._settings, error, self._errors) from error
            except KafkaException as error:
                self._client.poll(0)
                raise self._explained(error, topic) from error

    def _down_since_s(self, since_s: float | None) -> float | None:
        """Since when (monotonic) nobody takes a connection, as far as was told."""
        is_down = any(one.code() == KafkaError._ALL_BROKERS_DOWN for one in self._errors)
        return (since_s or time.monotonic()) if is_down else None

    def _is_hopeless(self, down_since_s: float | None) -> bool:
        denied = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL}
        if any(one.code() in denied for one in self._errors):
            return True
        return down_since_s is not None and time.monotonic() - down_since_s > DOWN_S

    def _explained(self, error: KafkaException, topic: str) -> UniqdbError:
        cause: KafkaError = error.args[0]
        if cause.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            return no_topic(topic)
        if cause.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return InputRefused(f"Kafka has a topic {topic} already", hint="give another name, or delete it first")
        if cause.code() in _WRONG_REQUEST:
            reason = str(cause.str()).strip().rstrip(".")
            return UsageError(f"Kafka does not take this: {reason}", hint="correct the options")
        if cause.code() in _NO_RIGHT:
            return KafkaUnreachable(f"Kafka allows no such thing: {cause.str()}", hint="ask for the right to do it")
        return unreachable(self._settings, error, self._errors)


def no_topic(topic: str) -> NotFound:
    """The error for a topic that is not there."""
    return NotFound(
        f"Kafka has no topic {topic}",
        hint=f"`uniqdb topics list` shows those it has, `uniqdb topics create {topic}` creates it",
    )
