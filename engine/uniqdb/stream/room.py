"""Commits of a service: one that the disk refuses is tried again until there is room; meanwhile nothing is read."""

import time
from collections.abc import Callable

from uniqdb.engine import Engine
from uniqdb.errors import CommitFailed
from uniqdb.limits import ROOM_LOG_INTERVAL_S, ROOM_PAUSE_S_MAX, ROOM_PAUSE_S_MIN
from uniqdb.meta import StateRow
from uniqdb.stream.kafka_settings import KafkaHooks
from uniqdb.writer import Commit

_LOOK_S = 0.1


class PatientCommits:
    """Writes commits through an engine. Used by one thread, which waits here: what it reads from waits, too."""

    def __init__(self, engine: Engine, hooks: KafkaHooks, meanwhile: Callable[[], None]) -> None:
        """``meanwhile`` is called now and then while a commit waits: it may make room."""
        self._engine, self._hooks, self._meanwhile = engine, hooks, meanwhile

    def write(self, commit: Commit) -> StateRow:
        """As `Engine.write`, however long it takes. Raises CommitFailed only if it is asked to stop.

        It tries again after half a second, then after twice as long each time, up to ten seconds.
        """
        pause_s, refused_at_s, logged_at_s = ROOM_PAUSE_S_MIN, None, -ROOM_LOG_INTERVAL_S
        while True:
            try:
                state = self._engine.write(commit)
                break
            except CommitFailed as error:
                now_s = time.monotonic()
                refused_at_s = refused_at_s or now_s
                if now_s - logged_at_s >= ROOM_LOG_INTERVAL_S:
                    logged_at_s = now_s
                    self._hooks.on_log(f"{error.message}; reading pauses and goes on when there is room: {error.hint}")
                self._wait(pause_s, error)
                pause_s = min(2 * pause_s, ROOM_PAUSE_S_MAX)
        if refused_at_s is not None:
            self._hooks.on_log(f"There is room again after {time.monotonic() - refused_at_s:,.1f} s; reading goes on.")
        return state

    def _wait(self, pause_s: float, error: CommitFailed) -> None:
        until_s = time.monotonic() + pause_s
        while time.monotonic() < until_s:
            if self._hooks.should_stop():
                raise error
            self._meanwhile()
            time.sleep(_LOOK_S)
