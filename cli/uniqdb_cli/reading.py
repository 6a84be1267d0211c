"""What the asking commands share: a snapshot of a store that others may be writing."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime

    from uniqdb.calendar_zone import CalendarZone
    from uniqdb.engine import Engine
    from uniqdb.reading import Snapshot

TODAY = "today"


@contextmanager
def open_reader(store: str) -> Iterator["Engine"]:
    """The store, read-only: a writer may go on meanwhile."""
    from uniqdb.engine import open as open_store

    with open_store(store, read_only=True) as engine:
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
