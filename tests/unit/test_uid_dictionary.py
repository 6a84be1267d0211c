"""The dictionary: draining, merging and splitting, equal hashes, long uids, the cache."""

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest

import uniqdb
from engines import TINY, options
from uniqdb.format import YOUNG_KEY
from uniqdb.options import CacheSizes
from uniqdb.uid_batch import gather
from uniqdb.uid_dictionary import UidDictionary
from uniqdb.uid_fragment import Query, UidColumns, from_uids, merge
from uniqdb.uid_lookup import directory_of

T = 1_468_244_340


def layout_of(db: uniqdb.Engine) -> tuple[int, int]:
    """(partitions, fragments of the young unit)"""
    with db.snapshot() as snapshot:
        view = snapshot.answers.view
        dictionary = UidDictionary(0)
        return len(dictionary.layout(view).last_hashes), len(directory_of(view, YOUNG_KEY).fragments)


def test_thousands_of_commits_drain_merge_and_split(store_path: Path) -> None:
    rng = random.Random(5)
    known: set[str] = set()
    with uniqdb.open(store_path, options=options(40)) as db:
        for step in range(150):
            batch = [f"visitor-{rng.randrange(6_000):05d}" + "x" * rng.randrange(9) for _ in range(40)]
            known.update(batch)
            db.add_many([T + step] * 40, batch)
            if step % 50 == 49:
                assert db.check().problems == []
        partitions, young = layout_of(db)
        assert partitions > 16
        assert young < 64
        assert db.info().uids == len(known) == db.count("1d").count
        assert set(db.members("day", T)) == known
        asked = [*sorted(known), *(f"stranger-{number}" for number in range(500))]
        assert db.check_many(asked) == [uid in known for uid in asked]
        assert all(db.check_if_uid_exists(uid) for uid in sorted(known)[::37])
        assert not any(db.check_if_uid_exists(f"stranger-{number}") for number in range(100))


def weak(bits: int) -> Callable[[bytes, int], int]:
    """A hash with very few values, so that nearly all uids collide."""
    return lambda uid, _seed: (sum(uid) % (1 << bits)) << (64 - bits)


