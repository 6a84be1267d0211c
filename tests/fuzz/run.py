"""The fuzz campaign: seeded changes of right inputs, for each target, on as many processes as there are cores.

python tests/fuzz/run.py --cases 300000 [--only NAME] [--first 1] [--processes 2] [--output FILE]

A case that raises what is not documented is named with the command that repeats it; the exit code is then 1.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2] / "engine"), str(HERE.parents[2] / "cli"), str(HERE.parents[1])]

from fuzz.mutating import mutated  # noqa: E402 - it is found by the path above
from fuzz.targets import target  # noqa: E402

SHARES = {
    **{"records": 60, "files": 20, "ingest": 3, "sealed values": 40, "values": 60, "crafted stores": 3},
    **{"MANIFEST": 20, "dumps": 3, "pages": 2, "requests": 6, "texts": 40, "settings": 20},
    **{"client settings": 20, "arguments": 3},
}
"""Of 300 cases. Some targets take milliseconds."""
PER_JOB = 2_000


class Job(NamedTuple):
    """So many cases of a target; the seed of the first."""

    target: str
    first: int
    cases: int


def run_job(job: Job) -> tuple[Job, list[str]]:
    """The complaints: none, or one for each case that raised what it must not."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="uniqdb-fuzz-", dir=memory))
    complaints = []
    try:
        with target(job.target, folder) as chosen:
            for seed in range(job.first, job.first + job.cases):
                data = mutated(random.Random(f"{job.target} {seed}"), chosen.examples)
                try:
                    chosen.take(data)
                except Exception:  # whatever it is, it is what is looked for
                    again = f".venv/bin/python tests/fuzz/run.py --only '{job.target}' --first {seed} --cases 1"
                    complaints.append(f"{again}\n{data[:300]!r}\n{traceback.format_exc()[-1_500:]}")
                    if len(complaints) > 5:
                        break
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return job, complaints


def jobs(cases: int, only: str, first: int) -> list[Job]:
    shares = {only: 1} if only else SHARES
    found = []
    for name, share in shares.items():
        left, at = -(-cases * share // sum(shares.values())), first
        while left > 0:
            found.append(Job(name, at, min(left, PER_JOB)))
            left, at = left - PER_JOB, at + PER_JOB
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=3_000)
    parser.add_argument("--only", default="", choices=["", *SHARES])
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    done: Counter[str] = Counter()
    complaints: list[str] = []
    begun_s = shown_s = time.monotonic()
    wanted = jobs(chosen.cases, chosen.only, chosen.first)
    with multiprocessing.get_context("spawn").Pool(min(chosen.processes, len(wanted))) as pool:
        for job, found in pool.imap_unordered(run_job, wanted):
            done[job.target] += job.cases
            complaints += found
            for one in found:
                print(one, flush=True)
            if time.monotonic() - shown_s > 20:
                shown_s = time.monotonic()
                print(f"{done.total():,} cases, {len(complaints)} complaints", flush=True)
    took_s = time.monotonic() - begun_s
    print(f"{done.total():,} cases, {len(complaints)} complaints, {took_s:,.0f} s: {dict(sorted(done.items()))}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
