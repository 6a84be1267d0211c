"""Bytes on disk: every flipped bit of a row or fragment is seen; keys sort as numbers; rows come back."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniqdb.calendar_zone import CalendarZone
from uniqdb.errors import StoreCorrupt
from uniqdb.format import (
    BucketRow,
    Database,
    DictionaryRow,
    Directory,
    FragmentEntry,
    FragmentId,
    FragmentView,
    MembersState,
    Status,
    bucket_key,
    fragment_key,
    open_row,
    parse_bucket_key,
    partition_key,
    seal_fragment,
    seal_row,
)
from uniqdb.granularity import Granularity
from uniqdb.limits import CHECKSUM_BLOCK_BYTES, EVENT_TIME_S_MAX, EVENT_TIME_S_MIN

KEY = bucket_key(Granularity.DAY, 1_468_195_200)


@given(st.binary(min_size=1, max_size=40), st.data())
def test_a_flipped_bit_of_a_row_is_seen(payload: bytes, data: st.DataObject) -> None:
    value = bytearray(seal_row(Database.BUCKETS, KEY, payload))
    assert open_row(Database.BUCKETS, KEY, value) == payload
    bit = data.draw(st.integers(0, len(value) * 8 - 1))
    value[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StoreCorrupt, match="buckets/03"):
        open_row(Database.BUCKETS, KEY, value)


def test_a_row_under_another_key_or_database_does_not_verify() -> None:
    value = seal_row(Database.BUCKETS, KEY, b"payload")
    for database, key in ((Database.UNITS, KEY), (Database.BUCKETS, bucket_key(Granularity.DAY, 0))):
        with pytest.raises(StoreCorrupt):
            open_row(database, key, value)
    with pytest.raises(StoreCorrupt):
        open_row(Database.BUCKETS, KEY, b"short")


@pytest.mark.parametrize("size", [0, 1, 4_000, CHECKSUM_BLOCK_BYTES, CHECKSUM_BLOCK_BYTES + 1, 300_000])
def test_a_flipped_bit_of_a_fragment_is_seen_where_it_is_read(size: int) -> None:
    payload = os.urandom(size)
    sealed = seal_fragment(Database.UIDS, KEY, payload)
    view = FragmentView(Database.UIDS, KEY, memoryview(sealed), None)
    assert bytes(view.whole()) == payload
    for at in {0, 5, 9, 13, 17, len(sealed) // 2, len(sealed) - 1} & set(range(len(sealed))):
        damaged = bytearray(sealed)
        damaged[at] ^= 0x10
        with pytest.raises(StoreCorrupt):
            FragmentView(Database.UIDS, KEY, memoryview(damaged), None).whole()


def test_only_the_blocks_that_are_read_are_verified_and_each_once() -> None:
    payload = os.urandom(5 * CHECKSUM_BLOCK_BYTES)
    damaged = bytearray(seal_fragment(Database.UIDS, KEY, payload))
    damaged[-1] ^= 1
    view = FragmentView(Database.UIDS, KEY, memoryview(damaged), None)
    assert bytes(view.part(10, 20)) == payload[10:20]
    assert bytes(view.verified) == b"\1\0\0\0\0"
    again = FragmentView(Database.UIDS, KEY, memoryview(damaged), view.verified)
    across = CHECKSUM_BLOCK_BYTES - 1, CHECKSUM_BLOCK_BYTES + 1
    assert bytes(again.part(*across)) == payload[slice(*across)]
    with pytest.raises(StoreCorrupt, match="block 4"):
        again.whole()
    with pytest.raises(StoreCorrupt, match="outside"):
        again.part(0, len(payload) + 1)


def test_a_cut_off_fragment_is_seen() -> None:
    sealed = seal_fragment(Database.DAY, KEY, os.urandom(200_000))
    for size in (0, 5, 15, 16, 40, len(sealed) - 1):
        with pytest.raises(StoreCorrupt):
            FragmentView(Database.DAY, KEY, memoryview(sealed[:size]), None).whole()


STARTS_S = st.integers(946_684_800, 253_370_764_799)


@given(st.lists(st.tuples(st.sampled_from(list(Granularity)), STARTS_S), min_size=2, max_size=2))
def test_keys_sort_as_their_buckets(buckets: list[tuple[Granularity, int]]) -> None:
    first, second = buckets
    assert (bucket_key(*first) < bucket_key(*second)) == (first < second)
    assert parse_bucket_key(bucket_key(*first)) == first


@pytest.mark.parametrize("zone", ["Pacific/Apia", "Pacific/Niue", "America/New_York", "UTC", "Pacific/Kiritimati"])
@pytest.mark.parametrize("time_s", [EVENT_TIME_S_MIN, EVENT_TIME_S_MAX - 1])
def test_keys_of_the_first_and_last_visits_come_back(zone: str, time_s: int) -> None:
    """The first visits lie in 1999 by some calendars, and so do the beginnings of their months and years."""
    calendar = CalendarZone.from_name(zone)
    for granularity in Granularity:
        start_s = calendar.bucket_at(granularity, time_s).start_s
        assert parse_bucket_key(bucket_key(granularity, start_s)) == (granularity, start_s)


def test_rows_come_back() -> None:
    entries = tuple(FragmentEntry(FragmentId(2**40 + n, n), n, 2**32 - 1) for n in range(5))
    directory = Directory(entries, 2**64 - 1)
    assert Directory.unpack(KEY, directory.pack()) == directory
    row = BucketRow(2**32, 2**60, 7, 60, Status.AMENDED, MembersState.SWEPT)
    assert BucketRow.unpack(KEY, row.pack()) == row
    state = DictionaryRow(1, 2, 3, 2**64 - 1)
    assert DictionaryRow.unpack(state.pack()) == state
    with pytest.raises(StoreCorrupt):
        Directory.unpack(KEY, directory.pack()[:-1])
    with pytest.raises(StoreCorrupt):
        BucketRow.unpack(KEY, row.pack() + b"\0")


def test_fragments_of_one_unit_lie_together() -> None:
    name = FragmentId(3, 1)
    assert fragment_key(KEY, name)[:8] == KEY[1:]
    assert fragment_key(partition_key(5), name)[:9] == partition_key(5)
    assert len(fragment_key(KEY, name)) == 18
