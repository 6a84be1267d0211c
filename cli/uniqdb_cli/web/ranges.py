"""Which interval a query means, the one before it, and how many buckets both may have."""

import datetime
from dataclasses import dataclass

from uniqdb.calendar_zone import CalendarZone
from uniqdb.errors import UsageError
from uniqdb.granularity import Granularity
from uniqdb.moments import resolve_window
from uniqdb.snapshot import Snapshot
from uniqdb.window import parse_edge, parse_window
from uniqdb_cli.web.parameters import BadQuery, Query

_DAY = datetime.timedelta(days=1)
_LEAST_S = {
    Granularity.MINUTE: 60,
    Granularity.HOUR: 1_800,
    Granularity.DAY: 23 * 3_600,
    Granularity.WEEK: 6 * 86_400,
    Granularity.MONTH: 27 * 86_400,
    Granularity.YEAR: 364 * 86_400,
}
"""No bucket of a calendar is shorter but by accident: an hour of Lord Howe may be half of one."""


@dataclass(frozen=True, slots=True)
class Range:
    """``[start_s, end_s)`` in Unix seconds; what has begun of it ends at ``begun_s``."""

    start_s: int
    end_s: int
    begun_s: int


def range_of(snapshot: Snapshot, query: Query, granularity: Granularity) -> Range | None:
    """The range that ``last`` (with ``as_of``) or ``from`` and ``to`` name, or all that there is.

    Where ``last`` names it, it is widened to whole buckets, and those have not begun that start after the clock and the
    newest visit: today's later hours. None: the store has no visits. Raises UsageError, NotFound.
    """
    zone = snapshot.answers.zone
    last, start, end, as_of = (query.get(name) for name in ("last", "from", "to", "as_of"))
    if last is not None:
        if start is not None or end is not None:
            raise BadQuery("last does not go with from and to", hint="give one or the other")
        newest_s = snapshot.answers.as_of_default_s() if as_of is None else None
        found = resolve_window(zone, last, as_of, newest_s)
        first = zone.bucket_at(granularity, found.start_s)
        end_s = zone.bucket_at(granularity, found.end_s - 1).end_s
        state = snapshot.answers.state
        now_s = max(state.clock_s or 0, state.event_time_s_max or 0)
        begun_s = min(end_s, zone.bucket_at(granularity, now_s).end_s)
        return Range(first.start_s, end_s, max(begun_s, first.start_s))
    if as_of is not None:
        raise BadQuery("as_of goes with last", hint="give last, too, or to in its place")
    state = snapshot.answers.state
    if state.event_time_s_min is None or state.event_time_s_max is None:
        if start is None or end is None:
            return None
        edges_s = 0, 0
    else:
        first_s, last_s = state.event_time_s_min, state.event_time_s_max
        edges_s = zone.bucket_at(granularity, first_s).start_s, zone.bucket_at(granularity, last_s).end_s
    start_s = edges_s[0] if start is None else parse_edge(zone, start, is_end=False)
    end_s = edges_s[1] if end is None else parse_edge(zone, end, is_end=True)
    return Range(start_s, end_s, end_s)


def range_before(zone: CalendarZone, after: Range) -> Range:
    """The range of the same length that ends where this one starts; of whole days if that one is of whole days."""
    if after.end_s <= after.start_s:
        return Range(*[after.start_s] * 3)
    first, last = zone.local_date(after.start_s), zone.local_date(after.end_s - 1)
    if zone.day_start(first) == after.start_s and zone.day_end(last) == after.end_s:
        length = last - first + _DAY
        start_s = zone.day_start(datetime.date.fromordinal(max(first.toordinal() - length.days, 1)))
    else:
        start_s = 2 * after.start_s - after.end_s
    return Range(max(start_s, zone.start_s), after.start_s, after.start_s)


def window_before(zone: CalendarZone, window: str, start_s: int) -> "datetime.date | int":
    """The ``as_of`` of the window of the same length that ends where one starts."""
    if parse_window(window).unit is Granularity.DAY:
        return zone.local_date(start_s - 60)
    return start_s - 60


def assert_short(span: Range, granularity: Granularity, buckets_max: int) -> None:
    """Raise UsageError if the range may have more buckets than an answer may."""
    if (span.end_s - span.start_s) // _LEAST_S[granularity] > buckets_max:
        raise UsageError(
            f"the range may have more than {buckets_max:,} {granularity.word}s, which is too much for one answer",
            hint="ask for a shorter range, or for a coarser granularity",
        )
