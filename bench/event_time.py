"""What the verdicts and the clock cost per visit: dense honest input, and input that must be looked at visit by visit.

    .venv/bin/python bench/event_time.py [--visits 1000000] [--rounds 5] [--batch 50000]

Dense input: 100 visits a second and one a second, 30 % of them late by 1 to 5 s and 0.1 % by minutes. ``shuffled``:
two years in no order; ``wrong``: 40 % of the clocks wrong by up to three days. Figures are medians over the rounds.
"""

import argparse
import statistics
import time

import numpy as np
import numpy.typing as npt
from machine import pin_to_one_core, show, show_machine

from uniqdb.plausibility import SourceJudge

I64Array = npt.NDArray[np.int64]
START_S = 1_468_244_340
REFERENCE_S = 2**40
SINGLY_VISITS_MAX = 200_000


def dense(visits: int, rate: int, rng: np.random.Generator) -> I64Array:
    times_s = START_S + np.arange(visits) // rate
    late = rng.random(visits) < 0.3
    times_s[late] -= rng.integers(1, 6, np.count_nonzero(late))
    very_late = rng.random(visits) < 0.001
    times_s[very_late] -= rng.integers(60, 600, np.count_nonzero(very_late))
    return times_s


def inputs(visits: int) -> dict[str, I64Array]:
    rng = np.random.default_rng(1)
    singly = min(visits, SINGLY_VISITS_MAX)
    wrong = rng.random(singly) < 0.4
    return {
        "dense_100_a_s": dense(visits, 100, rng),
        "dense_1_a_s": dense(visits, 1, rng),
        "shuffled": START_S + rng.integers(0, 2 * 365 * 86_400, singly),
        "wrong": START_S + np.arange(singly) // 10 + np.where(wrong, rng.integers(-259_200, 259_200, singly), 0),
    }


def cost_us(times_s: I64Array, batch: int) -> float:
    """Microseconds per visit of one run over the whole input."""
    judge = SourceJudge()
    started = time.perf_counter()
    for start in range(0, len(times_s), batch):
        judge.step(times_s[start : start + batch], REFERENCE_S)
    return (time.perf_counter() - started) / len(times_s) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=50_000)
    options = parser.parse_args()
    show_machine()
    pin_to_one_core()
    show("visits", options.visits)
    for name, times_s in inputs(options.visits).items():
        figure = statistics.median(cost_us(times_s, options.batch) for _ in range(options.rounds))
        show(f"{name}_us", figure)


if __name__ == "__main__":
    main()
