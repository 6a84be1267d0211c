"""The broker dies, hangs or is not there: reading goes on by itself, and nothing is lost or read twice."""

import threading
import time
from contextlib import suppress

import pytest

from kafka.cluster import Cluster, until
from kafka.reading import assert_seamless, read_to_end, reading, values
from uniqdb.errors import KafkaUnreachable
from uniqdb.stream.kafka_batch import PartitionBatch
from uniqdb.stream.kafka_settings import KafkaHooks, KafkaSettings, Start
from uniqdb.stream.kafka_source import KafkaSource
from uniqdb.stream.kafka_topic import Brokers
from uniqdb.stream.offset_report import OffsetReports
from uniqdb_cli.local_broker import free_port


def test_broker_killed_and_started_again(cluster: Cluster, topic: str) -> None:
    cluster.create(topic, partitions=2)
    said: list[str] = []
    found: list[PartitionBatch] = []
    with reading(cluster, topic, hooks=KafkaHooks(on_log=said.append)) as source:
        for partition in (0, 1):
            cluster.write(topic, [b"%d" % i for i in range(1_000)], partition)
        found += source.poll(1, 500)
        cluster.broker.kill()
        end_at_s = time.monotonic() + 1
        while time.monotonic() < end_at_s:
            found += source.poll(0.1, 10_000)
        # A broker that is away is no answer to whether the topic is still the same.
        assert not source.confirm(0.2)
        cluster.broker.start()
        for partition in (0, 1):
            cluster.write(topic, [b"%d" % i for i in range(1_000, 2_000)], partition)
        found += read_to_end(source)
    for partition in (0, 1):
        assert assert_seamless(found, 0, partition) == 2_000
        assert values(found, partition) == [b"%d" % i for i in range(2_000)]
    assert 1 <= len(said) <= 10, said  # told, but not each of the many attempts
    assert all(line.endswith(("trying again", "times before)")) for line in said)


def test_broker_frozen_for_some_seconds(cluster: Cluster, topic: str) -> None:
    cluster.create(topic)
    cluster.write(topic, [b"%d" % i for i in range(1_000)])
    with reading(cluster, topic) as source:
        found = source.poll(2, 300)
        cluster.broker.pause()
        thaw = threading.Timer(3, cluster.broker.resume)
        thaw.start()
        started_at_s = time.monotonic()
        while thaw.is_alive():
            found += source.poll(0.2, 10_000)
        thaw.join()
        assert time.monotonic() - started_at_s < 20, "polling hung"
        cluster.write(topic, [b"%d" % i for i in range(1_000, 1_100)])
        found += read_to_end(source)
    assert values(found) == [b"%d" % i for i in range(1_100)]
    assert assert_seamless(found, 0) == 1_100


@pytest.mark.parametrize(("outages", "seconds"), [(1, 2), pytest.param(10, 14, marks=pytest.mark.soak)])
def test_who_asks_again_and_again_survives_the_answer(
    cluster: Cluster, topic: str, outages: int, seconds: float
) -> None:
    """A client that asks for offsets may abort the process when a broker that has just come back knows no leader."""
    cluster.create(topic)
    cluster.write(topic, [b"%d" % i for i in range(100)])
    brokers, reports = Brokers(cluster.settings()), OffsetReports(cluster.settings(), topic)
    for number in range(outages):
        reports.report({0: number})
        assert brokers.offsets(topic, [0], Start.LATEST) == {0: 100}
        cluster.broker.kill()
        end_at_s = time.monotonic() + seconds
        while time.monotonic() < end_at_s:
            reports.report({0: number})
            with suppress(KafkaUnreachable):
                brokers.offsets(topic, [0], Start.LATEST, 0.5)
            with suppress(KafkaUnreachable):
                brokers.describe(topic, 0.5)
        cluster.broker.start()
        until(lambda: answers(brokers, topic))
        until(lambda: reports.report({0: 0}) is None)
    reports.close()


def answers(brokers: Brokers, topic: str) -> bool:
    try:
        return brokers.offsets(topic, [0], Start.LATEST, 5) == {0: 100}
    except KafkaUnreachable:
        return False


def test_no_broker_at_the_first_start() -> None:
    settings = KafkaSettings({"bootstrap.servers": f"127.0.0.1:{free_port()}"}, start_timeout_s=1.0)
    started_at_s = time.monotonic()
    with pytest.raises(KafkaUnreachable, match="Connection refused") as caught:
        KafkaSource(settings, "topic", {})
    assert caught.value.exit_code == 69
    assert time.monotonic() - started_at_s < 25


def test_no_broker_later_is_waited_for(cluster: Cluster, topic: str) -> None:
    """With stored positions a service that starts before its broker waits for it, however long."""
    cluster.create(topic)
    cluster.write(topic, [b"a", b"b"])
    cluster.broker.stop()
    starter = threading.Timer(0.5, cluster.broker.start)
    starter.start()
    try:
        with reading(cluster, topic, {0: 1}, start_timeout_s=0.1) as source:
            assert values(read_to_end(source)) == [b"b"]
    finally:
        starter.join()


def test_waiting_ends_when_it_is_asked_to() -> None:
    settings = KafkaSettings({"bootstrap.servers": f"127.0.0.1:{free_port()}"})
    asked_at_s = time.monotonic() + 1
    with pytest.raises(KafkaUnreachable):
        KafkaSource(settings, "topic", {0: 5}, hooks=KafkaHooks(should_stop=lambda: time.monotonic() > asked_at_s))
    assert time.monotonic() - asked_at_s < 25


def test_closing_does_not_wait_for_a_broker_that_is_away(cluster: Cluster, topic: str) -> None:
    cluster.create(topic)
    cluster.write(topic, [b"a"])
    with reading(cluster, topic) as source:
        until(lambda: bool(source.poll(0.1, 10)))
        cluster.broker.kill()
        source.report_offsets(source.positions)
        source.poll(0.1, 1)
        started_at_s = time.monotonic()
        source.close()
        closing_s = time.monotonic() - started_at_s
    cluster.broker.start()
    assert closing_s < 15
