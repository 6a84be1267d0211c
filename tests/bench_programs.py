"""Running and loading the programs of bench/, and visits for them to count."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "bench"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT / "engine"), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")]),
    "PYTEST_ADDOPTS": "-p no:xdist",
}
# Times around the edges of every granularity, a week-53 year and a leap day among them.
TIMES_S = [946_684_800, 978_307_199, 1_104_537_600, 1_230_768_059, 1_456_704_000, 1_456_790_399, 1_468_244_340]


def load(name: str) -> ModuleType:
    """A program as a module; the fixture `programs` takes it away again."""
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run(*arguments: str | Path, python: str | Path = sys.executable) -> str:
    """What a program prints; it must end well."""
    command = [str(python), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_visits(path: Path) -> list[tuple[int, str]]:
    """JSON lines, and the visits in them."""
    visits = [(at + number, f"u{number % 3}") for at in TIMES_S for number in range(0, 200, 7)]
    path.write_text("".join(f'{{"uid":"{uid}","ts":{ts}}}\n' for ts, uid in visits))
    return visits