@pytest.mark.parametrize("bits", [0, 1, 3])
def test_uids_with_equal_hashes_stay_different(store_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    for module in ("uid_dictionary", "uid_batch"):
        monkeypatch.setattr(f"uniqdb.{module}.xxh3_64_intdigest", weak(bits))
    uids = [f"u{number}" for number in range(400)]
    with uniqdb.open(store_path, options=options(25)) as db:
        db.add_many([T] * 800, uids * 2)
        assert db.info().uids == 400
        assert set(db.members("minute", T)) == set(uids)
        assert all(db.check_if_uid_exists(uid) for uid in uids[::9])
        assert db.check_many([*uids, "v1", "u400"]) == [True] * 400 + [False] * 2
        assert db.check().problems == []
    monkeypatch.undo()
    # With the true hash the stored hashes are wrong, which `check` must see: this store cannot be used further.
    with uniqdb.open(store_path, read_only=True) as db:
        assert any("hash" in problem for problem in db.check().problems)
    for path in sorted(store_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("size", [1, 2, 510, 511, 512, 1_023, 1_024])
def test_uids_of_every_size(store_path: Path, size: int) -> None:
    uids = [chr(65 + number % 26) * (size - 1) + chr(97 + number % 26) for number in range(26)]
    with uniqdb.open(store_path, options=options(5)) as db:
        assert db.add_many([T] * 26, uids) == {"accepted": 26}
        assert db.count("1d").count == len(set(uids))
        assert set(db.members("day", T)) == set(uids)


def test_the_cache_is_bounded_and_never_wrong(store_path: Path) -> None:
    small = replace(options(50), caches=CacheSizes(uid_entries=64, members_bytes=2_000))
    rng = random.Random(8)
    truth: dict[int, set[str]] = {}
    with uniqdb.open(store_path, options=small) as db:
        for step in range(60):
            batch = [f"u{rng.randrange(500)}" for _ in range(50)]
            truth.setdefault((T + step * 20) // 60 * 60, set()).update(batch)
            db.add_many([T + step * 20] * 50, batch)
        cache = db._facts.dictionary
        assert len(cache._recent) <= 32 + 50
        assert len(cache._older) <= 32 + 50
        assert {record.start_ts: record.count for record in db.series("minute")} == {
            at: len(uids) for at, uids in truth.items()
        }


def test_the_cache_rests_while_strangers_come(store_path: Path) -> None:
    small = replace(options(50), caches=CacheSizes(uid_entries=200, members_bytes=2_000))
    regulars, strangers = [f"regular-{number}" for number in range(60)], map("stranger-{}".format, count())
    with uniqdb.open(store_path, options=small) as db:
        cache = db._facts.dictionary
        rested: list[bool] = []

        def visit(uids: list[str]) -> None:
            db.add_many([T] * len(uids), uids)
            db.commit()
            rested.append(cache.meets_strangers)

        for step in range(20):
            visit(random.Random(step).choices(regulars, k=50))
        assert not any(rested), "whoever comes was there before"
        for _ in range(150):
            visit(list(islice(strangers, 50)))
        assert True in rested[20:30], "a quarter of the cache is full of people who do not come again"
        assert False in rested[30:], "it looks again"
        while not cache.meets_strangers:
            visit(list(islice(strangers, 50)))
        assert not len(cache._recent) + len(cache._older)
        visit(regulars[:3])
        assert not cache.meets_strangers, "few visits are few looks"
        assert cache._recent.find(regulars[:3]).min() >= 0
        assert db.count("1d").count == db.info().uids == 60 + 50 * (len(rested) - 21)
        assert db.check().problems == []


@pytest.mark.parametrize("grown", [1, 8])
def test_the_filter_holds_everybody_while_partitions_split(
    store_path: Path, monkeypatch: pytest.MonkeyPatch, grown: int
) -> None:
    monkeypatch.setattr("uniqdb.uid_dictionary._GROWN_PER_ASKED", grown)
    small = replace(options(40), caches=CacheSizes(uid_entries=40, members_bytes=2_000, uid_filter_bytes=2**13))
    monkeypatch.setattr("uniqdb.uid_filter.UID_FILTER_BYTES_MIN", 2**9)
    rng, states = random.Random(11), set()
    with uniqdb.open(store_path, options=small) as db:
        one = db._facts.dictionary._filter
        for step in range(250):
            db.add_many([T] * 40, [f"v{rng.randrange(step * 30, step * 30 + 60)}" for _ in range(40)])
            states.add((one.is_made, one.is_growing))
            if step % 7 and not one.is_growing:
                continue
            with db.snapshot() as snapshot:
                view = snapshot.answers.view
                hashes = [columns.hashes for _, columns in UidDictionary(0).scan(view)]
            assert all(one.may_hold(some).all() for some in hashes)
        assert db.check().problems == []
        assert states >= {(False, False), (False, True), (True, False)}
        assert grown > 1 or (True, True) in states, "a larger one is made while one answers"


def test_gather_takes_equal_lengths_few_lengths_and_many_lengths() -> None:
    for lengths in ([5] * 40, [1, 2, 3, 4] * 10, list(range(1, 200))):
        uids = [bytes([65 + number % 26]) * size for number, size in enumerate(lengths)]
        query = Query.of(uids[::-1], np.arange(len(uids), dtype=np.uint64))
        columns = from_uids(query, np.arange(7, 7 + len(uids), dtype=np.uint32)[::-1])
        assert columns.uids(np.arange(len(uids))) == uids[::-1]
        picked = np.arange(0, len(uids), 3)
        want = b"".join(uids[::-1][::3])
        assert gather(columns.blob, columns.offsets[picked], columns.lengths[picked]).tobytes() == want
        cut = UidColumns.parse(columns.cut(3, 20).pack())
        assert cut.uids(np.arange(17)) == uids[::-1][3:20]
        both = merge([columns.cut(0, 9), columns.cut(9, len(uids))])
        assert both.uids(np.arange(len(uids))) == uids[::-1]
        assert both.ordinals.tolist() == list(range(7, 7 + len(uids)))[::-1]


def test_sizes_of_the_dictionary_may_change_between_handles(store_path: Path) -> None:
    for number, sizes in enumerate([TINY, replace(TINY, partition_entries=500), TINY]):
        with uniqdb.open(store_path, options=options(30, sizes)) as db:
            db.add_many([T] * 300, [f"{number}-{visitor}" for visitor in range(300)])
            assert db.info().uids == 300 * (number + 1)
            assert db.check().problems == []
