"""A large plain file decoded on other cores: stretches of it, each by the process whose turn it is, taken in order.

What they find is what reading the file here would give: a stretch with anything but visits is read and decoded here,
and whenever a process cannot go on (it was killed, a line is too long, the file was shortened) the caller reads on by
itself from the position that was reached. So other processes cost nothing but memory, and save time.
"""

import os
from collections.abc import Iterator

import numpy as np

from uniqdb.limits import DECODE_PROCESSES_MAX
from uniqdb.stream.decode_helper import PATIENCE_S, start_helpers
from uniqdb.stream.decode_process import SLOTS, Stretch, unpack_stretch
from uniqdb.stream.line_block import LineBlock, cut
from uniqdb.uid_batch import joined
from uniqdb.visit import FieldSettings, I64Array, Visits

WORTH_BYTES = 16 * 2**20
"""With so much of a file to read it is worth starting processes."""
_STRETCH_BYTES_MAX, _STRETCH_BYTES_MIN = 4 * 2**20, 64 * 2**10
_STRETCHES_PER_BLOCK = 4
_NO_ENDS: I64Array = np.empty(0, np.int64)


def _usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes_for(wanted: int | None) -> int:
    """How many processes decode; ``wanted`` None: one per core, none where there is only one."""
    cores = _usable_cores()
    return min((cores if cores > 1 else 0) if wanted is None else wanted, DECODE_PROCESSES_MAX)


class FileStretches:
    """Decodes one file by other processes. `close` it."""

    def __init__(self, descriptor: int, fields: FieldSettings, processes: int) -> None:
        """Start so many processes. Raises OSError."""
        self._descriptor = descriptor
        self.hash_seed: int | None = None
        """Of the store for which the processes work out hashes from now on; None: they do not."""
        self._helpers = start_helpers(fields, processes, descriptor)

    def is_ready(self) -> bool:
        """Whether all of them have come up; this does not wait."""
        return bool(self._helpers) and all(one.is_ready() for one in self._helpers)

    def close(self) -> None:
        """End the processes."""
        helpers, self._helpers = self._helpers, []
        if helpers:
            helpers[0].close()  # with it the others

    def blocks(self, position: int, line: int, lines_max: int, line_bytes: float) -> Iterator[LineBlock]:
        """Blocks of about ``lines_max`` lines from ``position`` on, where a line begins, as far as they can be had.

        ``line_bytes``: how long a line usually is. Whatever follows the last block is for the caller to read.
        """
        size_bytes = _stretch_bytes(line_bytes, lines_max)
        end = os.fstat(self._descriptor).st_size
        parts: list[Stretch] = []
        for one in self._stretches(position, end, size_bytes):
            if one.first == one.end:
                continue
            if (parts[-1].end if parts else position) != one.first:
                break  # the file has changed under our hands
            if one.is_plain and one.lines <= lines_max:
                parts.append(one)
                if sum(part.lines for part in parts) < lines_max:
                    continue
            if parts:
                block = self._block(parts, line)
                yield block
                position, line, parts = block.start + block.size_bytes, line + block.lines, []
            if not one.is_plain or one.lines > lines_max:
                data = self._read(one.first, one.end)
                if len(data) != one.end - one.first or data[-1:] != b"\n":
                    return
                for block in cut(data, one.first, line, lines_max):
                    yield block
                    position, line = block.start + block.size_bytes, block.line + block.lines
        if parts:
            yield self._block(parts, line)

    def _stretches(self, position: int, end: int, size_bytes: int) -> Iterator[Stretch]:
        """What the processes find, in order; it ends early where one of them cannot go on."""
        wanted = range(position, end - size_bytes + 1, size_bytes)
        helpers = self._helpers
        under_way = len(helpers) * SLOTS
        submitted = 0
        for number in range(len(wanted)):
            while submitted < min(len(wanted), number + under_way):
                start = wanted[submitted]
                if not helpers[submitted % len(helpers)].submit_stretch(start, start + size_bytes, self.hash_seed):
                    return
                submitted += 1
            packed = helpers[number % len(helpers)].result(PATIENCE_S)
            if not packed:
                return
            yield unpack_stretch(packed)

    def _block(self, parts: list[Stretch], line: int) -> LineBlock:
        found = [one.visits() for one in parts]
        lines, first, end = sum(one.lines for one in parts), parts[0].first, parts[-1].end
        times_s = np.concatenate([one.event_times_s for one in found])
        visits = Visits(times_s, joined([one.uids for one in found]), records=lines)
        return LineBlock(
            b"", first, line, lines, end - first, _NO_ENDS, visits=visits, read=lambda: self._read(first, end)
        )

    def _read(self, start: int, end: int) -> bytes:
        parts: list[bytes] = []
        while start < end and (part := os.pread(self._descriptor, end - start, start)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)


def _stretch_bytes(line_bytes: float, lines_max: int) -> int:
    """So many bytes that a few stretches, with lines of this length, have ``lines_max`` lines."""
    wanted = int(line_bytes * lines_max / _STRETCHES_PER_BLOCK)
    return max(_STRETCH_BYTES_MIN, min(wanted, _STRETCH_BYTES_MAX))
