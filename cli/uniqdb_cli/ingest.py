"""``uniqdb ingest``: count a file or a pipe of JSON lines."""

import dataclasses
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uniqdb.limits import (
    AHEAD_LIMIT_S,
    COMMIT_VISITS,
    COMMIT_VISITS_MAX,
    DECODE_PROCESSES_MAX,
    LATE_LIMIT_S,
    LINE_BYTES_LIMIT,
    LINE_BYTES_MAX,
)
from uniqdb_cli.output import error_line, is_terminal, say
from uniqdb_cli.settings import Settings, load_settings, record_fields
from uniqdb_cli.stopping import StopRequest, stop_on_signals
from uniqdb_cli.words import (
    ConfigOption,
    StoreOption,
    TimezoneOption,
    TsFieldOption,
    TsUnit,
    TsUnitOption,
    UidFieldOption,
)

if TYPE_CHECKING:
    from uniqdb.engine import Engine
    from uniqdb.snapshot import Snapshot
    from uniqdb.stream.ingest_options import IngestOptions, IngestSummary, Progress

REFRESH_S = 0.1
LineBytesMaxOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=LINE_BYTES_LIMIT,
        help=f"Longest record; a longer one goes to quarantine [default: {LINE_BYTES_MAX}].",
    ),
]
CommitVisitsOption = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=COMMIT_VISITS_MAX, help=f"Visits per commit [default: {COMMIT_VISITS}]."),
]
FollowOption = Annotated[
    bool, typer.Option("--follow", "-f", help="Go on as the files grow, through rotation, until stopped.")
]
AheadLimitOption = Annotated[
    int | None,
    typer.Option(
        metavar="S", min=0, help=f"A visit so far ahead of the others counts at once [default: {AHEAD_LIMIT_S}]."
    ),
]
LateLimitOption = Annotated[
    int | None,
    typer.Option(
        metavar="S", min=0, help=f"A visit so far behind the others counts at once [default: {LATE_LIMIT_S}]."
    ),
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        max=DECODE_PROCESSES_MAX,
        help="Other processes that decode a large plain file; 0: none [default: one per core].",
    ),
]
CloseOption = Annotated[bool, typer.Option("--close", help="At the end, close the buckets that are still open, too.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Refuse the input at its first bad record.")]
AgainOption = Annotated[bool, typer.Option("--again", help="Read a file anew that was read before.")]
SourceNameOption = Annotated[
    str, typer.Option(metavar="NAME", help="Remember the input under this name instead of its own, even a pipe.")
]


def ingest(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Files of JSON lines, plain, .gz or .zst; - is standard input."),
    ],
    store: StoreOption = None,
    timezone: TimezoneOption = None,
    ts_field: TsFieldOption = None,
    uid_field: UidFieldOption = None,
    ts_unit: TsUnitOption = None,
    line_bytes_max: LineBytesMaxOption = None,
    commit_visits: CommitVisitsOption = None,
    follow: FollowOption = False,
    ahead_limit_s: AheadLimitOption = None,
    late_limit_s: LateLimitOption = None,
    close: CloseOption = False,
    strict: StrictOption = False,
    again: AgainOption = False,
    source_name: SourceNameOption = "",
    processes: ProcessesOption = None,
    config: ConfigOption = None,
) -> None:
    """Count the visits of files or a pipe. Creates the store if there is none.

    A file is remembered with its position: the same command continues where an earlier run stopped, and a file that was
    read to its end is not counted twice. A pipe has no position, unless it has a name. Records that are no visits, and
    visits whose times cannot be right, go to quarantine: see `uniqdb quarantine`. Files of one command close together.

    \b
      uniqdb ingest visits.jsonl
      uniqdb ingest logs/visits-*.jsonl.gz
      uniqdb ingest --follow /var/log/visits.jsonl
      uniqdb ingest clicks.jsonl --ts-field time --ts-unit ms --uid-field user.id
      zcat visits.jsonl.gz | uniqdb ingest - --source-name visits --timezone Europe/Zurich
    """
    settings = load_settings(
        config,
        store=store,
        timezone=timezone,
        ts_field=ts_field,
        uid_field=uid_field,
        ts_unit=ts_unit,
        line_bytes_max=line_bytes_max,
        ahead_limit_s=ahead_limit_s,
        late_limit_s=late_limit_s,
        commit_visits=commit_visits,
    )
    _assert_possible(files, follow=follow, close=close, source_name=source_name)
    from uniqdb.stream.ingesting import decoding_early

    fields, early = record_fields(settings), 0 if follow else processes
    with decoding_early(files[0], early, fields, settings.commit_visits) as begun:
        options = dataclasses.replace(
            _options(settings), strict=strict, again=again, source_name=source_name, processes=processes, begun=begun
        )
        with stop_on_signals() as stop, _open_for_ingest(files, settings) as (engine, announce):
            if follow:
                announce()
                _follow(engine, files, options, stop)
            else:
                _read(engine, files, options, stop, announce)
                if close and not stop.is_made():
                    engine.close_buckets()
            with engine.snapshot() as snapshot:
                last_words = _last_words(snapshot, is_over=not follow and not stop.is_made())
    for line in last_words:
        say(line)
    if stop.is_made():
        raise typer.Exit(stop.exit_code)


