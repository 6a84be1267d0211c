"""Drives a source through the engine: read, decode, commit visits together with the position.

The only wall clock is among the options of a run, and in the command line; the engine itself takes times as values.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from xxhash import xxh3_64_hexdigest

from uniqdb.engine import Engine
from uniqdb.errors import InputRefused
from uniqdb.intake import Intake, Place, open_intake
from uniqdb.limits import (
    COMMIT_INTERVAL_S,
    COMMIT_VISITS_MAX,
    NO_VISIT_RECORDS,
    SCATTERED_COMMIT_FACTOR,
)
from uniqdb.meta import SourceRow, read_source
from uniqdb.quarantine import Quarantined
from uniqdb.snapshot import Snapshot
from uniqdb.store import ReadView
from uniqdb.stream.file_source import Damage, FileSource, open_source
from uniqdb.stream.hints import explain_no_visit
from uniqdb.stream.ingest_options import IngestOptions, IngestSummary, Progress
from uniqdb.stream.line_block import LineBlock
from uniqdb.stream.live_runs import LiveRuns
from uniqdb.visit import Reason, Refused, Visits
from uniqdb.visit_decoder import VisitDecoder
from uniqdb.writer import Commit


def ingest_file(
    engine: Engine,
    path: str | Path,
    options: IngestOptions | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> IngestSummary:
    """Read a file of JSON lines, plain, gzip or zstd (``-``: standard input), from where it stopped to its end.

    Each commit holds the visits, the refused records and the position, so a run that dies is simply run again.
    ``should_stop`` is asked between blocks; what was read by then is committed. Raises NotFound, InputRefused,
    CannotWrite. Damage within the input raises nothing: see `IngestSummary.refusal`.
    """
    options = options or IngestOptions()
    run = open_run(engine, path, options)
    try:
        runs = LiveRuns(engine, serve_requests=options.serve_requests)
        runs.enter(run)
        return run.to_the_end(on_progress or _ignore, should_stop, runs.serve)
    finally:
        run.close()


def open_run(engine: Engine, path: str | Path, options: IngestOptions, *, follow: bool = False) -> "SourceRun":
    """A run over one input, where its source stopped. Raises NotFound, InputRefused."""
    options = _checked(options)
    with engine.snapshot() as snapshot:
        view = snapshot.answers.view
        source = open_source(view, path, options.source_options(follow=follow))
        try:
            intake = _intake(engine, view, source)
        except BaseException:
            source.close()
            raise
        return SourceRun(engine, source, intake, options, snapshot)


def _intake(engine: Engine, view: ReadView, source: FileSource) -> Intake:
    key = source.key or uuid.uuid4().bytes
    return open_intake(view if source.key else None, key, source.row, engine.allowed_lateness_s)


def _ignore(progress: Progress) -> None:
    """Nobody wants to know how far the run is."""


def _checked(options: IngestOptions) -> IngestOptions:
    if 1 <= options.commit_visits <= COMMIT_VISITS_MAX:
        return options
    raise InputRefused(
        f"a commit of {options.commit_visits} visits", hint=f"give 1 to {COMMIT_VISITS_MAX} visits per commit"
    )


class _Pending(msgspec.Struct):
    """Decoded but not committed; the visits themselves are in the intake."""

    times_s: list[np.ndarray] = msgspec.field(default_factory=list)
    refused: list[Quarantined] = msgspec.field(default_factory=list)
    lines: int = 0


class SourceRun:
    """One run over one source."""

    def __init__(
        self, engine: Engine, source: FileSource, intake: Intake, options: IngestOptions, snapshot: Snapshot
    ) -> None:
        """``snapshot``: of the store, as it is when the run begins; it may end then."""
        self._engine, self.source, self._options = engine, source, options
        self._intake, self._reference_s = intake, snapshot.answers.state.reference_s or 0
        self._dictionary = snapshot.answers.facts.dictionary
        self._decoder = VisitDecoder(options.fields)
        self._started_at_s = self._committed_at_s = time.monotonic()
        self._row = source.row
        self._resumed_at, self._finished_before = self._row.position_bytes, self._row.finished
        self._pending = _Pending()
        self._records = self._valid = self._commits = 0
        self._accepted = 0  # by commits; what waits is in the intake
        self._refused: Counter[str] = Counter()

    def to_the_end(
        self,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
        between_blocks: Callable[[], object],
    ) -> IngestSummary:
        """Read until the input ends or ``should_stop``; commit everything."""
        for block in self.source.blocks(self._options.commit_visits):
            self.take(block)
            between_blocks()
            on_progress(self.progress())
            if should_stop():
                return self.end(on_progress, interrupted=True)
        return self.end(on_progress)

    def take(self, block: LineBlock) -> None:
        """Add a block, and commit if it is time."""
        if block.lines:
            self._take(block)
        if self._pending.lines and self._is_due():
            self._commit(finished=False)

    def settle(self) -> None:
        """Commit what waits, unless the input may still turn out to hold no visits at all."""
        if self._pending.lines and (self._valid or self.source.resumed):
            self._commit(finished=False)

    def take_over(self) -> None:
        """Go on from what the store has of the source now: somebody else has committed since `settle`."""
        with self._engine.snapshot() as snapshot:
            view = snapshot.answers.view
            if self.source.anew_of is not None:
                key, before = self.source.anew_of
                self.source.anew_of = key, read_source(view, key) or before
            row = None if self.source.key is None else read_source(view, self.source.key)
            if row is None:
                return  # nothing of it is in the store
            # The rest of the row is this run's alone, and may be newer here.
            self._row = msgspec.structs.replace(
                self._row, visits=row.visits, refused=row.refused, clock_s=row.clock_s, ended=row.ended
            )
            self._intake = open_intake(view, self._intake.key, row, self._engine.allowed_lateness_s)

    def end(self, on_progress: Callable[[Progress], None], *, interrupted: bool = False) -> IngestSummary:
        """Commit what waits; the input's end was read, unless it is damaged or the run was interrupted."""
        damage = self.source.damage
        if damage is not None and self._row.damaged_at_bytes != damage.position:
            self._note(damage)
        self._assert_some_visit()
        finished = not interrupted and damage is None
        has_no_name = self.source.key is None
        is_over = finished or has_no_name  # a pipe without a name cannot be continued
        is_new_end = is_over and (self._commits > 0 if has_no_name else not self._row.finished)
        if self._pending.lines or is_new_end:
            if is_over:
                self._intake.end()
            self._commit(finished=finished, is_over=is_over)
        on_progress(self.progress())
        return IngestSummary(
            source=self._row.name,
            records=self._records,
            visits=self._accepted,
            refused=dict(self._refused),
            held=self._intake.held,
            commits=self._commits,
            elapsed_s=time.monotonic() - self._started_at_s,
            resumed_at_bytes=self._resumed_at,
            finished_before=self._finished_before,
            interrupted=interrupted,
            position_bytes=self._row.position_bytes,
            refusal=None if damage is None else self._damage_error(damage),
        )

    def close(self) -> None:
        """Close the input."""
        self._engine.leave(self._intake.key, is_stored=self.source.key is not None)
        self.source.close()

    def _note(self, damage: Damage) -> None:
        """One row in quarantine for a damage, however often the input is read again."""
        reason = str(Reason.DAMAGED)
        self._pending.refused.append(
            Quarantined(reason, self._row.name, damage.record, damage.position, damage.line + 1)
        )
        self._pending.lines += 1
        self._row = msgspec.structs.replace(self._row, damaged_at_bytes=damage.position)

    def _damage_error(self, damage: Damage) -> InputRefused:
        return InputRefused(
            f"{self._row.name} cannot be read beyond byte {damage.position:,} of its content: {damage.cause}",
            hint="what comes before is counted; put a whole file in its place and run the same command again",
        )

    def _take(self, block: LineBlock) -> None:
        if block.cut_short:
            refused = [Refused(0, 0, block.data, Reason.TOO_LONG)]
            visits = Visits(np.empty(0, np.int64), [], refused, 1)
        else:
            visits = block.visits or self._decoder.decode(block.data, block.ends)
        pending = self._pending
        pending.times_s.append(visits.event_times_s)

        def place_of(visit: int) -> Place:
            line = visits.line_of(visit)
            start, record = block.record(line)
            return Place(block.start + start, block.line + line + 1, xxh3_64_hexdigest(record))

        self._reference_s = max(self._reference_s, int(self._options.wall_clock()))
        self._intake.take(visits.event_times_s, visits.uids, self._reference_s, place_of)
        for one in visits.refused:
            place = block.start + one.start, block.line + one.line + 1
            time_s, uid = self._decoder.decodable(one.record)
            pending.refused.append(
                Quarantined(str(one.reason), self._row.name, one.record, *place, block.line_hash, time_s, uid)
            )
        pending.lines += block.lines
        self._records += visits.records
        self._valid += len(visits)
        self._row = msgspec.structs.replace(
            self._row,
            position_bytes=block.start + block.size_bytes,
            lines=block.line + block.lines,
            finished=False,
            ended=False,
        )
        if self._options.strict:
            self._assert_none_refused()

    def _is_due(self) -> bool:
        if not self._valid and self._records < NO_VISIT_RECORDS and not self.source.resumed:
            return False  # the input may turn out to be no visits at all; then nothing of it is committed
        self._assert_some_visit()
        if time.monotonic() - self._committed_at_s >= COMMIT_INTERVAL_S:
            return True
        if self._pending.lines < self._enough(self._dictionary.commit_factor):
            return False
        is_enough = self._pending.lines >= self._enough(SCATTERED_COMMIT_FACTOR)
        return is_enough or not _is_scattered(self._pending.times_s)

    def _enough(self, factor: int) -> int:
        """So many visits for a commit that is to have the usual number so many times."""
        return min(self._options.commit_visits * factor, COMMIT_VISITS_MAX)

    def _commit(self, *, finished: bool, is_over: bool = False) -> None:
        intake = self._intake
        taken = intake.cut(is_open=not is_over)
        refused = self._pending.refused + taken.refused
        row = msgspec.structs.replace(
            self.source.identified(self._row),
            visits=self._row.visits + len(taken.uids),
            refused=self._row.refused + len(refused),
            held=intake.held,
            clock_s=intake.clock_s,
            finished=finished,
        )
        sources: dict[bytes, SourceRow] = {}
        if self.source.key is None:
            taken.advance.state = None
        else:
            sources[self.source.key] = row
        if self.source.anew_of is not None:
            key, before = self.source.anew_of
            sources[key] = msgspec.structs.replace(before, ended=True)
        commit = Commit(taken.event_times_s, taken.uids, refused, sources, [taken.advance], self._reference_s)
        self._engine.write(commit)
        self.source.want_hashes(self._dictionary.wanted_seed)
        intake.committed()
        self.source.anew_of = None
        self._commits += 1
        self._accepted += len(taken.uids)
        self._refused.update(one.reason for one in refused)
        self._row, self._pending = row, _Pending()
        self._committed_at_s = time.monotonic()

    def _assert_some_visit(self) -> None:
        if self._records and not self._valid and not self.source.resumed:
            raise explain_no_visit(self.source.row.name, self._pending.refused, self._options.fields)

    def _assert_none_refused(self) -> None:
        refused = self._pending.refused + self._intake.refused
        if not refused:
            return
        first = min(refused, key=lambda one: one.line)
        raise InputRefused(
            f"{self._row.name}, line {first.line:,}: {first.reason}",
            hint="mend the record, or leave out --strict to put it into quarantine and go on",
        )

    def progress(self) -> Progress:
        """How far the run is."""
        return Progress(
            self._accepted + self._intake.accepted,
            self._refused.total() + len(self._pending.refused) + len(self._intake.refused),
            self._row.position_bytes,
            self.source.total_bytes,
            time.monotonic() - self._started_at_s,
        )


_SAMPLED = 1_000
_SCATTERED_VISITS_PER_HOUR = 20


def _is_scattered(parts: list[np.ndarray]) -> bool:
    """Whether the visits spread over so many hours that nearly every one needs buckets of its own (by a sample)."""
    visits = sum(map(len, parts))
    step = max(visits // _SAMPLED, 1)
    sample = np.sort(np.concatenate([part[::step] for part in parts]))
    # Without the outermost tenths: a few wild times scatter nothing.
    span_s = int(sample[len(sample) * 9 // 10] - sample[len(sample) // 10]) if len(sample) else 0
    return span_s // 3_600 * _SCATTERED_VISITS_PER_HOUR > visits
