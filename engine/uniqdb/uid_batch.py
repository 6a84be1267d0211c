"""Many uids in one piece of memory: their bytes one behind the other, and how many bytes each has.

As strings of their own uids cost about 50 ns each whenever they are made, joined or handed to another process. What a
process has decoded stays in one piece until it has been looked up; only uids that no cache holds become strings.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, compress
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from uniqdb.errors import StoreCorrupt

I64Array = npt.NDArray[np.int64]
U8Array = npt.NDArray[np.uint8]
U16Array = npt.NDArray[np.uint16]
U64Array = npt.NDArray[np.uint64]
BoolArray = npt.NDArray[np.bool_]
U32Array = npt.NDArray[np.uint32]
_DISTINCT_LENGTHS_MAX = 64


class UidBatch:
    """Uids in their order, each of 1 to 65,535 bytes of UTF-8. Not changed once it is made."""

    __slots__ = ("_starts", "_text", "lengths", "raw")

    def __init__(self, raw: U8Array, lengths: U16Array) -> None:
        """``raw``: all bytes; ``lengths``: of each uid, their sum is that of the bytes."""
        self.raw, self.lengths = raw, lengths
        self._starts: I64Array | None = None
        self._text: str | None = None

    @classmethod
    def of(cls, uids: Sequence[str]) -> "UidBatch":
        """The batch of these uids. Raises UnicodeEncodeError for a lone surrogate."""
        joined = "".join(uids)
        if joined.isascii():
            return cls(np.frombuffer(joined.encode(), np.uint8), np.fromiter(map(len, uids), np.uint16, len(uids)))
        encoded = list(map(str.encode, uids))
        lengths = np.fromiter(map(len, encoded), np.uint16, len(uids))
        return cls(np.frombuffer(b"".join(encoded), np.uint8), lengths)

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
        lengths = self.lengths[wanted]
        return UidBatch(gather(self.raw, self.starts[wanted], lengths), lengths)


Uids: TypeAlias = list[str] | UidBatch


def as_batch(uids: Uids) -> UidBatch:
    """The uids in one piece. Raises UnicodeEncodeError for a lone surrogate."""
    return uids if isinstance(uids, UidBatch) else UidBatch.of(uids)


def chosen(uids: Uids, wanted: BoolArray) -> Uids:
    """The uids that are wanted, in their order."""
    return uids.chosen(wanted) if isinstance(uids, UidBatch) else list(compress(uids, wanted.tolist()))


def texts(uids: Uids, positions: I64Array) -> list[str]:
    """The uids at these positions."""
    return uids.texts(positions) if isinstance(uids, UidBatch) else [uids[at] for at in positions.tolist()]


def encoded_at(uids: Uids, positions: I64Array) -> list[bytes]:
    """The bytes of the uids at these positions. Cost: about 0.1 us each."""
    if isinstance(uids, UidBatch):
        return uids.encoded(positions)
    return [uids[at].encode() for at in positions.tolist()]


def first_of_each(uids: Sequence[bytes], hashes: U64Array) -> tuple[I64Array, I64Array]:
    """Where each different uid appears first, ascending, and for each uid the number of its own among those.

    Equal uids are found by their hashes; what has the same hash is compared. Cost: a sort of the hashes.
    """
    order = np.argsort(hashes)
    is_first = np.ones(len(uids), np.bool_)
    is_first[1:] = hashes[order[1:]] != hashes[order[:-1]]
    again = np.flatnonzero(~is_first)
    twins = zip(order[again].tolist(), order[again - 1].tolist(), strict=True)
    if not all(uids[one] == uids[other] for one, other in twins):  # different uids with one hash: almost never
        places = {uid: number for number, uid in enumerate(dict.fromkeys(uids))}
        which = np.fromiter(map(places.__getitem__, uids), np.int64, len(uids))
        return np.unique(which, return_index=True)[1], which
    firsts = np.minimum.reduceat(order, np.flatnonzero(is_first))
    by_place = np.argsort(firsts)
    numbers = np.empty(len(firsts), np.int64)
    numbers[by_place] = np.arange(len(firsts))
    which = np.empty(len(uids), np.int64)
    which[order] = numbers[np.cumsum(is_first) - 1]
    return firsts[by_place], which


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
    return UidBatch(raw, np.concatenate([batch.lengths for batch in batches]))


# ---------------------------------------------------------------- bytes one behind the other
def offsets_of(lengths: npt.NDArray[np.uint16] | I64Array) -> U32Array:
    """Offsets of uids that stand one behind the other."""
    return _starts_of(lengths).astype(np.uint32)


def _starts_of(lengths: npt.NDArray[np.uint16] | I64Array) -> I64Array:
    starts: I64Array = np.cumsum(lengths, dtype=np.int64) - lengths
    return starts


def gather(
    blob: npt.NDArray[np.uint8], offsets: U32Array | I64Array, lengths: npt.NDArray[np.uint16] | I64Array
) -> npt.NDArray[np.uint8]:
    """The bytes of the entries one behind the other: one vectorised copy per distinct length.

    Raises StoreCorrupt if they lie outside: checksums that hold prove nothing of what somebody else has made.
    """
    if len(offsets) and int((offsets + lengths.astype(np.int64)).max()) > len(blob):
        raise StoreCorrupt("uids lie outside their fragment of the dictionary", hint="run `uniqdb check`")
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
