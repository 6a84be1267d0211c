"""The time before a window: where looking back begins, and the window of the same length before.

Pure functions of the zone and their arguments. Intervals are ``[start, end)`` in Unix seconds and whole minutes.
"""

import datetime

from uniqdb.calendar_zone import CalendarZone
from uniqdb.errors import UsageError
from uniqdb.granularity import Granularity
from uniqdb.record import CountRecord
from uniqdb.window import TrailingWindow, parse_window, trailing_interval

_DAY = datetime.timedelta(days=1)


def look_back_start(zone: CalendarZone, before: TrailingWindow, start_s: int) -> int:
    """Where the ``before`` (365 days, say) before a window that starts at ``start_s`` begin.

    They are whole: 365 local dates, and what precedes ``start_s`` of the date that it lies in; hours and minutes
    likewise. So a window that starts at midnight has exactly 365 dates before it. Nothing is before the calendar.
    """
    try:
        return trailing_interval(zone, TrailingWindow(before.length + 1, before.unit), start_s)[0]
    except OverflowError:
        return zone.start_s


def stretch_before(zone: CalendarZone, start_s: int, end_s: int) -> tuple[int, int]:
    """The interval of the same length that ends where this one starts; of whole days if this one is of whole days."""
    if end_s <= start_s:
        return start_s, start_s
    first, last = zone.local_date(start_s), zone.local_date(end_s - 1)
    if zone.day_start(first) == start_s and zone.day_end(last) == end_s:
        length = last - first + _DAY
        before_s = zone.day_start(datetime.date.fromordinal(max(first.toordinal() - length.days, 1)))
    else:
        before_s = 2 * start_s - end_s
    return max(before_s, zone.start_s), start_s


def previous_of(zone: CalendarZone, record: CountRecord) -> tuple[int, int]:
    """What came before the window that a count is of: the month before a month, the 30 days before 30 days.

    Raises UsageError if that is before the calendar.
    """
    start_s = record.start_ts
    if start_s <= zone.start_s:
        raise UsageError("nothing is before the calendar", hint="ask for a later window")
    if record.granularity == "interval":
        return stretch_before(zone, start_s, record.end_ts)
    if record.granularity == "window":
        window = parse_window(str(record.window))
        return trailing_interval(zone, window, start_s - 60)[0], start_s
    bucket = zone.bucket_at(Granularity.from_word(record.granularity), start_s - 60)
    return bucket.start_s, bucket.end_s
