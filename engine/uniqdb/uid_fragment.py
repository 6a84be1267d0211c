"""The payload of a dictionary fragment: sorted columns over numpy views, probing by batch, merging, cutting.

Payload: entries (u32), blob_bytes (u32), then the columns hash (u64), offset (u32), ordinal (u32), length (u16), all
sorted by hash, then the uids' bytes (the blob). ``offset`` points into the blob, whose order is free: merging fragments
joins their blobs and only the columns are sorted.
"""

from collections.abc import Sequence
from struct import Struct

import msgspec
import numpy as np
import numpy.typing as npt

from uniqdb.errors import StoreCorrupt
from uniqdb.uid_batch import UidBatch, are_equal, assert_inside, gather, offsets_of, order_of, words_of

U64Array = npt.NDArray[np.uint64]
U32Array = npt.NDArray[np.uint32]
I64Array = npt.NDArray[np.int64]

_HEAD = Struct("<II")
ENTRY_BYTES = 8 + 4 + 4 + 2
"""Bytes of an entry's columns, without its uid."""


class UidColumns(msgspec.Struct, frozen=True):
    """A fragment as arrays. Over LMDB's memory they are valid only inside the read transaction."""

    hashes: U64Array
    offsets: U32Array
    ordinals: U32Array
    lengths: npt.NDArray[np.uint16]
    blob: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.hashes)

    @classmethod
    def parse(cls, payload: bytes | memoryview) -> "UidColumns":
        """Views of the columns of a verified payload. Raises StoreCorrupt if it is not as long as it says."""
        if len(payload) != size_bytes_of(payload[: _HEAD.size]):
            raise StoreCorrupt("a fragment of the dictionary has a wrong length", hint="run `uniqdb check`")
        count, blob_bytes = _HEAD.unpack_from(payload)
        at = column_offsets(count)
        return cls(
            np.frombuffer(payload, np.uint64, count, at[0]),
            np.frombuffer(payload, np.uint32, count, at[1]),
            np.frombuffer(payload, np.uint32, count, at[2]),
            np.frombuffer(payload, np.uint16, count, at[3]),
            np.frombuffer(payload, np.uint8, blob_bytes, at[4]),
        )

    def pack(self) -> bytes:
        """The payload."""
        return b"".join(
            (
                _HEAD.pack(len(self.hashes), len(self.blob)),
                self.hashes.tobytes(),
                self.offsets.tobytes(),
                self.ordinals.tobytes(),
                self.lengths.tobytes(),
                self.blob.tobytes(),
            )
        )

    def cut(self, start: int, end: int) -> "UidColumns":
        """The entries ``[start, end)`` with a blob of their own: a part of this one where they stand in order."""
        lengths, offsets = self.lengths[start:end], self.offsets[start:end]
        at = offsets_of(lengths)
        if len(offsets) and (offsets - offsets[0] == at).all():
            first, size_bytes = int(offsets[0]), int(at[-1]) + int(lengths[-1])
            assert_inside(offsets[-1:], lengths[-1:], len(self.blob))
            blob = self.blob[first : first + size_bytes]
        else:
            blob = gather(self.blob, offsets, lengths)
        return UidColumns(self.hashes[start:end], at, self.ordinals[start:end], lengths, blob)

    def between(self, first_hash: int, last_hash: int) -> "UidColumns":
        """The entries with hashes in ``[first_hash, last_hash]``, with a blob of their own."""
        start = int(np.searchsorted(self.hashes, np.uint64(first_hash)))
        return self.cut(start, int(np.searchsorted(self.hashes, np.uint64(last_hash), "right")))

    def only(self, keep: npt.NDArray[np.bool_] | I64Array) -> "UidColumns":
        """The entries that are to be kept, by a mask or by positions that ascend; with a blob of their bytes alone."""
        lengths = self.lengths[keep]
        blob = gather(self.blob, self.offsets[keep], lengths)
        return UidColumns(self.hashes[keep], offsets_of(lengths), self.ordinals[keep], lengths, blob)

    def uids(self, which: I64Array) -> list[bytes]:
        """The uids of the entries with these positions."""
        offsets, lengths = self.offsets[which].tolist(), self.lengths[which].tolist()
        blob = self.blob.tobytes() if len(which) * 4 > len(self) else self.blob.data
        return [bytes(blob[at : at + size]) for at, size in zip(offsets, lengths, strict=True)]


def entries_in(payload: bytes | memoryview) -> int:
    """How many entries a payload says it has; 0 if it is not even as long as its head."""
    return int(_HEAD.unpack_from(payload)[0]) if len(payload) >= _HEAD.size else 0


def blob_bytes_in(payload: bytes | memoryview) -> int:
    """How many bytes of uids a payload says it has."""
    return int(_HEAD.unpack_from(payload)[1])


def size_bytes_of(head: bytes | memoryview) -> int:
    """How long a payload is that begins like this; 0 if that is no head."""
    if len(head) < _HEAD.size:
        return 0
    count, blob_bytes = _HEAD.unpack_from(head)
    return column_offsets(count)[-1] + int(blob_bytes)


