"""A file or pipe of JSON lines as a source: identity, position, blocks of whole lines.

A file is known again by the hash of its head together with one of: its real path, its device and inode, its base name.
So it may be renamed in place or moved under its own name and still continues where it stopped.
"""

import os
import select
import stat
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
from xxhash import xxh3_64, xxh3_128_hexdigest

from uniqdb.errors import InputRefused, NotFound
from uniqdb.format import Database
from uniqdb.limits import HEAD_BYTES, LINE_BYTES_MAX, PIPE_SILENCE_S, READ_BLOCK_BYTES
from uniqdb.meta import SourceRow, decode_row
from uniqdb.store import ReadView
from uniqdb.visit import FieldSettings, I64Array, line_ends

STDIN_NAME = "-"
_SILENCE = bytes(bytearray(b"silence"))  # an object of its own, told by identity


@dataclass(slots=True)
class LineBlock:
    """Whole lines of a source, or none while a pipe is silent.

    ``start`` is the source's position of the first byte, ``line`` counts from 0, ``ends`` are the positions of the line
    breaks in ``data``. ``cut_short``: the block is the first bytes of one line that is longer than allowed, and
    ``size_bytes`` and ``line_hash`` (xxh3-64, without the line break) are of all of it.
    """

    data: bytes
    start: int
    line: int
    lines: int
    size_bytes: int
    ends: I64Array
    cut_short: bool = False
    line_hash: str = ""


@dataclass(slots=True)
class FileSource:
    """An open file, positioned where its source stopped."""

    key: bytes | None
    """Key of its row in ``sources``; None for a pipe, which has no position."""
    row: SourceRow
    stream: BufferedReader
    total_bytes: int | None
    resumed: bool = False
    is_pipe: bool = False

    def blocks(self, lines_max: int) -> Iterator[LineBlock]:
        """Blocks of at most ``lines_max`` whole lines; the last line may lack its line break.

        A line beyond the limit is never held in memory as a whole.
        """
        position, line = self.row.position_bytes, self.row.lines
        carry = rest = b""
        while chunk := rest or self._read():
            if chunk is _SILENCE:
                yield LineBlock(b"", position, line, 0, 0, np.empty(0, np.int64))
                continue
            data, rest = carry + chunk, b""
            whole = data.rfind(b"\n") + 1
            carry = data[whole:]
            for block in _cut(data[:whole], position, line, lines_max):
                yield block
                position, line = position + block.size_bytes, line + block.lines
            if len(carry) > LINE_BYTES_MAX:
                block, rest = self._overlong(carry, position, line)
                yield block
                position, line, carry = position + block.size_bytes, line + 1, b""
        if carry:
            yield LineBlock(carry + b"\n", position, line, 1, len(carry), np.array([len(carry)]))

    def _overlong(self, begun: bytes, position: int, line: int) -> tuple[LineBlock, bytes]:
        """Skip to the end of a line that is too long; also returns what was read beyond it."""
        size_bytes, kept, rest = len(begun), begun[: LINE_BYTES_MAX + 1], b""
        whole = xxh3_64(begun)
        while chunk := self._read():
            if chunk is _SILENCE:
                continue
            at = chunk.find(b"\n") + 1
            size_bytes += at or len(chunk)
            whole.update(chunk[: at - 1] if at else chunk)
            if at:
                rest = chunk[at:]
                break
        ends = np.array([len(kept)])
        return LineBlock(kept, position, line, 1, size_bytes, ends, True, whole.hexdigest()), rest

    def _read(self) -> bytes:
        """What comes next; nothing at the end; `_SILENCE` if a pipe has had nothing to say for a while."""
        try:
            if self.is_pipe and not select.select([self.stream], [], [], PIPE_SILENCE_S)[0]:
                return _SILENCE
            return self.stream.read1(READ_BLOCK_BYTES)
        except OSError as error:
            raise InputRefused(
                f"{self.row.name} cannot be read to its end: {error.strerror or error}",
                hint="what was read is committed; run the same command again when it can be read",
            ) from None

    def close(self) -> None:
        """Close the file (not standard input)."""
        if self.row.name != STDIN_NAME:
            self.stream.close()


def _cut(data: bytes, position: int, line: int, lines_max: int) -> Iterator[LineBlock]:
    ends = line_ends(data)
    start = 0
    for first in range(0, len(ends), lines_max):
        last = min(first + lines_max, len(ends))
        end = int(ends[last - 1]) + 1
        piece = data if first == 0 and end == len(data) else data[start:end]
        at = ends[first:last] - start
        yield LineBlock(piece, position + start, line + first, last - first, end - start, at)
        start = end


