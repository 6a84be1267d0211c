"""What the commands share that change an existing store: themselves, or through the process that writes it."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from uniqdb_cli.output import say
from uniqdb_cli.reading import open_reader
from uniqdb_cli.settings import Settings
from uniqdb_cli.stopping import StopRequest, stop_on_signals

if TYPE_CHECKING:
    from uniqdb.calendar_zone import CalendarZone
    from uniqdb.engine import Engine
    from uniqdb.options import OpenOptions, Retention

TAKEN_UP_S = 30.0
"""So long a writer may take until it takes up a request."""


def open_options(settings: Settings) -> "OpenOptions":
    """How a handle that writes behaves."""
    from uniqdb.options import OpenOptions

    return OpenOptions(
        quarantine_max_rows=settings.quarantine_max_rows,
        allowed_lateness_s=settings.allowed_lateness_s,
        retention=retention_of(settings),
        max_store_bytes=settings.max_store_bytes,
    )


def retention_of(settings: Settings) -> "Retention":
    """How long members and counts are kept. Raises UsageError if finer ones would be kept longer than coarser ones."""
    from uniqdb.options import Retention

    return Retention(
        minute_days=settings.minute_retention_days,
        hour_days=settings.hour_retention_days,
        day_days=settings.day_retention_days,
        week_days=settings.week_retention_days,
        month_days=settings.month_retention_days,
        year_days=settings.year_retention_days,
        count_days=settings.count_retention_days,
    )


@contextmanager
def open_writer(settings: Settings) -> Iterator["Engine"]:
    """The store, for writing. Raises NotFound if there is none, StoreBusy while another process writes."""
    from uniqdb.engine import open as open_store
    from uniqdb.errors import NotFound
    from uniqdb.manifest import is_store

    if not is_store(Path(settings.store)):
        raise NotFound(f"there is no store at {settings.store}", hint="name one with --store, or ingest a file first")
    with open_store(settings.store, options=open_options(settings)) as engine:
        yield engine


def carry_out(
    settings: Settings, kind: str, arguments_of: Callable[["CalendarZone"], dict[str, Any]]
) -> dict[str, Any]:
    """Change the store, or have the process do it that writes it; returns the result of the kind's handler.

    ``arguments_of`` makes the request, given the store's calendar. Raises what the handler raises, and StoreBusy if the
    writer does not take the request up in 30 s.
    """
    from uniqdb.errors import StoreBusy
    from uniqdb.manifest import is_written_here
    from uniqdb.request_handlers import request_handlers
    from uniqdb.requests import WriterGone

    until_s = time.monotonic() + TAKEN_UP_S
    while True:
        try:
            with open_writer(settings) as engine:
                return request_handlers(engine)[kind](arguments_of(engine.zone))
        except StoreBusy:
            if is_written_here(Path(settings.store)) or time.monotonic() > until_s:
                raise
        with open_reader(settings.store) as reader:
            arguments = arguments_of(reader.zone)
        try:
            with stop_on_signals() as stop:
                return _hand_in(settings, (kind, arguments), until_s, stop)
        except WriterGone:
            continue  # nobody is in the way any more


def hand_over(settings: Settings, kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Have the process do it that writes the store; returns the result. Raises as `carry_out`, and `WriterGone`."""
    with stop_on_signals() as stop:
        return _hand_in(settings, (kind, arguments), time.monotonic() + TAKEN_UP_S, stop)


def _hand_in(
    settings: Settings, request: tuple[str, dict[str, Any]], until_s: float, stop: StopRequest
) -> dict[str, Any]:
    from uniqdb.requests import WaitStopped, hand_in

    left_s = max(until_s - time.monotonic(), 0.0)
    try:
        return hand_in(Path(settings.store), *request, timeout_s=left_s, should_stop=stop.is_made)
    except WaitStopped as stopped:
        if stopped.is_begun:
            say("Interrupted; the process that writes the store is carrying it out already.")
        else:
            say("Interrupted: the request to the process that writes the store is withdrawn.")
        raise typer.Exit(stop.exit_code) from None


def is_untouched(engine: "Engine") -> bool:
    """Whether nothing was ever committed to the store."""
    from uniqdb.errors import UniqdbError

    try:
        with engine.snapshot() as snapshot:
            return not snapshot.commit_number
    except UniqdbError:  # after a failed write it may answer nothing any more; then it stays as it is
        return False


def discard(engine: "Engine") -> None:
    """Take a new store away again, in which nothing was counted: its time zone, for one, may not be what is wanted."""
    import shutil

    doomed = engine.path.with_name(f".{engine.path.name}.discarded-{os.getpid()}")
    engine.path.rename(doomed)  # while the lock is ours: nobody else begins to write into it
    engine.close()
    shutil.rmtree(doomed)
