"""The bytes of an input: a file, a compressed file, a pipe, a file that grows. The only place that reads files.

A pipe, or a followed file, that has nothing to say for a moment says `SILENCE`, so that its reader gets a turn: to
commit what waits, and to stop if asked.
"""

import os
import select
import stat
import sys
import time
from io import BufferedReader, FileIO
from pathlib import Path
from typing import cast

from uniqdb.errors import InputRefused, NotFound
from uniqdb.limits import FOLLOW_QUIET_S, HEAD_BYTES, PIPE_SILENCE_S, READ_BLOCK_BYTES
from uniqdb.stream.compression import MAGIC_BYTES, SUFFIXES, Damaged, DecodedStream, compression_of

SILENCE = bytes(bytearray(b"silence"))  # an object of its own, told by identity


class ByteStream:
    """An open input. ``pause_s`` is how long a followed file waits for more before it says `SILENCE`."""

    def __init__(self, file: BufferedReader, name: str, follow: Path | None) -> None:
        self._file, self._name, self._follow = file, name, follow
        status = _status(file)
        self.is_regular = status is not None and stat.S_ISREG(status.st_mode)
        self._can_be_silent = status is not None and not self.is_regular
        self.pause_s = PIPE_SILENCE_S
        self._quiet_since_s: float | None = None
        self._begun = b""
        self._decoded: DecodedStream | None = None
        self._is_told = False
        if self.is_regular:
            self._tell_compression()

    # ------------------------------------------------------------ facts
    @property
    def descriptor(self) -> int:
        """The file's descriptor."""
        return self._file.fileno()

    @property
    def is_compressed(self) -> bool:
        """Whether the bytes are decoded on the way."""
        return self._decoded is not None

    @property
    def total_bytes(self) -> int | None:
        """Bytes of the whole input; None where it has no end or is compressed."""
        if not self.is_regular or self.is_compressed:
            return None
        return os.fstat(self.descriptor).st_size

    def head(self) -> bytes:
        """The first decoded bytes of a regular file, at most 64 KiB; it is then at its beginning again."""
        parts: list[bytes] = []
        size_bytes = 0
        try:
            while size_bytes < HEAD_BYTES and (chunk := self._read_to_end()):
                parts.append(chunk)
                size_bytes += len(chunk)
        except Damaged:
            pass  # whoever reads on will meet it
        self._file.seek(0)
        self._begun = b""
        self._tell_compression()
        return b"".join(parts)[:HEAD_BYTES]

    def seek(self, position: int) -> int:
        """Go to a position from the beginning as far as that needs no reading; returns how many bytes are left."""
        if not position or not self.is_regular or self.is_compressed:
            return position
        self._file.seek(position)
        self._begun = b""
        return 0

    # ------------------------------------------------------------ reading
    def read(self) -> bytes:
        """What comes next; nothing at the end; `SILENCE` if there is nothing yet. Raises InputRefused, Damaged."""
        if not self._is_told:
            self._tell_compression()
            if not self._is_told:
                return SILENCE
        return self._decoded.read() if self._decoded is not None else self._read_raw()

    def _read_to_end(self) -> bytes:
        """`read`, to the present end of the file only."""
        follow, self._follow = self._follow, None
        try:
            return self.read()
        finally:
            self._follow = follow

    def _tell_compression(self) -> None:
        """Look at the first bytes, as soon as there are enough of them."""
        while len(self._begun) < MAGIC_BYTES:
            chunk = self._read_file(HEAD_BYTES)  # a file may be sought in before more of it is wanted
            if chunk is SILENCE:
                return
            if not chunk:
                break
            self._begun += chunk
        self._is_told = True
        found = compression_of(self._begun)
        promised = next((kind for suffix, kind in SUFFIXES.items() if self._name.endswith(suffix)), "")
        if promised and self._begun and found != promised:
            raise InputRefused(
                f"{self._name} is named like a {promised} file but is none",
                hint=f"give it another name if it holds plain JSON lines; else compress it anew with {promised}",
            )
        if found and self._follow is not None:
            raise InputRefused(f"{self._name} is compressed and cannot be followed", hint="leave out --follow")
        self._decoded = DecodedStream(found, self._read_raw, SILENCE) if found else None

    def _read_raw(self) -> bytes:
        if self._begun:
            begun, self._begun = self._begun, b""
            return begun
        chunk = self._read_file(READ_BLOCK_BYTES)
        if chunk or self._follow is None:
            self._quiet_since_s = None
            return chunk
        if self._is_over(self._follow):
            return b""
        time.sleep(self.pause_s)
        return SILENCE

    def _read_file(self, bytes_max: int) -> bytes:
        try:
            if self._can_be_silent and not select.select([self._file], [], [], PIPE_SILENCE_S)[0]:
                return SILENCE
            return self._file.read1(bytes_max)
        except OSError as error:
            raise InputRefused(
                f"{self._name} cannot be read to its end: {error.strerror or error}",
                hint="what was read is committed; run the same command again when it can be read",
            ) from None

    def _is_over(self, path: Path) -> bool:
        """Whether a followed file that has nothing more to read gets no more: it was truncated, or replaced."""
        own = os.fstat(self.descriptor)
        if own.st_size < self._file.tell():
            return True
        try:
            there = path.stat()
        except OSError:
            return False  # moved away: until another file takes its place, its writer may still go on with it
        if (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino):
            self._quiet_since_s = None
            return False
        now_s = time.monotonic()
        if self._quiet_since_s is None:
            self._quiet_since_s = now_s
        return now_s - self._quiet_since_s >= FOLLOW_QUIET_S

    def close(self) -> None:
        """Close the file (not standard input)."""
        if self._name != "-":
            self._file.close()


def open_stream(path: str | Path, *, follow: bool = False) -> ByteStream:
    """Open a file, a named pipe or ``-``. Raises NotFound; InputRefused for a compressed file that is none."""
    if str(path) == "-":
        return ByteStream(cast(BufferedReader, sys.stdin.buffer), "-", None)
    where = Path(path)
    file = _open(where)
    try:
        return ByteStream(file, str(path), where if follow else None)
    except BaseException:
        file.close()
        raise


def _open(where: Path) -> BufferedReader:
    try:
        if where.is_dir():
            raise NotFound(f"{where} is a directory", hint="name a file of JSON lines, or - for standard input")
        return BufferedReader(FileIO(where), READ_BLOCK_BYTES)
    except FileNotFoundError:
        raise NotFound(f"there is no file {where}", hint="check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        cause = getattr(error, "strerror", None) or error
        raise NotFound(f"{where} cannot be read: {cause}", hint="check the name and its permissions") from None


def _status(file: BufferedReader) -> os.stat_result | None:
    try:
        return os.fstat(file.fileno())
    except OSError:  # not a file of the system, but one in memory
        return None
