"""Looks uids up in dictionary fragments: one uid in one fragment, or a batch in many fragments at once.

Hashes are uniform, so where one stands among the sorted hashes of a fragment is guessed by interpolation; a guess is
off by about the square root of their number, and a short bisection does the rest (Perl, Itai and Avni, 1978). A match
counts only if the bytes are equal. Everything here looks at LMDB's memory and dies with the read transaction.
"""

from bisect import bisect_left
from collections.abc import Sequence
from math import isqrt

import msgspec
import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from uniqdb.errors import StoreCorrupt
from uniqdb.format import FragmentView
from uniqdb.uid_batch import words_of
from uniqdb.uid_fragment import (
    I64Array,
    Query,
    U32Array,
    U64Array,
    UidColumns,
    blob_bytes_in,
    column_offsets,
    entries_in,
)

_BLOCKWISE_QUESTIONS = 4
"""So many questions verify only the blocks that they need; who asks more will come to all of them."""
_REACH = 32
"""So far, in entries, may the second guess be off: three times the usual error in a partition of the largest size."""
_SCALE_BITS = 64
"""Entries per hash are counted in so small parts of one."""
_WORD_BYTES = 8


class UidShape(msgspec.Struct):
    """What is known of a fragment's uids: found out once, and true in every view, for fragments never change.

    Each column that need not be looked at for a lookup is a wait for memory less.
    """

    is_known: bool = False
    length: int = 0
    """Of all its uids, in bytes; 0 if they differ."""
    is_in_order: bool = False
    """All have the same length, and stand in the order of their hashes: as after a split or a compaction."""

    def find_out(self, payload: memoryview) -> None:
        """Cost: a look at the lengths, and perhaps at the offsets."""
        columns = UidColumns.parse(payload)
        self.is_known = True
        length = int(columns.lengths[0])
        if (columns.lengths == length).all():
            self.length = length
            self.is_in_order = bool((columns.offsets == np.arange(len(columns), dtype=np.int64) * length).all())


class UidProbe:
    """Looks single uids up in one fragment. Cost: about a microsecond, most of it waiting for memory.

    The first questions verify only the blocks that they touch; then the fragment is verified as a whole. If that fails,
    what lies in sound blocks is found as before.
    """

    __slots__ = (
        *("_asked", "_at", "_blob", "_count", "_first", "_hashes", "_lengths", "_offsets", "_ordinals"),
        *("_is_in_order", "_length", "_scale", "_shape", "_view"),
    )

    def __init__(self, view: FragmentView, bounds: tuple[int, int], shape: UidShape) -> None:
        """A fragment, which is not empty, of a unit that holds hashes from the first to the last."""
        first_hash, last_hash = bounds
        self._view, self._shape = view, shape
        self._count = count = entries_in(view.part(0, 8))
        self._at = column_offsets(count)
        self._first, self._scale = first_hash, (count - 1 << _SCALE_BITS) // (last_hash - first_hash + 1)
        self._asked = 0
        self._hashes: memoryview | None = None
        if view.is_verified:
            self._take_columns()

    def _take_columns(self) -> None:
        payload, (hash_at, offset_at, ordinal_at, length_at, blob_at) = self._view.whole(), self._at
        self._offsets = payload[offset_at:ordinal_at].cast("I")
        self._ordinals = payload[ordinal_at:length_at].cast("I")
        self._lengths = payload[length_at:blob_at].cast("H")
        self._blob = payload[blob_at:]
        if not self._shape.is_known:
            self._shape.find_out(payload)
        self._length, self._is_in_order = self._shape.length, self._shape.is_in_order
        self._hashes = payload[hash_at:offset_at].cast("Q")

    def ordinal(self, entry: int) -> int:
        """The ordinal of an entry."""
        if self._hashes is None:
            return int(self._part(2, entry, 4).cast("I")[0])
        found: int = self._ordinals[entry]
        return found

    def place(self, uid: bytes, uid_hash: int) -> int:
        """Which entry is the uid's, or -1.

        Where a first guess, and one from what stands there, may be off is where little else is: so few entries, of one
        or two lines of the processor's cache, are bisected; if it is not between two of them, all are.
        """
        hashes = self._hashes
        if hashes is None:
            return self._place_by_blocks(uid, uid_hash)
        count, scale = self._count, self._scale
        guess = (uid_hash - self._first) * scale >> _SCALE_BITS
        guess += (uid_hash - hashes[guess]) * scale >> _SCALE_BITS
        low, high = guess - _REACH, guess + _REACH
        if low < 0:
            low = 0
        if high > count:
            high = count
        entry = bisect_left(hashes, uid_hash, low, high) if low < high else count
        if entry < count and hashes[entry] == uid_hash:
            start = entry * self._length if self._is_in_order else self._offsets[entry]
            if self._blob[start : start + (self._length or self._lengths[entry])] == uid:
                return entry
        elif low < entry < high:
            return -1
        return self._place_among_all(hashes, uid, uid_hash)

    def _place_among_all(self, hashes: memoryview, uid: bytes, uid_hash: int) -> int:
        """The same, where a guess was too far off, or others have the same hash."""
        entry = bisect_left(hashes, uid_hash)
        while entry < self._count and hashes[entry] == uid_hash:
            start = self._offsets[entry]
            end = start + self._lengths[entry]
            if self._blob[start:end] == uid:
                return entry
            if end > len(self._blob):
                self._view.part(self._at[4] + start, self._at[4] + end)  # which raises
            entry += 1
        return -1

    def _place_by_blocks(self, uid: bytes, uid_hash: int) -> int:
        """The same, verifying no more than is needed."""
        self._asked += 1
        if self._asked == _BLOCKWISE_QUESTIONS:
            try:
                self._take_columns()
            except StoreCorrupt:
                pass
            else:
                return self.place(uid, uid_hash)
        count, hash_at = self._count, self._at[0]
        guess, slack = (uid_hash - self._first) * self._scale >> _SCALE_BITS, isqrt(count) + 8
        low, high = max(guess - slack, 0), min(guess + slack, count)
        hashes = self._view.part(hash_at + 8 * low, hash_at + 8 * high).cast("Q")
        entry = low + bisect_left(hashes, uid_hash)
        if (entry == low and low) or (entry == high and high < count):
            hashes = self._view.part(hash_at, hash_at + 8 * count).cast("Q")
            entry = bisect_left(hashes, uid_hash)
        while entry < count and int(self._part(0, entry, 8).cast("Q")[0]) == uid_hash:
            if self._uid(entry) == uid:
                return entry
            entry += 1
        return -1

    def _part(self, column: int, entry: int, width: int) -> memoryview:
        start = self._at[column] + width * entry
        return self._view.part(start, start + width)

    def _uid(self, entry: int) -> memoryview:
        start = self._at[4] + self._part(1, entry, 4).cast("I")[0]
        return self._view.part(start, start + self._part(3, entry, 2).cast("H")[0])


