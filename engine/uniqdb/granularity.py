"""The six calendar resolutions and the fixed interval that belongs to one of them."""

import enum
from dataclasses import dataclass
from typing import Self

from uniqdb.errors import UsageError


class Granularity(enum.IntEnum):
    """A calendar resolution, from the finest to the coarsest.

    The values are persisted in the keys of the store: changing one is a new format version.
    They order the resolutions by length, but WEEK does not nest into MONTH or YEAR.
    """

    MINUTE = 1
    HOUR = 2
    DAY = 3
    WEEK = 4
    MONTH = 5
    YEAR = 6

    @property
    def word(self) -> str:
        """The name in options, records and messages: ``"minute"`` to ``"year"``."""
        return self.name.lower()

    @classmethod
    def from_word(cls, word: str) -> Self:
        """The granularity that `word` names. Raises `UsageError` for any other text; case counts."""
        for member in cls:
            if member.word == word:
                return member
        known = ", ".join(member.word for member in cls)
        raise UsageError(f"unknown granularity {word!r}", hint=f"use one of: {known}")

    @property
    def finer(self) -> "Granularity | None":
        """The next finer resolution whose buckets tile each bucket of this one; None for MINUTE."""
        return _FINER[self]

    @property
    def coarser(self) -> "tuple[Granularity, ...]":
        """The resolutions whose `finer` is this one: the inverse of `finer`, in ascending order."""
        return _COARSER[self]


_FINER: dict[Granularity, Granularity | None] = {
    Granularity.MINUTE: None,
    Granularity.HOUR: Granularity.MINUTE,
    Granularity.DAY: Granularity.HOUR,
    Granularity.WEEK: Granularity.DAY,
    Granularity.MONTH: Granularity.DAY,
    Granularity.YEAR: Granularity.MONTH,
}
_COARSER: dict[Granularity, tuple[Granularity, ...]] = {
    fine: tuple(coarse for coarse in Granularity if _FINER[coarse] is fine) for fine in Granularity
}


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """One fixed interval of the store's calendar: ``[start_s, end_s)`` in Unix seconds, whole minutes.

    Made by `CalendarZone`; two buckets of one zone are equal exactly when granularity and start are.
    """

    granularity: Granularity
    start_s: int
    end_s: int
