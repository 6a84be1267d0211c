"""The clocks of live partitions, topics and stores; the clock that a run of visits carries."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from uniqdb.clock import (
    Arrival,
    PartitionClock,
    arrival_delay_s,
    carried_clock_s,
    closing_clock_s,
    is_idle,
    recent_delays_s,
    store_clock_s,
    topic_clock_s,
)

T = 1_468_244_340


@given(st.lists(st.integers(-5, 60), max_size=3_000), st.integers(-5, 60), st.integers(0, 2**32))
@example([*[30] * 10, *[1] * 60, *[20] * 10], 5, 1)
@example([*[30], *[1] * 60, *[20]], 5, 7)
def test_carried_clock(values: list[int], floor_s: int, seed: int) -> None:
    # Long runs, so that the 1,000 visits matter.
    times_s = np.repeat(np.array(values, np.int64), np.random.default_rng(seed).integers(1, 60, len(values)))[:4_000]
    expected = floor_s
    for end in range(20, len(times_s) + 1):
        window = times_s[max(end - 1_000, 0) : end]
        if np.count_nonzero(window > expected) >= 20:
            expected = int(np.sort(window)[-20])
    assert carried_clock_s(times_s, floor_s) == expected


def test_delays() -> None:
    none = np.empty(0, np.int64)
    times_s = np.arange(T, T + 2_000)
    assert arrival_delay_s(none) == 0
    delays_s = recent_delays_s(none, times_s + 3, times_s)
    assert len(delays_s) == 1_000
    assert arrival_delay_s(delays_s) == 3
    few_s = recent_delays_s(none, times_s[:5] + np.arange(5), times_s[:5])
    assert arrival_delay_s(few_s) == 4
    some_late_s = recent_delays_s(delays_s, times_s[:19] + 100, times_s[:19])
    assert arrival_delay_s(some_late_s) == 3
    assert arrival_delay_s(recent_delays_s(some_late_s, times_s[:1] + 100, times_s[:1])) == 100
    assert arrival_delay_s(recent_delays_s(none, times_s - 7, times_s)) == 0


def test_recent_delays_do_not_depend_on_batches() -> None:
    rng = np.random.default_rng(1)
    times_s, arrivals_s = rng.integers(0, 100, 5_000), rng.integers(100, 200, 5_000)
    whole = recent_delays_s(np.empty(0, np.int64), arrivals_s, times_s)
    for batch in (1, 7, 1_000, 1_001):
        delays_s = np.empty(0, np.int64)
        for start in range(0, 5_000, batch):
            delays_s = recent_delays_s(delays_s, arrivals_s[start : start + batch], times_s[start : start + batch])
        assert np.array_equal(delays_s, whole)


def test_the_last_minute_closes_when_traffic_stops() -> None:
    def at(since_s: int, **changed: int) -> int | None:
        given = {"wall_s": T + since_s, "last_s": T, "largest_s": T, "since_s": since_s, "caught_up": True} | changed
        return closing_clock_s(T - 10, Arrival(**given), 2)

    assert [at(0), at(1), at(60)] == [T - 2, T - 1, T + 58]
    assert at(60, wall_s=T + 5) == T + 3
    assert at(60, caught_up=False) == T - 10
    assert at(60, last_s=T - 30) == T + 28


def test_arrival_limits() -> None:
    arrival = Arrival(wall_s=T, last_s=T, largest_s=T, since_s=0, caught_up=True)
    assert closing_clock_s(None, arrival, 60) == T - 60
    assert closing_clock_s(None, arrival, 61) is None
    assert closing_clock_s(T - 100, arrival, 61) == T - 100
    assert closing_clock_s(T + 500, arrival, 0) == T, "never above the largest arrival and the time since"


def test_idle() -> None:
    assert is_idle(True, 30)
    assert not is_idle(True, 29.9)
    assert not is_idle(False, 10**6)
    assert is_idle(True, 5, idle_timeout_s=5)


def test_topic() -> None:
    one, two = PartitionClock(T), PartitionClock(T + 10)
    assert topic_clock_s([one, two], None) == T
    assert topic_clock_s([PartitionClock(T, idle=True), two], T) == T + 10
    assert topic_clock_s([PartitionClock(T, floor_s=T + 10), two], T + 10) == T + 10
    assert topic_clock_s([PartitionClock(T - 500), two], T) == T - 500, "a jump back takes the topic along"
    assert topic_clock_s([PartitionClock(T, idle=True)], T + 3) == T + 3
    assert topic_clock_s([PartitionClock(None), two], T + 3) == T + 3
    assert topic_clock_s([], None) is None


@pytest.mark.parametrize(
    ("open_s", "ended_s", "expected"),
    [([T, T + 5], [T + 9], T), ([T, None], [T], None), ([], [T, T + 5], T + 5), ([], [], None)],
)
def test_store(open_s: list[int | None], ended_s: list[int], expected: int | None) -> None:
    assert store_clock_s(open_s, ended_s) == expected
