"""Visits from a Kafka topic: records in order, exactly once, from positions that the caller keeps.

The source knows nothing of the store. It hands out batches of raw records with the offsets they cover; the caller
commits positions together with what it made of them and, after a failure, comes back with the committed ones
(`KafkaSource.rewind`). Partitions are assigned by hand: no consumer group decides who reads what.
"""

import re
import time
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import TopicDescription

from uniqdb.errors import KafkaUnreachable, OffsetsLost, UsageError
from uniqdb.stream.kafka_batch import Gap, GapReason, PartitionBatch
from uniqdb.stream.kafka_identity import (
    StoredPlace,
    TopicFacts,
    TopicIdentity,
    accepted_change,
    owned_partitions,
    partitions_changed,
    recreated,
)
from uniqdb.stream.kafka_messages import batch_of, by_partition, offsets_of
from uniqdb.stream.kafka_settings import CLIENT_LOG, Accept, KafkaHooks, KafkaSettings, RareLog, Start
from uniqdb.stream.kafka_topic import (
    REQUEST_TIMEOUT_S,
    Brokers,
    refused_settings,
    unreachable,
)
from uniqdb.stream.offset_fence import OffsetFence, Passed
from uniqdb.stream.offset_report import OffsetReports

CHECK_INTERVAL_S = 5.0
"""So often the topic is looked at while it is read: whether it is still the same, and how many partitions it has."""
FIRST_TIMEOUT_S = 3.0
"""Of a request that something waits for: whoever waits may want to stop."""
SETTLE_S = 3.0
"""So long an end of a partition that lies before our position is doubted."""
RETRY_PAUSE_S = 0.5
"""Between two attempts to reach a broker, or to read on after an error."""
REACHED_S = 2.0
"""So long after it has answered a broker is taken to be there."""
_ERRORS_KEPT = 100


