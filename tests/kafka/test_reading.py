"""Reading a topic: every record once, in order, from the positions that were kept."""

import signal
import time
from types import FrameType

import pytest
from confluent_kafka import Consumer, TopicPartition

from kafka.cluster import LIMIT_S, Cluster, until
from kafka.reading import assert_seamless, read_to_end, reading, values
from uniqdb.errors import UsageError
from uniqdb.stream.kafka_settings import KafkaHooks, Start


def test_several_partitions(cluster: Cluster, topic: str) -> None:
    cluster.create(topic, partitions=3)
    for partition, count in ((0, 2_000), (1, 1), (2, 500)):
        cluster.write(topic, [b"%d-%d" % (partition, i) for i in range(count)], partition, timestamp=1_468_244_384_123)
    with reading(cluster, topic) as source:
        assert source.positions == {0: 0, 1: 0, 2: 0}
        assert (source.facts.partition_count, source.facts.cleanup_policy) == (3, "delete")
        assert source.facts.identity.cluster_id
        assert source.facts.identity.topic_id
        batches = read_to_end(source, records_max=300)
        assert source.positions == source.end_offsets() == {0: 2_000, 1: 1, 2: 500}
    for partition, count in ((0, 2_000), (1, 1), (2, 500)):
        assert values(batches, partition) == [b"%d-%d" % (partition, i) for i in range(count)]
        assert assert_seamless(batches, 0, partition) == count
    assert max(len(batch.values) for batch in batches) <= 300
    assert {time_ms for batch in batches for time_ms in batch.timestamps_ms.tolist()} == {1_468_244_384_123}


def test_restart_from_positions(cluster: Cluster, topic: str) -> None:
    cluster.create(topic, partitions=2)
    for partition in (0, 1):
        cluster.write(topic, [b"%d" % i for i in range(1_000)], partition)
    with reading(cluster, topic) as source:
        found = source.poll(30, 700)
        kept, known = source.positions, source.facts.identity
    assert sum(len(batch.values) for batch in found) == sum(kept.values()) == 700
    with reading(cluster, topic, kept, known=known) as source:
        found += read_to_end(source)
    for partition in (0, 1):
        assert values(found, partition) == [b"%d" % i for i in range(1_000)]
        assert assert_seamless(found, 0, partition) == 1_000


def test_rewind_reads_again_what_was_not_committed(cluster: Cluster, topic: str) -> None:
    cluster.create(topic, partitions=2)
    for partition in (0, 1):
        cluster.write(topic, [b"%d" % i for i in range(100)], partition)
    with reading(cluster, topic) as source:
        read_to_end(source)
        source.rewind({0: 40})
        again = read_to_end(source)
    assert (assert_seamless(again, 40, 0), assert_seamless(again, 0, 1)) == (100, 100)
    assert values(again, 0) == [b"%d" % i for i in range(40, 100)]
    assert len(values(again, 1)) == 100


