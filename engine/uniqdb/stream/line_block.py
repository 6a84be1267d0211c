"""Whole lines of a source, on their way from the input to the decoder."""

from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from uniqdb.visit import I64Array, Visits
from uniqdb.visit_decoder import line_ends

_READ_BYTES_MIN = 64 * 2**10


class LineBlock(msgspec.Struct):
    """Whole lines of a source, or none while it is silent.

    ``start`` is the source's position of the first byte, ``line`` counts from 0, ``ends`` are the positions of the line
    breaks in ``data``. ``cut_short``: the block is the first bytes of one line that is longer than allowed, and
    ``size_bytes`` and ``line_hash`` (xxh3-64, without the line break) are of all of it.

    Where another process has decoded the lines ``visits`` is what it found, each line a visit, and of ``data`` only as
    much is read (from, to: positions of the source) as holds the records that are asked for.
    """

    data: bytes
    start: int
    line: int
    lines: int
    size_bytes: int
    ends: I64Array
    cut_short: bool = False
    line_hash: str = ""
    visits: Visits | None = None
    read: Callable[[int, int], bytes] | None = None

    def record(self, line: int) -> tuple[int, bytes]:
        """Where a line (from 0) begins in the block, and its bytes without the line break."""
        while len(self.ends) <= line and self.read is not None:
            self._read_on(self.read)
        start = int(self.ends[line - 1]) + 1 if line else 0
        return start, self.data[start : int(self.ends[line])]

    def _read_on(self, read: Callable[[int, int], bytes]) -> None:
        """As much again as is there: a block may have 100 MB, and mostly one of its first records is wanted."""
        there = len(self.data)
        until = min(max(2 * there, _READ_BYTES_MIN), self.size_bytes)
        more = read(self.start + there, self.start + until)
        if not more:  # the file was shortened: what it had there is gone
            more = b"\n" * (self.size_bytes - there)
        self.ends = np.concatenate([self.ends, line_ends(more) + there])
        self.data += more
        if len(self.data) == self.size_bytes:
            self.read = None


def cut(data: bytes, position: int, line: int, lines_max: int) -> Iterator[LineBlock]:
    """Blocks of at most so many lines of data that ends with a line break."""
    ends = line_ends(data)
    start = 0
    for first in range(0, len(ends), lines_max):
        last = min(first + lines_max, len(ends))
        end = int(ends[last - 1]) + 1
        piece = data if first == 0 and end == len(data) else data[start:end]
        at = ends[first:last] - start
        yield LineBlock(piece, position + start, line + first, last - first, end - start, at)
        start = end
