"""Sets of members that questions have asked for, kept for the next question."""

from collections import OrderedDict

from pyroaring import BitMap

from uniqdb.bucket_members import inline_members, load_members
from uniqdb.format import BucketRow, FragmentEntry, MembersState, bucket_key
from uniqdb.granularity import Bucket
from uniqdb.limits import MEMBERS_CACHE_BYTES
from uniqdb.store import ReadView


class MembersCache:
    """Sets of kept buckets, bounded, keyed by the fragments they were made of: a commit elsewhere keeps them valid."""

    def __init__(self, size_bytes: int = MEMBERS_CACHE_BYTES) -> None:
        self._size_bytes_max, self._size_bytes = size_bytes, 0
        self._sets: OrderedDict[bytes, tuple[tuple[FragmentEntry, ...], BitMap, int]] = OrderedDict()

    def members(self, view: ReadView, bucket: Bucket, row: BucketRow) -> BitMap:
        """The members of a bucket that has them, by its row. Shared, not to be changed."""
        key = bucket_key(bucket.granularity, bucket.start_s)
        if row.members is MembersState.INLINE:
            return inline_members(key, row)
        directory = view.directory(key)
        found = self._sets.get(key)
        if found is not None and directory is not None and found[0] == directory.fragments:
            self._sets.move_to_end(key)
            return found[1]
        members = load_members(view, key, row)
        if directory is not None:
            size_bytes = directory.payload_bytes + 200
            if found is not None:
                self._size_bytes -= found[2]
            self._sets[key] = (directory.fragments, members, size_bytes)
            self._sets.move_to_end(key)
            self._size_bytes += size_bytes
            while self._size_bytes > self._size_bytes_max and len(self._sets) > 1:
                self._size_bytes -= self._sets.popitem(last=False)[1][2]
        return members