def _options(settings: Settings) -> "IngestOptions":
    from uniqdb.recent_times import EventTimeLimits
    from uniqdb.stream.ingest_options import IngestOptions

    limits = EventTimeLimits(settings.ahead_limit_s, settings.late_limit_s)
    return IngestOptions(record_fields(settings), settings.commit_visits, limits=limits, serve_requests=True)


def _read(
    engine: "Engine", files: list[str], options: "IngestOptions", stop: StopRequest, announce: Callable[[], None]
) -> None:
    """File after file. One that is refused does not keep the others from being read."""
    from uniqdb.errors import InputRefused
    from uniqdb.stream.driver import ingest_file

    refusal: InputRefused | None = None
    is_any_said = False
    others = uuid.uuid4().bytes
    for file in files:
        if file == files[-1]:
            engine.leave(others, is_stored=False)
        else:
            engine.wait_for(others)  # the files close together: until the last one is read there is one to come
        if refusal is not None:
            say(error_line(refusal))
            is_any_said = True
        try:
            with _progress_bar(file) as on_progress:
                # Only the first one was begun.
                how = options if file == files[0] else dataclasses.replace(options, begun=None)
                summary = ingest_file(engine, file, how, on_progress=on_progress, should_stop=stop.is_made)
        except InputRefused as error:
            if options.strict:
                raise
            refusal = error
        else:
            announce()
            for line in _summary_lines(summary, stop, is_pipe=file == "-" and not options.source_name):
                say(line)
            refusal = summary.refusal
        if stop.is_made():
            if refusal is not None:
                say(error_line(refusal))
            return
    engine.close_due()
    if refusal is not None:
        raise refusal
    if is_any_said:
        raise InputRefused("not every input could be read", hint="see above; the others are counted")


def _follow(engine: "Engine", files: list[str], options: "IngestOptions", stop: StopRequest) -> None:
    from uniqdb.stream.follow import Watch, follow_files

    def tell(summary: "IngestSummary") -> None:
        for line in _summary_lines(summary, stop, is_pipe=False):
            say(line)

    say(f"Following {', '.join(files)}; Ctrl-C ends it.")
    name = files[0] if len(files) == 1 else f"{len(files)} files"
    with _progress_bar(name) as on_progress:
        watch = Watch(stop.is_made, tell, on_progress or (lambda _: None), lambda refusal: say(error_line(refusal)))
        ended = follow_files(engine, files, watch, options)
    for summary in ended:
        tell(summary)


def _assert_possible(files: list[str], *, follow: bool, close: bool, source_name: str) -> None:
    from uniqdb.errors import UsageError

    if follow and close:
        raise UsageError("--follow has no end at which --close could close", hint="leave one of them out")
    if follow and "-" in files:
        raise UsageError("standard input cannot be followed", hint="leave out --follow: a pipe is read to its end")
    if source_name and len(files) > 1:
        raise UsageError("one --source-name cannot stand for several files", hint="ingest them one by one")
    if len(set(files)) < len(files):
        raise UsageError("a file is named twice", hint="name each file once")


