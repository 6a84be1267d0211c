"""What answers need to know of a store beside the view, shared by all views of a handle."""

from collections.abc import Mapping

import msgspec

from uniqdb.calendar_zone import CalendarZone
from uniqdb.granularity import Bucket, Granularity
from uniqdb.handle_lock import HandleLock
from uniqdb.members_cache import MembersCache
from uniqdb.uid_dictionary import UidDictionary
from uniqdb.window import cover, parse_period

_PERIODS_MAX, _COVERS_MAX, _COVER_BUCKETS_MAX = 4_096, 256, 128


class StoreFacts(msgspec.Struct, frozen=True):
    """The calendar, the lock, and the caches, which survive commits."""

    zone: CalendarZone
    lock: HandleLock
    dictionary: UidDictionary
    cache: MembersCache
    _periods: dict[str, Bucket] = msgspec.field(default_factory=dict)
    _covers: dict[tuple[int, int, tuple[int, ...]], list[Bucket]] = msgspec.field(default_factory=dict)

    def period(self, text: str) -> Bucket:
        """`parse_period` in the store's zone, remembered: programs ask for the same few periods again and again."""
        bucket = self._periods.get(text)
        if bucket is None:
            bucket = parse_period(self.zone, text)
            if len(self._periods) >= _PERIODS_MAX:
                self._periods.clear()
            self._periods[text] = bucket
        return bucket

    def cover(self, start_s: int, end_s: int, kept_from_s: Mapping[Granularity, int]) -> list[Bucket]:
        """`uniqdb.window.cover` in a store that lost nothing, remembered. Not to be changed. Raises WindowNotKept."""
        asked = start_s, end_s, tuple(kept_from_s.values())
        chosen = self._covers.get(asked)
        if chosen is None:
            chosen = cover(self.zone, start_s, end_s, lambda bucket: bucket.start_s >= kept_from_s[bucket.granularity])
            if len(self._covers) >= _COVERS_MAX:
                self._covers.clear()
            if len(chosen) <= _COVER_BUCKETS_MAX:
                self._covers[asked] = chosen
        return chosen
