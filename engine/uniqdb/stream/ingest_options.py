"""How a file is read, how far that is, and what it came to."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from uniqdb.errors import InputRefused
from uniqdb.field_settings import DEFAULT_FIELDS, FieldSettings
from uniqdb.limits import COMMIT_VISITS
from uniqdb.recent_times import DEFAULT_LIMITS, EventTimeLimits
from uniqdb.stream.file_source import SourceOptions
from uniqdb.stream.stretch_jobs import StretchJobs


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How a file is read. ``fields`` and ``limits`` decide what counts, and are stored with the source."""

    fields: FieldSettings = DEFAULT_FIELDS
    commit_visits: int = COMMIT_VISITS
    """Commit after so many records (1 to 1,000,000), or when a slow input has let a second pass. Four times as many are
    committed at once while hardly anybody comes again, ten times as many visits in no order at all."""
    strict: bool = False
    """Refuse the input at its first bad record."""
    again: bool = False
    """Read a known file anew, as another source: visits are counted once more, visitors are not."""
    source_name: str = ""
    """Name of the source, instead of the file's identity."""
    limits: EventTimeLimits = DEFAULT_LIMITS
    """How far from the clock of its source a visit may lie and count at once."""
    wall_clock: Callable[[], float] = time.time
    """Unix seconds: a visit more than a day after this moment is implausible."""
    processes: int | None = None
    """How many other processes decode a plain file of 16 MiB or more (0 to 4); None: one per core, none on one core."""
    begun: StretchJobs | None = None
    """What decodes the file already that is read next: set by `uniqdb.ingest` and the command line; reading ends it."""
    serve_requests: bool = False
    """Between commits carry out what other processes ask for (see `uniqdb.requests`). Only where one thread at a time
    reads sources into the engine: a request may concern any of them."""

    def source_options(self, *, follow: bool = False) -> SourceOptions:
        """What of this concerns opening a source."""
        return SourceOptions(self.fields, self.again, self.source_name, follow, self.limits, self.processes, self.begun)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far this run is. ``total_bytes`` is None for a pipe and for compressed input."""

    visits: int
    refused: int
    position_bytes: int
    total_bytes: int | None
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What this run did; everything in it is committed.

    ``refusal`` is not None if the input could not be decoded to its end: what came before counts.
    """

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
    refusal: InputRefused | None = None
    held: int = 0
    """Visits that are neither counted nor refused yet."""
