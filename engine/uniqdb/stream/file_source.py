"""A file or pipe of JSON lines as a source: where it goes on, and its blocks of whole lines.

Plain or compressed, the bytes come from one place (`byte_stream`); positions are those of the decoded bytes.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from xxhash import xxh3_64

from uniqdb.errors import InputRefused
from uniqdb.field_settings import FieldSettings
from uniqdb.limits import HEAD_BYTES
from uniqdb.meta import SourceRow
from uniqdb.recent_times import DEFAULT_LIMITS, EventTimeLimits
from uniqdb.store import ReadView
from uniqdb.stream.byte_stream import SILENCE, ByteStream, open_stream
from uniqdb.stream.compression import Damaged
from uniqdb.stream.early_start import start_for
from uniqdb.stream.file_identity import (
    FILE_KIND,
    NAMED_KIND,
    FileFacts,
    assert_same_settings,
    begins_like,
    find_file,
    find_named,
    moved,
    new_row,
    printable_name,
    with_head,
)
from uniqdb.stream.file_stretches import FileStretches
from uniqdb.stream.line_block import LineBlock, cut
from uniqdb.stream.stretch_jobs import StretchJobs

STDIN_NAME = "-"


class SourceOptions(msgspec.Struct, frozen=True):
    """How a source is opened."""

    fields: FieldSettings
    again: bool = False
    """Read a known input anew, as another reading."""
    name: str = ""
    """The user's name for the source, instead of the file's identity."""
    follow: bool = False
    """Go on when the file grows."""
    limits: EventTimeLimits = DEFAULT_LIMITS
    processes: int | None = None
    """How many other processes decode a large plain file; None: one per core."""
    begun: StretchJobs | None = None
    """Those that decode the file from its beginning already."""


class Damage(msgspec.Struct, frozen=True):
    """Where an input could not be decoded further: the position and number (from 0) of the line that it cut off."""

    position: int
    line: int
    record: bytes
    cause: str


class FileSource:
    """An open input, positioned where its source stopped."""

    def __init__(self, key: bytes | None, row: SourceRow, stream: ByteStream, head: bytes = b"") -> None:
        self.key, self.row, self.stream = key, row, stream
        self.resumed = row.lines > 0 or row.finished
        self.damage: Damage | None = None
        self.anew_of: tuple[bytes, SourceRow] | None = None
        """The reading of the same input that this one takes the place of."""
        self._head, self._at_bytes = bytearray(head), 0
        self._stretches: FileStretches | None = None

    @property
    def total_bytes(self) -> int | None:
        """Decoded bytes of the whole input, where they are known."""
        return self.stream.total_bytes

    def identified(self, row: SourceRow) -> SourceRow:
        """The row with as much of the input's beginning as was read by now."""
        return with_head(row, bytes(self._head[: row.position_bytes]))

    def blocks(self, lines_max: int) -> Iterator[LineBlock]:
        """Blocks of at most ``lines_max`` whole lines; the last line may lack its line break.

        A line beyond the limit is never held in memory as a whole. At a damage it ends, with ``damage`` set.
        """
        position, line = self.row.position_bytes, self.row.lines
        carry = b""
        try:
            if self._stretches is not None and self._stretches.is_begun:
                for block in self._by_processes(position, line, lines_max, 0):
                    yield block
                    position, line = position + block.size_bytes, line + block.lines
            rest = self._skip_to(position)
            while chunk := rest or self._read():
                if chunk is SILENCE:
                    yield LineBlock(b"", position, line, 0, 0, np.empty(0, np.int64))
                    continue
                data, rest = carry + chunk, b""
                whole = data.rfind(b"\n") + 1
                carry = data[whole:]
                for block in cut(data[:whole], position, line, lines_max):
                    yield block
                    position, line = position + block.size_bytes, line + block.lines
                if whole and self._stretches is not None and self._stretches.is_ready():
                    for block in self._by_processes(position, line, lines_max, whole / data.count(b"\n")):
                        yield block
                        position, line = position + block.size_bytes, line + block.lines
                    carry, self._at_bytes = b"", position - self.stream.seek(position)
                if len(carry) > self.row.line_bytes_max:
                    begun, carry = carry, b""
                    block, rest = self._overlong(begun, position, line)
                    yield block
                    position, line = position + block.size_bytes, line + 1
        except Damaged as damaged:
            self.damage = Damage(position, line, carry, str(damaged))
            return
        if carry:
            yield LineBlock(carry + b"\n", position, line, 1, len(carry), np.array([len(carry)]))

    def decode_by(self, options: SourceOptions) -> None:
        """Have other processes decode it, where that is worth while: a plain file of which much is left.

        Those that have begun are ended where something else is wanted.
        """
        begun = options.begun
        if begun is not None:
            is_wanted = not self.row.position_bytes and self.stream.total_bytes is not None
            if is_wanted and os.path.sameopenfile(begun.descriptor, self.stream.descriptor):
                self._stretches = FileStretches(begun)
                return
            begun.close()
        if self.stream.total_bytes is not None:
            early = start_for(self.stream.descriptor, self.row.position_bytes, options.processes)
            self._stretches = None if early is None else FileStretches(StretchJobs(early, options.fields))

    def want_hashes(self, hash_seed: int | None) -> None:
        """Have those processes work out the hashes of uids for the store of this seed, or (None) stop doing so."""
        if self._stretches is not None:
            self._stretches.hash_seed = hash_seed

    def _by_processes(self, position: int, line: int, lines_max: int, line_bytes: float) -> Iterator[LineBlock]:
        """See `FileStretches.blocks`; they end with it."""
        if self._stretches is not None:
            yield from self._stretches.blocks(position, line, lines_max, line_bytes)
        self._end_processes()

    def _end_processes(self) -> None:
        stretches, self._stretches = self._stretches, None
        if stretches is not None:
            stretches.close()

    def _overlong(self, begun: bytes, position: int, line: int) -> tuple[LineBlock, bytes]:
        """Skip to the end of a line that is too long; also returns what was read beyond it."""
        size_bytes, kept, rest = len(begun), begun[: self.row.line_bytes_max + 1], b""
        whole = xxh3_64(begun)
        while chunk := self._read():
            if chunk is SILENCE:
                continue
            at = chunk.find(b"\n") + 1
            size_bytes += at or len(chunk)
            whole.update(chunk[: at - 1] if at else chunk)
            if at:
                rest = chunk[at:]
                break
        ends = np.array([len(kept)])
        return LineBlock(kept, position, line, 1, size_bytes, ends, True, whole.hexdigest()), rest

    def _skip_to(self, position: int) -> bytes:
        """Pass over what was read before; returns what was read beyond it. Raises InputRefused if it is not there."""
        left = self.stream.seek(position)
        self._at_bytes = position - left
        while left:
            chunk = self._read()
            if not chunk:
                raise truncated(self.row, position - left)
            if chunk is SILENCE:
                continue
            if len(chunk) < left:
                left -= len(chunk)
                continue
            self._assert_same_beginning()
            return chunk[left:]
        return b""

    def _assert_same_beginning(self) -> None:
        if not begins_like(self.row, bytes(self._head)):
            raise _begins_otherwise(self.row)

    def _read(self) -> bytes:
        chunk = self.stream.read()
        if chunk is not SILENCE:
            begin = len(self._head) - self._at_bytes
            if len(self._head) < HEAD_BYTES and 0 <= begin < len(chunk):
                self._head += chunk[begin : begin + HEAD_BYTES - len(self._head)]
            self._at_bytes += len(chunk)
        return chunk

    def close(self) -> None:
        """Close the file (not standard input)."""
        self._end_processes()
        self.stream.close()


