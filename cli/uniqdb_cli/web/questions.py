"""What each address of the API answers, from one snapshot: every number of an answer is of the same commit."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from msgspec import UNSET

from uniqdb import __version__
from uniqdb.errors import UniqdbError
from uniqdb.granularity import Granularity
from uniqdb.moments import resolve_window
from uniqdb.parts import PartAnswers, uids_given
from uniqdb.quarantine import counted_only
from uniqdb.record import CountRecord
from uniqdb.snapshot import Snapshot
from uniqdb.window import parse_period, parse_window
from uniqdb_cli.output import json_text
from uniqdb_cli.web.limits import RECORDS_MAX, WORK_S_MAX
from uniqdb_cli.web.parameters import TRAILING_WINDOWS, BadQuery, Query
from uniqdb_cli.web.problems import Busy, problem_of
from uniqdb_cli.web.ranges import Range, assert_short, range_before, range_of, window_before
from uniqdb_cli.web.shapes import (
    Alive,
    Compared,
    Existence,
    Quarantine,
    Refused,
    Series,
    SourceState,
    Status,
    StoreState,
    Trailing,
)

T = TypeVar("T")
_LOOK_EVERY = 1_024


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may work; ``clock`` counts seconds."""

    clock: Callable[[], float] = time.monotonic
    until_s: float = field(default_factory=lambda: time.monotonic() + WORK_S_MAX)

    def assert_left(self) -> None:
        """Raise Busy if none is left."""
        if self.clock() > self.until_s:
            raise Busy("the answer takes too long", hint="ask for less at a time, or again when there is less to do")

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The items, as long as there is patience."""
        iterator = iter(items)
        while chunk := list(islice(iterator, _LOOK_EVERY)):
            self.assert_left()
            yield from chunk


def count(snapshot: Snapshot, query: Query, _patience: Patience) -> CountRecord:
    """One window, period or interval, or everything."""
    window, period, start, end, as_of = (query.get(name) for name in ("window", "period", "from", "to", "as_of"))
    kinds = {"window": window, "period": period, "from and to": start or end}
    within = window_or_period(snapshot, kinds, as_of)
    if start or end:
        if start is None or end is None:
            raise BadQuery("the interval has only one end", hint="give from and to")
        return snapshot.count_between(start, end)
    return snapshot.count(within, as_of=as_of)


def window_or_period(snapshot: Snapshot, kinds: Mapping[str, str | None], as_of: str | None) -> str | None:
    """The window or the period of a query that names at most one of the ``kinds``. Raises BadQuery, UsageError."""
    given = [name for name, value in kinds.items() if value]
    if len(given) > 1:
        raise BadQuery(f"{' and '.join(given)} do not go together", hint="ask one after the other")
    window, period = kinds["window"], kinds["period"]
    if as_of is not None and window is None:
        raise BadQuery("as_of goes with window", hint="give window, too")
    if window is not None:
        parse_window(window)
    if period is not None:
        parse_period(snapshot.answers.zone, period)
    return window or period


def series(snapshot: Snapshot, query: Query, patience: Patience) -> Series:
    """Buckets of a range, and of the range before."""
    kind, zone = Granularity.from_word(query.get("by") or ""), snapshot.answers.zone
    span, is_filled = range_of(snapshot, query, kind), query.is_yes("fill")
    if span is None:
        span, is_filled = Range(0, 0, 0), False
    assert_short(span, kind, RECORDS_MAX // 2 if query.is_yes("compare") else RECORDS_MAX)
    before = range_before(zone, span) if query.is_yes("compare") else None

    def records(asked: Range) -> list[CountRecord]:
        found = snapshot.answers.series(kind, asked.start_s, asked.begun_s, fill=is_filled)
        return list(patience.over(found))

    return Series(
        kind.word,
        span.start_s,
        span.end_s,
        zone.name,
        snapshot.commit_number,
        records(span),
        None if before is None else records(before),
    )


def trailing(snapshot: Snapshot, query: Query, patience: Patience) -> Trailing:
    """Trailing windows, each with the one before it."""
    as_of, asked = query.get("as_of"), query.every("window") or TRAILING_WINDOWS
    for text in asked:
        parse_window(text)
    if as_of is None:
        snapshot.answers.as_of_default_s()  # an empty store says so
    found = []
    for text in asked:
        patience.assert_left()
        found.append(_compared(snapshot, text, as_of))
    return Trailing(snapshot.answers.zone.name, snapshot.commit_number, found)


def _compared(snapshot: Snapshot, text: str, as_of: str | None) -> Compared:
    zone = snapshot.answers.zone
    try:
        current = snapshot.count(text, as_of=as_of)
    except UniqdbError as error:
        return Compared(window=text, current=None, before=None, change=None, refused=problem_of(error))
    newest_s = snapshot.answers.as_of_default_s() if as_of is None else None
    start_s = resolve_window(zone, text, as_of, newest_s).start_s
    if start_s <= zone.start_s:
        return Compared(window=text, current=current, before=None, change=None)  # nothing is before the calendar
    try:
        before = snapshot.count(text, as_of=window_before(zone, text, start_s))
    except UniqdbError:
        return Compared(window=text, current=current, before=None, change=None)
    first_s = snapshot.answers.whole_from_s
    is_comparable = before.count > 0 and first_s is not None and first_s < before.start_ts + 60
    change = current.count / before.count - 1 if is_comparable else None
    return Compared(window=text, current=current, before=before, change=change)


def exists(snapshot: Snapshot, query: Query, _patience: Patience) -> Existence:
    """Whether a visitor was seen."""
    as_of = query.get("as_of")
    within = window_or_period(snapshot, {"window": query.get("window"), "period": query.get("period")}, as_of)
    is_seen = snapshot.check_if_uid_exists(query.get("uid") or "", within, as_of=as_of)
    return Existence(is_seen, within, snapshot.commit_number)


def quarantine(snapshot: Snapshot, _query: Query, _patience: Patience) -> Quarantine:
    """Refused records by reason."""
    state = snapshot.answers.state
    reasons = sorted({*state.quarantined, *state.discarded})
    rows = [Refused(one, state.quarantined.get(one, 0), state.discarded.get(one, 0)) for one in reasons]
    count_all = sum(one.count for one in rows)
    return Quarantine(count_all, count_all - counted_only(snapshot.answers.view), snapshot.commit_number, rows)


def status(snapshot: Snapshot, _query: Query, _patience: Patience) -> Status:
    """The store as a whole."""
    answers = snapshot.answers
    state, retention, found = answers.state, answers.retention, snapshot.completeness()
    visitors = uids_given(answers) - retention.uids_dropped
    return Status(
        version=__version__,
        commit=state.commit_number,
        epoch=answers.epoch,
        timezone=answers.zone.name,
        visits=state.visits,
        visitors=visitors,
        first_visit_ts=state.event_time_s_min,
        newest_visit_ts=state.event_time_s_max,
        clock_ts=state.clock_s,
        closed_through_ts=state.closed_through_s,
        late=state.late_visits,
        held=found.held,
        expired=state.expired,
        quarantined=sum(state.quarantined.values()),
        kept_from_ts=retention.members_from_s,
        gaps=len(state.gaps),
        lost_spans=len(retention.lost),
        sources=[
            SourceState(json_text(one.name), one.kind, one.state, one.clock_s, one.accepted, one.refused, one.held)
            for one in found.sources
        ],
        stores=[_store_state(answers, visitors)] if isinstance(answers, PartAnswers) else UNSET,
    )


def _store_state(answers: PartAnswers, visitors: int) -> StoreState:
    own = answers.own_state
    return StoreState(
        json_text(answers.name),
        own.commit_number,
        answers.epoch,
        own.visits,
        visitors,
        own.event_time_s_min,
        own.event_time_s_max,
        own.clock_s,
        own.closed_through_s,
    )


def alive(snapshot: Snapshot, _query: Query, _patience: Patience) -> Alive:
    """The newest commit."""
    return Alive(snapshot.commit_number)
