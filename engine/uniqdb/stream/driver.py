"""Drives a source through the engine: read, decode, commit visits together with the position.

Here, and in the command line, is the only wall clock; the engine itself takes times as values.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from uniqdb.engine import Engine
from uniqdb.errors import InputRefused
from uniqdb.limits import COMMIT_INTERVAL_S, COMMIT_VISITS, COMMIT_VISITS_MAX, NO_VISIT_RECORDS
from uniqdb.meta import SourceRow
from uniqdb.quarantine import Quarantined
from uniqdb.stream.file_source import FileSource, LineBlock, open_source
from uniqdb.stream.hints import explain_no_visit
from uniqdb.visit import DEFAULT_FIELDS, FieldSettings, Reason, Refused, VisitDecoder, Visits
from uniqdb.writer import Commit


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How a file is read. ``fields`` change results and are stored with the source; the rest does not."""

    fields: FieldSettings = DEFAULT_FIELDS
    commit_visits: int = COMMIT_VISITS
    """Commit after so many records (1 to 1,000,000), or when a slow pipe has let a second pass."""
    strict: bool = False
    """Refuse the input at its first bad record."""
    again: bool = False
    """Read a known file anew, as another source: visits are counted once more, visitors are not."""
    source_name: str = ""
    """Name of the source, instead of the file's identity."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far this run is. ``total_bytes`` is None for a pipe."""

    visits: int
    refused: int
    position_bytes: int
    total_bytes: int | None
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What this run did; everything in it is committed."""

    source: str
    records: int
    visits: int
    refused: dict[str, int]
    commits: int
    elapsed_s: float
    resumed_at_bytes: int
    finished_before: bool
    interrupted: bool
    position_bytes: int


def ingest_file(
    engine: Engine,
    path: str | Path,
    options: IngestOptions | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> IngestSummary:
    """Read a file of JSON lines (``-``: standard input) from where it stopped to its end.

    Each commit holds the visits, the refused records and the position, so a run that dies is simply run again.
    ``should_stop`` is asked between blocks; what was read by then is committed. Raises NotFound, InputRefused,
    CannotWrite.
    """
    options = options or IngestOptions()
    options = _checked(options)
    with engine.snapshot() as snapshot:
        source = open_source(snapshot.answers.view, path, options.fields, again=options.again, name=options.source_name)
    try:
        run = _Run(engine, source, options)
        return run.to_the_end(on_progress or _ignore, should_stop)
    finally:
        source.close()


def _ignore(progress: Progress) -> None:
    """Nobody wants to know how far the run is."""


def _checked(options: IngestOptions) -> IngestOptions:
    if 1 <= options.commit_visits <= COMMIT_VISITS_MAX:
        return options
    raise InputRefused(
        f"a commit of {options.commit_visits} visits", hint=f"give 1 to {COMMIT_VISITS_MAX} visits per commit"
    )


@dataclass(slots=True)
class _Pending:
    """Decoded but not committed."""

    times_s: list[np.ndarray] = field(default_factory=list)
    uids: list[str] = field(default_factory=list)
    refused: list[Quarantined] = field(default_factory=list)
    records: int = 0
    lines: int = 0


class _Run:
    """One run over one source."""

    def __init__(self, engine: Engine, source: FileSource, options: IngestOptions) -> None:
        self._engine, self._source, self._options = engine, source, options
        self._decoder = VisitDecoder(options.fields)
        self._started_at_s = self._committed_at_s = time.monotonic()
        self._row = source.row
        self._pending = _Pending()
        self._records = self._visits = self._commits = 0
        self._refused: dict[str, int] = {}

    def to_the_end(self, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]) -> IngestSummary:
        resumed_at, finished_before = self._row.position_bytes, self._row.finished
        interrupted = False
        for block in self._source.blocks(self._options.commit_visits):
            if block.lines:
                self._take(block)
            if self._pending.lines and self._is_due():
                self._commit(finished=False)
            on_progress(self._progress())
            if should_stop():
                interrupted = True
                break
        self._assert_some_visit()
        if self._pending.lines or not (interrupted or self._row.finished):
            self._commit(finished=not interrupted)
        on_progress(self._progress())
        return IngestSummary(
            source=self._row.name,
            records=self._records,
            visits=self._visits,
            refused=self._refused,
            commits=self._commits,
            elapsed_s=time.monotonic() - self._started_at_s,
            resumed_at_bytes=resumed_at,
            finished_before=finished_before,
            interrupted=interrupted,
            position_bytes=self._row.position_bytes,
        )

    def _take(self, block: LineBlock) -> None:
        if block.cut_short:
            refused = [Refused(0, 0, block.data, Reason.TOO_LONG)]
            visits = Visits(np.empty(0, np.int64), [], refused, 1)
        else:
            visits = self._decoder.decode(block.data, block.ends)
        pending = self._pending
        pending.times_s.append(visits.event_times_s)
        pending.uids += visits.uids
        for one in visits.refused:
            self._refused[one.reason] = self._refused.get(one.reason, 0) + 1
            place = block.start + one.start, block.line + one.line + 1
            pending.refused.append(
                Quarantined(str(one.reason), self._row.name, one.record, *place, record_hash=block.line_hash)
            )
        pending.records += visits.records
        pending.lines += block.lines
        self._records += visits.records
        self._visits += len(visits)
        self._row = msgspec.structs.replace(
            self._row,
            position_bytes=block.start + block.size_bytes,
            lines=block.line + block.lines,
            visits=self._row.visits + len(visits),
            refused=self._row.refused + len(visits.refused),
            finished=False,
        )
        if self._options.strict and visits.refused:
            self._refuse_strictly(visits.refused[0], block)

    def _is_due(self) -> bool:
        if not self._visits and self._records < NO_VISIT_RECORDS and not self._source.resumed:
            return False  # the input may turn out to be no visits at all; then nothing of it is committed
        self._assert_some_visit()
        slow = time.monotonic() - self._committed_at_s >= COMMIT_INTERVAL_S
        return self._pending.lines >= self._options.commit_visits or slow

    def _commit(self, *, finished: bool) -> None:
        pending, row = self._pending, msgspec.structs.replace(self._row, finished=finished)
        sources: dict[bytes, SourceRow] = {} if self._source.key is None else {self._source.key: row}
        times_s = np.concatenate(pending.times_s) if pending.times_s else np.empty(0, np.int64)
        commit = Commit(times_s, pending.uids, pending.refused, sources)
        if commit:
            self._engine.write(commit)
            self._commits += 1
        self._row, self._pending = row, _Pending()
        self._committed_at_s = time.monotonic()

    def _assert_some_visit(self) -> None:
        if self._records and not self._visits and not self._source.resumed:
            raise explain_no_visit(self._source.row.name, self._pending.refused, self._options.fields)

    def _refuse_strictly(self, first: Refused, block: LineBlock) -> None:
        raise InputRefused(
            f"{self._row.name}, line {block.line + first.line + 1:,}: {first.reason}",
            hint="mend the record, or leave out --strict to put it into quarantine and go on",
        )

    def _progress(self) -> Progress:
        return Progress(
            self._visits,
            sum(self._refused.values()),
            self._row.position_bytes,
            self._source.total_bytes,
            time.monotonic() - self._started_at_s,
        )
