"""What answers need to know of a store beside the view, shared by all views of a handle."""

from dataclasses import dataclass, field

from uniqdb.calendar_zone import CalendarZone
from uniqdb.granularity import Bucket
from uniqdb.handle_lock import HandleLock
from uniqdb.members_cache import MembersCache
from uniqdb.uid_dictionary import UidDictionary
from uniqdb.window import parse_period

_PERIODS_MAX = 4_096


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The calendar, the lock, and the caches, which survive commits."""

    zone: CalendarZone
    lock: HandleLock
    dictionary: UidDictionary
    cache: MembersCache
    _periods: dict[str, Bucket] = field(default_factory=dict)

    def period(self, text: str) -> Bucket:
        """`parse_period` in the store's zone, remembered: programs ask for the same few periods again and again."""
        bucket = self._periods.get(text)
        if bucket is None:
            bucket = parse_period(self.zone, text)
            if len(self._periods) >= _PERIODS_MAX:
                self._periods.clear()
            self._periods[text] = bucket
        return bucket
