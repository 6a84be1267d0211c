"""Files and standard input as lines, unpacked where they are gzip or zstd. What they are is told by their first bytes.

Ingesting has its own way to read (positions, resuming); this one is for reading a file once from end to end.
"""

import sys
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from uniqdb.errors import InputRefused, NotFound
from uniqdb.limits import LINE_BYTES_MAX

STDIN_NAME = "-"
CHUNK_BYTES = 1024 * 1024
"""Read with `read1`: `read` would wait for so much of a pipe, and look at no signal meanwhile."""
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
ZSTD_LIBRARIES = ("compression.zstd", "backports.zstd", "zstandard")
"""Of these the first that is there: that of Python 3.14, the same for older ones, and the oldest one."""
_ENDINGS = {".gz": ("gzip", GZIP), ".zst": ("zstd", ZSTD)}


def assert_readable(name: str) -> None:
    """Raise NotFound for a file that is not there or cannot be read."""
    if name != STDIN_NAME:
        with _opened(name):
            pass


def lines_of(name: str) -> Iterator[bytes]:
    """The lines of a file (``-``: standard input) without their line breaks; the last one may lack it.

    Of a line beyond the limit only so much is returned that it can be seen to be too long. Raises NotFound;
    InputRefused if the input cannot be read to its end, is damaged, or is not what its name says.
    """
    carry = b""
    with _opened(name) as stream:
        try:
            for chunk in _chunks(name, stream):
                lines = (carry + chunk).split(b"\n")
                carry = lines.pop()[: LINE_BYTES_MAX + 1]
                yield from lines
        except (OSError, EOFError, zlib.error) as error:
            cause = getattr(error, "strerror", None) or str(error)
            raise InputRefused(
                f"{shown(name)} cannot be read to its end: {cause}", hint="repair the file, or get it again"
            ) from None
    if carry:
        yield carry


def shown(name: str) -> str:
    """The name for people."""
    return "standard input" if name == STDIN_NAME else name


@contextmanager
def _opened(name: str) -> Iterator[BufferedReader]:
    if name == STDIN_NAME:
        yield cast(BufferedReader, sys.stdin.buffer)
        return
    where = Path(name)
    try:
        if where.is_dir():
            raise NotFound(f"{name} is a directory", hint="name a file of JSON lines, or - for standard input")
        stream = where.open("rb")
    except FileNotFoundError:
        raise NotFound(f"there is no file {name}", hint="check the path") from None
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise NotFound(f"{name} cannot be read: {cause}", hint="check its permissions") from None
    with stream:
        yield stream


def _chunks(name: str, stream: BufferedReader) -> Iterator[bytes]:
    """The unpacked bytes."""
    head = stream.read(len(ZSTD))
    for ending, (what, magic) in _ENDINGS.items():
        if head and name.endswith(ending) and not head.startswith(magic):
            raise InputRefused(f"{name} is no {what} file", hint=f"take {ending} off its name if it is plain text")
    if head.startswith(GZIP):
        yield from _gunzip(head, stream)
    elif head == ZSTD:
        yield from _unzstd(name, head, stream)
    else:
        yield head
        while chunk := stream.read1(CHUNK_BYTES):
            yield chunk


def _gunzip(packed: bytes, stream: BufferedReader) -> Iterator[bytes]:
    """Of every member: gzip files may be joined, and may be padded with zero bytes."""
    while packed := packed.lstrip(b"\0") or stream.read1(CHUNK_BYTES).lstrip(b"\0"):
        packed = yield from _one_frame(zlib.decompressobj(wbits=31), packed, stream)


def _unzstd(name: str, packed: bytes, stream: BufferedReader) -> Iterator[bytes]:
    """Of every frame."""
    new_frame, error = _zstd()
    if new_frame is None:
        raise InputRefused(
            f"{shown(name)} is packed with zstd, which this Python cannot unpack",
            hint="install the package backports.zstd, or unpack it: zstd -dc FILE | uniqdb verify --against -",
        )
    try:
        while packed:
            packed = yield from _one_frame(new_frame(), packed, stream)
            packed = packed or stream.read1(CHUNK_BYTES)
    except error as cause:
        raise InputRefused(
            f"{shown(name)} cannot be read to its end: {cause}", hint="repair the file, or get it again"
        ) from None


def _one_frame(unpacker: Any, packed: bytes, stream: BufferedReader) -> Generator[bytes, None, bytes]:
    """Yield one frame's bytes; return the packed bytes after it. Raises EOFError if it is cut off."""
    while not unpacker.eof:
        if not packed and not (packed := stream.read1(CHUNK_BYTES)):
            raise EOFError("it ends in the middle of its packed data")
        yield unpacker.decompress(packed)
        packed = b""
    return bytes(unpacker.unused_data)


def _zstd() -> tuple[Any, type[Exception]]:
    """How to begin a frame, and what a damaged one raises; None: nothing here can."""
    for name in ZSTD_LIBRARIES:
        try:
            library = import_module(name)
        except ImportError:
            continue
        if name == "zstandard":
            return library.ZstdDecompressor().decompressobj, library.ZstdError
        return library.ZstdDecompressor, library.ZstdError
    return None, OSError
