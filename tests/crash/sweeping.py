"""A child process that adds visits and sweeps, for a test that kills it at a named point or at random.

Each batch is one commit with the partition's next offset, so that the store itself says how many it holds.
"""

import os
import signal
import sys
from collections.abc import Callable

import numpy as np

import uniqdb
from swept import DAY_S, T, at_clock, brief_options
from uniqdb.change_set import ChangeSet
from uniqdb.meta import read_sources
from uniqdb.store import Store
from uniqdb.sweeping import SweepRun
from uniqdb.writer import Commit

BATCHES, STEP_S = 60, 12 * DAY_S
WALL_S = T + 4_000 * DAY_S


def batch(number: int) -> tuple[list[int], list[str]]:
    """The visits of a batch: on some days, of visitors who come for a while, stay away for long, and return."""
    rng = np.random.default_rng(number)
    times = T + number * STEP_S - rng.integers(0, DAY_S // 2, 40)
    uids = [f"u{(number // 12 % 2) * 50 + at}" for at in rng.integers(0, 80, 40).tolist()]
    return times.tolist(), uids


def clock_s(number: int) -> int:
    """The store's clock after a batch."""
    return T + number * STEP_S


def batches_in(db: uniqdb.Engine) -> int:
    """How many are committed."""
    with db.snapshot() as snapshot:
        rows = [row for _, row in read_sources(snapshot.answers.view)]
    return rows[0].kafka.next_offset if rows and rows[0].kafka is not None else 0


def dying(point: str, number: int) -> Callable[..., None]:
    """`Store.commit` that ends the process before or after the upkeep transaction of a number."""
    commit, done = Store.commit, 0

    def commit_or_die(store: Store, changes: ChangeSet, *, based_on: int, is_upkeep: bool = False) -> None:
        nonlocal done
        done += is_upkeep
        is_here = is_upkeep and done == number
        if is_here and point == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        commit(store, changes, based_on=based_on, is_upkeep=is_upkeep)
        if is_here and point == "after":  # and before anything is evicted from the caches
            os.kill(os.getpid(), signal.SIGKILL)

    return commit_or_die


def main(store: str, point: str, number: int) -> None:
    Store.commit = dying(point, number)  # type: ignore[method-assign]  # this process is the seam
    with uniqdb.open(store, options=brief_options()) as db:
        print("open", flush=True)
        run = SweepRun(db, WALL_S, forced=True)
        for at in range(batches_in(db), BATCHES):
            times, uids = batch(at)
            db.write(at_clock(Commit(np.array(times, np.int64), uids), clock_s(at), at + 1))
            for _ in range(4):  # the next visits come in the middle of a run: between mark and drop, too
                if not run.step():
                    run = SweepRun(db, WALL_S, forced=True)
        while run.step():
            pass
        SweepRun(db, WALL_S, forced=True).to_the_end()
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