def truncated(row: SourceRow, there_bytes: int) -> InputRefused:
    """The error for an input that is shorter than what was read of it."""
    return InputRefused(
        f"{row.name} was truncated: it has {there_bytes:,} bytes, of which {row.position_bytes:,} were read before",
        hint="give --again to read it anew as another source",
    )


def open_source(view: ReadView, path: str | Path, options: SourceOptions) -> FileSource:
    """Open ``path`` (``-``: standard input) where its source stopped.

    Raises NotFound; InputRefused if the file is shorter than what was read of it, was read with other field settings,
    or is a copy of a file that was read under another name.
    """
    stream = open_stream(path, follow=options.follow)
    try:
        source = _positioned(view, path, stream, options)
        if not options.follow:
            source.decode_by(options)
        return source
    except BaseException:
        stream.close()
        raise


def _positioned(view: ReadView, path: str | Path, stream: ByteStream, options: SourceOptions) -> FileSource:
    fields, name = options.fields, options.name
    facts = None
    if stream.is_regular and str(path) != STDIN_NAME:
        facts = FileFacts.of(Path(path), stream.descriptor, stream.head())
    head = b"" if facts is None else facts.head
    shown = name or (STDIN_NAME if str(path) == STDIN_NAME else printable_name(Path(path).name))
    fresh = new_row(NAMED_KIND if name else FILE_KIND, shown, fields, options.limits)
    if facts is not None:
        fresh = moved(with_head(fresh, facts.head), facts)
    if name:
        known = find_named(view, name)
    elif facts is not None:
        known = find_file(view, facts, again=options.again)
    else:
        return FileSource(None, fresh, stream)  # a pipe without a name has no position
    if known is None:
        return FileSource(uuid.uuid4().bytes, fresh, stream, head)
    key, row = known
    anew = FileSource(uuid.uuid4().bytes, msgspec.structs.replace(fresh, reading=row.reading + 1), stream, head)
    anew.anew_of = known
    if options.again and not (row.reading and not row.finished):
        # An unfinished reading that was itself begun with `again` is continued; anything else is read once more.
        return anew
    assert_same_settings(row, fresh)
    if facts is None:
        return FileSource(key, row, stream)
    if row.head_bytes and not begins_like(row, head):
        # Only for a named source: others were found by their beginning.
        if options.follow:
            return anew
        raise _begins_otherwise(row)
    if stream.total_bytes is not None and stream.total_bytes < row.position_bytes:
        if options.follow:
            return anew
        raise truncated(row, stream.total_bytes)
    return FileSource(key, moved(row, facts), stream, head)


def _begins_otherwise(row: SourceRow) -> InputRefused:
    return InputRefused(
        f"the input begins otherwise than what was read as {row.name} before",
        hint="give another --source-name, or --again to read it anew under this one",
    )
