"""The table of ordinals in memory gives what a dict would."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniqdb import uid_cache
from uniqdb.uid_cache import UidCache

# Lengths around the borders of words, bytes that are zero, and texts of more bytes than characters.
uids = st.one_of(
    st.text(st.sampled_from("ab\0é€\U0001f600"), min_size=1, max_size=20),
    st.sampled_from(["x" * length for length in (7, 8, 9, 63, 64, 65, 1_024)]),
    st.integers(0, 300).map(str),
)


def found(cache: UidCache, asked: list[str]) -> list[int]:
    return cache.find(asked).tolist()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["add", "add", "drop", "clear"]), st.lists(uids, max_size=60)), max_size=8),
    st.lists(uids),
)
def test_it_gives_what_a_dict_gives(steps: list[tuple[str, list[str]]], asked: list[str]) -> None:
    cache, model, next_ordinal = UidCache(), {}, 0
    for step, some in steps:
        if step == "add":
            new = [uid for uid in dict.fromkeys(some) if uid not in model]
            ordinals = np.arange(next_ordinal, next_ordinal + len(new))
            next_ordinal += len(new)
            cache.add(new, ordinals)
            model.update(zip(new, ordinals.tolist(), strict=True))
        elif step == "clear":
            cache.clear()
            model.clear()
        else:
            gone = [model.pop(uid) for uid in dict.fromkeys(some) if uid in model]
            cache.drop(np.array([*gone, next_ordinal + 7], np.int64))
        assert len(cache) == len(model)
        everything = [*model, *some, *asked]
        assert found(cache, everything) == [model.get(uid, -1) for uid in everything]


def test_many_uids_of_several_lengths_through_all_growth() -> None:
    cache, model = UidCache(), {}
    for start in range(0, 60_000, 7_000):
        new = [f"{'v' * (number % 13)}{number}" for number in range(start, start + 7_000)]
        cache.add(new, np.arange(start, start + 7_000))
        model.update(zip(new, range(start, start + 7_000), strict=True))
    asked = [*model, *(f"unknown{number}" for number in range(5_000))]
    assert found(cache, asked) == [model.get(uid, -1) for uid in asked]


@pytest.mark.parametrize("dropped", [False, True])
def test_uids_that_all_want_the_same_slot_are_told_apart(monkeypatch: pytest.MonkeyPatch, dropped: bool) -> None:
    monkeypatch.setattr(uid_cache.os, "urandom", bytes)  # all factors are 1: sums of words collide easily
    cache = UidCache()
    words = [f"{a}{b}".encode() for a in "abcdefgh" for b in "12345678"]
    twins = [(first + b"......" + second + b"......").decode() for first in words for second in words]
    cache.add(twins, np.arange(len(twins)))
    gone = list(range(0, len(twins), 3)) if dropped else []
    cache.drop(np.array(gone, np.int64))
    assert found(cache, twins) == [-1 if at in set(gone) else at for at in range(len(twins))]
    if dropped:  # and the places of those are used again
        again = [twins[at] for at in gone]
        cache.add(again, np.arange(10_000, 10_000 + len(again)))
        assert found(cache, again) == list(range(10_000, 10_000 + len(again)))


def test_one_that_was_cleared_uses_its_memory_again_and_finds_nothing_of_before() -> None:
    first, second = ([f"{word}-{number:05}" for number in range(9_000)] for word in ("visitor", "another"))
    cache = UidCache()
    cache.add([*first, *["w" * 30, "w" * 31]], np.arange(9_002))
    memory = cache._tables[3]._ordinals
    cache.clear()
    assert list(cache._tables) == [3], "a table of few long uids is given back"
    assert found(cache, first) == [-1] * 9_000
    cache.add(second[:8_000], np.arange(8_000))
    cache.add(first[::2], np.arange(10_000, 14_500))
    assert cache._tables[3]._ordinals is memory
    assert found(cache, first) == [-1 if at % 2 else 10_000 + at // 2 for at in range(9_000)]
    assert found(cache, second) == [at if at < 8_000 else -1 for at in range(9_000)]


def test_nothing_is_found_in_an_empty_one() -> None:
    assert found(UidCache(), ["a", "b" * 100]) == [-1, -1]
    assert found(UidCache(), []) == []
