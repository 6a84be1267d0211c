"""A service is backed up while it runs, lost, restored and started again: its records supersede the older ones."""

import signal
from pathlib import Path

import pytest

import uniqdb
from kafka.cluster import Cluster
from kafka.serving import Served, line
from kafka.test_service import uniqdb_command, wait_for
from model import Model

T = 1_468_244_340


@pytest.fixture
def served(cluster: Cluster, topic: str, tmp_path: Path) -> Served:
    return Served(cluster, topic, tmp_path)


def read_by_now(served: Served) -> int:
    if not (served.store / "MANIFEST").exists():
        return 0
    with uniqdb.open(served.store, read_only=True) as db:
        return db.info().visits


def test_a_restored_service_goes_on_and_supersedes(served: Served, tmp_path: Path) -> None:
    times = [T + number * 20 for number in range(900)]
    uids = [f"visitor-{number * 7919 % 200}" for number in range(900)]
    served.cluster.create(served.topic)
    served.cluster.write(served.topic, [*map(line, times[:400], uids[:400])])
    with served.start() as child:
        wait_for(lambda: read_by_now(served) == 400)
        assert uniqdb_command(served, "backup", str(tmp_path / "copy")).startswith("Copied 400 visits to ")
        served.cluster.write(served.topic, [*map(line, times[400:700], uids[400:700])])
        wait_for(lambda: read_by_now(served) == 700)
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 0
    before = served.published()
    assert {record["epoch"] for record in before.highest.values()} == {1}
    assert uniqdb_command(served, "restore", str(tmp_path / "copy"), "--yes").count("400 visits, in epoch ") == 1
    assert read_by_now(served) == 400
    served.cluster.write(served.topic, [*map(line, times[700:], uids[700:])])
    served.catch_up()
    model = Model()
    model.add(times, uids)
    assert served.stored() == model.rows(), "read again from where the backup stood"
    found = served.published()
    assert found.buckets() == model.rows()
    assert found.last == found.highest
    with uniqdb.open(served.store, read_only=True) as db:
        epoch = db.info().epoch
    assert {record["epoch"] for record in found.highest.values()} == {epoch}
    assert epoch > 1_700_000_000
    assert before.highest.keys() <= found.highest.keys(), "nothing of before is left as it was"
