"""Many uids in one piece of memory: their bytes one behind the other, and how many bytes each has.

As strings of their own uids cost about 50 ns each whenever they are made, joined or handed to another process. What a
process has decoded stays in one piece until it has been looked up.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, compress, repeat
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from xxhash import xxh3_64_intdigest

from uniqdb.errors import StoreCorrupt

I64Array = npt.NDArray[np.int64]
U8Array = npt.NDArray[np.uint8]
U16Array = npt.NDArray[np.uint16]
U64Array = npt.NDArray[np.uint64]
BoolArray = npt.NDArray[np.bool_]
U32Array = npt.NDArray[np.uint32]
_DISTINCT_LENGTHS_MAX = 64
_WORD_BYTES = 8
_COMPARED_AT_ONCE = 2_048


class UidBatch:
    """Uids in their order, each of 1 to 65,535 bytes of UTF-8. Not changed once it is made."""

    __slots__ = ("_starts", "_text", "hashes", "lengths", "raw")

    def __init__(self, raw: U8Array, lengths: U16Array, hashes: U64Array | None = None) -> None:
        """``raw``: all bytes; ``lengths``: of each uid, their sum is that of the bytes; ``hashes``: the store's, of
        each uid, where somebody has them.
        """
        self.raw, self.lengths, self.hashes = raw, lengths, hashes
        self._starts: I64Array | None = None
        self._text: str | None = None

    @classmethod
    def of(cls, uids: Sequence[str]) -> "UidBatch":
        """The batch of these uids. Raises UnicodeEncodeError for a lone surrogate."""
        joined = "".join(uids)
        if joined.isascii():
            return cls(np.frombuffer(joined.encode(), np.uint8), _lengths_of(uids))
        encoded = list(map(str.encode, uids))
        return cls(np.frombuffer(b"".join(encoded), np.uint8), _lengths_of(encoded))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, position: int) -> str:
        start = int(self.starts[position])
        return bytes(self.raw[start : start + int(self.lengths[position])].data).decode()

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts(np.arange(len(self))))

    @property
    def starts(self) -> I64Array:
        """Where the bytes of each uid begin."""
        if self._starts is None:
            self._starts = _starts_of(self.lengths)
        return self._starts

    def texts(self, positions: I64Array) -> list[str]:
        """The uids at these positions as strings. Cost: about 0.1 us each, and once the text of all."""
        if self._text is None:
            self._text = bytes(self.raw.data).decode()
        starts, lengths = self.starts[positions].tolist(), self.lengths[positions].tolist()
        if len(self._text) == len(self.raw):
            text = self._text
            return [text[at : at + size] for at, size in zip(starts, lengths, strict=True)]
        raw = bytes(self.raw.data)
        return [raw[at : at + size].decode() for at, size in zip(starts, lengths, strict=True)]

    def encoded(self, positions: I64Array) -> list[bytes]:
        """The bytes of the uids at these positions. Cost: about 0.1 us each, and once a copy of all."""
        starts, ends = self.starts[positions], self.starts[positions] + self.lengths[positions]
        raw = bytes(self.raw.data)
        return [raw[at:end] for at, end in zip(starts.tolist(), ends.tolist(), strict=True)]

    def chosen(self, wanted: BoolArray) -> "UidBatch":
        """The uids that are wanted. Cost: a copy of their bytes."""
        if not wanted.any():
            return UidBatch(np.empty(0, np.uint8), np.empty(0, np.uint16))
        lengths, hashes = self.lengths[wanted], None if self.hashes is None else self.hashes[wanted]
        return UidBatch(gather(self.raw, self.starts[wanted], lengths), lengths, hashes)


Uids: TypeAlias = list[str] | UidBatch


def _lengths_of(uids: Sequence[str] | Sequence[bytes]) -> U16Array:
    try:
        # Nearly all are this short, and then it takes two thirds of the time.
        return np.frombuffer(bytearray(map(len, uids)), np.uint8).astype(np.uint16)
    except ValueError:
        return np.fromiter(map(len, uids), np.uint16, len(uids))


def hashes_of(uids: Sequence[bytes], seed: int) -> U64Array:
    """The seeded xxh3-64 of each uid's bytes. Cost: about 0.1 us each."""
    return np.fromiter(map(xxh3_64_intdigest, uids, repeat(seed)), np.uint64, len(uids))


def as_batch(uids: Uids) -> UidBatch:
    """The uids in one piece. Raises UnicodeEncodeError for a lone surrogate."""
    return uids if isinstance(uids, UidBatch) else UidBatch.of(uids)


def chosen(uids: Uids, wanted: BoolArray) -> Uids:
    """The uids that are wanted, in their order."""
    return uids.chosen(wanted) if isinstance(uids, UidBatch) else list(compress(uids, wanted.tolist()))


def texts(uids: Uids, positions: I64Array) -> list[str]:
    """The uids at these positions."""
    return uids.texts(positions) if isinstance(uids, UidBatch) else [uids[at] for at in positions.tolist()]


def joined(parts: Sequence[Uids]) -> Uids:
    """All uids, one part behind the other: a batch if one of the parts is."""
    parts = [part for part in parts if len(part)]
    if len(parts) <= 1:
        return parts[0] if parts else []
    lists = [part for part in parts if isinstance(part, list)]
    if len(lists) == len(parts):
        return list(chain.from_iterable(lists))
    batches = list(map(as_batch, parts))
    raw = np.concatenate([batch.raw for batch in batches])
    hashes = [batch.hashes for batch in batches if batch.hashes is not None]
    all_hashes = np.concatenate(hashes) if len(hashes) == len(batches) else None
    return UidBatch(raw, np.concatenate([batch.lengths for batch in batches]), all_hashes)


