"""The runs over sources that one thread of a writer has under way, and the requests that are served between them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from uniqdb.engine import Engine
from uniqdb.request_handlers import request_handlers
from uniqdb.requests import Handler, RequestDesk


class LiveRun(Protocol):
    """A run that keeps in memory what the store knows of its source, and may have more."""

    def settle(self) -> None:
        """Commit what waits."""

    def take_over(self) -> None:
        """Go on from what the store has of the source now."""


class LiveRuns:
    """Lets other processes change the store between the commits of the runs that are entered here."""

    def __init__(
        self, engine: Engine, *, serve_requests: bool, more_handlers: Mapping[str, Handler] | None = None
    ) -> None:
        """Without ``serve_requests`` it does nothing. ``more_handlers``: what only this writer can do."""
        self._runs: list[LiveRun] = []
        handlers = {**request_handlers(engine), **(more_handlers or {})}
        self._desk = RequestDesk(engine.path, handlers, around=self._between_commits) if serve_requests else None

    def enter(self, run: LiveRun) -> None:
        """From now on the run is settled before a request."""
        self._runs.append(run)

    def leave(self, run: LiveRun) -> None:
        """The run is closed."""
        self._runs.remove(run)

    def serve(self) -> None:
        """Carry out the requests that wait; see `RequestDesk.serve`. Raises what committing raises."""
        if self._desk is not None:
            self._desk.serve()

    def serve_only(self, kind: str) -> None:
        """Carry out the requests of one kind that wait, which neither need nor touch what the runs have not committed.

        For a writer whose commits are refused for the time being.
        """
        if self._desk is not None:
            self._desk.serve(kind)

    @contextmanager
    def _between_commits(self) -> Iterator[None]:
        """All that was read is in the store; afterwards each run sees what has become of its source."""
        for run in self._runs:
            run.settle()
        yield
        for run in self._runs:
            run.take_over()
