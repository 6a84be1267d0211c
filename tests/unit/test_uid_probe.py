"""Single uids in one fragment, and batches in many: against a dict, whatever the hashes, lengths and order of bytes."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from uniqdb.errors import StoreCorrupt
from uniqdb.format import Database, FragmentView, seal_fragment
from uniqdb.limits import CHECKSUM_BLOCK_BYTES
from uniqdb.uid_fragment import Query, UidColumns, from_uids, merge
from uniqdb.uid_probe import ProbeTable, UidProbe, UidShape

KEY = b"key"
ALL = (0, 2**64 - 1)


def view_of(columns: UidColumns, *, flip: int | None = None) -> FragmentView:
    """The fragment as it stands in a store, at a place where words may begin; with one byte flipped, if asked."""
    sealed = bytearray(seal_fragment(Database.UIDS, KEY, columns.pack()))
    if flip is not None:
        sealed[len(sealed) - len(columns.pack()) + flip] ^= 1
    return FragmentView(Database.UIDS, KEY, memoryview(bytes(sealed)), None)


def uniform(uids: list[bytes]) -> list[int]:
    rng = random.Random(len(uids))
    return [rng.randrange(2**64) for _ in uids]


def crowded(uids: list[bytes]) -> list[int]:
    """Nearly all in one place, so that every guess is wrong."""
    return [2**63 + number for number in range(len(uids) - 1)] + [2**64 - 1]


def equal(uids: list[bytes]) -> list[int]:
    return [7] * len(uids)


def fragment(uids: list[bytes], hashes: list[int], *, in_order: bool = False) -> UidColumns:
    """With the ordinals from 1,000 on; the bytes in the order of the hashes, or in that of the ordinals."""
    query = Query.of(uids, np.array(hashes, np.uint64))
    order = np.argsort(query.hashes, kind="stable")
    columns = from_uids(query.only(order), (1_000 + order).astype(np.uint32))
    if in_order:
        return columns
    blob = np.frombuffer(b"".join(uids), np.uint8)
    return structs.replace(columns, offsets=(query.starts - query.starts[0])[order].astype(np.uint32), blob=blob)


@pytest.mark.parametrize("hash_of", [uniform, crowded, equal])
@pytest.mark.parametrize("count", [1, 2, 7, 300, 5_000])
@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("lengths", [1, 3])
def test_each_uid_is_found_and_no_other(
    hash_of: Callable[[list[bytes]], list[int]], count: int, in_order: bool, lengths: int
) -> None:
    uids = [f"uid-{number:06}".encode() + b"x" * (number % lengths) for number in range(count)]
    hashes = hash_of(uids)
    if hash_of is equal:
        uids, hashes = uids[:300], hashes[:300]
    probe = UidProbe(view_of(fragment(uids, hashes, in_order=in_order)), ALL, UidShape())
    for number, (uid, uid_hash) in enumerate(zip(uids, hashes, strict=True)):
        entry = probe.place(uid, uid_hash)
        assert probe.ordinal(entry) == 1_000 + number
        assert probe.place(uid + b"y", uid_hash) == probe.place(uid[:-1] + b"?", uid_hash) == -1
    assert all(probe.place(b"stranger", uid_hash) == -1 for uid_hash in (0, 1, 2**63, 2**64 - 1))


@pytest.mark.parametrize("in_order", [False, True])
def test_the_shape_is_found_out(in_order: bool) -> None:
    uids = [b"%05d" % number for number in range(100)]
    for more, length in (([], 5), ([b"longer"], 0)):
        shape = UidShape()
        chosen = uids + more
        shape.find_out(view_of(fragment(chosen, uniform(chosen), in_order=in_order)).whole())
        assert (shape.is_known, shape.length, shape.is_in_order) == (True, length, in_order and length == 5)
    parts = [
        fragment(uids[:50], uniform(uids)[:50], in_order=True),
        fragment(uids[50:], uniform(uids)[50:], in_order=True),
    ]
    shape = UidShape()
    shape.find_out(view_of(merge(parts)).whole())
    assert (shape.length, shape.is_in_order) == (5, False)


def test_a_damaged_block_is_refused_and_the_others_answer() -> None:
    uids = [f"visitor-{number:012}".encode() for number in range(20_000)]
    hashes = uniform(uids)
    columns = fragment(uids, hashes, in_order=True)
    payload_bytes = len(columns.pack())
    damaged_block = payload_bytes // CHECKSUM_BLOCK_BYTES - 1
    view = view_of(columns, flip=damaged_block * CHECKSUM_BLOCK_BYTES + 5)
    probe = UidProbe(view, ALL, UidShape())
    answered, refusals = 0, []
    for uid, uid_hash in list(zip(uids, hashes, strict=True))[::50]:
        try:
            assert probe.place(uid, uid_hash) >= 0
            answered += 1
        except StoreCorrupt as error:
            refusals.append(str(error))
    assert answered > len(refusals) > 0
    assert all(f"block {damaged_block}" in refusal for refusal in refusals)
    with pytest.raises(StoreCorrupt):
        ProbeTable().add(view, ALL, UidShape())


def test_what_points_outside_is_damage_although_its_checksum_holds() -> None:
    uids = [b"%05d" % number for number in range(50)]
    hashes = uniform(uids)
    columns = fragment(uids, hashes)
    columns.offsets.flags.writeable = True
    columns.offsets[:] = 10_000
    view = view_of(columns)
    probe, table = UidProbe(view, ALL, UidShape()), ProbeTable()
    with pytest.raises(StoreCorrupt, match="outside"):
        probe.place(uids[0], hashes[0])
    number = table.add(view, ALL, UidShape())
    with pytest.raises(StoreCorrupt, match="outside"):
        table.find(np.array([number]), Query.of(uids[:1], np.array(hashes[:1], np.uint64)), np.arange(1), ordinals=True)


class Region:
    """Memory in which fragments lie side by side, as in LMDB's map."""

    def __init__(self, fragments: list[UidColumns]) -> None:
        sealed = [seal_fragment(Database.UIDS, KEY, columns.pack()) for columns in fragments]
        starts = np.cumsum([0] + [(len(one) + 39) // 16 * 16 for one in sealed]).tolist()
        self._memory = np.zeros(starts[-1], np.uint8)
        self.views: list[FragmentView] = []
        for start, one in zip(starts, sealed, strict=False):
            self._memory[start : start + len(one)] = np.frombuffer(one, np.uint8)
            value = memoryview(self._memory)[start : start + len(one)]
            self.views.append(FragmentView(Database.UIDS, KEY, value, None))


@given(
    st.lists(
        st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=80, unique=True), min_size=1, max_size=6
    ),
    st.sampled_from([2, 1_000, 2**64]),
    st.booleans(),
)
def test_a_batch_is_found_in_many_fragments(parts: list[list[bytes]], hashes: int, in_order: bool) -> None:
    rng = random.Random(3)
    spans = [(2**64 // len(parts) * at, 2**64 // len(parts) * (at + 1) - 1) for at in range(len(parts))]
    truth: dict[tuple[int, bytes], tuple[int, int]] = {}
    fragments = []
    for at, uids in enumerate(parts):
        mine = sorted(rng.randrange(hashes) * (spans[at][1] - spans[at][0]) // hashes + spans[at][0] for _ in uids)
        fragments.append(fragment(uids, mine, in_order=in_order))
        truth |= {
            (at, uid): (uid_hash, 1_000 + number) for number, (uid, uid_hash) in enumerate(zip(uids, mine, strict=True))
        }
    region, table = Region(fragments), ProbeTable()
    numbers = [table.add(view, span, UidShape()) for view, span in zip(region.views, spans, strict=True)]
    assert numbers == list(range(len(parts)))
    # Each uid where it is, and beside it somebody of the same hash who is not there.
    asked = [(at, uid, uid_hash, ordinal) for (at, uid), (uid_hash, ordinal) in truth.items()]
    asked += [(at, uid + b"!", uid_hash, -1) for at, uid, uid_hash, _ in asked if (at, uid + b"!") not in truth]
    rng.shuffle(asked)
    query = Query.of([uid for _, uid, _, _ in asked], np.array([uid_hash for _, _, uid_hash, _ in asked], np.uint64))
    rows, ordinals = table.find(np.array([at for at, _, _, _ in asked]), query, np.arange(len(asked)), ordinals=True)
    assert ordinals is not None
    found = dict(zip(rows.tolist(), ordinals.tolist(), strict=True))
    assert [found.get(place, -1) for place in range(len(asked))] == [ordinal for _, _, _, ordinal in asked]
    again, nothing = table.find(np.array([at for at, _, _, _ in asked]), query, np.arange(len(asked)), ordinals=False)
    assert nothing is None
    assert sorted(again.tolist()) == sorted(rows.tolist())
