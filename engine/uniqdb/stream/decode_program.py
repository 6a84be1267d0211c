"""The program of other processes that decode, and what connects them with this one: memory and pipes.

It is started before the libraries of this process are loaded, so this imports next to nothing.
"""

import mmap
import os
import select
import signal
import subprocess
import sys
import time

SLOT_BYTES = 32 * 2**20
"""A job with more is not handed over."""
SLOTS = 8
"""Into so many the memory of each process is divided."""
_END_S = 5.0
_PROGRAM = "import gc; gc.disable(); from uniqdb.stream.decode_process import main; main()"
"""Without the collector: its libraries, and each job, make ten thousands of objects and no cycles."""


class Connection:
    """What leads to one process: memory that is shared with it, and descriptors of pipes to and from it."""

    def __init__(self, memory: mmap.mmap, jobs: int, answers: int) -> None:
        self.memory, self.jobs, self.answers = memory, jobs, answers
        self.view = memoryview(memory)

    def outlast(self, until_s: float) -> None:
        """Wait for the end of the process, up to a moment (monotonic): it closes its pipe."""
        while select.select([self.answers], [], [], max(until_s - time.monotonic(), 0))[0]:
            if not os.read(self.answers, 4096):
                return

    def release(self) -> None:
        """Give back what the process was heard by, once it has ended."""
        os.close(self.answers)
        self.view.release()
        self.memory.close()


class DecodeProgram:
    """The processes that were started together. `end` them."""

    def __init__(self, process: "subprocess.Popen[bytes]", connections: list[Connection]) -> None:
        self._process, self.connections = process, connections

    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def end(self) -> None:
        """Wait until all have ended, for a while; then kill them. What they have not answered is gone."""
        connections, self.connections = self.connections, []
        until_s = time.monotonic() + _END_S
        for one in connections:
            os.close(one.jobs)
        for one in connections:  # `wait` alone would sleep between looks
            one.outlast(until_s)
        try:
            self._process.wait(max(until_s - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for one in connections:
            one.release()


def start_program(count: int, file: int | None) -> DecodeProgram:
    """Start so many processes. ``file``: the descriptor of a file whose stretches they are to decode.

    They are one program that divides itself once it is up: what a Python with numpy needs to start, 0.1 s of a core, is
    spent once. Raises OSError.
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
        process = _start(given, file)
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
    return DecodeProgram(process, [Connection(*one) for one in kept])


def _start(given: list[tuple[int, int, int]], file: int | None) -> "subprocess.Popen[bytes]":
    descriptors = [one for some in given for one in some]
    workers = ["-".join(map(str, some)) for some in given]
    # -P: modules of the working directory are none of its business. A group of its own: Ctrl-C is for us. In the same
    # session, for within one alone Linux weighs the niceness of processes, where it groups them by session.
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM, str(-1 if file is None else file), *workers],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=descriptors if file is None else [*descriptors, file],
        process_group=0,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # its threads would only cost memory, and time at the start
    )


def _shared_memory(size_bytes: int) -> int:
    """A descriptor of memory that a child can be given; it vanishes with the last one that holds it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("uniqdb-decoding")
    else:
        import tempfile  # noqa: PLC0415  # takes long to load, and is hardly ever needed

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size_bytes)
    return descriptor