def counted_order(keys: U64Array, shifts: range) -> I64Array:
    """The positions of keys in ascending order of the 16 bits from each shift on, the last one first; equal ones stay.

    numpy sorts 16 bits by counting them, each time in a tenth of what its other sorts take.
    """
    order = np.argsort((keys >> np.uint64(shifts[0])).astype(np.uint16), kind="stable")
    for shift in shifts[1:]:
        order = order[np.argsort((keys >> np.uint64(shift)).astype(np.uint16)[order], kind="stable")]
    return order


def order_of(hashes: U64Array) -> I64Array:
    """The positions of hashes in ascending order; equal ones stay in theirs.

    Counting the upper half of each hash, and a sort that finds nearly all in order, take a third of what sorting would.
    """
    order = counted_order(hashes, range(32, 64, 16))
    ordered = hashes[order]
    if (ordered[1:] < ordered[:-1]).any():
        order = order[np.argsort(ordered, kind="stable")]
    return order


# ---------------------------------------------------------------- bytes one behind the other
def words_of(raw: U8Array) -> U64Array:
    """Eight bytes from each byte on, as numbers: overlapping, and not aligned."""
    return np.ndarray((max(len(raw) - _WORD_BYTES + 1, 0),), np.uint64, raw, strides=(1,))


def are_equal(words: tuple[U64Array, U64Array], starts: tuple[I64Array, I64Array], lengths: I64Array) -> BoolArray:
    """Which bytes are the same in two pieces of memory (their `words_of`), from these starts on, for these lengths.

    Before each start stand at least eight bytes of the piece, whatever they are. Cost: two looks for each eight bytes;
    so few at once that the processor still has the second eight of a uid when they are asked for.
    """
    equal = np.empty(len(lengths), np.bool_)
    for at in range(0, len(lengths), _COMPARED_AT_ONCE):
        part = slice(at, at + _COMPARED_AT_ONCE)
        equal[part] = _differ(words, (starts[0][part], starts[1][part]), lengths[part]) == 0
    return equal


def _differ(words: tuple[U64Array, U64Array], starts: tuple[I64Array, I64Array], lengths: I64Array) -> U64Array:
    """Not 0 where the bytes are not the same: all of them are in the last eight and in eights from the first on."""
    (some, others), (first, second) = words, starts
    last = lengths - _WORD_BYTES
    least, most = int(last.min()), int(last.max())
    differ: U64Array = some[first + last] ^ others[second + last]
    if least == most >= 0:
        for at in range(0, most, _WORD_BYTES):
            differ |= some[first + at] ^ others[second + at]
        return differ
    are_short = least < 0
    if are_short:  # what stands before a short one is none of its own
        differ >>= (np.maximum(-last, 0) * 8).astype(np.uint64)
    for at in range(0, most, _WORD_BYTES):
        rows = np.flatnonzero(last > at)
        if are_short or 2 * len(rows) < len(last):
            differ[rows] |= some[first[rows] + at] ^ others[second[rows] + at]
        else:  # for those that are shorter the last eight once more
            places = np.minimum(last, at)
            differ |= some[first + places] ^ others[second + places]
    return differ


def offsets_of(lengths: npt.NDArray[np.uint16] | I64Array) -> U32Array:
    """Offsets of uids that stand one behind the other."""
    return _starts_of(lengths).astype(np.uint32)


def _starts_of(lengths: npt.NDArray[np.uint16] | I64Array) -> I64Array:
    starts: I64Array = np.cumsum(lengths, dtype=np.int64) - lengths
    return starts


def gather(
    blob: npt.NDArray[np.uint8], offsets: U32Array | I64Array, lengths: npt.NDArray[np.uint16] | I64Array
) -> npt.NDArray[np.uint8]:
    """The bytes of the entries one behind the other: one vectorised copy per distinct length. See `assert_inside`."""
    assert_inside(offsets, lengths, len(blob))
    distinct = np.flatnonzero(np.bincount(lengths, minlength=1)).tolist()
    if len(distinct) == 1:
        windows = sliding_window_view(blob, distinct[0])
        return np.ascontiguousarray(windows[offsets]).reshape(-1)
    if len(distinct) > _DISTINCT_LENGTHS_MAX:
        raw = np.ascontiguousarray(blob).data
        pieces = [raw[at : at + size] for at, size in zip(offsets.tolist(), lengths.tolist(), strict=True)]
        return np.frombuffer(b"".join(pieces), np.uint8)
    targets = offsets_of(lengths)
    result = np.empty(int(lengths.sum(dtype=np.int64)), np.uint8)
    for size in distinct:
        rows = np.flatnonzero(lengths == size)
        sliding_window_view(result, size, writeable=True)[targets[rows]] = sliding_window_view(blob, size)[
            offsets[rows]
        ]
    return result


def assert_inside(offsets: U32Array | I64Array, lengths: npt.NDArray[np.uint16] | I64Array, blob_bytes: int) -> None:
    """Raise StoreCorrupt if an entry's bytes lie outside: checksums prove nothing of what somebody else has made."""
    if len(offsets) and int((offsets + lengths.astype(np.int64)).max()) > blob_bytes:
        raise StoreCorrupt("uids lie outside their fragment of the dictionary", hint="run `uniqdb check`")
