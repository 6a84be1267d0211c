"""Units written whole, each as one fragment: what every new data file is made of, whatever it was before."""

from collections.abc import Iterator

from pyroaring import BitMap

from uniqdb.bucket_members import encode_members
from uniqdb.format import (
    YOUNG_KEY,
    BucketRow,
    Database,
    Directory,
    FragmentEntry,
    FragmentId,
    MembersState,
    fragment_key,
    partition_key,
    seal_fragment,
    seal_row,
)
from uniqdb.fresh_data import FreshData
from uniqdb.granularity import Granularity
from uniqdb.limits import INLINE_MEMBERS_MAX
from uniqdb.options import DictionarySizes
from uniqdb.uid_fragment import UidColumns
from uniqdb.uid_upkeep import pieces_of


def bucket_rows(
    key: bytes, row: BucketRow, members: BitMap | None, commit_number: int
) -> Iterator[tuple[Database, bytes, bytes]]:
    """Everything that a bucket consists of: its row last, which has few members in itself. None: they were swept."""
    if members is None:
        row = row._replace(members=MembersState.SWEPT, inline=b"")
    elif len(members) <= INLINE_MEMBERS_MAX:
        row = row._replace(members=MembersState.INLINE, inline=members.to_array().tobytes())
    else:
        row = row._replace(members=MembersState.KEPT, inline=b"")
        database, name = Database.of(Granularity(key[0])), FragmentId(commit_number, 0)
        whole_key, payload = fragment_key(key, name), encode_members(members)
        yield database, whole_key, seal_fragment(database, whole_key, payload)
        directory = Directory((FragmentEntry(name, len(members), len(payload)),))
        yield Database.UNITS, key, seal_row(Database.UNITS, key, directory.pack())
    yield Database.BUCKETS, key, seal_row(Database.BUCKETS, key, row.pack())


def put_empty_young_unit(fresh: FreshData) -> None:
    """The young unit of a dictionary whose uids are all in its partitions."""
    fresh.put(Database.UNITS, YOUNG_KEY, seal_row(Database.UNITS, YOUNG_KEY, Directory().pack()))


def put_partitions(
    fresh: FreshData,
    hashes: tuple[int, int],
    columns: UidColumns | None,
    sizes: DictionarySizes,
    commit_number: int,
) -> None:
    """The uids with hashes in a range, both ends inclusive, in as many partitions as they take; None: none."""
    whole = [(*hashes, 0, 0)]
    for low, high, start, end in whole if columns is None else pieces_of(columns, hashes, sizes):
        key, fragments = partition_key(low), tuple[FragmentEntry, ...]()
        if columns is not None and end > start:
            # Cut, so that its bytes are those of its own uids and no others.
            name, payload = FragmentId(commit_number, 0), columns.cut(start, end).pack()
            whole_key = fragment_key(key, name)
            fresh.put(Database.UIDS, whole_key, seal_fragment(Database.UIDS, whole_key, payload))
            fragments = (FragmentEntry(name, end - start, len(payload)),)
        fresh.put(Database.UNITS, key, seal_row(Database.UNITS, key, Directory(fragments, high).pack()))
