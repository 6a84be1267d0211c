"""What brokers say about topics: which one it is, its partitions, its offsets. Reading and publishing both ask here."""

import contextlib
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, TopicDescription

from uniqdb.errors import KafkaUnreachable, TopicMissing, UsageError
from uniqdb.stream.kafka_identity import TopicFacts, TopicIdentity
from uniqdb.stream.kafka_settings import CLIENT_LOG, KafkaSettings, Start

REQUEST_TIMEOUT_S = 10.0
_GRACE_S = 1.0
"""The client keeps its own time of a request; this much later we stop waiting for it to say so."""
_RETRY_PAUSE_S = 0.1
_ERRORS_KEPT = 100
_NO_ID = "A" * 22
"""The topic id of brokers that give none: sixteen zero bytes in base 64."""

_DENIED = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError._SSL,
}
_NO_ANSWER = {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}
_T = TypeVar("_T")


def admin_client(settings: KafkaSettings) -> tuple[AdminClient, deque[KafkaError]]:
    """A client that connects on its first question, and where it notes what befalls its connections.

    Raises UsageError for settings that it refuses.
    """
    errors: deque[KafkaError] = deque(maxlen=_ERRORS_KEPT)
    try:
        # Handlers only take down what they are given; one that raised would break what is under way.
        config: dict[str, Any] = {**settings.for_admin(), "error_cb": errors.append, "logger": CLIENT_LOG}
        return AdminClient(config), errors
    except KafkaException as error:
        raise refused_settings(settings, error) from error


