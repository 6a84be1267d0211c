"""The sweeps of a service: one run an hour, a step at a time, between its commits."""

import time
from collections.abc import Callable

from uniqdb.engine import Engine
from uniqdb.errors import CommitFailed
from uniqdb.format import Database
from uniqdb.info import is_short_of_ordinals
from uniqdb.limits import ORDINAL_MAX, SWEEP_INTERVAL_S
from uniqdb.sweeping import SweepReport, SweepRun


class HourlySweep:
    """Used by the thread that writes.

    The first run begins when the service no longer reads history and the trailing windows of days that closed meanwhile
    are worked out, at the latest an hour after: they need the days that would go.
    """

    def __init__(self, engine: Engine, wall_clock: Callable[[], float], log: Callable[[str], None]) -> None:
        self._engine, self._wall_clock, self._log = engine, wall_clock, log
        self._run: SweepRun | None = None
        self._next_at_s: float | None = None
        self._patient_until_s: float | None = None

    def turn(self, *, may_begin: bool = True) -> None:
        """One step of the run that is under way, or the beginning of one if it is time.

        Cost: as `SweepRun.step`; a comparison where there is nothing to do. A step that the disk refuses ends the run.
        """
        now_s = time.monotonic()
        if self._run is None:
            if not may_begin or (self._next_at_s is not None and now_s < self._next_at_s) or self._waits(now_s):
                return
            self._next_at_s = now_s + SWEEP_INTERVAL_S
            self._look_at_ordinals()
            self._run = SweepRun(self._engine, int(self._wall_clock()))
        try:
            if self._run.step():
                return
            self._tell(self._run.report)
        except CommitFailed as error:
            self._log(f"Sweeping was broken off: {error.message}")
        self._run = None

    def _waits(self, now_s: float) -> bool:
        """Whether windows of a downtime, or of history, are still to be worked out."""
        if self._next_at_s is not None:
            return False
        self._patient_until_s = self._patient_until_s or now_s + SWEEP_INTERVAL_S
        if now_s >= self._patient_until_s:
            return False
        with self._engine.snapshot() as snapshot:
            return snapshot.answers.view.stat(Database.DUE)["entries"] > 0

    def _look_at_ordinals(self) -> None:
        with self._engine.snapshot() as snapshot:
            used = snapshot.answers.facts.dictionary.row(snapshot.answers.view).next_ordinal
        if is_short_of_ordinals(used):
            self._log(
                f"{used:,} of {ORDINAL_MAX:,} uid ordinals are used. When none is left no new visitor can be counted: "
                "renumber the store in time (see docs/retention.md)."
            )

    def _tell(self, report: SweepReport) -> None:
        if report.removed():
            removed = ", ".join(f"{word} {count:,}" for word, count in report.removed().items())
            due = sum(report.due.values()) + sum(report.rows_due.values())
            self._log(f"Swept: {removed}{f'; {due:,} more are due' if due else ''}.")
