"""`uniqdb sweep` while the service runs: it does it between its commits, and goes on counting."""

import subprocess
import sys
from pathlib import Path

import pytest

import uniqdb
from engines import assert_sound
from kafka.cluster import Cluster, until
from kafka.serving import Served, line

T, DAY_S = 1_468_281_600, 86_400


def test_sweep_succeeds_while_the_service_runs(cluster: Cluster, topic: str, tmp_path: Path) -> None:
    served = Served(cluster, topic, tmp_path)
    served.environment |= {"UNIQDB_MINUTE_RETENTION_DAYS": "1", "UNIQDB_DAY_RETENTION_DAYS": "90"}
    served.environment |= {"UNIQDB_HOUR_RETENTION_DAYS": "2"}
    cluster.create(topic, 1)
    # Long past, and not at its end for long: the service itself does not begin a run meanwhile.
    visits = [(T + day * DAY_S + 60 * at, f"v{day} {at}") for day in range(5) for at in range(40)]
    cluster.write(topic, [line(ts, uid) for ts, uid in visits])
    with served.start() as child:
        until(lambda: served.visits() == len(visits))
        command = [sys.executable, "-m", "uniqdb_cli", "sweep", "--force", "--yes", "--store", str(served.store)]
        done = subprocess.run(command, env=served.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert child.poll() is None
        cluster.write(topic, [line(T + 4 * DAY_S + 60 * 41, "later")])
        until(lambda: served.visits() == len(visits) + 1)
        child.terminate()
        assert child.wait(60) == 0
        assert child.stderr is not None
        assert "Trailing windows of 180d, 365d are switched off" in child.stderr.read()
    assert_sound(served.store)
    with uniqdb.open(served.store, read_only=True) as db:
        info = db.info()
        assert info.kept_from_s["minute"] > T + 2 * DAY_S
        assert info.kept_from_s["hour"] >= T + DAY_S
        assert db.count("2016").count == len(visits) + 1
        with pytest.raises(uniqdb.WindowNotKept):
            list(db.members("minute", T))