class ProbeTable:
    """Looks a batch up in many fragments of one view at once: numpy's fixed costs are paid once, not per fragment.

    All fragments lie in LMDB's one map. So one array that begins at the lowest of them and ends with the highest holds
    them all, and an index into it names an entry of any. Only entries of fragments that were added are ever looked at.
    Memory: about 500 bytes per fragment.
    """

    def __init__(self) -> None:
        self._views: list[FragmentView] = []
        self._rows: list[tuple[int, int, int, float, int, bool]] = []
        self._is_ready = False

    def add(self, view: FragmentView, bounds: tuple[int, int], shape: UidShape) -> int:
        """Verify a fragment in LMDB's memory and add it; its number, or -1 if it does not begin where words may.

        The smallest ones do not, which stand among other rows on a page.
        """
        payload = view.whole()
        address, count = address_of(payload), entries_in(payload)
        if address % _WORD_BYTES or not count:
            return -1
        if not shape.is_known:
            shape.find_out(payload)
        scale = (count - 1) / (bounds[1] - bounds[0] + 1)
        self._views.append(view)
        self._rows.append((address, count, bounds[0], scale, shape.length, shape.is_in_order))
        self._is_ready = False
        return len(self._rows) - 1

    def _make_ready(self) -> None:
        addresses, counts, firsts, scales, lengths, in_order = zip(*self._rows, strict=True)
        payloads = [view.whole() for view in self._views]
        begin, memory = span_of(payloads, addresses)
        self._words: U64Array = memory.view(np.uint64)
        self._bytes = words_of(memory)
        # In words; the head of a fragment is one.
        self._at: I64Array = (np.array(addresses, np.int64) - begin) // _WORD_BYTES + 1
        self._counts: I64Array = np.array(counts, np.int64)
        self._firsts: U64Array = np.array(firsts, np.uint64)
        self._scales = np.array(scales, np.float64)
        self._lengths: I64Array = np.array(lengths, np.int64)
        self._in_order: npt.NDArray[np.bool_] = np.array(in_order, np.bool_)
        self._blobs: I64Array = np.array([blob_bytes_in(one) for one in payloads], np.int64)
        self._is_ready = True

    def find(
        self, numbers: I64Array, query: Query, asked: I64Array, *, ordinals: bool
    ) -> tuple[I64Array, U32Array | None]:
        """Look the uids at positions ``asked`` of the query up, each in the fragment of its number.

        The query need not be sorted. Returns (positions in the query, ``ordinals``) of those that are there.
        """
        if not self._is_ready:
            self._make_ready()
        hashes, at, counts = query.hashes[asked], self._at[numbers], self._counts[numbers]
        entries = self._entries(numbers, hashes)
        found: list[I64Array] = []
        rows, hits = np.flatnonzero(entries < counts), np.empty(0, np.int64)
        while len(rows):
            rows = rows[self._words[at[rows] + entries[rows]] == hashes[rows]]
            if not len(rows):
                break
            equal = self._equal_uids(numbers[rows], entries[rows], query, asked[rows])
            found.append(rows[equal])
            rows = rows[~equal]  # different uids with the same hash stand side by side
            entries[rows] += 1
            rows = rows[entries[rows] < counts[rows]]
        if found:
            hits = found[0] if len(found) == 1 else np.concatenate(found)
        if not ordinals:
            return asked[hits], None
        # Behind the hashes stand the offsets, then the ordinals: four bytes each.
        places = 2 * (at[hits] + counts[hits]) + counts[hits] + entries[hits]
        return asked[hits], self._words.view(np.uint32)[places]

    def _entries(self, numbers: I64Array, hashes: U64Array) -> I64Array:
        """The first entry of each fragment that is not below the hash; as `UidProbe.place` finds it."""
        at, counts, scales = self._at[numbers], self._counts[numbers], self._scales[numbers]
        guesses = ((hashes - self._firsts[numbers]) * scales).astype(np.int64)
        beyond = (hashes - self._words[at + guesses]).view(np.int64)  # the difference of two words has a sign
        guesses += (beyond * scales).astype(np.int64)
        low, high = np.clip(guesses - _REACH, 0, counts), np.clip(guesses + _REACH, 0, counts)
        entries = self._bisect(at, low, high, hashes)
        off = np.flatnonzero(((entries == low) & (low > 0)) | ((entries == high) & (high < counts)))
        if len(off):
            entries[off] = self._bisect(at[off], np.zeros(len(off), np.int64), counts[off], hashes[off])
        return entries

    def _bisect(self, at: I64Array, low: I64Array, high: I64Array, hashes: U64Array) -> I64Array:
        """`bisect_left` in each fragment between two entries, for all of them step by step."""
        places, left = at + low, high - low
        for _ in range(int(left.max()).bit_length()):
            half = left >> 1
            # Where nothing is left the word is not looked at; it is still one of the fragment's payload.
            is_below = (self._words[places + half] < hashes) & (left > 0)
            half += is_below
            places += half * is_below
            left = np.where(is_below, left - half, half)
        found: I64Array = places - at
        return found

    def _equal_uids(self, numbers: I64Array, entries: I64Array, query: Query, asked: I64Array) -> npt.NDArray[np.bool_]:
        """Which candidates hold the very bytes asked for."""
        counts = self._counts[numbers]
        behind = self._at[numbers] + counts  # in words: where the hashes end
        lengths = self._lengths[numbers]
        differ = np.flatnonzero(lengths == 0)
        if len(differ):
            places = 4 * (behind[differ] + counts[differ]) + entries[differ]
            lengths[differ] = self._words.view(np.uint16)[places]
        offsets = entries * lengths
        free = np.flatnonzero(~self._in_order[numbers])
        if len(free):
            offsets[free] = self._words.view(np.uint32)[2 * behind[free] + entries[free]]
        for row in np.flatnonzero(offsets + lengths > self._blobs[numbers]).tolist():
            self._views[numbers[row]].part(int(offsets[row]), 2**63)  # which raises
        return query.only(asked).are_at(self._bytes, _WORD_BYTES * behind + 10 * counts + offsets, lengths)


def span_of(payloads: Sequence[memoryview], addresses: Sequence[int]) -> tuple[int, npt.NDArray[np.uint8]]:
    """Where the lowest of the payloads begins, and all bytes from there to the end of the highest as one array.

    It is as long as whole words: up to seven bytes more than the last one has, which are still on its page. Only what
    lies in a payload may be looked at.
    """
    begin = min(addresses)
    end = max(address + len(one) for address, one in zip(addresses, payloads, strict=True))
    lowest = np.frombuffer(payloads[addresses.index(begin)], np.uint8)
    size_bytes = (end - begin + _WORD_BYTES - 1) // _WORD_BYTES * _WORD_BYTES
    return begin, as_strided(lowest, (size_bytes,), (1,), writeable=False)


def address_of(payload: memoryview) -> int:
    """Where it begins in this process's memory."""
    return int(np.frombuffer(payload, np.uint8).__array_interface__["data"][0])
