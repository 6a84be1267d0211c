"""Settings as small immutable values, those that change results apart from those that change speed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from uniqdb.limits import (
    ALLOWED_LATENESS_S,
    COMMIT_INTERVAL_S,
    COMMIT_VISITS,
    MAP_BYTES_INITIAL,
    MEMBERS_CACHE_BYTES,
    PARTITION_BYTES_MAX,
    PARTITION_ENTRIES_MAX,
    QUARANTINE_MAX_ROWS,
    UID_CACHE_ENTRIES,
    YOUNG_BYTES_MAX,
    YOUNG_MERGE_BYTES_MAX,
)


@dataclass(frozen=True, slots=True)
class CacheSizes:
    """Bounds of what a process keeps in memory. They change speed only."""

    uid_entries: int = UID_CACHE_ENTRIES
    """Recently seen uids of a writer: about 100 bytes each."""
    members_bytes: int = MEMBERS_CACHE_BYTES
    """Sets of recently touched buckets, estimated; a writer and its readers have one such cache each."""


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
    map_bytes: int = MAP_BYTES_INITIAL
    """Address space for LMDB's map at the start; it grows by itself."""
