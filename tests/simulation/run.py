"""Many seeds of the simulation, on as many processes as there are cores.

python tests/simulation/run.py --seeds 20000 --steps 1000 [--first 1] [--processes 2] [--output FILE]

A seed that fails is named with the command that repeats it, and does not stop the others. The exit code is then 1.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2] / "engine"), str(HERE.parents[1])]

from simulation.world import World  # noqa: E402 - it is found by the path above

SHOWN_S = 20.0


class Outcome(NamedTuple):
    """Of one seed: what it did, or why it failed."""

    seed: int
    seen: dict[str, int]
    failure: str


def repeat_command(seed: int, steps: int) -> str:
    return f".venv/bin/python tests/simulation/run.py --first {seed} --seeds 1 --steps {steps}"


def memory_folder() -> str | None:
    """A file system in memory, if there is one: a sync costs nothing there, and nothing here depends on one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def run_seed(job: tuple[int, int]) -> Outcome:
    seed, steps = job
    folder = Path(tempfile.mkdtemp(prefix="uniqdb-simulation-", dir=memory_folder()))
    world = World(seed, steps, folder)
    try:
        return Outcome(seed, asdict(world.run()), "")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return Outcome(seed, asdict(world.seen), traceback.format_exc())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def outcomes(first: int, seeds: int, steps: int, processes: int) -> Iterator[Outcome]:
    jobs = [(seed, steps) for seed in range(first, first + seeds)]
    if processes == 1:
        yield from map(run_seed, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=200) as pool:
        yield from pool.imap_unordered(run_seed, jobs, chunksize=1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    begun_s = shown_s = time.monotonic()
    total: Counter[str] = Counter()
    failed: list[int] = []
    done = 0

    def say(line: str) -> None:
        print(line, flush=True)
        if chosen.output is not None:
            with chosen.output.open("a") as file:
                file.write(line + "\n")

    for outcome in outcomes(chosen.first, chosen.seeds, chosen.steps, min(chosen.processes, chosen.seeds)):
        done += 1
        total.update(outcome.seen)
        if outcome.failure:
            failed.append(outcome.seed)
            say(f"seed {outcome.seed} FAILED: {repeat_command(outcome.seed, chosen.steps)}\n{outcome.failure}")
        if time.monotonic() - shown_s > SHOWN_S:
            shown_s = time.monotonic()
            say(f"{done:,} of {chosen.seeds:,} seeds, {len(failed)} failed, {shown_s - begun_s:,.0f} s")
    took_s = time.monotonic() - begun_s
    say(
        f"{done:,} seeds x {chosen.steps:,} steps from seed {chosen.first}: "
        f"{len(failed)} failed {sorted(failed)[:20]}; "
        f"{took_s:,.0f} s, {total['steps'] / took_s:,.0f} steps/s"
    )
    say(", ".join(f"{word.replace('_', ' ')} {count:,}" for word, count in total.items()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