def open_source(
    view: ReadView, path: str | Path, fields: FieldSettings, *, again: bool = False, name: str = ""
) -> FileSource:
    """Open ``path`` (``-``: standard input) where its source stopped.

    ``again`` reads a known file anew as another source; ``name`` makes a source of that name instead of the file's
    identity. Raises NotFound; InputRefused if the file is shorter than what was read of it, was read with other field
    settings, or is a copy of a file that was read under another name.
    """
    if str(path) == STDIN_NAME:
        row = SourceRow(name=STDIN_NAME, **_stored(fields))
        stdin = cast(BufferedReader, sys.stdin.buffer)
        return FileSource(None, row, stdin, None, is_pipe=_can_be_silent(stdin))
    stream = _open(Path(path))
    try:
        return _at_its_position(view, Path(path), stream, fields, (again, name))
    except BaseException:
        stream.close()
        raise


def _at_its_position(
    view: ReadView, where: Path, stream: BufferedReader, fields: FieldSettings, identity: tuple[bool, str]
) -> FileSource:
    again, name = identity
    status = os.fstat(stream.fileno())
    head = _head(stream, HEAD_BYTES)
    fresh = SourceRow(
        name=name or where.name,
        path=str(where.resolve()),
        device=status.st_dev,
        inode=status.st_ino,
        head_bytes=len(head),
        head_hash=xxh3_128_hexdigest(head),
        **_stored(fields),
    )
    regular = stat.S_ISREG(status.st_mode)
    known = None if again or not regular else _known(view, fresh, head, named=bool(name))
    if known is None:
        if not regular:
            return FileSource(None, fresh, stream, None, is_pipe=_can_be_silent(stream))
        return FileSource(uuid.uuid4().bytes, fresh, stream, status.st_size)
    key, row = known
    _assert_same_settings(row, fresh)
    if status.st_size < row.position_bytes:
        raise InputRefused(
            f"{where} was truncated: it has {status.st_size:,} bytes, of which {row.position_bytes:,} were read before",
            hint="give --again to read it anew as another source",
        )
    stream.seek(row.position_bytes)
    return FileSource(key, row, stream, status.st_size, resumed=True)


class _StoredFields(TypedDict):
    ts_field: str
    uid_field: str
    ts_unit: str


def _stored(fields: FieldSettings) -> _StoredFields:
    return {"ts_field": fields.ts_field, "uid_field": fields.uid_field, "ts_unit": fields.ts_unit}


def _open(where: Path) -> BufferedReader:
    try:
        if where.is_dir():
            raise NotFound(f"{where} is a directory", hint="name a file of JSON lines, or - for standard input")
        return BufferedReader(FileIO(where), READ_BLOCK_BYTES)
    except FileNotFoundError:
        raise NotFound(f"there is no file {where}", hint="check the path") from None
    except OSError as error:
        raise NotFound(f"{where} cannot be read: {error.strerror}", hint="check its permissions") from None


def _can_be_silent(stream: BufferedReader) -> bool:
    """Whether it is worth asking the system for news before reading: a pipe, a socket, a terminal."""
    try:
        return not stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:  # not a file of the system, but one in memory
        return False


def _head(stream: BufferedReader, size_bytes: int) -> bytes:
    """The first bytes of a seekable file; of a pipe, nothing."""
    if not stream.seekable():
        return b""
    stream.seek(0)
    head = stream.read(size_bytes)
    stream.seek(0)
    return head


def _known(view: ReadView, fresh: SourceRow, head: bytes, *, named: bool) -> tuple[bytes, SourceRow] | None:
    """The stored source of this file: same head, and one of real path, inode, base name the same."""
    twin: SourceRow | None = None
    found: list[tuple[bytes, SourceRow]] = []
    for key, payload in view.rows(Database.SOURCES, b"", b"\xff" * 64):
        row = decode_row(Database.SOURCES, key, payload, SourceRow)
        if named:
            if row.name == fresh.name:
                found.append((key, row))
            continue
        if not row.head_bytes or xxh3_128_hexdigest(head[: row.head_bytes]) != row.head_hash:
            continue
        same_file = (row.device, row.inode) == (fresh.device, fresh.inode)
        if row.path == fresh.path or same_file or row.name == fresh.name:
            found.append((key, row))
        else:
            twin = row
    if not found and twin is not None:
        raise InputRefused(
            f"{fresh.path} begins like {twin.path}, which was read already",
            hint="give --again to count its visits once more, or --source-name NAME if it is another file",
        )
    return max(found, key=lambda one: one[1].position_bytes, default=None)


def _assert_same_settings(row: SourceRow, fresh: SourceRow) -> None:
    for option in ("ts_field", "uid_field", "ts_unit"):
        stored, given = getattr(row, option), getattr(fresh, option)
        if stored != given:
            flag = "--" + option.replace("_", "-")
            raise InputRefused(
                f"{row.name} was begun with {flag} {stored}, not {given}",
                hint=f"give {flag} {stored}, or --again to read it anew as another source",
            )
