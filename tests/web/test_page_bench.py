"""The benchmark of the page still runs; its figures at this size mean nothing and are not looked at."""

import os
import subprocess
import sys
from typing import Any

import pytest

from web.web_server import ROOT


@pytest.mark.browser
@pytest.mark.usefixtures("chromium")
def test_it_measures_all_of_it() -> None:
    paths = os.pathsep.join([str(ROOT / "engine"), str(ROOT / "cli")])
    small: list[Any] = [
        "--days",
        20,
        "--uids",
        500,
        "--visits-per-day",
        300,
        "--loads",
        1,
        "--rounds",
        1,
        "--seconds",
        1,
    ]
    command = [sys.executable, str(ROOT / "bench" / "page.py"), *map(str, small)]
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 10
    assert all(len(row) == 3 for row in rows)
