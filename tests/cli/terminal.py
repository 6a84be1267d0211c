"""A program on a terminal of its own, as a person would see and use it."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

_OWNING = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""Makes the terminal that of the program, so that Ctrl-C is a signal."""


class Terminal:
    """What the program has written, and keys for it."""

    def __init__(self, process: "subprocess.Popen[bytes]", descriptor: int) -> None:
        self.process, self._descriptor = process, descriptor
        self.text = ""

    def read(self, seconds: float) -> str:
        ready, _, _ = select.select([self._descriptor], [], [], seconds)
        try:
            self.text += os.read(self._descriptor, 65_536).decode("utf-8", "replace") if ready else ""
        except OSError:  # the program has closed it
            time.sleep(0.01)
        return self.text

    def until(self, words: str, limit_s: float = 60) -> None:
        end_at_s = time.monotonic() + limit_s
        while words not in self.read(0.1):
            assert time.monotonic() < end_at_s, f"{words!r} is not in {self.text[-2_000:]!r}"

    def press(self, keys: bytes) -> None:
        os.write(self._descriptor, keys)

    def end(self, limit_s: float = 60) -> int:
        end_at_s = time.monotonic() + limit_s
        while self.process.poll() is None:
            assert time.monotonic() < end_at_s, "it goes on"
            self.read(0.1)
        self.read(0.1)
        return self.process.returncode


@contextmanager
def on_a_terminal(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Terminal]:
    mine, its = pty.openpty()
    own = {**environment, "TERM": "xterm-256color", "COLUMNS": "200", "LINES": "60"}
    program = [sys.executable, "-c", _OWNING, *command]
    process = subprocess.Popen(program, stdin=its, stdout=its, stderr=its, env=own, start_new_session=True)
    os.close(its)
    try:
        yield Terminal(process, mine)
    finally:
        process.kill()
        process.wait()
        os.close(mine)
