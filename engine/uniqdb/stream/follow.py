"""Following files that grow, through rotation and truncation.

A rotated file (another one stands at its path) is read until it has been quiet for a moment, and finished; then comes
what else of its name has appeared beside it since (it may have been rotated twice between two looks), and then the new
one, each a source of its own. A file that was truncated in place is finished and begun anew. If a copy of it stands
beside, as rotation by copying makes it, the copy is read on where the file was left; without a copy, what was written
between the last look and the truncation is lost, as to every program that follows files.
"""

import dataclasses
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from uniqdb.engine import Engine
from uniqdb.errors import InputRefused, NotFound, UsageError
from uniqdb.limits import PIPE_SILENCE_S
from uniqdb.stream.byte_stream import open_stream
from uniqdb.stream.driver import SourceRun, open_run
from uniqdb.stream.file_identity import FileFacts, base_name, find_file, printable_name
from uniqdb.stream.ingest_options import IngestOptions, IngestSummary, Progress
from uniqdb.stream.line_block import LineBlock
from uniqdb.stream.live_runs import LiveRuns


@dataclass(frozen=True, slots=True)
class Watch:
    """What whoever follows wants to be asked and told. ``on_end`` gets the summary of a file that came to its end."""

    should_stop: Callable[[], bool]
    on_end: Callable[[IngestSummary], None] = lambda _: None
    on_progress: Callable[[Progress], None] = lambda _: None
    on_refusal: Callable[[InputRefused], None] = lambda _: None
    """Gets the error of a rotated file that cannot be read; the others go on."""


class _Reader:
    """Where the files go: the engine, who watches, and the runs that are under way."""

    def __init__(self, engine: Engine, watch: Watch, runs: LiveRuns) -> None:
        self.engine, self.watch, self.runs = engine, watch, runs

    def read_whole(self, path: Path, options: IngestOptions) -> None:
        """Read a file that rotation has moved aside to its end."""
        watch = self.watch
        try:
            run = open_run(self.engine, path, options)
        except NotFound:  # compressed or deleted in this very moment; its compressed form is found the next time
            return
        except InputRefused as refusal:
            watch.on_refusal(refusal)
            return
        self.runs.enter(run)
        try:
            summary = run.to_the_end(watch.on_progress, watch.should_stop, self.runs.serve)
            if summary.records:
                watch.on_end(summary)
            if summary.refusal is not None:
                watch.on_refusal(summary.refusal)
        except InputRefused as refusal:
            watch.on_refusal(refusal)
        finally:
            self.runs.leave(run)
            run.close()


class _Followed:
    """One path, and the run over the file that is there now."""

    def __init__(self, reader: "_Reader", path: Path, options: IngestOptions, pause_s: float) -> None:
        self._reader, self.path, self._options, self._pause_s = reader, path, options, pause_s
        self._seen = {identity for _, identity, _ in _beside(path)}
        self._blocks: Iterator[LineBlock] = iter(())
        self.run: SourceRun | None = None
        self._open()

    def _open(self) -> None:
        run = open_run(self._reader.engine, self.path, self._options, follow=True)
        stream = run.source.stream
        if not stream.is_regular:
            run.close()
            raise UsageError(f"{self.path} is no regular file", hint="leave out --follow: a pipe is read to its end")
        stream.pause_s = self._pause_s
        self._seen.add(_identity(os.fstat(stream.descriptor)))
        self.run, self._blocks = run, run.source.blocks(self._options.commit_visits)
        self._reader.runs.enter(run)

    def turn(self) -> None:
        """Read a block, or nothing for a moment; go over to the next file when this one came to its end."""
        watch = self._reader.watch
        if self.run is None:
            try:
                self._open()
            except NotFound:  # moved away again, and nothing new there yet
                time.sleep(self._pause_s)
            return
        block = next(self._blocks, None)
        if block is not None:
            self.run.take(block)
            watch.on_progress(self.run.progress())
            return
        watch.on_end(self.run.end(watch.on_progress))
        self.close()
        # Only the file that was there at first is read anew.
        self._options = dataclasses.replace(self._options, again=False)
        for _, identity, path in _beside(self.path):
            if identity not in self._seen:
                self._seen.add(identity)
                self._reader.read_whole(path, self._options)

    def end(self) -> list[IngestSummary]:
        """Commit what was read."""
        return [] if self.run is None else [self.run.end(self._reader.watch.on_progress, interrupted=True)]

    def close(self) -> None:
        """Close the file."""
        if self.run is not None:
            self._reader.runs.leave(self.run)
            self.run.close()
        self.run = None


def follow_files(
    engine: Engine, paths: Sequence[str | Path], watch: Watch, options: IngestOptions | None = None
) -> list[IngestSummary]:
    """Read the files and whatever is appended to them until ``watch.should_stop``; everything read is then committed.

    First what rotation has moved aside while nobody followed: files in the same directory, of the same base name, that
    were begun and not finished. Returned are the summaries of the files that were there at the end.
    Raises NotFound, InputRefused, UsageError.
    """
    options = options or IngestOptions()
    reader = _Reader(engine, watch, LiveRuns(engine, serve_requests=options.serve_requests))
    for path in paths:
        for rotated in _left_behind(engine, Path(path)):
            reader.read_whole(rotated, dataclasses.replace(options, again=False))
    pause_s = PIPE_SILENCE_S / len(paths)
    followed: list[_Followed] = []
    try:
        for path in paths:
            followed.append(_Followed(reader, Path(path), options, pause_s))
        while not watch.should_stop():
            for one in followed:
                one.turn()
            reader.runs.serve()
        return [summary for one in followed for summary in one.end()]
    finally:
        for one in followed:
            one.close()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _beside(path: Path) -> list[tuple[float, tuple[int, int], Path]]:
    """(time of the last change, identity, path) of the files beside a path that share its base name, oldest first."""
    wanted = base_name(printable_name(path.name))
    found: list[tuple[float, tuple[int, int], Path]] = []
    for one in path.absolute().parent.iterdir():
        try:
            status = one.stat()
        except OSError:
            continue  # gone in this very moment
        if one.name != path.name and base_name(printable_name(one.name)) == wanted and stat.S_ISREG(status.st_mode):
            found.append((status.st_mtime, _identity(status), one))
    return sorted(found)


def _left_behind(engine: Engine, path: Path) -> list[Path]:
    """Rotated files beside the path that were begun and not finished, oldest first."""
    found: list[Path] = []
    with engine.snapshot() as snapshot:
        for _, _, one in _beside(path):
            try:
                stream = open_stream(one)
            except (InputRefused, NotFound):
                continue  # it cannot be what was begun
            try:
                facts = FileFacts.of(one, stream.descriptor, stream.head())
                known = find_file(snapshot.answers.view, facts, again=True)
            finally:
                stream.close()
            if known is not None and not known[1].finished:
                found.append(one)
    return found
