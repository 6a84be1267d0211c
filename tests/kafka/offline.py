"""A run of tests on a machine without network and with an empty cache."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_offline(folder: Path, *arguments: str) -> tuple[str, str]:
    """What two such runs of pytest print: one at home, which must end well, and one where CI is set, which must not."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_") and name != "CI"}
    dead = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            cwd=ROOT,
            env=kept | dead | {"UNIQDB_CACHE": str(folder / name)} | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for name, more in (("a", {}), ("b", {"CI": "true"}))
    ]
    at_home, in_ci = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 1], at_home + in_ci
    return at_home, in_ci
