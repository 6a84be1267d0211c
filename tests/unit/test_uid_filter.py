"""The filter never says no for a hash that it holds, and says so for nearly all others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniqdb.uid_filter import UidFilter


def some_hashes(count: int, seed: int = 1) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).integers(0, 2**64, count, np.uint64))


def made(hashes: np.ndarray, bytes_max: int) -> UidFilter:
    return make(UidFilter(bytes_max), len(hashes), np.array_split(hashes, 3))


def make(one: UidFilter, held: int, parts: list[np.ndarray]) -> UidFilter:
    """Make it of all of these at once."""
    one.begin(held, [])
    for part in parts:
        one.take(part)
    one.passed(2**64 - 1)
    return one


HASHES = st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 50), st.integers(2**64 - 50, 2**64 - 1)))


@given(HASHES, HASHES, st.sampled_from([64, 127, 1_000, 2**16]))
def test_what_it_holds_may_be_held(first: list[int], later: list[int], bytes_max: int) -> None:
    held, added = (np.sort(np.array(one, np.uint64)) for one in (first, later))
    one = made(held, bytes_max)
    one.add(added)
    assert one.may_hold(held).all()
    assert one.may_hold(added).all()


def test_nearly_all_others_are_not_held() -> None:
    one = made(some_hashes(300_000), 2**22)
    assert one.may_hold(some_hashes(100_000, 2)).mean() < 0.03


def test_it_grows_with_what_it_holds() -> None:
    one, held = UidFilter(2**23), 0
    for seed in range(40):
        hashes = some_hashes(50_000, seed)
        if one.is_wanted(held, 50_000):
            make(one, held, [some_hashes(50_000, before) for before in range(seed)])
        one.add(hashes)
        held += len(hashes)
    assert one.is_made
    assert one.may_hold(some_hashes(50_000, 3)).all()
    assert one.may_hold(some_hashes(100_000, 99)).mean() < 0.06


def test_one_that_cannot_grow_is_made_anew_now_and_then_for_who_is_gone() -> None:
    one, asked = UidFilter(2**10), []
    make(one, 100, [some_hashes(100)])
    for seed in range(1, 60):
        asked.append(one.is_wanted(10**6, 0))
        if asked[-1]:
            make(one, 100, [some_hashes(100, seed)])
        one.add(some_hashes(100, seed))
        assert one.may_hold(some_hashes(100, seed)).all()
    assert 10 < sum(asked) < 20, "when it is full, and twice as full as it was"


@pytest.mark.parametrize("bytes_max", [0, 8, 63])
def test_without_memory_there_is_none(bytes_max: int) -> None:
    one = UidFilter(bytes_max)
    assert not one.is_wanted(10**9, 10**9)


def test_it_waits_until_it_is_worth_its_price() -> None:
    one = UidFilter(2**26)
    assert not one.is_wanted(30_000, 10**5), "too little is held"
    assert not one.is_wanted(16 * 10**6, 8 * 10**5)
    assert one.is_wanted(16 * 10**6, 10**5), "in all a sixteenth was asked for in vain"
    make(one, 0, [])
    assert one.may_hold(some_hashes(100)).sum() == 0
    one.forget()
    assert not one.is_made
    assert one.may_hold(some_hashes(100)).all()


def test_it_is_made_beside_other_work() -> None:
    one, step = made(some_hashes(1_000), 2**22), 2**60
    before, new, young = some_hashes(400_000, 5), some_hashes(100, 6), some_hashes(1_000, 8)
    one.begin(10**6, [young])
    for number in range(16):
        assert one.is_made
        assert one.is_growing
        assert one.cursor == number * step
        assert not one.is_wanted(10**6, 10**6), "it is under way"
        one.take(
            before[np.searchsorted(before, number * step) : np.searchsorted(before, (number + 1) * step - 1, "right")]
        )
        if number == 8:
            one.add(new)
            assert one.may_hold(new).all(), "who is new is held at once"
        one.passed((number + 1) * step - 1)
    assert not one.is_growing
    assert one.may_hold(before).all()
    assert one.may_hold(new).all()
    assert one.may_hold(young).all()
    assert one.may_hold(some_hashes(100_000, 7)).mean() < 0.05


def test_one_of_the_same_size_is_not_kept_beside_it() -> None:
    one = made(some_hashes(1_000), 2**10)
    one.begin(1_000, [])
    assert not one.is_made
    assert one.may_hold(some_hashes(100, 9)).all(), "until it is made everybody is looked up"
