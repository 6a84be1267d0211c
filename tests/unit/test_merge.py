"""Stores merged into one: the union of their visitors, the sum of their visits."""

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

import uniqdb
from engines import TINY, assert_sound, options, rows_of
from model import Model
from portable import ZONE, T, everything, fill, sweep_minute
from uniqdb.errors import CannotWrite, UsageError, WindowNotKept
from uniqdb.merging import Merging, merge_stores

HOW = Merging(now_s=1_800_000_000, sizes=TINY)


def test_eight_random_shards_are_the_single_store(store_path: Path, tmp_path: Path) -> None:
    rng, model = random.Random(11), Model(ZONE)
    times = [T + rng.randrange(40 * 86_400) for _ in range(800)]
    uids = [f"visitor-{rng.randrange(300)}" for _ in times]
    model.add(times, uids)
    shards = [rng.randrange(8) for _ in times]
    with uniqdb.open(tmp_path / "single", options=options(400), timezone=ZONE) as db:
        db.add_many(times, uids)
    for shard in range(8):
        with uniqdb.open(tmp_path / f"shard-{shard}", options=options(100), timezone=ZONE) as db:
            own = [at for at, number in enumerate(shards) if number == shard]
            db.add_many([times[at] for at in own], [uids[at] for at in own])
    done = merge_stores([tmp_path / f"shard-{shard}" for shard in range(8)], store_path, HOW)
    assert (done.visits, done.uids) == (800, len(set(uids)))
    merged, single = everything(store_path), everything(tmp_path / "single")
    assert merged["members"] == single["members"]
    assert merged["uids"] == single["uids"]
    with uniqdb.open(store_path, options=options(400)) as db:
        assert rows_of(db) == model.rows()
        db.add_many(times[:50], uids[:50])
        assert db.count().count == len(set(uids)), "known visitors stay known"


def test_sources_go_on_and_quarantine_is_joined(store_path: Path, tmp_path: Path) -> None:
    for number in range(3):
        fill(tmp_path / f"shop-{number}", number)
    parts = [everything(tmp_path / f"shop-{number}") for number in range(3)]
    merge_stores([tmp_path / f"shop-{number}" for number in range(3)], store_path, HOW)
    merged = everything(store_path)
    assert sorted(merged["sources"]) == sorted(one for part in parts for one in part["sources"])
    assert sorted(merged["held"]) == sorted(one for part in parts for one in part["held"])
    assert [row for _, row in merged["quarantine"]] == [row for part in parts for _, row in part["quarantine"]]
    assert merged["state"]["visits"] == sum(part["state"]["visits"] for part in parts)
    assert len(merged["erasures"]) == 6
    for bucket, uids in merged["members"].items():
        assert set(uids) == {uid for part in parts for uid in part["members"].get(bucket, ())}
    with uniqdb.open(store_path, options=options()) as db:
        assert db.add_many([T + 1_800_000], ["one more"], source="shop-1")


def test_closed_as_far_as_everyone_is_who_waits(store_path: Path, tmp_path: Path) -> None:
    with uniqdb.open(tmp_path / "a", options=options(), timezone=ZONE) as db:
        db.add_many([T + at * 60 for at in range(100)], ["a"] * 100)
        db.commit()
        db.close_buckets()
        db.add_many([T], ["late"])
    with uniqdb.open(tmp_path / "b", options=options(), timezone=ZONE) as db:
        db.add_many([T + at * 60 for at in range(200)], ["b"] * 200)
    merge_stores([tmp_path / "a", tmp_path / "b"], store_path, HOW)
    with uniqdb.open(store_path, read_only=True) as db:
        minutes = [(record.status, record.count) for record in db.series("minute")]
    assert minutes[0] == ("amended", 3)
    assert set(minutes[1:100]) == {("final", 2)}


def test_what_cannot_be_merged(store_path: Path, tmp_path: Path) -> None:
    fill(tmp_path / "a", 1)
    fill(tmp_path / "b", 1)
    with uniqdb.open(tmp_path / "tokyo", timezone="Asia/Tokyo"):
        pass
    with pytest.raises(UsageError, match="time zone"):
        merge_stores([tmp_path / "a", tmp_path / "tokyo"], store_path, HOW)
    with pytest.raises(UsageError, match="the source shop-1 is in"):
        merge_stores([tmp_path / "a", tmp_path / "b"], store_path, HOW)
    with pytest.raises(UsageError, match="neither counted nor refused"):
        merge_stores([tmp_path / "a", tmp_path / "b"], store_path, replace(HOW, drop_sources=True))
    with pytest.raises(UsageError, match="named twice"):
        merge_stores([tmp_path / "a", tmp_path / "." / "a"], store_path, HOW)
    with pytest.raises(CannotWrite, match="there already"):
        merge_stores([tmp_path / "a", tmp_path / "b"], tmp_path / "tokyo", HOW)
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "tokyo"]


def test_sources_are_dropped_on_request(store_path: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        with uniqdb.open(tmp_path / name, options=options(), timezone=ZONE) as db:
            db.add_many([T + at for at in range(100)], [f"{name}-{at}" for at in range(100)], source="web")
    merge_stores([tmp_path / "a", tmp_path / "b"], store_path, replace(HOW, drop_sources=True))
    with uniqdb.open(store_path, read_only=True) as db:
        assert db.info().sources == []
        assert db.count("2016-07").count == 200
    assert_sound(store_path)


def test_a_store_that_was_swept(store_path: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        with uniqdb.open(tmp_path / name, options=options(), timezone=ZONE) as db:
            db.add_many([T, T + 600], ["x", name])
    sweep_minute(tmp_path / "b", T)
    with pytest.raises(WindowNotKept, match="b was swept"):
        merge_stores([tmp_path / "a", tmp_path / "b"], store_path, HOW)
    assert not store_path.exists()
