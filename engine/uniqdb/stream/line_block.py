"""Whole lines of a source, on their way from the input to the decoder."""

from collections.abc import Callable, Iterator

import msgspec

from uniqdb.visit import I64Array, Visits
from uniqdb.visit_decoder import line_ends


class LineBlock(msgspec.Struct):
    """Whole lines of a source, or none while it is silent.

    ``start`` is the source's position of the first byte, ``line`` counts from 0, ``ends`` are the positions of the line
    breaks in ``data``. ``cut_short``: the block is the first bytes of one line that is longer than allowed, and
    ``size_bytes`` and ``line_hash`` (xxh3-64, without the line break) are of all of it.

    Where another process has decoded the lines ``visits`` is what it found, each line a visit, and ``data`` is only
    read if a record is asked for.
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
    read: Callable[[], bytes] | None = None

    def record(self, line: int) -> tuple[int, bytes]:
        """Where a line (from 0) begins in the block, and its bytes without the line break."""
        if self.read is not None:
            self.data, self.read = self.read(), None
            self.ends = line_ends(self.data)
        start = int(self.ends[line - 1]) + 1 if line else 0
        return start, self.data[start : int(self.ends[line])]


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
