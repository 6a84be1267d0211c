"""Runs a program of a comparison and measures it as a whole: seconds, processor seconds, memory of all its processes.

What a peer's process does before its work (start of Python, imports) counts, for a user waits for it, too; a program
may report the work alone as ``work_s``.
"""

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

SAMPLE_S = 0.02
CORES = 2


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program printed as JSON, and what it took."""

    result: Mapping[str, Any]
    elapsed_s: float
    cpu_s: float
    """Of all its processes."""
    peak_bytes: int
    """The sum of the most that each of its processes ever held. Memory that two of them share counts in both."""


class MemoryWatch:
    """Remembers the peak of every process below one, as long as they live."""

    def __init__(self, process_id: int) -> None:
        self._peaks: dict[int, int] = {}
        self._process_id, self._stop = process_id, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> int:
        """The sum of all peaks in bytes; 0 where /proc does not say."""
        self._stop.set()
        self._thread.join()
        return sum(self._peaks.values())

    def _watch(self) -> None:
        while True:
            self._look(self._process_id)
            if self._stop.wait(SAMPLE_S):
                return

    def _look(self, process_id: int) -> None:
        try:
            status = Path(f"/proc/{process_id}/status").read_text()
            below = [
                int(word)
                for thread in Path(f"/proc/{process_id}/task").iterdir()
                for word in (thread / "children").read_text().split()
            ]
        except (OSError, ValueError):
            return  # it has ended meanwhile
        for line in status.splitlines():
            if line.startswith("VmHWM"):
                self._peaks[process_id] = max(self._peaks.get(process_id, 0), int(line.split()[1]) * 1024)
        for one in below:
            self._look(one)


def run_job(*arguments: str | Path) -> Ran:
    """Run a Python program in a process of its own; its last line of output is its result as JSON."""
    printed, ran = run_measured([sys.executable, *map(str, arguments)])
    return replace(ran, result=json.loads(printed.splitlines()[-1]))


def run_measured(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[str, Ran]:
    """What a program prints, and what it took; without a result."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    watch = MemoryWatch(process.pid)
    assert process.stdout is not None
    with process.stdout:
        printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    elapsed_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    peak_bytes = watch.end()
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command, printed)
    return printed, Ran({}, elapsed_s, usage.ru_utime + usage.ru_stime, peak_bytes)


def lacking(modules: Sequence[str]) -> str:
    """Why a peer is left out, in words; empty if all its modules are installed."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} not installed in {sys.prefix}" if missing else ""


def not_left_out(peers: Iterable[tuple[str, str, str]]) -> list[str]:
    """The names of (name, title, why it is left out) where there is no reason; says what the others lack."""
    found = []
    for name, title, reason in peers:
        if reason:
            print(f"# left out: {title}: {reason}")
        else:
            found.append(name)
    return found


def pin_to_two_cores() -> None:
    """Keep this process and those that it starts on two cores (where the system can do that)."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[-CORES:]))


def warm(path: Path) -> None:
    """Have a file in the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(16 * 2**20):
            pass


def size_bytes(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, ready to stand in RESULTS.md."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
