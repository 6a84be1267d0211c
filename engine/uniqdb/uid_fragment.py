"""The payload of a dictionary fragment: sorted columns over numpy views, probing by batch, merging, cutting.

Payload: entries (u32), blob_bytes (u32), then the columns hash (u64), offset (u32), ordinal (u32), length (u16), all
sorted by hash, then the uids' bytes (the blob). ``offset`` points into the blob, whose order is free: merging fragments
joins their blobs and only the columns are sorted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

import numpy as np
import numpy.typing as npt

from uniqdb.errors import StoreCorrupt
from uniqdb.uid_batch import gather, offsets_of

U64Array = npt.NDArray[np.uint64]
U32Array = npt.NDArray[np.uint32]
I64Array = npt.NDArray[np.int64]

_HEAD = Struct("<II")
ENTRY_BYTES = 8 + 4 + 4 + 2
"""Bytes of an entry's columns, without its uid."""
_FEW = 16
"""Below this a Python loop is faster than numpy's fixed costs."""


@dataclass(frozen=True, slots=True)
class UidColumns:
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
        """The entries ``[start, end)`` with a blob of their own."""
        lengths = self.lengths[start:end]
        blob = gather(self.blob, self.offsets[start:end], lengths)
        return UidColumns(self.hashes[start:end], offsets_of(lengths), self.ordinals[start:end], lengths, blob)

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


def from_uids(uids: Sequence[bytes], hashes: U64Array, first_ordinal: int) -> UidColumns:
    """A fragment of new uids, which get the ordinals from ``first_ordinal`` on, in their order."""
    lengths = np.fromiter(map(len, uids), np.uint16, len(uids))
    order = np.argsort(hashes, kind="stable")
    ordinals = np.arange(first_ordinal, first_ordinal + len(uids), dtype=np.uint32)
    blob = np.frombuffer(b"".join(uids), np.uint8)
    return UidColumns(hashes[order], offsets_of(lengths)[order], ordinals[order], lengths[order], blob)


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


@dataclass(frozen=True, slots=True)
class Query:
    """A batch of uids to look up; fastest if they are sorted by hash."""

    hashes: U64Array
    uids: Sequence[bytes]
    lengths: npt.NDArray[np.uint16]

    @classmethod
    def of(cls, uids: Sequence[bytes], hashes: U64Array) -> "Query":
        """The uids with their hashes."""
        return cls(hashes, uids, np.fromiter(map(len, uids), np.uint16, len(uids)))

    def between(self, start: int, end: int) -> "Query":
        """The part ``[start, end)``."""
        return Query(self.hashes[start:end], self.uids[start:end], self.lengths[start:end])

    def only(self, rows: I64Array) -> "Query":
        """The part at these positions."""
        return Query(self.hashes[rows], [self.uids[row] for row in rows.tolist()], self.lengths[rows])


def probe(payload: bytes | memoryview, query: Query) -> tuple[I64Array, U32Array]:
    """(positions in the query, ordinals) of the uids that the fragment with this verified payload holds.

    One binary search per uid over the hash column; a match counts only if the bytes are equal. Different uids with
    the same hash stand side by side, so a candidate whose bytes differ is tried again one entry further.
    """
    hashes: U64Array = np.frombuffer(payload, np.uint64, _HEAD.unpack_from(payload)[0], _HEAD.size)
    last = len(hashes) - 1
    entries = np.minimum(hashes.searchsorted(query.hashes), last)
    rows = np.flatnonzero(hashes[entries] == query.hashes)
    if not len(rows):  # the rule, where most fragments of a unit hold none of a small batch
        return rows, np.empty(0, np.uint32)
    entries, columns = entries[rows], UidColumns.parse(payload)
    found_rows: list[I64Array] = []
    found_ordinals: list[U32Array] = []
    while len(rows):
        equal = _equal_uids(columns, entries, query, rows)
        found_rows.append(rows[equal])
        found_ordinals.append(columns.ordinals[entries[equal]])
        rows, entries = rows[~equal], entries[~equal] + 1
        inside = entries <= last
        rows, entries = rows[inside], entries[inside]
        same = columns.hashes[entries] == query.hashes[rows]
        rows, entries = rows[same], entries[same]
    return np.concatenate(found_rows), np.concatenate(found_ordinals)


def _equal_uids(columns: UidColumns, entries: I64Array, query: Query, rows: I64Array) -> npt.NDArray[np.bool_]:
    """Which candidates hold the very bytes asked for."""
    if len(entries) <= _FEW:
        asked = [query.uids[row] for row in rows.tolist()]
        return np.array([one == uid for one, uid in zip(columns.uids(entries), asked, strict=True)])
    lengths = columns.lengths[entries]
    equal: npt.NDArray[np.bool_] = lengths == query.lengths[rows]
    candidates = np.flatnonzero(equal)
    if not len(candidates):
        return equal
    held = gather(columns.blob, columns.offsets[entries[candidates]], lengths[candidates]).tobytes()
    asked = [query.uids[row] for row in rows[candidates].tolist()]
    if held == b"".join(asked):  # the rule: 64-bit hashes of different uids are almost never equal
        return equal
    at = 0
    for candidate, uid in zip(candidates.tolist(), asked, strict=True):
        equal[candidate] = held[at : at + len(uid)] == uid
        at += len(uid)
    return equal
