"""A topic counted in shards: what they publish, what they add up to, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from zlib import crc32

import pytest

from engines import assert_sound
from kafka.cluster import Cluster
from kafka.serving import GRANULARITIES, Buckets, Served, line
from model import Model

T = 1_468_244_340
DAY_S = 86_400
PARTITIONS = 4


def visits_of(count: int) -> list[tuple[int, str]]:
    rng = Random(6)
    return sorted((T + rng.randrange(5 * DAY_S), f"v{rng.randrange(count // 4)}") for _ in range(count))


class Sharded:
    """A topic keyed by uid, and a service for each of its shards."""

    def __init__(self, cluster: Cluster, topic: str, folder: Path, shards: int) -> None:
        self.cluster, self.topic = cluster, topic
        self.served = [Served(cluster, topic, folder / f"shard{number + 1}") for number in range(shards)]

    def write(self, visits: list[tuple[int, str]]) -> None:
        for partition in range(PARTITIONS):
            own = [line(*one) for one in visits if crc32(one[1].encode()) % PARTITIONS == partition]
            self.cluster.write(self.topic, own, partition)

    def catch_up(self, number: int, *arguments: str, code: int = 0) -> str:
        return self.served[number - 1].catch_up("--shard", f"{number}/{len(self.served)}", *arguments, code=code)

    def sum(self, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        stores = [str(one.store) for one in self.served]
        return uniqdb(self.served[0], "sum", *stores, *arguments, code=code)


def uniqdb(served: Served, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "uniqdb_cli", *arguments]
    done = subprocess.run(command, env=served.environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def sharded(cluster: Cluster, topic: str, tmp_path: Path) -> Sharded:
    cluster.create(topic, PARTITIONS)
    return Sharded(cluster, topic, tmp_path, 2)


def rows_of(records: str) -> Buckets:
    found = [json.loads(one) for one in records.splitlines()]
    return {(one["granularity"], one["start_ts"]): (one["count"], one["visits"]) for one in found}


def test_shards_add_up_and_publish_apart(sharded: Sharded) -> None:
    visits = visits_of(4_000)
    model = Model()
    model.add([ts for ts, _ in visits], [uid for _, uid in visits])
    sharded.write(visits[:3_000])
    for number in (1, 2):
        sharded.catch_up(number)
    sharded.write(visits[3_000:])
    for number in (1, 2):
        sharded.catch_up(number)
    where = "--bootstrap-servers", sharded.cluster.broker.bootstrap, "--publish"
    found: Buckets = {}
    for kind in GRANULARITIES:
        found |= rows_of(sharded.sum("--by", kind, *where).stdout)
    assert found == model.rows()
    published = sharded.served[0].published(*GRANULARITIES)
    assert published.buckets() == model.rows()
    for number, one in enumerate(sharded.served, start=1):
        assert_sound(one.store)
        of_its_own = [f"{kind}.shard-{number}-of-2" for kind in GRANULARITIES]
        assert one.published(*of_its_own).buckets() == one.stored()
    # Again: the same records with the same revisions, by the same publisher.
    sharded.sum("--by", "day", *where)
    again = sharded.served[0].published("day")
    assert again.last == again.highest
    windows = sharded.sum("--window", "3d", *where)
    record = json.loads(windows.stdout)
    assert record["count"] == len(model.union(record["start_ts"], record["end_ts"]))
    assert sharded.served[0].published("trailing").buckets() == {}


def test_a_store_keeps_its_shard(sharded: Sharded) -> None:
    sharded.write(visits_of(200))
    sharded.catch_up(1)
    store = sharded.served[0]
    said = store.catch_up("--shard", "2/2", code=65)
    assert "this store counts shard 1/2 of topic" in said
    assert "--shard 1/2 goes on with it" in said
    assert "counts shard 1/2" in store.catch_up(code=65)
    assert "names no shard" in store.catch_up("--shard", "3/2", code=2)
    whole = sharded.served[1]
    whole.catch_up()
    assert "this store counts all of topic" in whole.catch_up("--shard", "2/2", code=65)
    assert "none of which is in shard 5/5" in Served(
        sharded.cluster, sharded.topic, whole.store.parent / "third"
    ).catch_up("--shard", "5/5", code=2)
    # Its trailing windows go to the topic of its own, also without the service.
    where = "--store", str(store.store), "--bootstrap-servers", sharded.cluster.broker.bootstrap
    uniqdb(store, "publish-trailing", *where)
    assert store.published("trailing.shard-1-of-2").messages >= 5
    assert_sound(store.store)


def test_a_topic_that_is_given_more_partitions_is_refused(sharded: Sharded) -> None:
    sharded.write(visits_of(400))
    sharded.catch_up(1)
    with sharded.served[0].start("--shard", "1/2") as child:
        sharded.cluster.add_partitions(sharded.topic, PARTITIONS + 2)
        said = child.communicate(timeout=60)[1]
        assert child.returncode == 65, said
        assert f"had {PARTITIONS} partitions when its shards were begun, and has {PARTITIONS + 2} now" in said
    assert "partitions when its shards were begun" in sharded.catch_up(1, code=65)
    # The other shard begins only now.
    sharded.catch_up(2)
    assert "was given more partitions between its shards: [4, 6]" in sharded.sum(code=65).stderr
    for one in sharded.served:
        assert_sound(one.store)


def test_one_visitor_in_two_partitions_is_refused(sharded: Sharded) -> None:
    sharded.write(visits_of(400))
    partition = crc32(b"v1") % PARTITIONS
    sharded.cluster.write(sharded.topic, [line(T + 60, "v1")], (partition + 1) % PARTITIONS)
    sharded.catch_up(1)
    assert "there is no store" in sharded.sum(code=66).stderr
    sharded.catch_up(2)
    refused = sharded.sum(code=65)
    assert "1 visitor is in more than one of" in refused.stderr
    assert "uniqdb merge" in refused.stderr
    assert refused.stdout == ""
    for one in sharded.served:
        assert_sound(one.store)


@pytest.mark.soak
def test_four_shards_of_four_million_visits(cluster: Cluster, topic: str, tmp_path: Path) -> None:
    """A million visitors, in the order of time; then one of them in another partition, once."""
    cluster.create(topic, PARTITIONS)
    sharded, whole = Sharded(cluster, topic, tmp_path, 4), Served(cluster, topic, tmp_path / "whole")
    rng = Random(8)
    for first in range(0, 4_000_000, 200_000):
        sharded.write(
            [(T + at // 5, f"visitor-{rng.randrange(1_000_000):06d}") for at in range(first, first + 200_000)]
        )
    whole.catch_up()
    expected = whole.stored()
    assert sum(visits for (kind, _), (_, visits) in expected.items() if kind == "year") == 4_000_000
    for number in range(1, 5):
        sharded.catch_up(number)
    found: Buckets = {}
    for kind in GRANULARITIES:
        found |= rows_of(sharded.sum("--by", kind).stdout)
    assert found == expected
    print("buckets", len(found), "visitors of the year", max(count for count, _ in found.values()), flush=True)
    partition = crc32(b"visitor-123456") % PARTITIONS
    cluster.write(topic, [line(T + 800_000, "visitor-123456")], (partition + 1) % PARTITIONS)
    for number in range(1, 5):
        sharded.catch_up(number)
    assert "1 visitor is in more than one of" in sharded.sum(code=65).stderr