def test_a_handler_that_raises_costs_nothing(cluster: Cluster, topic: str) -> None:
    """The client throws away what it has fetched; nothing can be read on before the caller says from where."""
    cluster.create(topic)
    cluster.write(topic, [b"%d" % i for i in range(5_000)])

    def burst(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is Python's
        raise InterruptedError

    before = signal.signal(signal.SIGALRM, burst)
    try:
        with reading(cluster, topic) as source:
            found = source.poll(2, 1_000)
            committed = source.positions
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            with pytest.raises(InterruptedError):
                source.poll(1, 100_000)  # gets 4,000 at once, and waits for more when the signal comes
            with pytest.raises(UsageError, match="rewind"):
                source.poll(0.1, 1)
            source.rewind(committed)
            found += read_to_end(source)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert values(found) == [b"%d" % i for i in range(5_000)]
    assert assert_seamless(found, 0) == 5_000


def test_null_and_empty_values(cluster: Cluster, topic: str) -> None:
    cluster.create(topic)
    cluster.write(topic, [None, b"", b"x", None], key=b"k")
    with reading(cluster, topic) as source:
        assert values(read_to_end(source)) == [None, b"", b"x", None]


def test_records_of_five_megabytes(cluster: Cluster, topic: str) -> None:
    cluster.create(topic, max_message_bytes=6_000_000)
    large = [bytes([i]) * 5_000_000 for i in range(6)]
    cluster.write(topic, [large[0], b"small", *large[1:]])
    with reading(cluster, topic) as source:
        assert values(read_to_end(source, records_max=3)) == [large[0], b"small", *large[1:]]


def test_transactions_leave_holes_that_are_counted(cluster: Cluster, topic: str) -> None:
    cluster.create(topic)
    cluster.write_in_transaction(topic, [b"a", b"b"])  # offsets 0 and 1; its end takes 2
    cluster.write_in_transaction(topic, [b"undone"] * 10, commits=False)  # 3 to 12; its end takes 13
    cluster.write(topic, [b"c"])  # 14
    cluster.write_in_transaction(topic, [b"d"])  # 15; its end takes 16
    said: list[str] = []
    with reading(cluster, topic, hooks=KafkaHooks(on_log=said.append)) as source:
        found = read_to_end(source)
    assert values(found) == [b"a", b"b", b"c", b"d"]
    assert [offset for batch in found for offset in batch.offsets.tolist()] == [0, 1, 14, 15]
    assert assert_seamless(found, 0) == 17
    assert sum(batch.skipped for batch in found) == 13
    # Suspected once, read again, and believed from then on.
    assert [line for line in said if "did not come" in line] == [
        f"topic {topic}, partition 0: offsets 2 to 14 did not come; reading them again"
    ]


def test_restart_in_the_middle_of_undone_records(cluster: Cluster, topic: str) -> None:
    cluster.create(topic)
    cluster.write_in_transaction(topic, [b"undone"] * 10, commits=False)
    cluster.write(topic, [b"x"])
    with reading(cluster, topic, {0: 5}) as source:
        found = read_to_end(source)
    assert values(found) == [b"x"]
    assert assert_seamless(found, 5) == 12


def test_a_topic_of_undone_records_only_is_read_to_its_end(cluster: Cluster, topic: str) -> None:
    cluster.create(topic)
    cluster.write_in_transaction(topic, [b"undone"] * 3, commits=False)
    with reading(cluster, topic) as source:
        found = read_to_end(source)
    assert values(found) == []
    assert assert_seamless(found, 0) == 4


def test_compacted_topic(cluster: Cluster, topic: str) -> None:
    cluster.create(
        topic,
        cleanup_policy="compact",
        segment_ms=100,
        segment_bytes=1_048_576,
        min_cleanable_dirty_ratio=0.0,
        max_compaction_lag_ms=100,
    )
    for i in range(20):
        cluster.write(topic, [b"%d" % i], key=b"same")
    time.sleep(0.2)
    cluster.write(topic, [b"last"], key=b"other")  # rolls the segment, so that the one before can be compacted
    until(lambda: len(cluster.read_all(topic)) < 20)
    with reading(cluster, topic) as source:
        assert source.facts.cleanup_policy == "compact"
        found = read_to_end(source)
    assert values(found)[-2:] == [b"19", b"last"]
    assert assert_seamless(found, 0) == 21
    assert sum(batch.skipped for batch in found) > 0


def test_start_of_a_topic_that_was_never_read(cluster: Cluster, topic: str) -> None:
    cluster.create(topic, partitions=2)
    for second in range(10):
        cluster.write(topic, [b"%d" % second], 0, timestamp=1_000_000 + second * 1_000)
    cluster.write(topic, [b"old"], 1, timestamp=1_000_000)
    with reading(cluster, topic, start=Start.LATEST) as source:
        assert source.positions == {0: 10, 1: 1}
        assert source.poll(0.5, 100) == []
        cluster.write(topic, [b"new"], 1)
        assert values(read_to_end(source), 1) == [b"new"]
    # A time: the first record with it or a later one; behind the last where all are older.
    with reading(cluster, topic, start=1_006_500) as source:
        assert source.positions == {0: 7, 1: 1}
    with reading(cluster, topic, start=Start.EARLIEST) as source:
        assert source.positions == {0: 0, 1: 0}


def test_a_partition_without_position_was_added_later(cluster: Cluster, topic: str) -> None:
    """And is read from its beginning, whatever `start` says: its records came while nobody looked."""
    cluster.create(topic)
    cluster.write(topic, [b"a"])
    with reading(cluster, topic) as source:
        read_to_end(source)
        kept, known = source.positions, source.facts.identity
    cluster.add_partitions(topic, 2)
    cluster.write(topic, [b"b"], 1)
    with reading(cluster, topic, kept, known=known, start=Start.LATEST) as source:
        assert values(read_to_end(source), 1) == [b"b"]


def test_new_partitions_are_picked_up(cluster: Cluster, topic: str) -> None:
    cluster.create(topic)
    cluster.write(topic, [b"a"])
    with reading(cluster, topic) as source:
        found = read_to_end(source)
        assert source.new_partitions() == {}
        cluster.add_partitions(topic, 3)
        cluster.write(topic, [b"b", b"c"], 2)
        cluster.write(topic, [b"d"], 0)
        until(lambda: bool(found.extend(source.poll(0.1, 100)) or values(found, 2)))
        found += read_to_end(source)
        assert source.new_partitions() == {1: 0, 2: 0}
        assert source.new_partitions() == {}
        assert source.facts.partition_count == 3
    assert (values(found, 0), values(found, 1), values(found, 2)) == ([b"a", b"d"], [], [b"b", b"c"])


def test_reported_offsets_are_seen_by_lag_monitors(cluster: Cluster, topic: str) -> None:
    cluster.create(topic)
    cluster.write(topic, [b"x"] * 7)
    with reading(cluster, topic) as source:
        read_to_end(source)
        source.report_offsets(source.positions)
        monitor = Consumer({"bootstrap.servers": cluster.broker.bootstrap, "group.id": f"uniqdb-{topic}"})
        place = [TopicPartition(topic, 0)]
        until(lambda: source.poll(0.05, 1) == [] and monitor.committed(place, LIMIT_S)[0].offset == 7)
        monitor.close()
