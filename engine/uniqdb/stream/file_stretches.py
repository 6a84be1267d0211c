"""A large plain file decoded on other cores: stretches of it, each by the process whose turn it is, taken in order.

What they find is what reading the file here would give: a stretch with anything but visits is read and decoded here,
and whenever a process cannot go on (it was killed, a line is too long, the file was shortened) the caller reads on by
itself from the position that was reached. So other processes cost nothing but memory, and save time.
"""

import os
from collections.abc import Iterator

import numpy as np

from uniqdb.stream.decode_process import Stretch, unpack_stretch
from uniqdb.stream.line_block import LineBlock, cut
from uniqdb.stream.stretch_jobs import StretchJobs
from uniqdb.uid_batch import joined
from uniqdb.visit import I64Array, Visits

_NO_ENDS: I64Array = np.empty(0, np.int64)


class FileStretches:
    """Decodes one file by other processes. `close` it."""

    def __init__(self, jobs: StretchJobs) -> None:
        self._jobs = jobs
        self.hash_seed: int | None = None
        """Of the store for which the processes work out hashes from now on; None: they do not."""

    def is_ready(self) -> bool:
        """Whether all of them have come up; this does not wait."""
        return self._jobs.is_ready()

    @property
    def is_begun(self) -> bool:
        """Whether they decode the file from its beginning already."""
        return self._jobs.is_begun

    def close(self) -> None:
        """End the processes."""
        self._jobs.close()

    def blocks(self, position: int, line: int, lines_max: int, line_bytes: float) -> Iterator[LineBlock]:
        """Blocks of about ``lines_max`` lines from ``position`` on, where a line begins, as far as they can be had.

        ``line_bytes``: how long a line usually is. Whatever follows the last block is for the caller to read.
        """
        if not self._jobs.is_begun:
            self._jobs.begin(position, lines_max, line_bytes)
        parts: list[Stretch] = []
        for one in self._stretches():
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

    def _stretches(self) -> Iterator[Stretch]:
        """What the processes find, in order; it ends early where one of them cannot go on."""
        for number in range(len(self._jobs.stretches)):
            packed = self._jobs.result(number, self.hash_seed)
            if not packed:
                return
            yield unpack_stretch(packed)

    def _block(self, parts: list[Stretch], line: int) -> LineBlock:
        found = [one.visits() for one in parts]
        lines, first, end = sum(one.lines for one in parts), parts[0].first, parts[-1].end
        times_s = np.concatenate([one.event_times_s for one in found])
        visits = Visits(times_s, joined([one.uids for one in found]), records=lines)
        return LineBlock(b"", first, line, lines, end - first, _NO_ENDS, visits=visits, read=self._read)

    def _read(self, start: int, end: int) -> bytes:
        parts: list[bytes] = []
        while start < end and (part := os.pread(self._jobs.descriptor, end - start, start)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)
