"""Published records that say "not complete", or "complete", and are no longer right although nobody has visited since.

Whether a closed count is complete depends on the store's first visit and on its gaps. When one of these changes, the
records of the buckets that it concerns are to be sent again. Their revision stays: it counts what changed in the count.
Published trailing windows are worked out again, as after a late visit.
"""

from collections.abc import Iterator

from uniqdb.calendar_zone import CalendarZone
from uniqdb.format import Database, bucket_key
from uniqdb.granularity import Granularity
from uniqdb.meta import StateRow
from uniqdb.outbox import DATE_ORDINAL_MAX, TRAILING_DAYS, WindowKey, read_published
from uniqdb.read_view import ReadView


def told_again(view: ReadView, zone: CalendarZone, before: StateRow, after: StateRow) -> Iterator[bytes]:
    """Keys of buckets, with a row in the view, whose records may say something else after the commit.

    An earlier first visit makes those buckets complete that hold the one before it. A gap that begins, or whose end is
    found, concerns every bucket since it began. Cost: as many rows as there are such buckets.
    """
    first_s = _first_before_another(before, after)
    if first_s is not None:
        for granularity in Granularity:
            key = bucket_key(granularity, zone.bucket_at(granularity, first_s).start_s)
            if view.get(Database.BUCKETS, key) is not None:
                yield key
    from_s = _gaps_from_s(before, after)
    if from_s is None:
        return
    for granularity in Granularity:
        start_s = 0 if from_s < zone.start_s else zone.bucket_at(granularity, from_s).start_s
        first = bucket_key(granularity, start_s)
        for key, _ in view.raw_rows(Database.BUCKETS, first, bytes((granularity + 1,))):
            yield key


def windows_told_again(view: ReadView, zone: CalendarZone, before: StateRow, after: StateRow) -> Iterator[WindowKey]:
    """Published windows whose records may say something else after the commit: they are due again.

    An earlier first visit makes those complete that begin between it and the one before it; a gap concerns every window
    that ends since it began. Cost: as many rows as there are such windows.
    """
    first_s, newer_s = _first_before_another(before, after), after.event_time_s_min
    if first_s is not None and newer_s is not None:
        starts = zone.local_date(newer_s).toordinal(), zone.local_date(first_s).toordinal()
        for days in TRAILING_DAYS:
            yield from read_published(view, days, (starts[0] + days - 1, starts[1] + days - 1))
    from_s = _gaps_from_s(before, after)
    if from_s is not None:
        date = zone.local_date(max(from_s, zone.start_s)).toordinal()
        for days in TRAILING_DAYS:
            yield from read_published(view, days, (date, DATE_ORDINAL_MAX))


def _first_before_another(before: StateRow, after: StateRow) -> int | None:
    """The first visit that there was, if the commit brings an earlier one."""
    first_s = before.event_time_s_min
    is_earlier = first_s is not None and after.event_time_s_min is not None and after.event_time_s_min < first_s
    return first_s if is_earlier else None


def _gaps_from_s(before: StateRow, after: StateRow) -> int | None:
    """Since when the gaps are others. Where an end was found, what is beyond it is complete again: so it is all."""
    if after.gaps == before.gaps:
        return None
    return min((gap.from_s for gap in after.gaps if gap not in before.gaps), default=None)
