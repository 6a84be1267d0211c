"""Streams of event times as sources deliver them, each with the honest visits marked; the same for the same seed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

T = 1_468_244_340
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
Rng = np.random.Generator


@dataclass
class Stream:
    """`times_s` in order of arrival. A visit is honest if nobody has tampered with its time."""

    name: str
    times_s: np.ndarray
    honest: np.ndarray

    @property
    def reference_s(self) -> int:
        """The wall clock of whoever reads the stream: just after the last honest visit."""
        return int(self.times_s[self.honest].max(initial=T)) + 1


def honest(name: str, times_s: np.ndarray) -> Stream:
    return Stream(name, times_s.astype(np.int64), np.ones(len(times_s), bool))


# ---------------------------------------------------------------- when visits happen
def poisson(visits: int, step_s: float, rng: Rng) -> np.ndarray:
    """Visits at random; 30 % arrive 1 to 5 s late (which matters to dense streams only)."""
    times_s = T + np.cumsum(rng.exponential(step_s, visits)).astype(np.int64)
    late = rng.random(visits) < 0.3
    times_s[late] -= rng.integers(1, 6, int(late.sum()))
    return times_s


def with_gap(visits: int, step_s: float, gap_s: int, rng: Rng) -> np.ndarray:
    times_s = poisson(visits, step_s, rng)
    times_s[visits // 2 :] += gap_s
    return times_s


def nights(visits: int, step_s: float, rng: Rng) -> np.ndarray:
    """16 hours of visits a day, then 8 hours of nothing."""
    awake_s = poisson(visits, step_s, rng) - T
    return T + awake_s // (16 * HOUR_S) * DAY_S + awake_s % (16 * HOUR_S)


def bursts(visits: int, size: int, every_s: int, rng: Rng) -> np.ndarray:
    """A few visits within a minute, then nothing for long."""
    starts_s = np.repeat(np.arange(visits // size + 1) * every_s, size)[:visits]
    return np.sort(T + starts_s + rng.integers(0, 60, visits))


# ---------------------------------------------------------------- what goes wrong with them
def flipped(stream: Stream, fraction: float, rng: Rng) -> Stream:
    times_s, good = stream.times_s.copy(), stream.honest.copy()
    hit = np.flatnonzero(rng.random(len(times_s)) < fraction)
    bits = np.uint64(1) << rng.integers(0, 64, len(hit)).astype(np.uint64)
    times_s[hit] = (times_s[hit].view(np.uint64) ^ bits).view(np.int64)
    good[hit] = False
    return Stream(f"{stream.name}, {fraction:.1%} flipped", times_s, good)


def wrong(stream: Stream, fraction: float, rng: Rng) -> Stream:
    """Some clocks are wrong by an hour to three days, either way."""
    times_s, good = stream.times_s.copy(), stream.honest.copy()
    hit = np.flatnonzero(rng.random(len(times_s)) < fraction)
    times_s[hit] += rng.integers(HOUR_S, 3 * DAY_S, len(hit)) * rng.choice([-1, 1], len(hit))
    good[hit] = False
    return Stream(f"{stream.name}, {fraction:.1%} wrong", times_s, good)


def bad_run(stream: Stream, start: int, visits: int, offset_s: int) -> Stream:
    """Consecutive visits whose clocks are wrong by the same amount."""
    times_s, good = stream.times_s.copy(), stream.honest.copy()
    times_s[start : start + visits] += offset_s
    good[start : start + visits] = False
    where = "start" if start == 0 else "middle"
    return Stream(f"{stream.name}, {visits} bad at the {where} by {offset_s} s", times_s, good)


# ---------------------------------------------------------------- the whole simulation
RATES = {"1,000/s": 0.001, "1/s": 1, "1/min": MINUTE_S, "1/h": HOUR_S, "1/day": DAY_S, "15/week": 7 * DAY_S / 15}


def clean_streams(visits: int, rng: Rng) -> Iterator[Stream]:
    few = max(visits // 4, 300)
    for name, step_s in RATES.items():
        yield honest(name, poisson(min(visits, int(5 * 365 * DAY_S / step_s) if step_s > 1 else visits), step_s, rng))
    for days in (3, 30):
        for name in ("1/s", "1/min", "1/h"):
            yield honest(f"{name}, a gap of {days} days", with_gap(few, RATES[name], days * DAY_S, rng))
    for name in ("1/s", "1/min", "1/h"):
        yield honest(f"{name} by day", nights(few, RATES[name], rng))
    for size, every_s in ((5, DAY_S // 2), (3, 6 * HOUR_S), (12, 7 * DAY_S), (19, DAY_S), (50, DAY_S)):
        yield honest(f"bursts of {size} every {every_s // HOUR_S} h", bursts(max(few, 4_000), size, every_s, rng))
    for number in (3, 5, 8, 11, 15, 19):
        for name in ("1/min", "1/h", "1/day"):
            yield honest(f"{number} visits in all, {name}", poisson(number, RATES[name], rng))
    yield honest("three years, 1/h", poisson(min(3 * 365 * 24, 4 * visits), HOUR_S, rng))
    yield honest("three years, 1/week", poisson(3 * 52, 7 * DAY_S, rng))


def orders(visits: int, rng: Rng) -> Iterator[Stream]:
    """Honest visits that arrive in an order of their own."""
    live, old = poisson(visits, 1, rng), poisson(visits, 1, rng) - 30 * DAY_S
    mixed = np.where(rng.random(visits) < 0.5, live, old)
    yield honest("live mixed with a backfill of 30 days ago", mixed)
    for name, step_s in (("1/s", 1), ("1/min", MINUTE_S), ("1/h", HOUR_S)):
        files = np.array_split(poisson(visits, step_s, rng), 6)
        yield honest(f"{name}, files in any order", np.concatenate([files[index] for index in rng.permutation(6)]))
        yield honest(f"{name}, files newest first", np.concatenate(files[::-1]))
        yield honest(f"{name}, visits newest first", poisson(visits, step_s, rng)[::-1])
    two_years = T + rng.integers(0, 2 * 365 * DAY_S, visits)
    yield honest("two years, shuffled", two_years)
    by_uid = np.lexsort((two_years, rng.integers(0, visits // 20 + 1, visits)))
    yield honest("two years, sorted by uid", two_years[by_uid])
    habits = T + rng.integers(0, 700, visits // 20 + 1)[:, None] * DAY_S + rng.integers(0, 7 * DAY_S, (1, 20))
    yield honest("visitors of a week, sorted by uid", np.sort(habits, axis=1).ravel()[:visits])


def troubled(visits: int, rng: Rng) -> Iterator[Stream]:
    """Tampered with: flips at every rate, wrong clocks, bad starts and middles."""
    for fraction in (0.001, 0.01):
        for stream in clean_streams(visits, rng):
            yield flipped(stream, fraction, rng)
        for stream in orders(visits, rng):
            yield flipped(stream, fraction, rng)
    for fraction in (0.015, 0.05, 0.15, 0.4):
        for name in ("1,000/s", "1/s", "1/min", "1/h"):
            yield wrong(honest(name, poisson(visits, RATES[name], rng)), fraction, rng)
    for offset_s in (3 * DAY_S, -3 * DAY_S, 30 * DAY_S, -365 * DAY_S, 2 * HOUR_S):
        for name in ("1/s", "1/min", "1/h", "1/day"):
            base = honest(name, poisson(max(visits // 4, 1_500), RATES[name], rng))
            for bad in (1, 10, 19, 20, 25):
                yield bad_run(base, 0, bad, offset_s)
            for bad in (19, 20, 50, 60, 200):
                yield bad_run(base, len(base.times_s) // 2, bad, offset_s)


KINDS: dict[str, Callable[[int, Rng], Iterator[Stream]]] = {"clean": clean_streams, "orders": orders, "tr": troubled}
