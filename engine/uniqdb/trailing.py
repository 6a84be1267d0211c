"""Which trailing windows are due: those of a day that closes, and those of closed days that hold an amended one."""

import datetime
from collections.abc import Iterable, Sequence

from uniqdb.calendar_zone import CalendarZone
from uniqdb.closing import Closing
from uniqdb.outbox import TRAILING_DAYS, WindowKey, read_published
from uniqdb.read_view import ReadView

_DAY = datetime.timedelta(1)


def due_by(zone: CalendarZone, closing: Closing, first_s: int | None, lengths: Sequence[int]) -> set[WindowKey]:
    """The windows of these lengths (in days) that end with a day which one commit closes.

    ``first_s`` is the store's first visit: days before it are nobody's. Cost: a key for each length and day.
    """
    closed_through = _last_closed(zone, closing.through_s)
    if first_s is None or closed_through is None:
        return set()
    closed_before = _last_closed(zone, closing.before_s)
    first = zone.local_date(first_s)
    return _ending_between(
        zone, lengths, first if closed_before is None else max(first, closed_before + _DAY), closed_through
    )


def due_again(
    view: ReadView, zone: CalendarZone, through_s: int, days_s: Iterable[int], lengths: Sequence[int]
) -> set[WindowKey]:
    """The windows of closed days that hold one of these days, whose visitors are others now.

    ``days_s``: their starts; ``through_s``: how far the store is closed. Of the lengths (in days) that are switched off
    only those that were published all the same: somebody asked for them, or it was switched off since. Cost: up to 672
    keys for each of the days.
    """
    found: set[WindowKey] = set()
    last = _last_closed(zone, through_s)
    if last is None:
        return found
    for start_s in days_s:
        changed = zone.local_date(start_s)
        for days in TRAILING_DAYS:
            ends = min(changed + (days - 1) * _DAY, last)
            if days in lengths:
                found |= _ending_between(zone, (days,), changed, ends)
            else:
                found.update(read_published(view, days, (changed.toordinal(), ends.toordinal())))
    return found


def _ending_between(
    zone: CalendarZone, lengths: Sequence[int], first: datetime.date, last: datetime.date
) -> set[WindowKey]:
    """Windows of these lengths that end with a day between two, both inclusive. A date of length zero ends none."""
    found: set[WindowKey] = set()
    for ahead in range((last - first).days + 1):
        day = first + ahead * _DAY
        if zone.day_start(day) < zone.day_end(day):
            found |= {WindowKey(days, day.toordinal()) for days in lengths}
    return found


def _last_closed(zone: CalendarZone, through_s: int) -> datetime.date | None:
    """The last date that ended at or before the instant; None before the calendar."""
    if through_s <= zone.start_s:
        return None
    day = zone.local_date(min(through_s, zone.end_s - 1))
    return day if zone.day_end(day) <= through_s else day - _DAY