class KafkaSource:
    """Reads one topic. Used by one thread at a time. `close` it.

    ``positions`` are the stored next offsets by partition, ``known`` the identity that was stored with them. Without
    any positions the topic is begun at ``settings.start``, and no broker, or no such topic, for ``start_timeout_s``
    raises KafkaUnreachable or TopicMissing. With positions it is waited for the broker until ``hooks.should_stop``; a
    partition that is missing from them was added later and is read from its beginning.

    Raises UsageError for settings that the client refuses, or a shard without partitions, PartitionsChanged in a shard
    when the topic is given more, also while it is read; and, unless `KafkaSettings.accept` has it: TopicRecreated,
    OtherCluster, OffsetsLost. What was accepted stands in `take_gaps`.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        positions: Mapping[int, int],
        known: TopicIdentity | None = None,
        hooks: KafkaHooks | None = None,
    ) -> None:
        self.topic, self._settings, self._hooks = topic, settings, hooks or KafkaHooks()
        self._log = RareLog(self._hooks.on_log)
        self._errors: deque[KafkaError] = deque(maxlen=_ERRORS_KEPT)
        self._consumer: Consumer | None = None
        self._gaps: list[Gap] = []
        self._new_partitions: dict[int, int] = {}
        self._must_rewind = False
        self._to_inspect: dict[int, int | None] = {}
        self._not_before_s = 0.0
        self._question: Future[TopicDescription] | None = None
        self._asked_at_s = 0.0
        self._ask_at_s = time.monotonic() + CHECK_INTERVAL_S
        self._brokers = Brokers(settings)
        self._reports, self._reached_at_s = OffsetReports(settings, topic), 0.0
        self.facts, self._begun_at = self._first_contact(positions, known)
        """``facts``: the topic as it was when this source was made; the partition count is kept current."""
        self._fence = OffsetFence(self._begun_at, is_compacted=self.facts.is_compacted)

    @property
    def positions(self) -> dict[int, int]:
        """The next offset of each partition, after all that was handed out.

        At first these are the resolved starting points. Store them with the first commit, those of partitions without
        records, too: a partition without a stored position is taken for one that was added later.
        """
        return dict(self._fence.next_offsets)

    def poll(self, timeout_s: float, records_max: int) -> list[PartitionBatch]:
        """Up to ``records_max`` records (1 to 1,000,000) that came within ``timeout_s``, by partition.

        It waits for the timeout unless all of them are there, so keep it short. A broker that is away is no error: it
        is told to ``on_log``, rarely, and the batches are empty. Raises TopicRecreated and OffsetsLost. After anything
        that was raised in here, by a signal handler for one, nothing can be polled before `rewind`.
        """
        if self._must_rewind:
            raise UsageError("polling was cut off, and its records are lost", hint="rewind to the committed positions")
        try:
            self._look_at_topic()
            batches = self._poll(timeout_s, records_max) if self._is_assigned(timeout_s) else []
            self._tell_errors()
            if batches:
                self._reached_at_s = time.monotonic()
            return batches
        except BaseException:
            self._must_rewind = True
            self._drop()
            raise

    def rewind(self, positions: Mapping[int, int]) -> None:
        """Go back to the positions that the caller committed; partitions it does not name, to where they were begun."""
        self._drop()
        self._fence.next_offsets = self._begun_at | dict(positions)
        self._must_rewind = False

    def end_offsets(self, timeout_s: float = REQUEST_TIMEOUT_S) -> dict[int, int]:
        """The offset behind the last readable one of each partition, now; one request. Raises KafkaUnreachable."""
        ends = self._brokers.offsets(self.topic, self._fence.next_offsets, Start.LATEST, timeout_s)
        self._reached_at_s = time.monotonic()
        return ends

    def confirm(self, timeout_s: float = REQUEST_TIMEOUT_S) -> bool:
        """Ask whether the topic is still the one that is read. Its id never returns, so a yes holds for all before it.

        A topic that was deleted and made anew is read on without a word by the client. So a caller that cannot bear
        even a few seconds of it asks before each commit: one request. False: no answer. Raises TopicRecreated.
        """
        try:
            self._take_answer(self._brokers.ask(self.topic, timeout_s), timeout_s)
        except KafkaUnreachable as error:
            self._tell(error)
            return False
        return True

    def new_partitions(self) -> dict[int, int]:
        """Partitions that were added to the topic and are read since the last call of this, and where they are begun.

        Ask after each `poll`, before its records are used: some of them may be of such partitions.
        """
        found, self._new_partitions = self._new_partitions, {}
        return found

    def take_gaps(self) -> list[Gap]:
        """What was given up, by consent, since the last call: to be recorded with the next commit."""
        found, self._gaps = self._gaps, []
        return found

    def report_offsets(self, positions: Mapping[int, int]) -> None:
        """Tell Kafka the committed positions, for lag monitors only; not waited for, and errors are only told.

        They stand under the user's ``group.id``, else under ``uniqdb-`` and the topic. Nothing is told while the broker
        does not answer other questions.
        """
        if not positions or time.monotonic() - self._reached_at_s > REACHED_S:
            return
        if (error := self._reports.report(positions)) is not None:
            self._log.say("report", f"Kafka: the positions cannot be reported: {error.str()}")

    def close(self) -> None:
        """Leave. A second call does nothing."""
        self._reports.close()
        self._drop()

    # --- the beginning ---

    def _first_contact(
        self, positions: Mapping[int, int], known: TopicIdentity | None
    ) -> tuple[TopicFacts, dict[int, int]]:
        give_up_at_s = None if positions else time.monotonic() + self._settings.start_timeout_s
        while True:
            try:
                facts = self._brokers.describe(self.topic, FIRST_TIMEOUT_S)
                return facts, self._starting_points(facts, positions, known)
            except KafkaUnreachable as error:
                if self._hooks.should_stop() or (give_up_at_s is not None and time.monotonic() > give_up_at_s):
                    raise
                self._tell(error)
            time.sleep(RETRY_PAUSE_S)

    def _starting_points(
        self, facts: TopicFacts, positions: Mapping[int, int], known: TopicIdentity | None
    ) -> dict[int, int]:
        partitions = owned_partitions(self.topic, facts.partition_count, self._settings.shard)
        changed = accepted_change(self.topic, StoredPlace(positions, known), facts, self._settings.accept)
        self._gaps = []
        if positions and changed is None:
            ranges = self._ranges(partitions, positions)
            resolved = {partition: positions.get(partition, ranges[partition][0]) for partition in partitions}
            return {partition: self._in_range(partition, at, ranges) for partition, at in resolved.items()}
        found = self._brokers.offsets(self.topic, partitions, self._settings.start)
        if min(found.values()) < 0:  # no record is so late: begin behind the last one
            ends = self._brokers.offsets(self.topic, partitions, Start.LATEST)
            found = {partition: at if at >= 0 else ends[partition] for partition, at in found.items()}
        if changed is not None:
            self._gaps = [Gap(one, at, found.get(one, 0), changed) for one, at in sorted(positions.items())]
        return found

    # --- reading ---

    def _is_assigned(self, timeout_s: float) -> bool:
        """Whether there is a consumer; makes one, after a pause if the last one failed."""
        if self._consumer is not None:
            return True
        wait_s = self._not_before_s - time.monotonic()
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
        if wait_s > timeout_s or (self._to_inspect and not self._inspect()):
            return False
        config = self._settings.for_consumer(f"uniqdb-{self.topic}")
        # The handler only takes down what it is given: what it raised would cost the records of that moment.
        try:
            self._consumer = Consumer({**config, "error_cb": self._errors.append, "logger": CLIENT_LOG})
            self._consumer.assign(self._at(self._fence.next_offsets))
        except KafkaException as error:
            raise refused_settings(self._settings, error) from error
        return True

    def _inspect(self) -> bool:
        """Whether it is known what became of the offsets that Kafka does not have. Raises OffsetsLost."""
        try:
            ranges = self._ranges(self._to_inspect, self._fence.next_offsets)
        except KafkaUnreachable as error:
            self._fail(error)
            return False
        for partition, kept in sorted(self._to_inspect.items()):
            expected = self._fence.next_offsets[partition]
            if kept is not None:  # behind it stand other records than those that were read
                ranges[partition] = ranges[partition][0], kept
            self._fence.next_offsets[partition] = self._in_range(partition, expected, ranges)
        self._to_inspect.clear()
        return True

    def _ranges(self, partitions: Iterable[int], expected: Mapping[int, int]) -> dict[int, tuple[int, int]]:
        """The offsets that Kafka has. A leader that has just begun may not know its end yet: it is asked again."""
        end_at_s = time.monotonic() + SETTLE_S
        while True:
            ranges = self._brokers.ranges(self.topic, partitions, FIRST_TIMEOUT_S)
            if time.monotonic() > end_at_s or all(expected.get(one, 0) <= end for one, (_, end) in ranges.items()):
                return ranges
            time.sleep(RETRY_PAUSE_S)

    def _in_range(self, partition: int, expected: int, ranges: Mapping[int, tuple[int, int]]) -> int:
        first, end = ranges[partition]
        if first <= expected <= end:
            return expected
        if Accept.LOST_OFFSETS not in self._settings.accept:
            raise OffsetsLost(self.topic, partition, expected, (first, end))
        resumed_at = min(max(expected, first), end)
        self._gaps.append(Gap(partition, expected, resumed_at, GapReason.LOST_OFFSETS))
        return resumed_at

    def _poll(self, timeout_s: float, records_max: int) -> list[PartitionBatch]:
        assert self._consumer is not None
        try:
            messages = self._consumer.consume(records_max, timeout_s)
        except KafkaException as error:
            self._fail(unreachable(self._settings, error))
            return []
        records: list[Message] = []
        ends: dict[int, int] = {}
        errors: list[Message] = []
        if not any(map(Message.error, messages)):  # the usual case, without a line of Python per record
            return self._batches(messages, ends)
        for message in messages:
            failure = message.error()
            if failure is None:
                records.append(message)
            elif failure.code() == KafkaError._PARTITION_EOF:
                ends[message.partition() or 0] = message.offset() or 0
            else:
                errors.append(message)
        batches = self._batches(records, ends)
        for message in errors:
            self._take_error(message)
        return batches

    def _take_error(self, message: Message) -> None:
        error, partition = message.error(), message.partition()
        assert error is not None
        if error.code() == KafkaError._AUTO_OFFSET_RESET and partition is not None:
            self._to_inspect[partition] = _end_of_what_was_kept(error.str())
            self._drop()
        else:
            self._fail(unreachable(self._settings, KafkaException(error)))

    def _batches(self, records: list[Message], ends: Mapping[int, int]) -> list[PartitionBatch]:
        groups = by_partition(records)
        found: list[PartitionBatch] = []
        for partition in sorted(groups.keys() | ends.keys()):
            group = groups.get(partition, [])
            first_offset = self._fence.next_offsets[partition]
            offsets = offsets_of(group)
            passed = self._fence.admit(partition, offsets)
            at_end = Passed(0, 0)
            if passed.jump is None and partition in ends:
                at_end = self._fence.reach_end(partition, ends[partition])
            next_offset = self._fence.next_offsets[partition]
            if next_offset > first_offset:
                used = slice(passed.start, passed.stop)
                skipped = passed.skipped + at_end.skipped
                found.append(batch_of(partition, (first_offset, next_offset), group[used], offsets[used], skipped))
            if jump := passed.jump or at_end.jump:
                what = f"topic {self.topic}, partition {partition}: offsets {jump[0]:,} to {jump[1]:,}"
                self._log.say("jump", f"{what} did not come; reading them again")
                self._drop()
        return found

    def _drop(self) -> None:
        """Let go of the consumer and all it has fetched; the next poll makes another at the next offsets."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                consumer.close()
            except (KafkaException, RuntimeError) as error:
                self._log.say("close", f"Kafka: closing a consumer: {error}")

    def _fail(self, error: KafkaUnreachable) -> None:
        """Start anew, after a pause."""
        self._drop()
        self._not_before_s = time.monotonic() + RETRY_PAUSE_S
        self._tell(error)

    # --- looking after the topic ---

    def _look_at_topic(self) -> None:
        """Ask about the topic now and then, without waiting for the answer."""
        now_s = time.monotonic()
        if self._question is None:
            if now_s >= self._ask_at_s:
                self._question, self._asked_at_s = self._brokers.ask(self.topic), now_s
        # One whose client was given up meanwhile is never answered.
        elif self._question.done() or now_s - self._asked_at_s > 2 * REQUEST_TIMEOUT_S:
            question, self._question = self._question, None
            self._ask_at_s = now_s + CHECK_INTERVAL_S
            try:
                self._take_answer(question, 0)
            except KafkaUnreachable as error:
                self._tell(error)

    def _take_answer(self, question: "Future[TopicDescription]", timeout_s: float) -> None:
        partition_count, topic_id = self._brokers.topic_of(self.topic, question, timeout_s)
        before = self.facts.identity.topic_id
        if topic_id and before and topic_id != before:
            raise recreated(self.topic, f"its id was {before}", topic_id)
        added = range(self.facts.partition_count, partition_count)
        if added and self._settings.shard is not None:
            raise partitions_changed(self.topic, self.facts.partition_count, partition_count)
        if added:
            self.facts = replace(self.facts, partition_count=partition_count)
            self._new_partitions |= dict.fromkeys(added, 0)
            self._begun_at |= dict.fromkeys(added, 0)
            self._fence.next_offsets |= dict.fromkeys(added, 0)
            self._drop()

    def _tell(self, error: KafkaUnreachable) -> None:
        self._log.say(type(error).__name__, f"{error.message}; trying again")

    def _tell_errors(self) -> None:
        """What the client told about its connections while it was at work."""
        while self._errors:
            error = self._errors.popleft()
            self._log.say(error.name(), f"Kafka: {self._settings.without_secrets(error.str())}; trying again")

    def _at(self, positions: Mapping[int, int]) -> list[TopicPartition]:
        return [TopicPartition(self.topic, partition, at) for partition, at in sorted(positions.items())]


def _end_of_what_was_kept(reason: str) -> int | None:
    """Where a log was cut back to that has grown again, by the client's words: an unclean election leaves it so."""
    found = re.search(r"truncation detected .*broker end offset is (\d+)", reason)
    return int(found[1]) if found else None
