"""The broker dies, freezes, loses records or is another one: the service goes on by itself, or refuses in words."""

import signal
import time
from pathlib import Path

import pytest

from kafka.cluster import Cluster
from kafka.loading import Load, wait_for_more
from kafka.serving import Served, line
from uniqdb_cli.local_broker import BrokerOptions, local_broker

T = 1_468_244_340


@pytest.fixture
def served(cluster: Cluster, topic: str, tmp_path: Path) -> Served:
    return Served(cluster, topic, tmp_path)


def kill_and_restart(served: Served, times: int) -> None:
    served.cluster.create(served.topic, 2)
    load = Load(served)
    with load.running(), served.start() as child:
        for _ in range(times):
            wait_for_more(served)
            served.cluster.broker.kill()
            time.sleep(0.5)
            served.cluster.broker.restart()
        wait_for_more(served)
        assert child.poll() is None, "it ended by itself"
        child.send_signal(signal.SIGTERM)
        said = child.communicate(timeout=60)[1]
        assert child.returncode == 0, said
    served.assert_true(load.model)


def test_a_broker_that_dies(served: Served) -> None:
    kill_and_restart(served, 1)


@pytest.mark.soak
def test_a_broker_that_dies_twenty_times(served: Served) -> None:
    kill_and_restart(served, 20)


def freeze(served: Served, seconds: float, *, kill_the_service: bool) -> None:
    served.cluster.create(served.topic, 2)
    load = Load(served)
    with load.running(), served.start() as child:
        wait_for_more(served)
        served.cluster.broker.pause()
        time.sleep(seconds)
        if kill_the_service:
            child.send_signal(signal.SIGKILL)
        served.cluster.broker.resume()
        if not kill_the_service:
            wait_for_more(served)
            assert child.poll() is None, "it ended by itself"
            child.send_signal(signal.SIGTERM)
        child.communicate(timeout=60)
    served.assert_true(load.model)


def test_a_broker_that_freezes(served: Served) -> None:
    freeze(served, 2, kill_the_service=True)


@pytest.mark.soak
@pytest.mark.parametrize("seconds", [2, 60])
@pytest.mark.parametrize("kill_the_service", [False, True])
def test_a_broker_that_freezes_for_long(served: Served, seconds: float, kill_the_service: bool) -> None:
    freeze(served, seconds, kill_the_service=kill_the_service)


def test_records_that_kafka_has_deleted_are_a_gap_by_consent(served: Served) -> None:
    served.cluster.create(served.topic)
    served.cluster.write(served.topic, [line(T + number, "a") for number in range(200)])
    served.catch_up()
    served.cluster.write(served.topic, [line(T + 7_200 + number, "lost") for number in range(100)])
    served.cluster.write(served.topic, [line(T + 14_400 + number, "b") for number in range(200)])
    served.cluster.delete_records(served.topic, 0, 300)
    refused = served.catch_up(code=65)
    assert "--accept-lost-offsets" in refused
    assert "offsets 200 to 300 are given up: lost_offsets" in served.catch_up("--accept-lost-offsets")
    hours = {one["datetime"][11:13]: one for one in served.published("hour").highest.values()}
    assert {hour: one["count"] for hour, one in hours.items()} == {"13": 1, "17": 1}
    assert hours["17"]["complete"] is False
    served.cluster.write(served.topic, [line(T + 28_800 + number // 30, "c") for number in range(300)])
    served.catch_up()
    hours = {one["datetime"][11:13]: one for one in served.published("hour").highest.values()}
    assert hours["17"]["complete"] is False


def test_another_cluster_is_refused(served: Served, tmp_path: Path) -> None:
    served.cluster.create(served.topic)
    served.cluster.write(served.topic, [line(T + number, "a") for number in range(50)])
    served.catch_up()
    with local_broker(BrokerOptions(folder=None)) as other:
        elsewhere = Cluster(other)
        elsewhere.create(served.topic)
        elsewhere.write(served.topic, [line(T + number, "b") for number in range(50)])
        moved = Served(elsewhere, served.topic, tmp_path)
        assert "--accept-other-cluster" in moved.catch_up(code=65)
        assert "given up: other_cluster" in moved.catch_up("--accept-other-cluster")
        assert moved.stored()[("minute", T)] == (2, 100)
        assert moved.published().buckets()[("minute", T)] == (2, 100)


def test_a_topic_made_anew_with_fewer_partitions(served: Served) -> None:
    served.cluster.create(served.topic, 3)
    for partition in range(3):
        served.cluster.write(served.topic, [line(T + number, "a") for number in range(100)], partition)
    served.catch_up()
    served.cluster.recreate(served.topic)
    served.cluster.write(served.topic, [line(T + 600 + number, "b") for number in range(400)])
    assert served.catch_up("--accept-recreated-topic").count("given up") == 3
    assert served.stored()[("hour", T - T % 3_600)] == (2, 700)
    served.catch_up()
    assert served.stored()[("hour", T - T % 3_600)] == (2, 700)
    statuses = {one["start_ts"]: one["status"] for one in served.published("minute").highest.values()}
    assert statuses[T + 600] == "final", "what is gone keeps nothing open"


def test_an_empty_partition_keeps_nothing_open(served: Served) -> None:
    served.cluster.create(served.topic, 2)
    served.cluster.write(served.topic, [line(T + number, "a") for number in range(400)])
    served.catch_up()
    statuses = {one["start_ts"]: one["status"] for one in served.published("minute").highest.values()}
    assert (statuses[T], statuses[T + 360]) == ("final", "provisional")
