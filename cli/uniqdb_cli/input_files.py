"""Files and standard input as lines, for reading an input once from end to end. Positions belong to ingesting."""

import os
import stat
from collections.abc import Callable, Iterator

from uniqdb.errors import InputRefused
from uniqdb.limits import READ_BLOCK_BYTES

STDIN_NAME = "-"
CHUNK_BYTES = READ_BLOCK_BYTES


def assert_readable(name: str) -> None:
    """Raise NotFound for a file that is not there or cannot be read. A named pipe is left alone.

    Its writer would end with the first reader that closes it.
    """
    from uniqdb.stream.byte_stream import open_stream

    status = _status(name)
    if status is None or not stat.S_ISFIFO(status.st_mode):
        open_stream(name).close()


def identity_of(name: str) -> object:
    """The same for two names of one file, links too."""
    status = _status(name)
    return name if status is None else (status.st_dev, status.st_ino)


def _status(name: str) -> os.stat_result | None:
    try:
        return None if name == STDIN_NAME else os.stat(name)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None


def _never() -> bool:
    return False


def lines_of(name: str, line_bytes_max: int, is_over: Callable[[], bool] = _never) -> Iterator[bytes]:
    """The lines of a file (``-``: standard input) without their line breaks; the last one may lack it.

    ``is_over`` ends it early, also while a pipe is silent; the beginning of a line that was not read to its end is
    then left out.

    Of a line beyond the limit only so much is returned that it can be seen to be too long. Raises NotFound;
    InputRefused if the input cannot be read to its end, is damaged, or is not what its name says.
    """
    from uniqdb.stream.byte_stream import SILENCE, open_stream
    from uniqdb.stream.compression import Damaged

    carry = b""
    stream = open_stream(name)
    try:
        while chunk := stream.read():
            if is_over():
                return
            if chunk is SILENCE:
                continue
            lines = (carry + chunk).split(b"\n")
            carry = lines.pop()[: line_bytes_max + 1]
            yield from lines
    except Damaged as damage:
        raise InputRefused(
            f"{shown(name)} cannot be read to its end: {damage}", hint="repair the file, or get it again"
        ) from None
    finally:
        stream.close()
    if carry:
        yield carry


def shown(name: str) -> str:
    """The name for people."""
    return "standard input" if name == STDIN_NAME else name
