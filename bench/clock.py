"""What judging and closing cost an ingest: the same files with event time on and off, in the same run.

    .venv/bin/python bench/clock.py [--records 1000000] [--rounds 5]

Off means that every visit is accepted unseen, no clock moves and no bucket is closed; all else is the same. By turns,
each in a process of its own on one core; medians. 300-byte records at 100 visits a second and at one a second.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ingest import write_input
from machine import pin_to_one_core, show, show_machine

import uniqdb
from uniqdb.intake import Intake, Place
from uniqdb.meta import SourceRow
from uniqdb.plausibility import SourceJudge, U8Array
from uniqdb.store import ReadView
from uniqdb.stream import driver
from uniqdb.visit import I64Array

HERE = Path(__file__).resolve().parent


class Unjudged(Intake):
    """Accepts everything and has no clock."""

    def take(self, times_s: I64Array, uids: list[str], _reference_s: int, _place_of: Callable[[int], Place]) -> U8Array:
        self._add(times_s, uids, np.full(len(times_s), self._peak_s))
        return np.zeros(len(times_s), np.uint8)

    def end(self, *, follow: bool = False) -> None:
        """Nothing is held."""


def unjudged(_view: ReadView | None, key: bytes, row: SourceRow, _allowed_lateness_s: int = 0) -> Intake:
    return Unjudged(key, row.name, SourceJudge())


def ingest_once(path: Path, store: Path, *, off: bool) -> dict[str, float]:
    """What one process does."""
    if off:
        driver.open_intake = unjudged  # type: ignore[attr-defined]  # the driver takes it from its own names
    started = time.perf_counter()
    with uniqdb.open(store) as db:
        summary = driver.ingest_file(db, path)
    elapsed_s = time.perf_counter() - started
    with uniqdb.open(store, read_only=True) as db:
        closed = sum(one.status != "provisional" for one in db.series("minute"))
    return {"visits_per_s": summary.visits / elapsed_s, "closed": closed, "visits": summary.visits}


def run(path: Path, rounds: int) -> dict[str, float]:
    """Medians of both, and their ratio."""
    speeds: dict[str, list[float]] = {"on": [], "off": []}
    store = path.with_suffix(".uniqdb")
    show("rounds", rounds)
    for _ in range(rounds):
        for kind, found in speeds.items():
            command = [sys.executable, str(HERE / "clock.py"), "--once", kind, str(path), str(store)]
            done = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
            assert kind == "on" or not done["closed"], done
            found.append(done["visits_per_s"])
            shutil.rmtree(store)
    on, off = (statistics.median(found) for found in speeds.values())
    return {"on_per_s": on, "off_per_s": off, "on_over_off": on / off}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--once", nargs=3, metavar=("KIND", "FILE", "STORE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    pin_to_one_core()
    if options.once:
        kind, path, store = options.once
        print(json.dumps(ingest_once(Path(path), Path(store), off=kind == "off")))
        return
    show_machine()
    with tempfile.TemporaryDirectory() as folder:
        for rate in (100, 1):
            path = Path(folder) / f"{rate}.jsonl"
            write_input(path, options.records, 300, rate)
            for name, value in run(path, options.rounds).items():
                show(f"{name}_at_{rate}_a_s", value)
            path.unlink()


if __name__ == "__main__":
    main()
