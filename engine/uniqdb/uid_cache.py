"""Ordinals of uids in memory: an exact hash table that answers whole batches.

A lookup in a Python dict of a million strings waits four times for memory (index, entry, key, value), one uid after the
other; measured 600 ns each. Here uids of up to 64 bytes are rows of 64-bit words in numpy arrays, hashed, found and
compared for the whole batch at once, so that the waits overlap. A row holds the uid's length and all its bytes, and a
uid is found only where all of them are equal.

Open addressing with linear probing (Knuth, The Art of Computer Programming 3, 6.4, algorithm L); the hash is a sum of
random multiples of the words (Dietzfelbinger and others, 1997), so that nobody can choose uids that collide.
"""

import os
from collections.abc import Iterator
from itertools import repeat

import numpy as np
import numpy.typing as npt

from uniqdb.uid_batch import Uids, as_batch, texts

I64Array = npt.NDArray[np.int64]
U64Array = npt.NDArray[np.uint64]

_WORD_BYTES = 8
_WORDS_MAX = 8
"""Longer uids are kept in a dict: rows of their size would be a waste."""
_FIRST_SLOTS = 1 << 10
_USED_PART = 16
"""A table of which less than one slot in so many was used is too large for the next uids."""
_EMPTY, _DROPPED = -1, -2
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_KEPT = np.array([b"\xff" * size for size in range(_WORD_BYTES + 1)], f"S{_WORD_BYTES}").view(np.uint64)
"""By number of bytes: the mask that keeps so many, the first in memory."""


class UidCache:
    """uid -> ordinal, for the uids that were added. Not thread-safe."""

    def __init__(self) -> None:
        self._tables: dict[int, _Table] = {}
        self._long: dict[str, int] = {}
        self._entries = 0

    def __len__(self) -> int:
        return self._entries

    def find(self, uids: Uids) -> I64Array:
        """The ordinal of each uid, -1 where it is not known. Cost: about 0.15 us each."""
        found = np.full(len(uids), -1, np.int64)
        if not self._entries:
            return found
        for at, rows in _rows(uids):
            if rows is None:
                found[at] = np.fromiter(map(self._long.get, texts(uids, at), repeat(-1)), np.int64)
            elif (table := self._tables.get(rows.shape[1])) is not None:
                found[at] = table.find(rows)
        return found

    def add(self, uids: Uids, ordinals: I64Array) -> None:
        """Add uids, all different, none of which is there, and their ordinals, all different."""
        for at, rows in _rows(uids):
            if rows is None:
                self._long.update(zip(texts(uids, at), ordinals[at].tolist(), strict=True))
                continue
            words = rows.shape[1]
            if words not in self._tables:
                self._tables[words] = _Table(words)
            self._tables[words].add(rows, ordinals[at])
        self._entries += len(uids)

    def clear(self) -> None:
        """Forget everybody, and keep the memory for as many again. Tables that are nearly empty are given back."""
        self._tables = {words: table for words, table in self._tables.items() if table.clear()}
        self._long.clear()
        self._entries = 0

    def drop(self, ordinals: I64Array) -> None:
        """Forget the uids of these ordinals, where they are there. Cost: a look at every slot."""
        gone = sum(table.drop(ordinals) for table in self._tables.values())
        dropped = set(ordinals.tolist()) if self._long else set()
        for uid in [uid for uid, ordinal in self._long.items() if ordinal in dropped]:
            del self._long[uid]
            gone += 1
        self._entries -= gone