@contextmanager
def _open_for_ingest(files: list[str], settings: Settings) -> Iterator[tuple["Engine", Callable[[], None]]]:
    """The store, created if there is none, and how to tell that it was. None is left behind by refused input."""
    from uniqdb.engine import open as open_store
    from uniqdb.errors import NotFound
    from uniqdb.manifest import is_store
    from uniqdb_cli.writing import discard, is_untouched, open_options

    for file in files:
        where = Path(file)
        if file != "-" and (where.is_dir() or not os.access(where, os.R_OK)):
            cause = "is a directory" if where.is_dir() else "cannot be read" if where.exists() else "does not exist"
            raise NotFound(f"{file} {cause}", hint="name a file of JSON lines, or - for standard input")
    is_new = not is_store(Path(settings.store))
    with open_store(settings.store, timezone=settings.timezone, options=open_options(settings)) as engine:
        told = not is_new

        def announce() -> None:
            nonlocal told
            if not told:
                iso = " Times without an offset count as UTC." if settings.ts_unit == TsUnit.ISO8601 else ""
                say(f"Created the store {settings.store}, time zone {engine.timezone}.{iso}")
            told = True

        try:
            yield engine, announce
        except BaseException:
            if is_new and is_untouched(engine):
                discard(engine)
            else:
                announce()
            raise


def _last_words(snapshot: "Snapshot", *, is_over: bool) -> list[str]:
    """What is to be known at the end: who keeps buckets open (``is_over``: nobody reads on), what was only counted."""
    from uniqdb.quarantine import counted_only

    found: list[str] = []
    names = [one.name for one in snapshot.completeness().sources if one.state == "open"] if is_over else []
    if names:
        few = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
        found.append(
            f"Nothing is closed beyond the clock of {few}: read on, or end it with `uniqdb clock reset NAME --end`."
        )
    if beyond := counted_only(snapshot.answers.view):
        found.append(f"Quarantine is full: {beyond:,} refused records are only counted (see quarantine_max_rows).")
    return found


# ---------------------------------------------------------------- progress
@contextmanager
def _progress_bar(file: str) -> Iterator[Callable[["Progress"], None] | None]:
    """A bar on standard error if somebody is looking."""
    if not is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[visits]:,} visits, {task.fields[rate]:,.0f}/s", markup=False),
        TimeRemainingColumn(),
    )
    name = "standard input" if file == "-" else Path(file).name
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None, visits=0, rate=0.0)
        shown_at_s = -REFRESH_S

        def show(progress: "Progress") -> None:
            nonlocal shown_at_s
            if progress.elapsed_s - shown_at_s < REFRESH_S and progress.position_bytes != progress.total_bytes:
                return
            shown_at_s = progress.elapsed_s
            rate = progress.visits / max(progress.elapsed_s, 0.001)
            bar.update(
                task,
                completed=progress.position_bytes,
                total=progress.total_bytes,
                visits=progress.visits,
                rate=rate,
            )

        yield show


# ---------------------------------------------------------------- the summary
def _summary_lines(summary: "IngestSummary", stop: StopRequest, *, is_pipe: bool) -> Iterator[str]:
    name = "standard input" if is_pipe else summary.source
    if summary.finished_before and not summary.records:
        yield f"Nothing new in {name}: it was read to its end before."
        return
    if summary.resumed_at_bytes:
        yield f"Continued {name} at byte {summary.resumed_at_bytes:,}."
    rate = summary.visits / max(summary.elapsed_s, 0.001)
    visits = "visit" if summary.visits == 1 else "visits"
    yield (
        f"{summary.visits:,} {visits} from {name} in {summary.elapsed_s:.1f} s ({rate:,.0f} visits/s, "
        f"{summary.commits:,} {'commit' if summary.commits == 1 else 'commits'})."
    )
    if summary.refused:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(summary.refused.items()))
        yield f"{sum(summary.refused.values()):,} records refused and kept in quarantine: {reasons}."
    if summary.held:
        yield f"{summary.held:,} held: their times are far from the others', until further visits tell."
    if summary.interrupted:
        if is_pipe:
            yield f"Interrupted by signal {stop.signal_number}: what was read is committed; a pipe cannot be continued."
        else:
            yield (
                f"Interrupted by signal {stop.signal_number} at byte {summary.position_bytes:,}: what was read is "
                "committed. Run the same command again to continue there."
            )
