"""Which trailing windows are due: those of a day that closes, and those with a closed day that a late visit amends."""

import datetime
from collections.abc import Iterable, Sequence

from uniqdb.calendar_zone import CalendarZone
from uniqdb.closing import Closing
from uniqdb.outbox import WindowKey

_DAY = datetime.timedelta(1)


def due_by(
    zone: CalendarZone, closing: Closing, first_s: int | None, late_days_s: Iterable[int], lengths: Sequence[int]
) -> set[WindowKey]:
    """The windows of these lengths (in days) that one commit makes due.

    ``first_s`` is the store's first visit: days before it are nobody's. ``late_days_s`` are the starts of closed days
    that the commit amends. Cost: five keys for each day that closes, up to 672 for each day that is amended.
    """
    found: set[WindowKey] = set()
    if first_s is None:
        return found
    closed_through = _last_closed(zone, closing.through_s)
    closed_before = _last_closed(zone, closing.before_s)
    first = zone.local_date(first_s)
    if closed_through is not None and closed_through >= first:
        day = first if closed_before is None else max(first, closed_before + _DAY)
        while day <= closed_through:
            if zone.day_start(day) < zone.day_end(day):
                found |= {WindowKey(days, day.toordinal()) for days in lengths}
            day += _DAY
        for start_s in late_days_s:
            found |= _with_day(zone, zone.local_date(start_s), closed_through, lengths)
    return found


def _with_day(zone: CalendarZone, late: datetime.date, last: datetime.date, lengths: Sequence[int]) -> set[WindowKey]:
    """The windows of closed days that contain a day."""
    found: set[WindowKey] = set()
    for days in lengths:
        for ahead in range(min(days, (last - late).days + 1)):
            day = late + datetime.timedelta(ahead)
            if zone.day_start(day) < zone.day_end(day):
                found.add(WindowKey(days, day.toordinal()))
    return found


def _last_closed(zone: CalendarZone, through_s: int) -> datetime.date | None:
    """The last date that ended at or before the instant; None before the calendar."""
    if through_s <= zone.start_s:
        return None
    day = zone.local_date(min(through_s, zone.end_s - 1))
    return day if zone.day_end(day) <= through_s else day - _DAY
