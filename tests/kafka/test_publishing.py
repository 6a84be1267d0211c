"""Publishing: a batch is there as a whole or not at all, by one publisher only, and only into topics of our own."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer

from kafka.cluster import LIMIT_S, Cluster, until
from uniqdb.errors import (
    ForeignOutput,
    KafkaUnreachable,
    NotPublished,
    PublisherFenced,
    PublishRefused,
    StoreBusy,
    UsageError,
)
from uniqdb.stream.kafka_settings import KafkaSettings
from uniqdb.stream.publisher import OutgoingRecord, Publisher
from uniqdb_cli.local_broker import free_port


@pytest.fixture
def store() -> str:
    return str(uuid.uuid4())


@contextmanager
def publishing(cluster: Cluster, store: str, **client: Any) -> Iterator[Publisher]:
    settings = KafkaSettings({"bootstrap.servers": cluster.broker.bootstrap, **client})
    publisher = Publisher(settings, store)
    try:
        yield publisher
    finally:
        publisher.close()


def records(topic: str, count: int, value: bytes = b"1") -> list[OutgoingRecord]:
    return [OutgoingRecord(topic, b"key-%d" % i, value) for i in range(count)]


def last_values(cluster: Cluster, topic: str) -> dict[bytes, bytes | None]:
    """What a table of the topic holds, as its readers make it."""
    return {message.key(): message.value() for message in cluster.read_all(topic)}


def test_what_is_published_is_read(cluster: Cluster, topic: str, store: str) -> None:
    with publishing(cluster, store) as publisher:
        assert publisher.ensure_topics([topic], partitions=3) == [topic]
        publisher.publish(records(topic, 50))
        publisher.publish([OutgoingRecord(topic, b"key-7", b"2"), OutgoingRecord(topic, b"key-8", None)])
        publisher.publish([])
    found = cluster.read_all(topic)
    assert len(found) == 52
    assert {tuple(message.headers()) for message in found} == {(("uniqdb-store", store.encode()),)}
    assert {message.partition() for message in found} == {0, 1, 2}
    table = last_values(cluster, topic)
    assert (table[b"key-6"], table[b"key-7"], table[b"key-8"]) == (b"1", b"2", None)


def test_topics_are_created_compacted_and_existing_ones_left_alone(cluster: Cluster, topic: str, store: str) -> None:
    cluster.create(f"{topic}-old", partitions=2)
    with publishing(cluster, store) as publisher:
        assert publisher.ensure_topics([f"{topic}-old", topic, topic], partitions=4) == [topic]
        assert publisher.ensure_topics([f"{topic}-old", topic], partitions=4) == []
    assert cluster.facts(topic) == (4, "compact")
    assert cluster.facts(f"{topic}-old") == (2, "delete")


def test_a_full_queue_is_waited_for(cluster: Cluster, topic: str, store: str) -> None:
    cluster.create(topic)
    with publishing(cluster, store, **{"queue.buffering.max.messages": 100}) as publisher:
        publisher.publish(records(topic, 3_000))
    assert len(cluster.read_all(topic)) == 3_000


def test_a_successor_shuts_out_its_predecessor(cluster: Cluster, topic: str, store: str) -> None:
    cluster.create(topic)
    with publishing(cluster, store) as old:
        old.publish(records(topic, 1, b"old"))
        with publishing(cluster, store) as new:
            new.publish(records(topic, 1, b"new"))
            for _ in range(2):
                with pytest.raises(PublisherFenced, match=f"another publisher of the store {store}") as caught:
                    old.publish(records(topic, 1, b"late"))
            assert isinstance(caught.value, StoreBusy)
            assert caught.value.exit_code == 75
            new.publish([OutgoingRecord(topic, b"other", b"new")])
    assert last_values(cluster, topic) == {b"key-0": b"new", b"other": b"new"}
    everything = [message.value() for message in cluster.read_all(topic, "read_uncommitted")]
    assert everything == [b"old", b"new", b"new"]


def test_what_a_predecessor_left_unfinished_is_undone(cluster: Cluster, topic: str, store: str) -> None:
    """Sent, but not committed: as a process that was killed leaves it. Its late commit comes to nothing."""
    cluster.create(topic)
    old = Producer({"bootstrap.servers": cluster.broker.bootstrap, "transactional.id": store, "log_level": 0})
    old.init_transactions(LIMIT_S)
    old.begin_transaction()
    old.produce(topic, b"unfinished", b"key-0")
    assert old.flush(LIMIT_S) == 0
    with publishing(cluster, store) as new:
        new.publish(records(topic, 1, b"new"))
        with pytest.raises(KafkaException):
            old.commit_transaction(LIMIT_S)
    assert last_values(cluster, topic) == {b"key-0": b"new"}
    everything = [message.value() for message in cluster.read_all(topic, "read_uncommitted")]
    assert everything == [b"unfinished", b"new"]


def test_two_stores_do_not_shut_each_other_out(cluster: Cluster, topic: str, store: str) -> None:
    cluster.create(topic)
    with publishing(cluster, store) as one, publishing(cluster, str(uuid.uuid4())) as other:
        one.publish(records(topic, 1))
        other.publish(records(topic, 1))
        one.publish(records(topic, 1))
    assert len(cluster.read_all(topic)) == 3


def test_a_record_that_is_too_large_is_refused_for_good(cluster: Cluster, topic: str, store: str) -> None:
    cluster.create(topic, max_message_bytes=2_000)
    incompressible = bytes(uuid.uuid4().bytes[i % 16] for i in range(5_000))
    with publishing(cluster, store, **{"message.max.bytes": 100_000}) as publisher:
        for size_bytes in (5_000, 200_000):  # by the topic, by the client
            value = incompressible * (size_bytes // 5_000)
            with pytest.raises(PublishRefused) as caught:
                publisher.publish([*records(topic, 3), OutgoingRecord(topic, b"large", value)])
            assert caught.value.exit_code == 73
        assert cluster.read_all(topic) == []  # nothing of a batch that failed
        publisher.publish(records(topic, 3))
    assert len(cluster.read_all(topic)) == 3


@pytest.mark.parametrize("kills", [1, pytest.param(15, marks=pytest.mark.soak)])
def test_broker_killed_while_publishing(cluster: Cluster, topic: str, store: str, kills: int) -> None:
    """Every batch is one revision of ten keys: whoever reads sees whole revisions, and at the end the last one."""
    cluster.create(topic)
    stop_at = 60
    failures: list[KafkaUnreachable] = []

    def kill_and_start() -> None:
        for number in range(kills):
            time.sleep(0.3 + number * 0.07)
            cluster.broker.kill()
            cluster.broker.start()

    with publishing(cluster, store) as publisher:
        saboteur = threading.Thread(target=kill_and_start)
        saboteur.start()
        revision = 0
        while revision < stop_at or saboteur.is_alive():
            try:
                publisher.publish(records(topic, 10, b"%d" % (revision + 1)))
            except KafkaUnreachable as error:
                failures.append(error)
                assert len(failures) < 50 * kills
                continue
            revision += 1
        saboteur.join()
    found = [int(message.value()) for message in cluster.read_all(topic)]
    assert len(found) % 10 == 0
    batches = [set(found[i : i + 10]) for i in range(0, len(found), 10)]
    assert all(len(batch) == 1 for batch in batches), "a part of a batch was seen"
    order = [batch.pop() for batch in batches]
    assert order == sorted(order)
    assert set(order) == set(range(1, revision + 1))
    assert last_values(cluster, topic) == {b"key-%d" % i: b"%d" % revision for i in range(10)}


def test_publishing_into_an_outage_fails_in_time_and_can_be_repeated(cluster: Cluster, topic: str, store: str) -> None:
    cluster.create(topic)
    with publishing(cluster, store) as publisher:
        publisher.publish(records(topic, 2, b"1"))
        cluster.broker.kill()
        started_at_s = time.monotonic()
        with pytest.raises(NotPublished) as caught:
            publisher.publish(records(topic, 2, b"2"), timeout_s=1)
        with pytest.raises(KafkaUnreachable):
            publisher.publish(records(topic, 2, b"2"), timeout_s=1)
        assert time.monotonic() - started_at_s < 40
        assert caught.value.exit_code == 69
        cluster.broker.start()
        publisher.publish(records(topic, 2, b"2"))
    assert last_values(cluster, topic) == {b"key-0": b"2", b"key-1": b"2"}


def test_broker_frozen_while_publishing(cluster: Cluster, topic: str, store: str) -> None:
    cluster.create(topic)
    with publishing(cluster, store) as publisher:
        publisher.publish(records(topic, 5, b"1"))
        cluster.broker.pause()
        thaw = threading.Timer(2, cluster.broker.resume)
        thaw.start()
        publisher.publish(records(topic, 5, b"2"))
        thaw.join()
    assert set(last_values(cluster, topic).values()) == {b"2"}


class _HeldUp(list[OutgoingRecord]):
    """Records whose publisher is held up in the middle, as on a machine that is suspended, until something is so."""

    def __init__(self, records: list[OutgoingRecord], is_over: Callable[[], bool]) -> None:
        super().__init__(records)
        self._is_over = is_over

    def __iter__(self) -> Iterator[OutgoingRecord]:
        for number, one in enumerate(super().__iter__()):
            if number == 3:
                until(self._is_over)
            yield one


def test_a_transaction_that_was_held_up_is_undone(
    cluster: Cluster, topic: str, store: str, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.create(topic)
    # Half of it is what a transaction may take, the first one of all included.
    short = {"transaction.timeout.ms": 3_000, "message.timeout.ms": 3_000}
    with publishing(cluster, store, **short) as publisher:
        publisher.publish(records(topic, 6))
        # Three records, and the marker that the broker has written behind them, as behind the six.
        held_up = _HeldUp(records(topic, 6), lambda: cluster.end_offset(topic) == 11)
        with pytest.raises(PublisherFenced, match=r"transaction\.timeout\.ms, 3 s: just start again"):
            publisher.publish(held_up)
    with publishing(cluster, store) as publisher:
        publisher.publish(records(topic, 1))
    assert len(cluster.read_all(topic)) == 7
    assert capfd.readouterr().err == ""  # the client would have printed of its own


def test_no_broker_at_the_start(store: str) -> None:
    settings = KafkaSettings({"bootstrap.servers": f"127.0.0.1:{free_port()}"}, start_timeout_s=1.0)
    with pytest.raises(KafkaUnreachable, match="Connection refused"):
        Publisher(settings, store)


def test_the_transactional_id_is_not_for_the_user(store: str) -> None:
    with pytest.raises(UsageError, match=r"transactional\.id is not for the user"):
        Publisher(KafkaSettings({"bootstrap.servers": "x", "transactional.id": "mine"}), store)


# --- whose topic it is ---


def test_own_missing_and_empty_topics_are_fine(cluster: Cluster, topic: str, store: str) -> None:
    cluster.create(f"{topic}-empty", partitions=2)
    with publishing(cluster, store) as publisher:
        publisher.ensure_topics([topic], partitions=2)
        publisher.publish(records(topic, 20))
        publisher.publish(records(topic, 1))
    with publishing(cluster, store) as publisher:
        publisher.assert_ours([topic, f"{topic}-empty", f"{topic}-missing"])


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"uniqdb-store": b"another-store"}, "its last record, at offset 2, is from the store another-store"),
        ({"uniqdb-store": b"\x1b[31mred"}, r"is from the store \?\[31mred"),
        ({}, "is not from uniqdb"),
    ],
)
def test_foreign_records_are_refused(
    cluster: Cluster, topic: str, store: str, headers: dict[str, bytes], words: str
) -> None:
    cluster.create(topic, partitions=2)
    cluster.write(topic, [b"a", b"b", b"c"], 1, headers=headers)
    with publishing(cluster, store) as publisher:
        with pytest.raises(ForeignOutput, match=f"topic {topic}, partition 1: .*{words}") as caught:
            publisher.assert_ours([topic])
        assert "--take-over" in caught.value.hint
        assert caught.value.exit_code == 65
        publisher.assert_ours([topic], take_over=True)


def test_the_last_record_decides(cluster: Cluster, topic: str, store: str) -> None:
    cluster.create(topic)
    cluster.write(topic, [b"foreign"])
    with publishing(cluster, store) as publisher:
        publisher.publish(records(topic, 1))
        publisher.assert_ours([topic])
        cluster.write(topic, [b"foreign"])
        with pytest.raises(ForeignOutput):
            publisher.assert_ours([topic])


def test_the_last_record_is_found_behind_undone_ones_and_ends_of_transactions(
    cluster: Cluster, topic: str, store: str
) -> None:
    cluster.create(topic)
    with publishing(cluster, store) as publisher:
        publisher.publish(records(topic, 1))
        cluster.write_in_transaction(topic, [b"undone"] * 500, commits=False)
        for _ in range(3):
            cluster.write_in_transaction(topic, [b"undone"], commits=False)
        publisher.assert_ours([topic])
    other = f"{topic}-other"
    cluster.create(other)
    cluster.write(other, [b"foreign"])
    cluster.write_in_transaction(other, [b"undone"] * 500, commits=False)
    with publishing(cluster, store) as publisher, pytest.raises(ForeignOutput, match="at offset 0"):
        publisher.assert_ours([other])
