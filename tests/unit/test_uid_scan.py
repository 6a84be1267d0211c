"""Large batches in one fragment after the other: against a dict, whatever the hashes and lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniqdb.errors import StoreCorrupt
from uniqdb.uid_fragment import Query, UidColumns, from_uids
from uniqdb.uid_scan import UidScan

uids = st.one_of(st.binary(min_size=1, max_size=30), st.sampled_from([b"x" * 8, b"y" * 9, b"z" * 300]))


def fragment(uids: list[bytes], hashes: list[int], first_ordinal: int) -> UidColumns:
    query = Query.of(uids, np.array(hashes, np.uint64))
    order = np.argsort(query.hashes, kind="stable")
    return from_uids(query.only(order), (first_ordinal + order).astype(np.uint32))


@given(
    st.lists(st.lists(uids, min_size=1, max_size=30, unique=True), min_size=1, max_size=5),
    st.lists(uids, max_size=40, unique=True),
    st.sampled_from([1, 2, 50, 2**64]),
)
def test_who_is_there_is_found_and_nobody_else(parts: list[list[bytes]], others: list[bytes], hashes: int) -> None:
    def hash_of(uid: bytes) -> int:
        return int.from_bytes(uid[:8], "big") % hashes

    truth: dict[bytes, int] = {}
    payloads = []
    for part in parts:
        new = [uid for uid in part if uid not in truth]
        if new:
            payloads.append(memoryview(fragment(new, list(map(hash_of, new)), len(truth)).pack()))
            truth |= {uid: len(truth) + number for number, uid in enumerate(new)}
    asked = sorted({*truth, *others}, key=hash_of)
    query = Query.of(asked, np.array(list(map(hash_of, asked)), np.uint64))
    told_apart: list[bytes] = []

    def one(uid: bytes, uid_hash: int) -> int:
        assert uid_hash == hash_of(uid)
        told_apart.append(uid)
        return truth.get(uid, -1)

    scan, rest = UidScan(query), np.arange(len(asked))
    for payload in payloads:
        rest = scan.look(payload, rest)
        assert (np.diff(rest) > 0).all()
    assert scan.found(one).tolist() == [truth.get(uid, -1) for uid in asked]
    assert {asked[row] for row in rest.tolist()} == {
        uid for uid in asked if hash_of(uid) not in set(map(hash_of, truth))
    }
    if len(set(map(hash_of, asked))) == len(asked):
        assert not told_apart, "one by one only where hashes are equal"


def test_what_points_outside_is_damage() -> None:
    columns = fragment([b"abc", b"def"], [1, 2], 0)
    columns.offsets.flags.writeable = True
    columns.offsets[1] = 4
    scan = UidScan(Query.of([b"def"], np.array([2], np.uint64)))
    scan.look(memoryview(columns.pack()), np.arange(1))
    with pytest.raises(StoreCorrupt, match="outside"):
        scan.found(lambda _uid, _hash: -1)
