"""A process that decodes for this one: its memory, its jobs, its answers."""

import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import time

import msgspec

from uniqdb.stream.decode_process import SLOT_BYTES, SLOTS, FileJob, Job, Section
from uniqdb.visit import FieldSettings

PATIENCE_S = 60.0
"""A process that takes longer for one job is given up."""
_END_S = 5.0


class DecodeHelper:
    """A process that decodes. Its answers come in the order of the jobs."""

    def __init__(self, group: "_Group", memory: mmap.mmap, jobs: int, answers: int) -> None:
        """``jobs``, ``answers``: descriptors of pipes to and from it. See `start_helpers`."""
        self._group, self._memory, self._jobs, self._results = group, memory, jobs, answers
        self._view = memoryview(memory)
        self._answers = b""
        self._submitted = self._answered = 0
        self.process_id: int | None = None
        """Its number in the system; None until it has come up."""

    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._group.process.poll() is not None

    def is_ready(self) -> bool:
        """Whether it has come up; this does not wait."""
        if self.process_id is None and (line := self._line(0)) is not None:
            self.process_id = int(line)
        return self.process_id is not None

    def begin(self, fields: FieldSettings) -> None:
        """Tell it how records are read: the first thing that it is told."""
        self._tell(msgspec.json.encode(fields) + b"\n")

    def submit(self, blocks: list[bytes], records: list[int], hash_seed: int | None = None) -> bool:
        """Have blocks decoded, at most `SLOT_BYTES` in all, and at most `SLOTS` jobs at once. False: it is gone.

        ``hash_seed``: of the store, if the hashes of the uids are wanted.
        """
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
        return self._tell(msgspec.json.encode(Job(slot, sections, hash_seed)) + b"\n")

    def submit_stretch(self, start: int, end: int, hash_seed: int | None = None) -> bool:
        """Have the lines decoded that begin in ``[start, end)`` of the file; else as `submit`."""
        slot = self._submitted % SLOTS
        self._submitted += 1
        return self._tell(msgspec.json.encode(FileJob(slot, start, end, hash_seed)) + b"\n")

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
        """End it, and those that were started with it; what they have not answered is gone."""
        self._group.end()

    def hang_up(self) -> None:
        """Tell it that there are no more jobs."""
        os.close(self._jobs)

    def outlast(self, until_s: float) -> None:
        """Wait for its end, up to a moment (monotonic): it closes its pipe."""
        while select.select([self._results], [], [], max(until_s - time.monotonic(), 0))[0]:
            if not os.read(self._results, 4096):
                return

    def release(self) -> None:
        """Give back what it was heard by, once it has ended."""
        os.close(self._results)
        self._view.release()
        self._memory.close()

    def _tell(self, line: bytes) -> bool:
        try:
            while line:
                line = line[os.write(self._jobs, line) :]
        except OSError:  # it has ended
            return False
        return True

    def _line(self, timeout_s: float) -> bytes | None:
        """The next line it writes, without its end; None if none comes in time."""
        while b"\n" not in self._answers:
            if not select.select([self._results], [], [], timeout_s)[0]:
                return None
            piece = os.read(self._results, 4096)
            if not piece:
                return None
            self._answers += piece
        line, _, self._answers = self._answers.partition(b"\n")
        return line


def start_helpers(fields: FieldSettings, count: int = 1, file: int | None = None) -> list[DecodeHelper]:
    """Start so many processes. ``file``: the descriptor of a file whose stretches they are to decode.

    They are one program that divides itself once it is up: what a Python with numpy needs to start, 0.15 s of a core,
    is spent once. Raises OSError.
    """
    given: list[tuple[int, int, int]] = []
    kept: list[tuple[mmap.mmap, int, int]] = []
    try:
        for _ in range(count):
            memory = _shared_memory(SLOTS * SLOT_BYTES)
            jobs, tell = os.pipe()
            hear, answers = os.pipe()
            given.append((memory, jobs, answers))
            kept.append((mmap.mmap(memory, SLOTS * SLOT_BYTES), tell, hear))
        group = _Group(_start(given, file))
    except BaseException:
        for mapped, *descriptors in kept:
            mapped.close()
            for one in descriptors:
                os.close(one)
        raise
    finally:
        for descriptors_given in given:
            for one in descriptors_given:
                os.close(one)
    group.helpers = [DecodeHelper(group, *one) for one in kept]
    for helper in group.helpers:
        helper.begin(fields)
    return list(group.helpers)


def _start(given: list[tuple[int, int, int]], file: int | None) -> "subprocess.Popen[bytes]":
    descriptors = [one for some in given for one in some]
    workers = ["-".join(map(str, some)) for some in given]
    # -P: modules of the working directory are none of its business. A session of its own: Ctrl-C is for us.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "uniqdb.stream.decode_process", str(-1 if file is None else file), *workers],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=descriptors if file is None else [*descriptors, file],
        start_new_session=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # its threads would only cost memory, and time at the start
    )


class _Group:
    """The processes that were started together."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.helpers: list[DecodeHelper] = []

    def end(self) -> None:
        """Wait until all have ended, for a while; then kill them."""
        helpers, self.helpers = self.helpers, []
        until_s = time.monotonic() + _END_S
        for one in helpers:
            one.hang_up()
        for one in helpers:  # `wait` alone would sleep between looks
            one.outlast(until_s)
        try:
            self.process.wait(max(until_s - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for one in helpers:
            one.release()


def _shared_memory(size_bytes: int) -> int:
    """A descriptor of memory that a child can be given; it vanishes with the last one that holds it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("uniqdb-decoding")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size_bytes)
    return descriptor
