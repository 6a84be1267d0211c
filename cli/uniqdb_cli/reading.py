"""What the asking commands share: a snapshot of a store that others may be writing."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from uniqdb.errors import UsageError

if TYPE_CHECKING:
    import datetime

    from uniqdb.calendar_zone import CalendarZone
    from uniqdb.engine import Engine
    from uniqdb.moments import Moment
    from uniqdb.options import OpenOptions
    from uniqdb.record import CountRecord
    from uniqdb.snapshot import Snapshot

TODAY = "today"
TRAILING_WINDOWS = ("7d", "30d", "90d", "180d", "365d")


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked. Of windows, periods, a granularity and an interval at most one kind."""

    windows: list[str]
    periods: list[str]
    by: str | None = None
    start: str | None = None
    end: str | None = None
    fill: bool = False
    as_of: str | None = None

    def __post_init__(self) -> None:
        has_edge = self.start is not None or self.end is not None
        is_interval = has_edge and self.by is None
        kinds = {"--window": self.windows, "--period": self.periods, "--by": self.by, "--from": is_interval}
        given = [name for name, value in kinds.items() if value]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} do not go together", hint="ask one after the other")
        if is_interval and (self.start is None or self.end is None):
            missing = "--from" if self.start is None else "--to"
            raise UsageError(
                f"the interval has no {missing[2:]}", hint=f"give {missing} too (only `query --by` takes one alone)"
            )
        if self.fill and self.by is None:
            raise UsageError("--fill is for a series", hint="give --by too")
        if self.as_of is not None and given not in ([], ["--window"]):
            raise UsageError(f"--as-of does not go with {given[0]}", hint="it says where trailing windows end")


def given(text: str | None) -> list[str]:
    """The option as a list of none or one. An empty text was given, and is refused where it is read."""
    return [] if text is None else [text]


@contextmanager
def open_reader(store: str, options: "OpenOptions | None" = None) -> Iterator["Engine"]:
    """The store, read-only: a writer may go on meanwhile."""
    from uniqdb.engine import open as open_store

    with open_store(store, read_only=True, options=options) as engine:
        yield engine


@contextmanager
def open_snapshot(store: str) -> Iterator[tuple["Snapshot", "CalendarZone"]]:
    """One commit of the store, and its time zone."""
    with open_reader(store) as engine, engine.snapshot() as snapshot:
        yield snapshot, snapshot.answers.zone


def resolve_as_of(text: str | None, zone: "CalendarZone") -> "str | datetime.date | None":
    """``today`` as the date that it is now in the store's zone; anything else as it is."""
    return zone.local_date(int(time.time())) if text == TODAY else text


def parse_all(texts: Iterable[str], zone: "CalendarZone", *, periods: bool) -> None:
    """Raise UsageError for a text that is no window (or no period), before any answer is written."""
    from uniqdb.window import parse_period, parse_window

    for text in texts:
        if periods:
            parse_period(zone, text)
        else:
            parse_window(text)


class Counting(Protocol):
    """What can be asked for counts: a snapshot of a store, or the sum of several."""

    def count(self, window: str, *, as_of: "Moment | None" = None) -> "CountRecord":
        """Of a trailing window or a period."""

    def count_between(self, start: "Moment", end: "Moment") -> "CountRecord":
        """Of an interval."""

    def series(
        self, granularity: str, start: "Moment | None", end: "Moment | None", *, fill: bool
    ) -> Iterator["CountRecord"]:
        """Of each bucket."""


def counted(question: Question, asked: Counting, zone: "CalendarZone") -> Iterator["CountRecord"]:
    """The records that answer the question, as they are computed; without one, those of the trailing windows."""
    if question.by is not None:
        yield from asked.series(question.by, question.start, question.end, fill=question.fill)
    elif question.start is not None and question.end is not None:
        yield asked.count_between(question.start, question.end)
    elif question.periods:
        parse_all(question.periods, zone, periods=True)
        for text in question.periods:
            yield asked.count(text)
    else:
        windows = question.windows or TRAILING_WINDOWS
        parse_all(windows, zone, periods=False)
        as_of = resolve_as_of(question.as_of, zone)
        for text in windows:
            yield asked.count(text, as_of=as_of)


def interval_of(snapshot: "Snapshot", zone: "CalendarZone", question: Question) -> dict[str, Any]:
    """What one window, period or interval is about, in the words of the record schema."""
    from uniqdb.moments import resolve_window
    from uniqdb.window import parse_edge, parse_period

    if question.periods:
        bucket = parse_period(zone, question.periods[0])
        return {
            "start_ts": bucket.start_s,
            "end_ts": bucket.end_s,
            "timezone": zone.name,
            "period": question.periods[0],
        }
    if question.start is not None and question.end is not None:
        start_s = parse_edge(zone, question.start, is_end=False)
        end_s = parse_edge(zone, question.end, is_end=True)
        return {"start_ts": start_s, "end_ts": end_s, "timezone": zone.name}
    window = question.windows[0]
    parse_all([window], zone, periods=False)
    as_of = resolve_as_of(question.as_of, zone)
    newest = snapshot.answers.as_of_default_s() if as_of is None else None
    found = resolve_window(zone, window, as_of, newest)
    words = {"start_ts": found.start_s, "end_ts": found.end_s, "timezone": zone.name}
    return {**words, "window": found.window.text, "as_of": found.as_of}
