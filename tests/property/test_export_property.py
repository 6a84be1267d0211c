"""Whatever a store holds: what is exported is what sets say, however little of it may be held at a time."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

import uniqdb
from engines import assert_sound, options
from model import GRANULARITIES, Model
from uniqdb.exporting import bucket_sets, member_groups, uid_batches

ZONES = st.sampled_from(["UTC", "Europe/Zurich", "Australia/Lord_Howe", "Asia/Kathmandu"])
TIMES = st.integers(1_159_000_000, 1_159_000_000 + 60 * 86_400)  # over a change of the clocks in several of them
UIDS = st.one_of(st.integers(0, 90).map(str), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9))
BATCHES = st.lists(st.lists(st.tuples(TIMES, UIDS), max_size=150), min_size=1, max_size=4)
HELD_BYTES = st.sampled_from([1, 1_000, 10_000, 10**8])


def members_of(snapshot: uniqdb.Snapshot, kind: str, held_bytes: int) -> dict[tuple[str, int], list[str]]:
    """The members of each bucket, as lists: nobody comes twice. Buckets ascend, also over the edges of groups."""
    found: dict[tuple[str, int], list[str]] = {}
    last_s = 0
    for group in member_groups(snapshot, bucket_sets(snapshot, kind), held_bytes=held_bytes):
        seen = set()
        for record, places in group.buckets:
            assert record.start_ts >= last_s
            last_s = record.start_ts
            seen.add(last_s)
            uids = [group.uids[place].decode() for place in places.tolist()]
            found.setdefault((kind, record.start_ts), []).extend(uids)
        # What is held is bounded, unless one bucket alone is larger, of which a fragment's worth is held.
        assert len(seen) == 1 or len(group.uids) <= max(held_bytes // 130, 1)
    return found


@settings(max_examples=30)
@given(zone=ZONES, batches=BATCHES, held_bytes=HELD_BYTES)
def test_exports_are_what_sets_say(zone: str, batches: list[list[tuple[int, str]]], held_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, model = Path(folder) / "store", Model(zone)
        with uniqdb.open(path, options=options(40), timezone=zone) as db:
            for batch in batches:
                columns = [time_s for time_s, _ in batch], [uid for _, uid in batch]
                db.add_many(*columns)
                db.commit()
                model.add(*columns)
        with uniqdb.open(path, read_only=True) as db, db.snapshot() as snapshot:
            if not model.members:
                with pytest.raises(uniqdb.NotFound):
                    bucket_sets(snapshot, "day")
                return
            for kind in GRANULARITIES:
                truth = {bucket: uids for bucket, uids in model.members.items() if bucket[0] == kind}
                sets = {(kind, one.start_ts): (one, members) for one, members in bucket_sets(snapshot, kind)}
                names = names_of(snapshot, BitMap.union(BitMap(), *(members for _, members in sets.values())))
                assert {key: {names[one] for one in members} for key, (_, members) in sets.items()} == truth
                assert [one for one, _ in sets.values()] == list(snapshot.series(kind))
                assert all(one.count == len(members) for one, members in sets.values())
                found = members_of(snapshot, kind, held_bytes)
                assert {key: sorted(uids) for key, uids in found.items()} == {
                    key: sorted(uids) for key, uids in truth.items()
                }
        assert_sound(path)


def names_of(snapshot: uniqdb.Snapshot, ordinals: BitMap) -> dict[int, str]:
    pairs = [
        (ordinal, uid.decode())
        for numbers, uids in uid_batches(snapshot, ordinals)
        for ordinal, uid in zip(numbers.tolist(), uids, strict=True)
    ]
    assert len(dict(pairs)) == len(pairs) == len(ordinals)
    return dict(pairs)
