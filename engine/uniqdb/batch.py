"""From a batch's event times and ordinals to the sets and visits of every bucket of every granularity.

One sort of minutes and ordinals in one number gives the sets of the minutes; every coarser granularity is united from
the finer one, which is smaller. No Python statement runs once per visit.
"""

from array import array

import msgspec
import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from uniqdb.calendar_zone import CalendarZone
from uniqdb.granularity import Granularity
from uniqdb.uid_batch import counted_order

I64Array = npt.NDArray[np.int64]
U64Array = npt.NDArray[np.uint64]
U32Array = npt.NDArray[np.uint32]
_FAR_APART_S = 86_400 * 800
_COUNTED_KEYS_MIN, _COUNTED_BITS_MAX = 4_096, 48


def bitmap_of(ordinals: U32Array) -> BitMap:
    """A Roaring set of a u32 array. (pyroaring is fast with an ``array.array`` only; numpy arrays go one by one.)"""
    values = array("I")
    values.frombytes(np.ascontiguousarray(ordinals).data.cast("B"))
    return BitMap(values)


class Level(msgspec.Struct):
    """The buckets of one granularity that a batch touches, ascending.

    Bucket ``i`` starts at ``starts_s[i]`` and got the different ordinals ``members[bounds[i]:bounds[i + 1]]``
    (ascending) in ``visits[i]`` visits. Levels with the same sets share them.
    """

    granularity: Granularity
    starts_s: I64Array
    bounds: I64Array
    members: U32Array
    visits: I64Array
    _bitmaps: dict[int, BitMap] = msgspec.field(default_factory=dict)

    def bitmap(self, position: int) -> BitMap:
        """The set of the bucket at this position; shared, not to be changed."""
        found = self._bitmaps.get(position)
        if found is None:
            start, end = int(self.bounds[position]), int(self.bounds[position + 1])
            found = self._bitmaps[position] = bitmap_of(self.members[start:end])
        return found

    def since(self, from_s: int) -> "tuple[Level, int]":
        """The buckets that start at or after ``from_s``, and how many visits the others have."""
        first = int(np.searchsorted(self.starts_s, from_s))
        if not first:
            return self, 0
        kept = Level(self.granularity, self.starts_s[first:], self.bounds[first:], self.members, self.visits[first:])
        return kept, int(self.visits[:first].sum())

    def only(self, wanted: "npt.NDArray[np.bool_]") -> "tuple[Level, int]":
        """The buckets that are wanted, and how many visits the others have. Cost: a copy of their members."""
        sizes, first = np.diff(self.bounds), int(self.bounds[0])
        members = self.members[first : int(self.bounds[-1])][np.repeat(wanted, sizes)]
        bounds = np.concatenate(([0], np.cumsum(sizes[wanted])))
        kept = Level(self.granularity, self.starts_s[wanted], bounds, members, self.visits[wanted])
        return kept, int(self.visits[~wanted].sum())


def levels(zone: CalendarZone, times_s: I64Array, ordinals: I64Array) -> list[Level]:
    """The touched buckets of all six granularities, finest first. Cost: a sort for each, of what is left."""
    minute = _minutes(times_s, ordinals)
    hour = _coarser(zone, minute, Granularity.HOUR)
    day = _coarser(zone, hour, Granularity.DAY)
    month = _coarser(zone, day, Granularity.MONTH)
    return [
        minute,
        hour,
        day,
        _coarser(zone, day, Granularity.WEEK),
        month,
        _coarser(zone, month, Granularity.YEAR),
    ]


def ends_of(zone: CalendarZone, granularity: Granularity, starts_s: I64Array) -> I64Array:
    """The ends of buckets with these starts, which ascend. The calendar between starts that lie far apart is left out.

    Cost: a search per bucket, and `CalendarZone.edges` between the first and the last.
    """
    if granularity is Granularity.MINUTE:
        return starts_s + 60
    ends_s = np.empty_like(starts_s)
    first = 0
    for last in [*(np.flatnonzero(np.diff(starts_s) > _FAR_APART_S) + 1).tolist(), len(starts_s)]:
        part_s = starts_s[first:last]
        if len(part_s):
            edges_s = zone.edges(granularity, int(part_s[0]), int(part_s[-1]) + 1)
            # Of what is no start, which only a store made by hand has, it is the end of the bucket around it.
            ends_s[first:last] = edges_s[np.searchsorted(edges_s, part_s, "right")]
        first = last
    return ends_s


def _minutes(times_s: I64Array, ordinals: I64Array) -> Level:
    minutes, bits = times_s // 60, _bits_of(ordinals)
    first = minutes.min()
    keys = _sorted((minutes - first).astype(np.uint64) << bits | ordinals.astype(np.uint64))
    numbers = (keys >> bits).astype(np.int64)
    firsts = _firsts(numbers)
    visits = np.diff(np.append(firsts, len(keys)))
    starts_s = (numbers[firsts] + first) * 60
    members, bounds = _distinct(keys, bits, firsts)
    return Level(Granularity.MINUTE, starts_s, bounds, members, visits)


def _coarser(zone: CalendarZone, finer: Level, granularity: Granularity) -> Level:
    parents = zone.starts_of(granularity, finer.starts_s)
    firsts = _firsts(parents)
    visits = np.add.reduceat(finer.visits, firsts)
    if len(firsts) == len(parents):
        return Level(granularity, parents, finer.bounds, finer.members, visits, finer._bitmaps)
    index = np.zeros(len(parents), np.int64)
    index[firsts[1:]] = 1
    index, bits = np.cumsum(index), _bits_of(finer.members)
    keys = _sorted(np.repeat(index, np.diff(finer.bounds)).astype(np.uint64) << bits | finer.members)
    members, bounds = _distinct(keys, bits, finer.bounds[firsts])
    return Level(granularity, parents[firsts], bounds, members, visits)


def _firsts(values: I64Array) -> I64Array:
    """Positions at which a new value begins, in ascending values."""
    return np.concatenate(([0], np.flatnonzero(values[1:] != values[:-1]) + 1))


def _bits_of(ordinals: I64Array | U32Array) -> np.uint64:
    """In how many bits all of these ordinals can be written."""
    return np.uint64(int(ordinals.max()).bit_length())


def _sorted(keys: U64Array) -> U64Array:
    """The keys, ascending.

    Counting 16 bits as often as most batches need takes half the time of numpy's other sorts.
    """
    bits = int(keys.max()).bit_length()
    if len(keys) < _COUNTED_KEYS_MIN or bits > _COUNTED_BITS_MAX:
        return np.sort(keys, kind="stable")  # it finds the runs of the finer buckets
    return keys[counted_order(keys, range(0, max(bits, 1), 16))]


def _distinct(keys: U64Array, bits: np.uint64, firsts: I64Array) -> tuple[U32Array, I64Array]:
    """The members of the different keys, their lowest bits, and where each group's begin (one more: the end)."""
    keep = np.empty(len(keys), np.bool_)
    keep[0] = True
    np.not_equal(keys[1:], keys[:-1], out=keep[1:])
    members = (keys[keep] & (np.uint64(1) << bits) - np.uint64(1)).astype(np.uint32)
    ranks = np.cumsum(keep)
    bounds = np.append(ranks[firsts] - 1, ranks[-1])
    return members, bounds
