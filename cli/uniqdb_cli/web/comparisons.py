"""Answers that compare sets of visitors: new and returning ones, two windows, cohorts, days and their months."""

from uniqdb.cohorts import PERIODS, Cohorts, newest_periods, period_edges
from uniqdb.cohorts import cohorts as find_cohorts
from uniqdb.errors import UsageError
from uniqdb.granularity import Granularity
from uniqdb.snapshot import Snapshot
from uniqdb.stickiness import DAYS, Stickiness
from uniqdb.stickiness import stickiness as find_stickiness
from uniqdb.visitor_questions import Overlap, new_ordinals, since_s, split_each
from uniqdb.window import TrailingWindow, parse_edge, parse_window
from uniqdb_cli.web.limits import COHORTS_MAX, SPLITS_MAX, STICKY_DAYS_MAX
from uniqdb_cli.web.parameters import BadQuery, Query
from uniqdb_cli.web.questions import Patience, window_or_period
from uniqdb_cli.web.ranges import Range, assert_short, range_of
from uniqdb_cli.web.shapes import Split, SplitBucket


def split(snapshot: Snapshot, query: Query, patience: Patience) -> Split:
    """New against returning visitors. Cost: the set of each bucket, and of all that was before the range."""
    kind, answers = Granularity.from_word(query.get("by") or ""), snapshot.answers
    before = _look_back(query)
    span = range_of(snapshot, query, kind) or Range(0, 0, 0)
    assert_short(span, kind, SPLITS_MAX)
    buckets = []
    records = answers.series(kind, span.start_s, span.begun_s, fill=query.is_yes("fill"))
    for one in split_each(answers, records, before):
        patience.assert_left()
        words = one.datetime, one.start_ts, one.end_ts
        buckets.append(SplitBucket(*words, one.count, one.new, one.returning, one.status))
    total, new = 0, 0
    if buckets:
        edges_s = buckets[0].start_ts, buckets[-1].end_ts
        total = snapshot.between(*edges_s).count
        # Who was never seen before is new in one bucket only.
        new = sum(one.new for one in buckets) if before is None else len(new_ordinals(answers, edges_s, before))
    first_s = answers.state.event_time_s_min
    return Split(
        by=kind.word,
        start_ts=span.start_s,
        end_ts=span.end_s,
        since_ts=first_s if before is None else since_s(answers, span.start_s, before),
        timezone=answers.zone.name,
        commit=snapshot.commit_number,
        count=total,
        new=new,
        returning=total - new,
        buckets=buckets,
    )


def _look_back(query: Query) -> TrailingWindow | None:
    before = query.get("before")
    return None if before is None else parse_window(before)


def overlap(snapshot: Snapshot, query: Query, _patience: Patience) -> Overlap:
    """Who is in both of two windows. Cost: two unions."""
    window, period, start, end, as_of = (query.get(name) for name in ("window", "period", "from", "to", "as_of"))
    within = window_or_period(snapshot, {"window": window, "period": period, "from and to": start or end}, as_of)
    other = query.get("with") or ""
    if start is not None and end is not None:
        return snapshot.overlap((start, end), other)
    if start or end:
        raise BadQuery("the interval has only one end", hint="give from and to")
    if within is None:
        raise BadQuery("there is no window to compare", hint="give window, period, or from and to")
    return snapshot.overlap(within, other, as_of=as_of)


def cohorts(snapshot: Snapshot, query: Query, patience: Patience) -> Cohorts:
    """Cohorts of a range, or the newest. Cost: the set of each period, and an intersection for each pair of them."""
    kind, answers = Granularity.from_word(query.get("by") or ""), snapshot.answers
    edges_s = newest_periods(answers, kind, _open_edges(snapshot, query), PERIODS)
    assert_short(Range(*edges_s, edges_s[1]), kind, 2 * COHORTS_MAX)  # before the periods are told
    number = len(period_edges(answers, kind, edges_s)) - 1
    if number > COHORTS_MAX:
        raise UsageError(
            f"the range has {number:,} {kind.word}s, and an answer at most {COHORTS_MAX} cohorts",
            hint="ask for a shorter range, or for a coarser granularity",
        )
    return find_cohorts(answers, kind, edges_s, patience.assert_left)


def stickiness(snapshot: Snapshot, query: Query, patience: Patience) -> Stickiness:
    """Each day of a range against the 7 and the 30 days that end with it. Cost: two unions for each."""
    day, answers = Granularity.DAY, snapshot.answers
    if query.get("last") is not None or query.get("as_of") is not None:
        span = range_of(snapshot, query, day) or Range(0, 0, 0)
    else:
        edges_s = newest_periods(answers, day, _open_edges(snapshot, query), DAYS)
        span = Range(*edges_s, edges_s[1])
    assert_short(span, day, STICKY_DAYS_MAX)
    return find_stickiness(answers, (span.start_s, span.end_s), patience.assert_left)


def _open_edges(snapshot: Snapshot, query: Query) -> tuple[int | None, int | None]:
    zone, start, end = snapshot.answers.zone, query.get("from"), query.get("to")
    return (
        None if start is None else parse_edge(zone, start, is_end=False),
        None if end is None else parse_edge(zone, end, is_end=True),
    )
