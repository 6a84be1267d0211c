"""What a figure was measured on, and the process's I/O counters."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def machine() -> str:
    """Processor, cores, memory, Python, library versions and commit in one line."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
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
