"""The Python of .venv-bench, which has the tools, and exports for them to read."""

import json
import os
import runpy
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

import uniqdb
from bench_programs import ENVIRONMENT, ROOT, run
from engines import assert_sound, options
from model import Model

PYTHON = ROOT / ".venv-bench/bin/python"
ZONE = "Europe/Zurich"
FIRST_DAY_S = 1_474_063_200 + 86_400  # 2016-09-18 there; clocks are set back on 2016-10-30
DAYS, LAST_DAY = 60, "2016-11-16"
ODD = ['say "no"', "a,b", "two\nlines", "ä\u2028ö", " ", "x" * 1_024, "\\n", "'", "{}", "NULL", "1e3"]


class Exported(NamedTuple):
    """A folder with exports by day in every format, what they must say, and what `query --window 30d` says."""

    folder: Path
    model: Model
    window: int


@pytest.fixture(scope="session")
def tools() -> Path:
    """The Python that has the tools. Without it the tests are skipped, or fail where `make test-exports` asked."""
    if not runpy.run_path(str(ROOT / "tools" / "make_venv.py"))["is_current"]("bench"):
        reason = "make test-exports builds .venv-bench, which has them"
        if os.environ.get("EXPORT_TESTS") == "required":
            pytest.fail(f".venv-bench is not up to date: {reason}", pytrace=False)
        pytest.skip(reason)
    return PYTHON


@pytest.fixture(scope="session")
def exported(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    store, model, rng = folder / "visits.uniqdb", Model(ZONE), Random(9)
    with uniqdb.open(store, timezone=ZONE, options=options()) as db:
        for day in range(DAYS):
            # Sets below and above 32 members, of a few and of thousands: each kind of state, and of container.
            size = 9_000 if day == 50 else rng.choice([1, 31, 32, 33, 400])
            start_s = FIRST_DAY_S + day * 86_400 + 7_200
            times = [start_s + number % 70_000 for number in range(size)]
            uids = [f"u{number + day}" for number in range(size)]
            uids[0] = ODD[day % len(ODD)]
            db.add_many(times, uids)
            model.add(times, uids)
            db.commit()
            if day == DAYS // 2:
                db.close_buckets()
    assert_sound(store)
    for form in ("csv", "jsonl", "parquet"):
        for what in ("counts", "members"):
            export(tools, what, "--by", "day", "--output", folder / f"{what}.{form}", "--store", store)
    for form in ("csv", "jsonl", "parquet", "clickhouse"):
        words = ["--by", "day", "--format", form, "--output", folder / f"sets-{form}", "--store", store]
        export(tools, "sets", *words)
    question = ["query", "--window", "30d", "--as-of", LAST_DAY, "--format", "value", "--store", store]
    answer = run("-m", "uniqdb_cli", *question, python=tools)
    return Exported(folder, model, int(answer))


def export(python: Path, *arguments: str | Path) -> None:
    run("-m", "uniqdb_cli", "export", *arguments, python=python)


@pytest.fixture(scope="session")
def read(tools: Path, exported: Exported) -> Callable[[str], dict[str, Any]]:
    """What a tool finds in the exports."""

    def call(tool: str) -> dict[str, Any]:
        command = [tools, Path(__file__).with_name("reading.py"), tool, exported.folder]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return call
