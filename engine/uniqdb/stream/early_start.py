"""Processes that decode a large plain file, started before anything else is loaded.

A program that is told of a file needs a fifth of a second until it can count: its libraries take that long to load, on
one core. Meanwhile these come up and decode on the others. This imports next to nothing itself.
"""

import os
import stat

from uniqdb.limits import DECODE_PROCESSES_MAX, HEAD_BYTES
from uniqdb.stream.decode_program import DecodeProgram, start_program

WORTH_BYTES = 16 * 2**20
"""With so much of a file to read it is worth starting processes."""


class EarlyStart:
    """Processes for one file. `close` it, unless `StretchJobs` has taken it over."""

    def __init__(self, descriptor: int, program: DecodeProgram, line_bytes: float) -> None:
        """``descriptor``: of the file, for as long as this is open. ``line_bytes``: how long its lines are, about."""
        self.descriptor, self.program, self.line_bytes = descriptor, program, line_bytes

    def close(self) -> None:
        """End the processes. A second call does nothing."""
        if self.descriptor >= 0:
            self.program.end()
            os.close(self.descriptor)
            self.descriptor = -1


def _usable_cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes_for(wanted: int | None) -> int:
    """How many processes decode; ``wanted`` None: one per core, none where there is only one."""
    cores = _usable_cores()
    return min((cores if cores > 1 else 0) if wanted is None else wanted, DECODE_PROCESSES_MAX)


def start_early(path: str | os.PathLike[str], processes: int | None) -> EarlyStart | None:
    """Start processes for a file that is to be read from its beginning. None where they are not worth while.

    ``processes``: as for `processes_for`. Whoever opens the file in earnest tells what is wrong with it.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe without a writer would wait for one
            return None
        descriptor = os.open(path, os.O_RDONLY)
    except (OSError, ValueError):
        return None
    try:
        head = os.pread(descriptor, HEAD_BYTES, 0)
        lines = head.count(b"\n")
        if not lines or head[:1] != b"{":  # it may be compressed
            return None
        return start_for(descriptor, 0, processes, len(head) / lines)
    finally:
        os.close(descriptor)


def start_for(descriptor: int, position: int, processes: int | None, line_bytes: float = 0) -> EarlyStart | None:
    """Start processes for what is left of an open plain file from ``position`` on; None as in `start_early`."""
    count = processes_for(processes)
    if not count or os.fstat(descriptor).st_size - position < WORTH_BYTES:
        return None
    own = os.dup(descriptor)
    try:
        return EarlyStart(own, start_program(count, own), line_bytes)
    except OSError:  # too many processes, no memory: it goes without
        os.close(own)
        return None
    except BaseException:
        os.close(own)
        raise
