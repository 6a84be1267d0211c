"""Run the tests with every CPython from 3.11 on that is found on this machine, each in an environment of its own.

    make test-all
    make test-all TEST_ALL_OPTIONS="--only 3.12 --only 3.13 -- tests/unit tests/property"

Looked for: `python3.N` on the PATH and in the usual folders, and what pyenv, uv, asdf and conda have installed below
the home directory. One of each version 3.N is taken, the newest that works. Its environment is `.venv-3.N`, with the
exact versions of constraints.txt; `make clean` removes it. Where they cannot be installed, that counts as failed. The
last lines are one for each Python. Standard library only.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
NAME = re.compile(r"python3(?:\.\d+)?t?")
# Below the home directory, or where a variable says.
PLACES = (
    ("PYENV_ROOT", "~/.pyenv", "versions/*/bin"),
    ("UV_PYTHON_INSTALL_DIR", "~/.local/share/uv/python", "*/bin"),
    ("ASDF_DATA_DIR", "~/.asdf", "installs/python/*/bin"),
    ("CONDA_ROOT", "~/miniconda3", "envs/*/bin"),
    ("CONDA_ROOT", "~/miniforge3", "envs/*/bin"),
)
FOLDERS = ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin")
ASK = (
    "import sys, venv; i = sys.implementation.name; f = getattr(sys, '_is_gil_enabled', lambda: True)();"
    "print(i if f else 'free-threaded', *sys.version_info[:3], sys.executable)"
)


@dataclass(frozen=True, order=True, slots=True)
class Found:
    """A Python: its version and its program."""

    version: tuple[int, int, int]
    program: str

    @property
    def name(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"


def folders(environment: dict[str, str]) -> Iterator[Path]:
    """Where programs may be; the same folder may come twice."""
    yield from map(Path, environment.get("PATH", os.defpath).split(os.pathsep))
    yield from map(Path, FOLDERS)
    for variable, default, pattern in PLACES:
        yield from sorted(Path(environment.get(variable, default)).expanduser().glob(pattern))


def candidates(places: Iterable[Path]) -> Iterator[Path]:
    for place in dict.fromkeys(places):
        # Never an environment of a project, this one's included: what it has installed is not ours.
        if place.is_dir() and not (place.parent / "pyvenv.cfg").exists():
            yield from (path for path in sorted(place.iterdir()) if NAME.fullmatch(path.name))


def asked(program: Path) -> Found | None:
    """What it says it is; None if it does not answer (a stub of a version manager), or is not what we support."""
    try:
        done = subprocess.run([program, "-c", ASK], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    words = done.stdout.strip().split(" ", 4)
    if done.returncode != 0 or len(words) != 5 or words[0] != "cpython":
        return None
    found = Found((int(words[1]), int(words[2]), int(words[3])), words[4])
    return found if found.version[:2] >= OLDEST else None


def pythons(environment: dict[str, str]) -> list[Found]:
    """The newest that works of each version 3.N, in order."""
    newest: dict[str, Found] = {}
    for program in candidates(folders(environment)):
        found = asked(program)
        if found is not None and (found.name not in newest or found.version > newest[found.name].version):
            newest[found.name] = found
    return sorted(newest.values())


# ---------------------------------------------------------------- one of them
def run_tests(python: Found, words: list[str], jobs: int) -> tuple[bool, str]:
    """Whether all is well, and the line that says so."""
    started = time.monotonic()
    made = subprocess.run([python.program, ROOT / "tools" / "make_venv.py", "own"], cwd=ROOT, check=False)
    if made.returncode != 0:
        return False, "no environment; the reason stands above"
    program = ROOT / f".venv-{python.name}" / "bin" / "python"
    subprocess.run([program, "-m", "compileall", "-q", "engine", "cli"], cwd=ROOT, check=False)
    command = [str(program), "-m", "pytest", "-q", "-n", str(jobs), "--dist", "loadfile", "--benchmark-disable", *words]
    last = ""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if re.search(r"\d+ (?:passed|failed|error)", line):
                last = re.sub(r" in [\d.]+s.*", "", line.strip("= \n"))
    minutes = (time.monotonic() - started) / 60
    return process.returncode == 0, f"{last or 'ended without a summary'}, {minutes:.1f} min"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="3.N", help="this version (repeatable)")
    parser.add_argument("--jobs", type=int, default=3, help="workers of each run")
    parser.add_argument("--list", action="store_true", help="print which would be used, and end")
    parser.add_argument("tests", nargs="*", help="for pytest, instead of all tests")
    options = parser.parse_args()
    found = [one for one in pythons(dict(os.environ)) if not options.only or one.name in options.only]
    if not found:
        print("uniqdb: no fitting CPython found", file=sys.stderr)
        return 1
    if options.list:
        print(*(f"{'.'.join(map(str, one.version))}  {one.program}" for one in found), sep="\n")
        return 0
    lines, is_well = [], True
    for python in found:
        print(f"== Python {'.'.join(map(str, python.version))}: {python.program}", flush=True)
        is_good, words = run_tests(python, options.tests, options.jobs)
        is_well &= is_good
        lines.append(f"Python {'.'.join(map(str, python.version)):8} {'passed' if is_good else 'FAILED'}  {words}")
    print("", *lines, sep="\n")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