class Brokers:
    """Asks the brokers of one cluster. Every method raises KafkaUnreachable when no answer comes, or a no."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Connects on the first question. Raises UsageError for settings that the client refuses."""
        self._settings = settings
        self._client, self._errors = admin_client(settings)
        self._consumer: Consumer | None = None

    def _begin_anew(self) -> None:
        """With other clients: an old one may end the whole process on late answers to what was asked in vain.

        An assertion of its own, when a broker is back; https://github.com/confluentinc/librdkafka/issues/4605.
        """
        self._client, self._errors = admin_client(self._settings)
        self._consumer = None

    def describe(self, topic: str, timeout_s: float = REQUEST_TIMEOUT_S) -> TopicFacts:
        """The topic's facts, in three requests. Raises TopicMissing."""
        description = self.ask(topic, timeout_s)
        cluster = self._client.describe_cluster(request_timeout=timeout_s)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        configs = self._client.describe_configs([resource], request_timeout=timeout_s)[resource]
        count, topic_id = self.topic_of(topic, description, timeout_s)
        cluster_id = str(self._answer(cluster, timeout_s).cluster_id or "")
        try:
            policy: str | None = str(self._answer(configs, timeout_s)["cleanup.policy"].value)
        except KafkaUnreachable:  # a right of its own, which readers need not have
            policy = None
        return TopicFacts(TopicIdentity(cluster_id, topic_id), count, policy)

    def ask(self, topic: str, timeout_s: float = REQUEST_TIMEOUT_S) -> "Future[TopicDescription]":
        """Begin to ask which topic it is; `topic_of` has the answer."""
        question: Future[TopicDescription] = self._client.describe_topics(
            TopicCollection([topic]), request_timeout=timeout_s
        )[topic]
        return question

    def topic_of(
        self, topic: str, question: "Future[TopicDescription]", timeout_s: float = REQUEST_TIMEOUT_S
    ) -> tuple[int, str]:
        """Number of partitions and id of the topic that was asked for; the id is empty if there is none."""
        try:
            answer = self._answer(question, timeout_s)
        except KafkaUnreachable as error:
            if _code_of(error) == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise TopicMissing(
                    f"Kafka has no topic {topic}", hint="create it, or correct its name; uniqdb never creates its input"
                ) from error
            raise
        topic_id = str(answer.topic_id)
        return len(answer.partitions), "" if topic_id == _NO_ID else topic_id

    def offsets(
        self, topic: str, partitions: Iterable[int], at: Start | int, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> dict[int, int]:
        """Of each partition the first readable offset, the one behind the last, or the first of a time (in ms).

        -1 where all records are older than the time.
        """
        if isinstance(at, Start):
            at = OFFSET_BEGINNING if at is Start.EARLIEST else OFFSET_END  # to Kafka these are times, too
        asked = [TopicPartition(topic, partition, at) for partition in partitions]
        end_at_s = time.monotonic() + timeout_s
        while asked:
            try:
                return self._offsets(topic, asked, timeout_s)
            except KafkaUnreachable as error:
                # A broker that has just come back knows no leaders at first; after an election it is the client that
                # is behind, and remains so until it looks at the topic again.
                if time.monotonic() > end_at_s or _code_of(error) in _DENIED:
                    raise
            with contextlib.suppress(KafkaException):
                self._reader(topic).list_topics(topic, timeout=timeout_s)
            time.sleep(_RETRY_PAUSE_S)
        return {}

    def _offsets(self, topic: str, asked: list[TopicPartition], timeout_s: float) -> dict[int, int]:
        """Asked by a consumer, which joins no group and reads nothing.

        An administrator's client (`AdminClient.list_offsets`) ends the process when a broker that has just come back
        refuses the question, knowing no leader yet: it asks again, and is no longer prepared for the answer.
        """
        self._errors.clear()
        try:
            found = self._reader(topic).offsets_for_times(asked, timeout=timeout_s)
            wrong = next((one.error for one in found if one.error is not None), None)
            if wrong is not None:
                raise KafkaException(wrong)
        except KafkaException as error:
            self._reader(topic).poll(0)  # has it tell what befell its connections
            raise unreachable(self._settings, error, self._errors) from error
        return {one.partition: int(one.offset) for one in found}

    def _reader(self, topic: str) -> Consumer:
        """Under the name of the group that reports positions, for which there are rights; it does not join it."""
        if self._consumer is None:
            own: dict[str, Any] = {"error_cb": self._errors.append, "logger": CLIENT_LOG}
            self._consumer = Consumer({**self._settings.for_consumer(f"uniqdb-{topic}"), **own})
        return self._consumer

    def ranges(
        self, topic: str, partitions: Iterable[int], timeout_s: float = REQUEST_TIMEOUT_S
    ) -> dict[int, tuple[int, int]]:
        """The first readable offset of each partition, and the one behind the last."""
        partitions = list(partitions)
        firsts = self.offsets(topic, partitions, Start.EARLIEST, timeout_s)
        ends = self.offsets(topic, partitions, Start.LATEST, timeout_s)
        return {partition: (firsts[partition], ends[partition]) for partition in partitions}

    def missing(self, topics: Iterable[str], timeout_s: float = REQUEST_TIMEOUT_S) -> list[str]:
        """Those of the topics that are not there, in their order; one request for all."""
        names = list(dict.fromkeys(topics))
        questions = self._client.describe_topics(TopicCollection(names), request_timeout=timeout_s) if names else {}
        found: list[str] = []
        for name in names:
            try:
                self.topic_of(name, questions[name], timeout_s)
            except TopicMissing:
                found.append(name)
        return found

    def create(self, topics: Iterable[NewTopic], timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        """Create topics, in one request. Fine if one is there by now."""
        new = list(topics)
        for question in (self._client.create_topics(new, request_timeout=timeout_s) if new else {}).values():
            try:
                self._answer(question, timeout_s)
            except KafkaUnreachable as error:
                if _code_of(error) != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

    def _answer(self, question: "Future[_T]", timeout_s: float) -> _T:
        self._errors.clear()
        try:
            found = question.result(timeout_s + _GRACE_S)
        except (KafkaException, FutureTimeoutError) as error:
            self._client.poll(0)  # has it tell what befell its connections
            told = list(self._errors)
            if not isinstance(error, KafkaException) or error.args[0].code() in _NO_ANSWER:
                self._begin_anew()
            raise unreachable(self._settings, error, told) from error
        self._client.poll(0)
        return found


def refused_settings(settings: KafkaSettings, error: KafkaException) -> UsageError:
    """The error for settings that the client does not take."""
    reason = settings.without_secrets(error.args[0].str())
    return UsageError(
        f"the Kafka client refuses its settings: {reason}", hint="correct that line of the client's settings"
    )


def unreachable(settings: KafkaSettings, error: BaseException, told: Iterable[KafkaError] = ()) -> KafkaUnreachable:
    """The error for a question that got no answer, or a no; with what the client told about its connections."""
    codes = {one.code() for one in told}
    reason = _reason(error)
    # "Timed out" says less than what befell the connections meanwhile.
    telling = [one for one in told if one.code() != KafkaError._ALL_BROKERS_DOWN]
    if isinstance(error, KafkaException) and not error.args[0].retriable() and error.args[0].code() >= 0:
        telling = []
    reason = telling[-1].str() if telling else reason
    where = settings.client.get("bootstrap.servers") or settings.client.get("metadata.broker.list")
    denied = codes & _DENIED or (isinstance(error, KafkaException) and error.args[0].code() in _DENIED)
    hint = "check user, password, certificates and rights" if denied else "check that it runs, and bootstrap.servers"
    return KafkaUnreachable(f"Kafka at {where}: {settings.without_secrets(reason)}", hint=hint)


def _code_of(error: KafkaUnreachable) -> int | None:
    """Kafka's code for what went wrong; None if no answer came at all."""
    cause = error.__cause__
    return cause.args[0].code() if isinstance(cause, KafkaException) else None


def _reason(error: BaseException) -> str:
    if isinstance(error, KafkaException):
        return str(error.args[0].str() or error.args[0].name())
    return "no answer in time"
