"""Visitors are forgotten while the service runs, and then the store is compacted."""

import json
import random
import re
import signal
from functools import cache
from pathlib import Path

import pytest

from engines import options
from kafka.cluster import Cluster
from kafka.serving import Served, line
from kafka.test_service import uniqdb_command, wait_for
from model import Model
from uniqdb.compaction import compact

T = 1_468_244_340
DAY_S = 86_400


@pytest.fixture
def served(cluster: Cluster, topic: str, tmp_path: Path) -> Served:
    return Served(cluster, topic, tmp_path)


def uids_in_files(store: Path) -> set[str]:
    found = (re.findall(rb"visitor-[0-9]{6}", file.read_bytes()) for file in store.rglob("*") if file.is_file())
    return {uid.decode() for uids in found for uid in uids}


def without(model: Model, gone: set[str]) -> None:
    for members in model.members.values():
        members.difference_update(gone)


@pytest.mark.parametrize("visitors", [10_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_one_in_a_hundred(served: Served, tmp_path: Path, visitors: int) -> None:
    rng, model = random.Random(4), Model()
    model.start = cache(model.start)  # type: ignore[method-assign]  # it is asked for few different times
    times = [T + number // (visitors // 2_500) * 60 for number in range(visitors + visitors // 10)]
    uids = [f"visitor-{number % visitors:06}" for number in range(len(times))]
    model.add(times, uids)
    served.cluster.create(served.topic)
    bad = [b'{"uid": "visitor-000100", "ts": oh}', b'{"uid": "visitor-000101", "ts": oh}']
    doubtful_s = times[-1] + 40 * DAY_S
    served.cluster.write(served.topic, [*map(line, times, uids), *bad, line(doubtful_s, "visitor-doubtful")])
    chosen = [f"visitor-{number:06}" for number in rng.sample(range(visitors), visitors // 100 - 1)]
    gone = {*chosen, "visitor-000100", "visitor-doubtful"}
    (tmp_path / "gone.txt").write_text("".join(f"{uid}\n" for uid in sorted(gone)))
    with served.start() as child:
        wait_for(lambda: served.visits() == len(times), 120)
        wait_for(lambda: len(served.dead_letters()) == 2)
        assert json.loads(served.info())["completeness"]["held"] == 1
        said = uniqdb_command(served, "forget", "--file", str(tmp_path / "gone.txt"), "--yes")
        assert said.startswith(f"{len(gone):,} visitors forgotten, in ")
        assert "with 1 held visit and 1 refused record." in said
        without(model, gone)
        assert served.stored() == model.rows()
        more = [(times[-1] + 60 + number, "visitor-000100") for number in range(40)]
        more += [(doubtful_s + number, "company") for number in range(30)]
        served.cluster.write(served.topic, [line(*one) for one in more])
        model.add([ts for ts, _ in more], [uid for _, uid in more])
        wait_for(lambda: served.visits() == len(times) + len(more))
        child.send_signal(signal.SIGINT)
        ended = child.communicate(timeout=60)[1]
    assert child.returncode == 0, ended
    served.catch_up()
    assert served.stored() == model.rows(), "who comes back is new; who was held has company, but is no more"
    found = served.published()
    assert found.buckets() == model.rows()
    assert found.last == found.highest
    trailing = [one for one in found.highest.values() if one["granularity"] == "window"]
    assert trailing
    for one in trailing:
        assert one["count"] == len(model.union(one["start_ts"], one["end_ts"]))
    letters = {message.key(): message.value() for message in served.cluster.read_all(served.output("quarantine"))}
    assert letters.pop(b"0") is None
    assert json.loads(letters.pop(b"1"))["record"] == bad[1].decode()
    assert letters == {}
    assert uids_in_files(served.store) & gone - {"visitor-000100"}, "freed pages still have them"
    assert compact(served.store, options()).held == []
    assert uids_in_files(served.store) & gone == {"visitor-000100"}
    assert not [file for file in served.store.rglob("*") if file.is_file() and b"doubtful" in file.read_bytes()]
    assert served.stored() == model.rows()
