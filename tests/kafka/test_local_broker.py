"""The broker that the tests and `uniqdb dev-broker` start: it can be treated badly, and leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka.cluster import Cluster, until
from kafka.offline import run_offline
from kafka.reading import read_to_end, reading, values
from uniqdb.errors import NoLocalBroker, UsageError
from uniqdb_cli import jar_cache
from uniqdb_cli.jar_cache import cache_folder
from uniqdb_cli.kafka_packages import KAFKA_JARS, KafkaPackages, kafka_packages
from uniqdb_cli.local_broker import PORTS, BrokerOptions, BrokerState, BrokerStatus, LocalBroker

ROOT = Path(__file__).resolve().parents[2]
OWNER = """
import time
from uniqdb_cli.local_broker import local_broker
with local_broker() as broker:
    status = broker.status()
    print(status.process_id, status.folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def packages(broker: LocalBroker) -> KafkaPackages:  # noqa: ARG001 - whoever has no broker has no packages
    return kafka_packages()


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_life_of_a_broker(tmp_path: Path, packages: KafkaPackages) -> None:
    """Its data outlives every kind of end, and with a directory of the user's the object, too."""
    options = BrokerOptions(folder=tmp_path / "data of mine")
    broker = LocalBroker(packages, options)
    assert broker.status().state is BrokerState.STOPPED
    with pytest.raises(UsageError):
        broker.pause()
    with broker:
        status = broker.status()
        assert (status.state, status.bootstrap) == (BrokerState.RUNNING, f"127.0.0.1:{broker.port}")
        assert broker.port in PORTS
        with pytest.raises(UsageError):
            broker.start()
        cluster = Cluster(broker)
        cluster.create("kept")
        cluster.write("kept", [b"1"])

        broker.pause()
        assert broker.status().state is BrokerState.PAUSED
        broker.restart()  # paused or not
        assert broker.status().state is BrokerState.RUNNING
        cluster.write("kept", [b"2"])

        process_id = broker.status().process_id
        assert process_id is not None
        os.kill(process_id, signal.SIGKILL)
        until(lambda: broker.status().state is BrokerState.ENDED)
        broker.start()
        cluster.write("kept", [b"3"])
        broker.stop()
        assert broker.status() == BrokerStatus(BrokerState.STOPPED, None, status.bootstrap, status.folder)
    assert not is_alive(process_id)
    with LocalBroker(packages, options) as again, reading(Cluster(again), "kept") as source:
        assert values(read_to_end(source)) == [b"1", b"2", b"3"]


@pytest.fixture
def owner() -> Iterator["subprocess.Popen[str]"]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "engine"), str(ROOT / "cli")])}
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        start_new_session=True,
    )
    with process:
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_of_a_broker_whose_owner_is_killed(
    broker: LocalBroker,  # noqa: ARG001 - as above
    owner: "subprocess.Popen[str]",
    number: signal.Signals,
) -> None:
    assert owner.stdout is not None
    first, second = owner.stdout.readline().split()
    process_id, folder = int(first), Path(second)
    assert is_alive(process_id)
    assert folder.is_dir()
    owner.send_signal(number)
    owner.wait(60)
    until(lambda: not is_alive(process_id) and not folder.exists(), 10)


def test_a_broker_that_cannot_start_says_why(packages: KafkaPackages) -> None:
    broker = LocalBroker(packages, BrokerOptions(properties={"num.io.threads": "many"}))
    with pytest.raises(NoLocalBroker, match=r"num\.io\.threads"), broker:
        pass
    assert not broker.folder.exists()


def test_a_damaged_jar_is_never_used(tmp_path: Path, packages: KafkaPackages, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is fetched again, and where that cannot be done there is no broker."""
    copy = tmp_path / packages.folder.name
    shutil.copytree(packages.folder / "jars", copy / "jars", copy_function=os.link)
    monkeypatch.setenv("UNIQDB_CACHE", str(tmp_path))
    monkeypatch.setattr(jar_cache, "PAUSE_S", 0)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert kafka_packages().folder == copy  # as good as the one it was made of, without a network
    victim = copy / "jars" / sorted(KAFKA_JARS.pins())[7]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.unlink()
    victim.write_bytes(content)
    said: list[str] = []
    with pytest.raises(NoLocalBroker, match="cannot be fetched"):
        kafka_packages(said.append)
    assert said[0] == f"{victim.name} in {copy} is damaged or missing: fetching all again"
    assert len([line for line in said if line.endswith("trying again")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == [f"{copy.name}.lock"]


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIQDB_CACHE", "/a/b")
    assert cache_folder() == Path("/a/b")
    monkeypatch.delenv("UNIQDB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert cache_folder() == Path("/c/uniqdb")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache/uniqdb"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache/uniqdb"


def test_without_network_and_cache_the_tests_are_skipped_aloud(tmp_path: Path) -> None:
    """The last line of the run says what was not tested and why; where CI is set, the run is red."""
    at_home, in_ci = run_offline(tmp_path, "tests/kafka/test_reading.py", "tests/unit/test_offset_fence.py")
    last = at_home.strip().splitlines()[-1]
    assert last.startswith("Not tested with a real Kafka, 14 skipped: no Kafka broker: org.apache.kafka:kafka")
    assert "no Kafka broker: org.apache.kafka:kafka_2.13:4.3.1 cannot be fetched" in in_ci
