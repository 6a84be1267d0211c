"""Uids in one piece of memory behave as the list that they were made of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniqdb.uid_batch import UidBatch, Uids, chosen, encoded_at, first_of_each, joined, texts
from uniqdb.uid_cache import UidCache

uids = st.lists(
    st.one_of(
        st.text(st.sampled_from("ab\0é€\U0001f600"), min_size=1, max_size=12),
        st.sampled_from(["x" * 8, "y" * 64, "z" * 65, "é" * 512]),
    ),
    max_size=40,
)


@given(uids, st.randoms())
def test_it_behaves_as_the_list(wanted: list[str], random: "np.random.Generator") -> None:
    batch = UidBatch.of(wanted)
    assert list(batch) == wanted
    assert len(batch) == len(wanted)
    assert [batch[at] for at in range(len(wanted))] == wanted
    positions = np.array([at for at in range(len(wanted)) if random.random() < 0.5], np.int64)
    assert texts(batch, positions) == texts(wanted, positions) == [wanted[at] for at in positions.tolist()]
    mask = np.zeros(len(wanted), np.bool_)
    mask[positions] = True
    assert list(chosen(batch, mask)) == chosen(wanted, mask)


@given(st.lists(st.tuples(uids, st.booleans()), max_size=5))
def test_parts_are_joined_in_their_order(parts: list[tuple[list[str], bool]]) -> None:
    made: list[Uids] = [UidBatch.of(part) if is_batch else part for part, is_batch in parts]
    whole = joined(made)
    assert list(whole) == [uid for part, _ in parts for uid in part]
    assert isinstance(whole, UidBatch) == any(is_batch and part for part, is_batch in parts)


@given(uids, uids)
def test_a_batch_is_found_as_its_list_is(known: list[str], asked: list[str]) -> None:
    known = list(dict.fromkeys(known))
    by_list, by_batch = UidCache(), UidCache()
    by_list.add(known, np.arange(len(known)))
    by_batch.add(UidBatch.of(known), np.arange(len(known)))
    expected = [known.index(uid) if uid in known else -1 for uid in asked]
    for cache in (by_list, by_batch):
        assert cache.find(asked).tolist() == cache.find(UidBatch.of(asked)).tolist() == expected


def test_what_has_no_bytes_cannot_be_in_one() -> None:
    with pytest.raises(UnicodeEncodeError):
        UidBatch.of(["\ud800"])


@given(st.lists(st.sampled_from([b"a", b"b", b"ab", b"c"]), min_size=1), st.booleans())
def test_the_first_of_each_uid_is_told_whatever_their_hashes(uids: list[bytes], collide: bool) -> None:
    hashes = np.array([0 if collide else len(uid) * 1_000 + uid[0] for uid in uids], np.uint64)
    firsts, which = first_of_each(uids, hashes)
    different = list(dict.fromkeys(uids))
    assert [uids[at] for at in firsts.tolist()] == different
    assert firsts.tolist() == [uids.index(uid) for uid in different]
    assert which.tolist() == [different.index(uid) for uid in uids]


def test_bytes_at_positions() -> None:
    uids = ["zürich", "b", "\U0001f600", "d" * 300]
    for some in (uids, UidBatch.of(uids)):
        assert encoded_at(some, np.array([3, 0, 2])) == [uids[at].encode() for at in (3, 0, 2)]
