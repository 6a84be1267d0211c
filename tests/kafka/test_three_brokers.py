"""Of three brokers with three copies one dies after the other: the service goes on, and nothing is lost or doubled."""

import os
import signal
from pathlib import Path

import pytest

from kafka.cluster import Cluster
from kafka.loading import Load, wait_for_more
from kafka.serving import Served
from kafka.three_brokers import COPIES, ThreeBrokers
from uniqdb.errors import NoLocalBroker

MEMORY_BYTES_MIN = 3 * 1024**3


def available_bytes() -> int:
    """Memory that is free, or could be."""
    lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="it is not known how much memory is free")
@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.soak)])
def test_one_broker_after_the_other_is_killed(tmp_path: Path, kills: int) -> None:
    if available_bytes() < MEMORY_BYTES_MIN:
        pytest.skip("three brokers need 3 GiB of memory")
    try:
        made = ThreeBrokers(tmp_path / "brokers")
    except NoLocalBroker as error:
        if os.environ.get("CI"):
            pytest.fail(f"no Kafka broker: {error}", pytrace=False)
        pytest.skip(f"no Kafka broker: {error}")
    with made.running() as brokers:
        served = Served(Cluster(brokers, COPIES), "visits-of-three", tmp_path)
        served.cluster.create(served.topic, 2, min_insync_replicas=2)
        load = Load(served)
        with load.running(), served.start() as child:
            for number in range(kills):
                wait_for_more(served)
                dying = brokers.brokers[number % COPIES]
                dying.kill()
                wait_for_more(served)  # without the third one
                dying.start()
                assert child.poll() is None, "it ended by itself"
            wait_for_more(served)
            child.send_signal(signal.SIGTERM)
            said = child.communicate(timeout=60)[1]
            assert child.returncode == 0, said
        served.assert_true(load.model)
