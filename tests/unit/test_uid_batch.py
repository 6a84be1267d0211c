"""Uids in one piece of memory behave as the list that they were made of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from uniqdb.uid_batch import UidBatch, Uids, are_equal, chosen, hashes_of, joined, order_of, texts, words_of
from uniqdb.uid_cache import UidCache
from uniqdb.uid_fragment import Query, first_of_each

SEED = 2**64 - 5

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


@given(uids, st.booleans(), st.randoms())
def test_hashes_go_with_their_uids(wanted: list[str], is_whole: bool, random: "np.random.Generator") -> None:
    def hashed(some: list[str]) -> UidBatch:
        batch = UidBatch.of(some)
        batch.hashes = hashes_of([uid.encode() for uid in some], SEED)
        return batch

    batch = hashed(wanted)
    mask = np.array([random.random() < 0.5 for _ in wanted], np.bool_)
    kept = chosen(batch, mask)
    expected = [xxh3_64_intdigest(uid.encode(), SEED) for uid in kept]
    assert isinstance(kept, UidBatch)
    if expected:
        assert kept.hashes is not None
        assert kept.hashes.tolist() == expected
    both = joined([hashed(["a"]), batch, hashed(["b"]) if is_whole else UidBatch.of(["b"])])
    assert isinstance(both, UidBatch)
    if is_whole:
        assert both.hashes is not None
        assert both.hashes.tolist() == [xxh3_64_intdigest(uid.encode(), SEED) for uid in ["a", *wanted, "b"]]
    else:
        assert both.hashes is None, "who has them only for some has none"


@given(st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 5), st.just(7 << 32 | 1), st.just(7 << 32))))
def test_hashes_are_put_in_order_and_equal_ones_stay(hashes: list[int]) -> None:
    expected = sorted(range(len(hashes)), key=hashes.__getitem__)
    assert order_of(np.array(hashes, np.uint64)).tolist() == expected


@given(st.lists(st.tuples(st.binary(max_size=40), st.integers(-1, 40), st.booleans())))
def test_bytes_are_equal_where_all_of_them_are(pairs: list[tuple[bytes, int, bool]]) -> None:
    some = [one for one, _, _ in pairs]
    others = [one[:at] + bytes([one[at] ^ 1]) + one[at + 1 :] if 0 <= at < len(one) else one for one, at, _ in pairs]
    lengths = np.array(list(map(len, some)), np.int64)

    def laid_out(uids: list[bytes], before: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Between other bytes, which must not matter."""
        starts = np.cumsum([8] + [len(uid) + len(before) for uid in uids])[:-1]
        raw = b"-" * 8 + b"".join(uid + before for uid in uids)
        return words_of(np.frombuffer(raw, np.uint8)), starts

    one, other = laid_out(some, b"+"), laid_out(others, b"?")
    equal = are_equal((one[0], other[0]), (one[1], other[1]), lengths)
    assert equal.tolist() == [first == second for first, second in zip(some, others, strict=True)]


@given(st.lists(st.sampled_from([b"a", b"b", b"ab", b"c"])), st.sampled_from([1, 2, 2**60]))
def test_the_first_of_each_uid_is_told_whatever_their_hashes(uids: list[bytes], hashes: int) -> None:
    by_uid = {b"a": 3, b"b": 2, b"ab": 1, b"c": 3}
    query = Query.of(uids, np.array([by_uid[uid] % hashes for uid in uids], np.uint64))
    firsts, which = first_of_each(query)
    assert sorted(firsts.tolist()) == sorted(uids.index(uid) for uid in set(uids))
    assert (np.diff(query.hashes[firsts].astype(np.int64)) >= 0).all(), "sorted by hash"
    assert [uids[firsts[number]] for number in which.tolist()] == uids


def test_bytes_at_positions() -> None:
    uids = ["zürich", "b", "\U0001f600", "d" * 300]
    positions, batch = np.array([3, 0, 2]), UidBatch.of(uids)
    expected = [uids[at].encode() for at in (3, 0, 2)]
    assert batch.encoded(positions) == expected
    query = Query.at(batch, positions, np.arange(3, dtype=np.uint64))
    assert [query.uid(row) for row in range(3)] == expected
    assert list(query.batch()) == [uids[at] for at in (3, 0, 2)]