class _Table:
    """The rows of one size."""

    def __init__(self, words: int) -> None:
        self._factors = np.frombuffer(os.urandom(words * _WORD_BYTES), np.uint64) | np.uint64(1)
        self._used = 0
        self._make(_FIRST_SLOTS)

    def _make(self, slots: int) -> None:
        self._keys: U64Array = np.zeros((slots, len(self._factors)), np.uint64)
        self._ordinals = np.full(slots, _EMPTY, np.int64)
        self._shift = np.uint64(64 - (slots.bit_length() - 1))

    def _home(self, rows: U64Array) -> I64Array:
        """The slot where the search for each row begins."""
        mixed = rows[:, 0] * self._factors[0]
        for word in range(1, rows.shape[1]):
            mixed += rows[:, word] * self._factors[word]
            mixed ^= mixed >> np.uint64(29)
        slots: I64Array = ((mixed * _SPREAD) >> self._shift).astype(np.int64)
        return slots

    def find(self, rows: U64Array) -> I64Array:
        found, further, slots = self._look(rows, self._home(rows))
        pending = further
        while len(pending):
            rows = rows[further]
            there, further, slots = self._look(rows, slots)
            found[pending] = there
            pending = pending[further]
        return found

    def _look(self, rows: U64Array, slots: I64Array) -> tuple[I64Array, I64Array, I64Array]:
        """The ordinals in these slots where the row is the one asked for, else -1; which to seek further, and where."""
        ordinals, kept = self._ordinals.take(slots), self._keys.take(slots, axis=0)
        kept ^= rows
        differs = kept[:, 0]
        for word in range(1, rows.shape[1]):
            differs |= kept[:, word]
        further = np.flatnonzero((differs != 0) & (ordinals != _EMPTY))
        return np.where(differs == 0, ordinals, -1), further, (slots[further] + 1) & (len(self._ordinals) - 1)

    def add(self, rows: U64Array, ordinals: I64Array) -> None:
        if 2 * (self._used + len(rows)) > len(self._ordinals):
            self._grow(self._used + len(rows))
        self._used += len(rows)
        last = len(self._ordinals) - 1
        slots = self._home(rows)
        while len(rows):
            free = self._ordinals[slots] < 0
            self._ordinals[slots[free]] = ordinals[free]  # of several that want a slot the last one gets it
            won = free & (self._ordinals[slots] == ordinals)
            self._keys[slots[won]] = rows[won]
            rest = np.flatnonzero(~won)
            rows, ordinals, slots = rows[rest], ordinals[rest], (slots[rest] + 1) & last

    def _grow(self, entries: int) -> None:
        kept = np.flatnonzero(self._ordinals >= 0)
        rows, ordinals = self._keys[kept], self._ordinals[kept]
        self._make(1 << (4 * entries - 1).bit_length())
        self._used = 0
        self.add(rows, ordinals)

    def clear(self) -> bool:
        """Empty all slots, whose rows may stay: of a free slot nobody looks at the row. False: it was hardly used."""
        was_used = self._used * _USED_PART >= len(self._ordinals)
        self._ordinals.fill(_EMPTY)
        self._used = 0
        return was_used

    def drop(self, ordinals: I64Array) -> int:
        at = np.flatnonzero((self._ordinals >= 0) & np.isin(self._ordinals, ordinals))
        self._ordinals[at] = _DROPPED  # not empty: others may stand behind it
        self._keys[at] = 0
        return len(at)


def _rows(uids: Uids) -> Iterator[tuple[I64Array, U64Array | None]]:
    """(positions, rows) of the uids, those of as many words together; None instead of rows for long ones.

    A row is the length in bytes, then the bytes, filled up with zeros.
    """
    batch = as_batch(uids)
    lengths, starts = batch.lengths, batch.starts
    words_of = np.minimum((lengths.astype(np.int64) + _WORD_BYTES - 1) // _WORD_BYTES, _WORDS_MAX + 1)
    padded = np.concatenate([batch.raw, np.zeros(_WORDS_MAX * _WORD_BYTES, np.uint8)])
    present = np.flatnonzero(np.bincount(words_of)).tolist()
    for words in present:
        at = np.arange(len(batch)) if len(present) == 1 else np.flatnonzero(words_of == words)
        if words > _WORDS_MAX:
            yield at, None
            continue
        # From each byte on, the next words: overlapping items, of which only those at the starts are copied.
        size_bytes = words * _WORD_BYTES
        items: npt.NDArray[np.void] = np.ndarray(len(batch.raw) + 1, f"V{size_bytes}", padded, strides=(1,))
        rows = np.empty((len(at), words + 1), np.uint64)
        rows[:, 0] = lengths[at]
        rows[:, 1:] = items[starts[at]].view(np.uint64).reshape(-1, words)
        # What follows the uid belongs to the next one.
        rows[:, -1] &= _KEPT[rows[:, 0] - np.uint64(size_bytes - _WORD_BYTES)]
        yield at, rows
