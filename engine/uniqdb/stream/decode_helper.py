"""A process that decodes for this one: its memory, its jobs, its answers."""

import mmap
import os
import select
import subprocess
import sys
import tempfile

import msgspec

from uniqdb.stream.decode_process import READY, SLOT_BYTES, SLOTS, FileJob, Job, Section
from uniqdb.visit import FieldSettings

PATIENCE_S = 60.0
"""A process that takes longer for one job is given up."""
_END_S = 5.0


class DecodeHelper:
    """The other process. Its answers come in the order of the jobs."""

    def __init__(self, fields: FieldSettings, file: int | None = None) -> None:
        """``file``: the descriptor of a file whose stretches it is to decode. Raises OSError."""
        descriptor = _shared_memory(SLOTS * SLOT_BYTES)
        try:
            given = (descriptor,) if file is None else (descriptor, file)
            self._memory = mmap.mmap(descriptor, SLOTS * SLOT_BYTES)
            # -P: modules of the working directory are none of its business. A session of its own: Ctrl-C is for us.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "uniqdb.stream.decode_process", *map(str, given)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=given,
                start_new_session=True,
                bufsize=0,
            )
        finally:
            os.close(descriptor)
        self._view = memoryview(self._memory)
        self._answers = b""
        self._begun = False
        self._submitted = self._answered = 0
        self._tell(msgspec.json.encode(fields) + b"\n")

    @property
    def process_id(self) -> int:
        """Its number in the system."""
        return self._process.pid

    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def is_ready(self) -> bool:
        """Whether it has come up; this does not wait."""
        if not self._begun:
            self._begun = self._line(0) == READY
        return self._begun

    def submit(self, blocks: list[bytes], records: list[int]) -> bool:
        """Have blocks decoded, at most `SLOT_BYTES` in all, and at most `SLOTS` jobs at once. False: it is gone."""
        slot = self._submitted % SLOTS
        at = slot * SLOT_BYTES
        sections: list[Section] = []
        start = 0
        for block, count in zip(blocks, records, strict=True):
            end = start + len(block)
            self._view[at + start : at + end] = block
            sections.append(Section(start, end, count))
            start = end
        self._submitted += 1
        return self._tell(msgspec.json.encode(Job(slot, sections)) + b"\n")

    def submit_stretch(self, start: int, end: int) -> bool:
        """Have the lines decoded that begin in ``[start, end)`` of the file; else as `submit`."""
        slot = self._submitted % SLOTS
        self._submitted += 1
        return self._tell(msgspec.json.encode(FileJob(slot, start, end)) + b"\n")

    def result(self, patience_s: float) -> memoryview | None:
        """What became of the oldest job, to be read before the next `submit`: empty if it did not fit.

        None if the process is gone, or does not answer in time.
        """
        line = self._line(patience_s)
        if line is None:
            return None
        at = self._answered % SLOTS * SLOT_BYTES
        self._answered += 1
        return self._view[at : at + max(int(line), 0)]

    def close(self) -> None:
        """End it; what it has not answered is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._view.release()
        self._memory.close()

    def _tell(self, line: bytes) -> bool:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
        except OSError:  # it has ended
            return False
        return True

    def _line(self, timeout_s: float) -> bytes | None:
        """The next line it writes; None if none comes in time."""
        assert self._process.stdout is not None
        while b"\n" not in self._answers:
            if not select.select([self._process.stdout], [], [], timeout_s)[0]:
                return None
            piece = os.read(self._process.stdout.fileno(), 4096)
            if not piece:
                return None
            self._answers += piece
        line, _, self._answers = self._answers.partition(b"\n")
        return line + b"\n"


def _shared_memory(size_bytes: int) -> int:
    """A descriptor of memory that a child can be given; it vanishes with the last one that holds it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("uniqdb-decoding")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size_bytes)
    return descriptor
