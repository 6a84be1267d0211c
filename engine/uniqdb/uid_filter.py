"""Most hashes that the dictionary does not hold, told without looking there: for whoever brings many new uids.

A new uid is in no fragment, so finding that out costs a search in each fragment of its partition and of the young unit.
A Bloom filter says "no" for nearly all of them at the price of one look into memory: each hash sets a bit in each of
four words that stand side by side, and one that is not there most often lacks one of them (Putze, Sanders and Singler,
2007: a blocked filter). It never says "no" for a hash that is there; what it says "perhaps" to is looked up as ever.
Hashes come sorted, and the block is chosen by their first bits, so that memory is walked through in its order.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from uniqdb.batch import I64Array, U64Array
from uniqdb.limits import UID_FILTER_BYTES_MIN

_BIT_AT = np.array([0, 6, 12, 18], np.uint64)
"""For each word of a block, where in a hash six bits stand that choose its bit."""
_BLOCK_BYTES = 8 * len(_BIT_AT)
_LAST_BIT, _ALL_BITS = np.uint64(63), np.uint64(2**64 - 1)
_AT_ONCE = 8_192
_BLOCK_ENTRIES = 12
"""With so many hashes for each block, one in 1,000 that is not there passes; with twice as many, one in 100."""
_GROWTH = 16
"""Making it anew holds a commit up, the more it holds the longer: so that is to be seldom, and early."""
_WORTH = 16
"""It is made when, since it was forgotten, one in so many of what the dictionary holds was looked up in vain."""


class UidFilter:
    """Nothing at first; once it is made, all hashes of the dictionary. Memory: what it is allowed, whoever comes."""

    def __init__(self, bytes_max: int) -> None:
        """``bytes_max``: at most so much memory; with less than two blocks it is never made."""
        self._words: U64Array | None = None
        self._blocks = 0
        blocks = bytes_max // _BLOCK_BYTES
        self._blocks_max = 1 << blocks.bit_length() - 1 if blocks > 1 else 0
        self._blocks_min = min(self._blocks_max, UID_FILTER_BYTES_MIN // _BLOCK_BYTES)
        self._shift = np.uint64(0)
        self._entries = self._made_of = self._in_vain = 0

    def forget(self) -> None:
        """Hold nothing any more: somebody else has changed the dictionary."""
        self._words, self._blocks, self._entries, self._in_vain = None, 0, 0, 0

    @property
    def is_made(self) -> bool:
        """Whether it holds all hashes of the dictionary."""
        return self._words is not None

    def is_wanted(self, held: int, new: int) -> bool:
        """Whether it should be made, or made anew for it is too full: larger, or without those who are gone since.

        ``new``: so many hashes were looked up in vain just now, in a dictionary that holds ``held`` entries.
        """
        if self._words is not None:
            is_full = self._entries > _BLOCK_ENTRIES * self._blocks
            return is_full and (self._blocks < self._blocks_max or self._entries > 2 * self._made_of)
        self._in_vain += new
        return 0 < self._blocks_min <= held and self._in_vain * _WORTH >= held

    def make(self, held: int, parts: Iterator[U64Array]) -> None:
        """Hold these hashes, which come in sorted parts. Cost: about 40 ns each."""
        blocks = self._blocks_min
        while blocks < self._blocks_max and 2 * held > _BLOCK_ENTRIES * blocks:
            blocks = min(blocks * _GROWTH, self._blocks_max)
        self.forget()  # first, so that the memory of both is never needed
        self._words, self._blocks = np.zeros(blocks * len(_BIT_AT), np.uint64), blocks
        self._shift = np.uint64(65 - blocks.bit_length())
        for hashes in parts:
            self.add(hashes)
        self._made_of = self._entries

    def add(self, hashes: U64Array) -> None:
        """Hold these, too, if anything is held. They are sorted."""
        if self._words is None:
            return
        for part in _parts(hashes):
            places = self._places(part)
            is_first = np.ones(len(places), np.bool_)
            np.not_equal(places[1:], places[:-1], out=is_first[1:])
            starts = np.flatnonzero(is_first)
            of_each = places[starts]
            for word, bit in enumerate(_BIT_AT):
                bits = np.bitwise_or.reduceat(np.uint64(1) << (part >> bit & _LAST_BIT), starts)
                self._words[of_each + word] = bits | self._words.take(of_each + word)
        self._entries += len(hashes)

    def may_hold(self, hashes: U64Array) -> npt.NDArray[np.bool_]:
        """Which of these may be held; those of which it says no are not. Cost: about 20 ns each if they are sorted."""
        found = np.ones(len(hashes), np.bool_)
        if self._words is None:
            return found
        for number, part in enumerate(_parts(hashes)):
            places, all_bits = self._places(part), _ALL_BITS
            for word, bit in enumerate(_BIT_AT):
                all_bits = all_bits & (self._words.take(places + word) >> (part >> bit & _LAST_BIT))
            found[number * _AT_ONCE :][: len(part)] = all_bits & np.uint64(1) != 0
        return found

    def _places(self, hashes: U64Array) -> I64Array:
        """Where the block of each hash begins."""
        return (hashes >> self._shift).astype(np.int64) * len(_BIT_AT)


def _parts(hashes: U64Array) -> Iterator[U64Array]:
    """A few at a time: then the processor still has a block when its second word is looked at."""
    for at in range(0, len(hashes), _AT_ONCE):
        yield hashes[at : at + _AT_ONCE]
