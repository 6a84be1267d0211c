"""Settings as small immutable values, those that change results apart from those that change speed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from uniqdb.errors import UsageError
from uniqdb.limits import (
    ALLOWED_LATENESS_S,
    COMMIT_INTERVAL_S,
    COMMIT_VISITS,
    COUNT_RETENTION_DAYS,
    DAY_RETENTION_DAYS,
    HOUR_RETENTION_DAYS,
    MAP_BYTES_INITIAL,
    MEMBERS_CACHE_BYTES,
    MINUTE_RETENTION_DAYS,
    MONTH_RETENTION_DAYS,
    PARTITION_BYTES_MAX,
    PARTITION_ENTRIES_MAX,
    QUARANTINE_MAX_ROWS,
    RETENTION_DAYS_MAX,
    UID_CACHE_ENTRIES,
    UID_FILTER_BYTES_MAX,
    WEEK_RETENTION_DAYS,
    YEAR_RETENTION_DAYS,
    YOUNG_BYTES_MAX,
    YOUNG_MERGE_BYTES_MAX,
)

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class CacheSizes:
    """Bounds of what a process keeps in memory. They change speed only."""

    uid_entries: int = UID_CACHE_ENTRIES
    """Recently seen uids of a writer: about 100 bytes each."""
    members_bytes: int = MEMBERS_CACHE_BYTES
    """Sets of recently touched buckets, estimated; a writer and its readers have one such cache each, and for unions of
    sets a quarter of it more.
    """
    uid_filter_bytes: int = UID_FILTER_BYTES_MAX
    """What a writer that gets many new uids remembers of all others, at most, and a sixteenth more while it is made
    larger; it begins with 1 MiB. 0: nothing."""


@dataclass(frozen=True, slots=True)
class CommitRule:
    """When a handle commits by itself: at whichever comes first. Changes durability and speed, never a count."""

    visits: int = COMMIT_VISITS
    interval_s: float = COMMIT_INTERVAL_S


@dataclass(frozen=True, slots=True)
class DictionarySizes:
    """How the uid dictionary is cut. Changes speed and the layout on disk, never an answer; any mix is readable."""

    young_bytes: int = YOUNG_BYTES_MAX
    young_merge_bytes: int = YOUNG_MERGE_BYTES_MAX
    partition_entries: int = PARTITION_ENTRIES_MAX
    partition_bytes: int = PARTITION_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a bucket's members are kept after its end, in days of 86,400 s; 0: for ever. Only a sweep removes them.

    ``count_days`` is for the rows with the counts, which stay at least as long as the members. A finer granularity is
    not kept longer than a coarser one. Raises UsageError if it is, or if a number is negative or too large.
    """

    minute_days: int = MINUTE_RETENTION_DAYS
    hour_days: int = HOUR_RETENTION_DAYS
    day_days: int = DAY_RETENTION_DAYS
    week_days: int = WEEK_RETENTION_DAYS
    month_days: int = MONTH_RETENTION_DAYS
    year_days: int = YEAR_RETENTION_DAYS
    count_days: int = COUNT_RETENTION_DAYS

    def __post_init__(self) -> None:
        words = ("minute", "hour", "day", "week", "month", "year")
        for word in (*words, "count"):
            days: int = getattr(self, f"{word}_days")
            if not 0 <= days <= RETENTION_DAYS_MAX:
                raise UsageError(
                    f"a retention of {days} days", hint=f"give 1 to {RETENTION_DAYS_MAX:,} days, or 0: for ever"
                )
        for finer, coarser in pairwise(words):
            finer_s, coarser_s = self.members_s(finer), self.members_s(coarser)
            if coarser_s is not None and (finer_s is None or finer_s > coarser_s):
                raise UsageError(
                    f"{finer}s would be kept longer than {coarser}s, which are made of finer ones",
                    hint=f"keep {coarser}s at least as long as {finer}s",
                )

    def members_s(self, word: str) -> int | None:
        """How long members of the granularity of this name (``minute``, ...) are kept, in seconds; None: for ever."""
        days: int = getattr(self, f"{word}_days")
        return days * _DAY_S if days else None

    def rows_s(self, word: str) -> int | None:
        """How long the rows with counts are kept, in seconds: never shorter than the members. None: for ever."""
        members_s = self.members_s(word)
        return max(self.count_days * _DAY_S, members_s) if self.count_days and members_s is not None else None

    def keeps_window(self, days: int) -> bool:
        """Whether trailing windows of so many days can be worked out when their last day has closed."""
        return not self.day_days or self.day_days >= days


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How a handle behaves. None of it is stored, and only ``wall_clock`` can change a count."""

    commit: CommitRule = CommitRule()
    caches: CacheSizes = CacheSizes()
    dictionary: DictionarySizes = DictionarySizes()
    quarantine_max_rows: int = QUARANTINE_MAX_ROWS
    """Refused records that the store keeps; beyond, they are counted by source and reason."""
    allowed_lateness_s: int = ALLOWED_LATENESS_S
    """A bucket is closed once the store's clock has passed its end by so much. Changes when counts become final."""
    wall_clock: Callable[[], float] = time.time
    """Unix seconds: a visit of a call more than a day after this moment is implausible."""
    retention: Retention = Retention()
    """What a sweep may remove. Nothing else looks at it, but for trailing windows that it switches off."""
    max_store_bytes: int = 0
    """Commits that would need a larger data file are refused (CommitFailed); 0: the disk is the limit."""
    map_bytes: int = MAP_BYTES_INITIAL
    """Address space for LMDB's map at the start; it grows by itself."""
