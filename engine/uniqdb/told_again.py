"""Published records that say "not complete", or "complete", and are no longer right although nobody has visited since.

Whether a closed count is complete depends on the store's first visit and on its gaps. When one of these changes, the
records of the buckets that it concerns are to be sent again. Their revision stays: it counts what changed in the count.
"""

from collections.abc import Iterator

from uniqdb.calendar_zone import CalendarZone
from uniqdb.format import Database, bucket_key
from uniqdb.granularity import Granularity
from uniqdb.meta import GapRow, StateRow
from uniqdb.read_view import ReadView


def told_again(view: ReadView, zone: CalendarZone, before: StateRow, after: StateRow) -> Iterator[bytes]:
    """Keys of buckets, with a row in the view, whose records may say something else after the commit.

    An earlier first visit makes those buckets complete that hold the one before it. A gap that begins, or whose end is
    found, concerns every bucket since it began. Cost: as many rows as there are such buckets.
    """
    first_s = before.event_time_s_min
    if first_s is not None and after.event_time_s_min is not None and after.event_time_s_min < first_s:
        for granularity in Granularity:
            key = bucket_key(granularity, zone.bucket_at(granularity, first_s).start_s)
            if view.get(Database.BUCKETS, key) is not None:
                yield key
    if after.gaps != before.gaps:
        yield from _touched(view, zone, [gap for gap in after.gaps if gap not in before.gaps])


def _touched(view: ReadView, zone: CalendarZone, gaps: list[GapRow]) -> Iterator[bytes]:
    """Where the end of a gap was found, buckets beyond it are complete again, so it is all from its beginning."""
    from_s = min((gap.from_s for gap in gaps), default=None)
    if from_s is None:
        return
    for granularity in Granularity:
        start_s = 0 if from_s < zone.start_s else zone.bucket_at(granularity, from_s).start_s
        first = bucket_key(granularity, start_s)
        for key, _ in view.raw_rows(Database.BUCKETS, first, bytes((granularity + 1,))):
            yield key
