"""What a figure was measured on, the process's counters, and how all these programs print a figure."""

import os
import platform
import re
import subprocess
from pathlib import Path


def machine() -> str:
    """Processor, cores, memory, Python, library versions and commit in one line."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    from importlib.metadata import version  # takes long to load: programs that are timed import this module

    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    libraries = ", ".join(f"{name} {version(name)}" for name in ("lmdb", "msgspec", "numpy", "pyroaring", "xxhash"))
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "no commit"
    return (
        f"{model}, {os.cpu_count()} cores, {int(memory) // 1024 // 1024} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {libraries}, commit {commit}"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def io_counters() -> dict[str, int]:
    """/proc/self/io as numbers."""
    return {name: int(value) for name, value in (line.split(": ") for line in _lines("/proc/self/io"))}


def peak_memory_bytes() -> int:
    """The most memory this process ever held at once; 0 where /proc does not say."""
    found = next((line.split()[1] for line in _lines("/proc/self/status") if line.startswith("VmHWM")), "0")
    return int(found) * 1024


def own_memory_bytes(process_id: int | str = "self") -> int:
    """The memory that a process holds now, without the pages of files that it has mapped; 0 if it has ended."""
    lines = _lines(f"/proc/{process_id}/status")
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def pin_to_one_core() -> None:
    """Keep this process and those that it starts on one core (where the system can do that)."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


# ---------------------------------------------------------------- figures
MACHINE_SHOWN = "UNIQDB_BENCH_MACHINE_SHOWN"
"""Set for programs that are started by another one, which has printed the line already."""
_FIGURE = re.compile(r"^(\w+) +(-?[\d,]+(?:\.\d+)?)$")


def show_machine() -> None:
    """Print the line of `machine`, once for a whole campaign."""
    if not os.environ.get(MACHINE_SHOWN):
        print(machine(), flush=True)


def show(name: str, value: object) -> None:
    """Print one figure at once: a name, which ends with its unit, and a value."""
    text = f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
    print(f"{name:30} {text}", flush=True)


def figure_of(line: str) -> tuple[str, float] | None:
    """The inverse of `show` for numbers; None for any other line."""
    found = _FIGURE.match(line.rstrip())
    return None if found is None else (found[1], float(found[2].replace(",", "")))
