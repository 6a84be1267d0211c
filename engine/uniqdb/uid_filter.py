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
"""What is made anew is so much larger: few times in all, and the one before is little beside it."""
_WORTH = 16
"""It is made when, since it was forgotten, one in so many of what the dictionary holds was looked up in vain."""
_HASH_END = 2**64


class UidFilter:
    """Nothing at first; once it is made, all hashes of the dictionary. Memory: what it is allowed, whoever comes.

    It is made beside other work, a range of hashes with each commit: `begin`, then `take` and `passed` for each. Who is
    new meanwhile waits until his range is made: else the first commit would have all of its memory made ready.
    """

    def __init__(self, bytes_max: int) -> None:
        """``bytes_max``: at most so much memory, and a sixteenth more while a larger one is made; with less than two
        blocks it is never made.
        """
        blocks = bytes_max // _BLOCK_BYTES
        self._blocks_max = 1 << blocks.bit_length() - 1 if blocks > 1 else 0
        self._blocks_min = min(self._blocks_max, UID_FILTER_BYTES_MIN // _BLOCK_BYTES)
        self.forget()

    def forget(self) -> None:
        """Hold nothing any more: somebody else has changed the dictionary."""
        self._whole: _Blocks | None = None
        self._growing: _Blocks | None = None
        self._waiting: list[U64Array] = []
        self.cursor = 0
        """All hashes below this one are in what is being made."""
        self._made_of = self._in_vain = 0

    @property
    def is_made(self) -> bool:
        """Whether it holds all hashes of the dictionary."""
        return self._whole is not None

    @property
    def is_growing(self) -> bool:
        """Whether it is being made."""
        return self._growing is not None

    def is_wanted(self, held: int, new: int) -> bool:
        """Whether it should be made, or made anew for it is too full: larger, or without those who are gone since.

        ``new``: so many hashes were looked up in vain just now, in a dictionary that holds ``held`` entries.
        """
        if self._growing is not None:
            return False
        if self._whole is not None:
            one = self._whole
            is_full = one.entries > _BLOCK_ENTRIES * one.count
            return is_full and (one.count < self._blocks_max or one.entries > 2 * self._made_of)
        self._in_vain += new
        return 0 < self._blocks_min <= held and self._in_vain * _WORTH >= held

    def begin(self, held: int, waiting: list[U64Array]) -> None:
        """Begin to make one for so many hashes. Where it would be no larger, there is none meanwhile.

        ``waiting``: hashes, each part sorted, that it will hold without being asked to `take` them. They are kept.
        """
        blocks = self._blocks_min
        while blocks < self._blocks_max and 2 * held > _BLOCK_ENTRIES * blocks:
            blocks = min(blocks * _GROWTH, self._blocks_max)
        if self._whole is not None and self._whole.count >= blocks:
            self._whole = None
        self._growing, self._waiting, self.cursor = _Blocks(blocks), waiting, 0

    def take(self, hashes: U64Array) -> None:
        """Put hashes that were there before into what is being made. They are sorted. Cost: about 50 ns each."""
        if self._growing is not None:
            self._growing.add(hashes)

    def passed(self, last_hash: int) -> None:
        """All hashes up to this one were taken that were there before."""
        one = self._growing
        if one is None:
            return
        self.cursor, waiting, self._waiting = last_hash + 1, self._waiting, []
        for hashes in waiting:
            self._wait(one, hashes)
        if self.cursor == _HASH_END:
            self._whole, self._growing, self._made_of = one, None, one.entries

    def _wait(self, one: "_Blocks", hashes: U64Array) -> None:
        """Put those into what is being made that lie in what was passed; the others wait."""
        start = len(hashes) if self.cursor == _HASH_END else int(np.searchsorted(hashes, np.uint64(self.cursor)))
        one.add(hashes[:start])
        if start < len(hashes):
            self._waiting.append(hashes[start:])

    def add(self, hashes: U64Array) -> None:
        """Hold these, too, if anything is held. They are sorted."""
        if self._whole is not None:
            self._whole.add(hashes)
        if self._growing is not None:
            self._wait(self._growing, hashes)

    def may_hold(self, hashes: U64Array) -> npt.NDArray[np.bool_]:
        """Which of these may be held; those of which it says no are not. Cost: about 20 ns each if they are sorted."""
        return np.ones(len(hashes), np.bool_) if self._whole is None else self._whole.may_hold(hashes)


class _Blocks:
    """The bits of a filter."""

    def __init__(self, count: int) -> None:
        """``count``: of blocks, a power of two."""
        self.count, self.entries = count, 0
        self._words = np.zeros(count * len(_BIT_AT), np.uint64)
        self._shift = np.uint64(65 - count.bit_length())

    def add(self, hashes: U64Array) -> None:
        for part in _parts(hashes):
            places = self._places(part)
            is_first = np.ones(len(places), np.bool_)
            np.not_equal(places[1:], places[:-1], out=is_first[1:])
            starts = np.flatnonzero(is_first)
            of_each = places[starts]
            for word, bit in enumerate(_BIT_AT):
                bits = np.bitwise_or.reduceat(np.uint64(1) << (part >> bit & _LAST_BIT), starts)
                self._words[of_each + word] = bits | self._words.take(of_each + word)
        self.entries += len(hashes)

    def may_hold(self, hashes: U64Array) -> npt.NDArray[np.bool_]:
        found = np.empty(len(hashes), np.bool_)
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
