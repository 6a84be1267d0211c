"""splitmix64: pseudo-random 64-bit integers by number, the same everywhere and for ever."""

import numpy as np
import numpy.typing as npt

_GAMMA, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = 2**64 - 1


def draw_at(seed: int, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """The outputs with these numbers (from 0) of the generator that starts with ``seed``."""
    # Arithmetic on arrays wraps around at 2**64, as the algorithm wants it.
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(_GAMMA) + np.uint64(seed)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_FIRST)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_SECOND)
    return mixed ^ (mixed >> np.uint64(31))


def draw_one(seed: int, number: int) -> int:
    """One output; the same as `draw_at` gives for it."""
    mixed = ((number + 1) * _GAMMA + seed) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * _FIRST) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * _SECOND) & _MASK
    return mixed ^ (mixed >> 31)


class Draws:
    """The same stream one after the other, for small choices."""

    def __init__(self, seed: int) -> None:
        self._seed, self._number = seed, -1

    def below(self, bound: int) -> int:
        """An integer from 0 to ``bound`` - 1."""
        self._number += 1
        return draw_one(self._seed, self._number) % bound