def column_offsets(count: int) -> tuple[int, int, int, int, int]:
    """Where hash, offset, ordinal, length and blob begin in the payload of so many entries."""
    hash_at = _HEAD.size
    offset_at = hash_at + 8 * count
    ordinal_at = offset_at + 4 * count
    length_at = ordinal_at + 4 * count
    return hash_at, offset_at, ordinal_at, length_at, length_at + 2 * count


def from_uids(query: "Query", ordinals: U32Array) -> UidColumns:
    """A fragment of these uids, which are sorted by hash."""
    lengths = query.lengths.astype(np.uint16)
    return UidColumns(query.hashes, offsets_of(lengths), ordinals, lengths, gather(query.raw, query.starts, lengths))


def merge(parts: Sequence[UidColumns]) -> UidColumns:
    """All entries of the fragments, sorted by hash; the blobs are joined as they are."""
    if len(parts) == 1:
        return parts[0]
    hashes = np.concatenate([part.hashes for part in parts])
    # The stable sort finds the runs that are sorted already: merging four costs a tenth of sorting anew.
    order = np.argsort(hashes, kind="stable")
    bases = np.cumsum([0] + [len(part.blob) for part in parts])
    offsets = np.concatenate(
        [part.offsets + np.uint32(base) for part, base in zip(parts, bases[:-1].tolist(), strict=True)]
    )
    return UidColumns(
        hashes[order],
        offsets[order],
        np.concatenate([part.ordinals for part in parts])[order],
        np.concatenate([part.lengths for part in parts])[order],
        np.concatenate([part.blob for part in parts]),
    )


class Query(msgspec.Struct, frozen=True):
    """A batch of uids to look up: their hashes, and where the bytes of each begin, and how many they are."""

    hashes: U64Array
    raw: npt.NDArray[np.uint8]
    """All bytes, behind eight that are nobody's: see `are_equal`."""
    starts: I64Array
    lengths: I64Array

    @classmethod
    def at(cls, batch: UidBatch, positions: I64Array, hashes: U64Array) -> "Query":
        """Those at these positions of a batch, with their hashes. Cost: a copy of all bytes."""
        raw, starts = np.concatenate([_NOBODY, batch.raw]), batch.starts[positions] + len(_NOBODY)
        return cls(hashes, raw, starts, batch.lengths[positions].astype(np.int64))

    @classmethod
    def of(cls, uids: Sequence[bytes], hashes: U64Array) -> "Query":
        """The uids with their hashes."""
        lengths = np.fromiter(map(len, uids), np.int64, len(uids))
        raw = np.frombuffer(b"".join([_NOBODY.tobytes(), *uids]), np.uint8)
        return cls(hashes, raw, np.cumsum(lengths) - lengths + len(_NOBODY), lengths)

    def __len__(self) -> int:
        return len(self.hashes)

    def between(self, start: int, end: int) -> "Query":
        """The part ``[start, end)``."""
        return Query(self.hashes[start:end], self.raw, self.starts[start:end], self.lengths[start:end])

    def only(self, rows: I64Array) -> "Query":
        """The part at these positions."""
        return Query(self.hashes[rows], self.raw, self.starts[rows], self.lengths[rows])

    def uid(self, row: int) -> bytes:
        """The uid at a position."""
        start = int(self.starts[row])
        return self.raw[start : start + int(self.lengths[row])].tobytes()

    def are_at(self, words: U64Array, starts: I64Array, lengths: I64Array) -> npt.NDArray[np.bool_]:
        """Which uids are the bytes that stand from these starts on, for these lengths, in the memory of these words."""
        equal: npt.NDArray[np.bool_] = lengths == self.lengths
        rows = np.flatnonzero(equal)
        both = starts[rows], self.starts[rows]
        equal[rows] = are_equal((words, words_of(self.raw)), both, lengths[rows])
        return equal

    def batch(self) -> UidBatch:
        """The uids in one piece. Cost: a copy of their bytes."""
        lengths = self.lengths.astype(np.uint16)
        return UidBatch(gather(self.raw, self.starts, lengths), lengths, self.hashes)


_NOBODY = np.zeros(8, np.uint8)


def first_of_each(query: Query) -> tuple[I64Array, I64Array]:
    """Where each different uid appears first, sorted by hash, and for each uid the number of its own among those.

    Equal uids are found by their hashes; what has the same hash is compared. Cost: a sort of the hashes.
    """
    order = order_of(query.hashes)
    ordered, is_first = query.hashes[order], np.ones(len(query), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    again = np.flatnonzero(~is_first)
    twins = query.only(order[again - 1])
    if not query.only(order[again]).are_at(words_of(query.raw), twins.starts, twins.lengths).all():
        return _first_of_each_by_bytes(query)  # different uids with one hash: almost never
    which = np.empty(len(query), np.int64)
    which[order] = np.cumsum(is_first) - 1
    return order[is_first], which  # of equal hashes the first is the first in their order


def _first_of_each_by_bytes(query: Query) -> tuple[I64Array, I64Array]:
    uids = [query.uid(row) for row in range(len(query))]
    first: dict[bytes, int] = {}
    for row, uid in enumerate(uids):
        first.setdefault(uid, row)
    rows = np.fromiter(first.values(), np.int64)
    rows = rows[np.argsort(query.hashes[rows], kind="stable")]
    numbers = {uids[row]: number for number, row in enumerate(rows.tolist())}
    return rows, np.fromiter(map(numbers.__getitem__, uids), np.int64)
