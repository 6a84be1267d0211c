"""The judge of a source against the literal oracle, on random streams, in any batches, with restarts in between."""

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from event_time_oracle import Oracle
from uniqdb.clock import CLOCK_NOT_STARTED
from uniqdb.limits import ALLOWED_LATENESS_S
from uniqdb.plausibility import HELD, VERDICTS, Judged, JudgeState, SourceJudge
from uniqdb.recent_times import EventTimeLimits

T = 1_468_244_340
FAR = 2**40


@st.composite
def streams(draw: st.DrawFn) -> list[int]:
    """Pieces of visits at one rate each, with lateness, flips of bits, wrong clocks and steps of time in between."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    pieces, now = [], T
    for _ in range(draw(st.integers(1, 4))):
        size = draw(st.sampled_from([3, 19, 20, 45, 130, 400, 1_100]))
        step_s = draw(st.sampled_from([0, 0.001, 0.1, 1, 7, 9, 60, 3_600, 86_400, -1, -3_600]))
        kind = draw(st.sampled_from(["even", "poisson", "shuffled", "runs"]))
        gaps = np.full(size, step_s) if kind == "even" else rng.exponential(abs(step_s), size) * np.sign(step_s)
        times = now + np.cumsum(gaps).astype(np.int64)
        if kind == "shuffled":
            rng.shuffle(times)
        if kind == "runs":  # runs of equal wrong clocks
            start = int(rng.integers(0, size))
            times[start : start + int(rng.integers(1, 120))] += int(rng.choice([-(10**6), -90_000, 500, 5_000, 10**6]))
        late = rng.random(size) < draw(st.sampled_from([0, 0.3]))
        times[late] -= rng.integers(1, draw(st.sampled_from([3, 10, 700, 100_000])), int(late.sum()))
        flipped = np.flatnonzero(rng.random(size) < draw(st.sampled_from([0, 0.01, 0.3])))
        times[flipped] ^= np.int64(1) << rng.integers(0, draw(st.sampled_from([20, 31, 63])), len(flipped))
        pieces.append(times)
        now = int(now + gaps.sum()) + draw(st.sampled_from([0, 0, 300, 700, 90_000, -90_000, 2_592_000, -2_592_000]))
    return [int(t) for piece in pieces for t in piece]


def compare(times: list[int], batch: int, limits: EventTimeLimits, *, restart: bool) -> None:
    oracle = Oracle(limits.ahead_limit_s, limits.late_limit_s)
    for time in times:
        oracle.visit(time, FAR)
    judge = SourceJudge(limits)
    verdicts: list[str] = []
    places: dict[int, int] = {}
    releases = []
    array = np.array(times, np.int64)
    for start in range(0, len(times), batch):
        part = array[start : start + batch]
        judged = judge.step(part, FAR if start % 2 else np.full(len(part), FAR))
        held = np.flatnonzero(judged.verdicts == HELD)
        places.update(zip(judged.tickets.tolist(), (held + start).tolist(), strict=True))
        verdicts += [VERDICTS[code].value for code in judged.verdicts]
        releases += [(one.ticket, VERDICTS[one.verdict].value, one.visit_index + start) for one in judged.releases]
        compare_clocks(judged, part, oracle.clocks[start : start + batch])
        if restart:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(judge.state()), type=JudgeState)
            judge = SourceJudge(limits, state)
    assert releases == oracle.releases
    assert (judge.limits.ahead_limit_s, judge.limits.late_limit_s) == (oracle.ahead, oracle.late)
    assert {ticket: times[places[ticket]] for ticket in oracle.held} == dict(judge.state().held)
    oracle.end()
    ended = judge.end()
    releases += [(one.ticket, VERDICTS[one.verdict].value, -1) for one in ended.releases]
    for ticket, verdict, _ in releases:
        verdicts[places.pop(ticket)] = verdict
    assert not places
    assert releases == oracle.releases
    assert verdicts == oracle.verdicts
    assert ended.clock_s == oracle.clock


def compare_clocks(judged: Judged, times: np.ndarray, expected: list[tuple[int | None, int | None]]) -> None:
    lowest = None
    for index, (time, (before, after)) in enumerate(zip(times.tolist(), expected, strict=True)):
        said = int(judged.clock_before_s[index])
        clock = CLOCK_NOT_STARTED if before is None else before
        if VERDICTS[judged.verdicts[index]] != "implausible" and said != clock:
            assert said < clock < (time // 60 + 1) * 60 + ALLOWED_LATENESS_S
        if before is not None and after is not None and after < before:
            assert [(j.from_s, j.to_s) for j in judged.jumps_back if j.visit_index == index] == [(before, after)]
            lowest = after if lowest is None else min(lowest, after)
    assert judged.clock_s == expected[-1][1]
    assert judged.clock_s_min == lowest
    for release in judged.releases:
        before = expected[release.visit_index][0]
        assert release.clock_before_s == (CLOCK_NOT_STARTED if before is None else before)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    times=streams(),
    batch=st.sampled_from([1, 7, 50, 1_000, 10**6]),
    limits=st.sampled_from([EventTimeLimits(), EventTimeLimits(60, 600), EventTimeLimits(0, 0)]),
    restart=st.booleans(),
)
def test_judge_is_the_oracle(times: list[int], batch: int, limits: EventTimeLimits, restart: bool) -> None:
    compare(times, batch, limits, restart=restart and batch > 1)


def dense_stream(seed: int) -> list[int]:
    """What the fast path is for, with the things that it must notice: visits a few to be held, late, or ahead."""
    rng = np.random.default_rng(seed)
    rate = rng.choice([100, 10, 1, 0.3])
    times = T + (np.arange(6_000) / rate).astype(np.int64)
    late = rng.random(len(times)) < rng.choice([0, 0.3])
    times[late] -= rng.integers(1, rng.choice([5, 100]), int(late.sum()))
    for _ in range(rng.choice([0, 1, 6])):
        at = int(rng.integers(0, len(times)))
        reach = int(rng.choice([1, 1, 19, 21, 49, 51]))
        times[at : at + reach] += int(rng.choice([-(10**7), -90_000, -3_000, 300, 590, 650, 1_500, 4_000, 10**6]))
    if rng.random() < 0.3:
        times[3_000:] += int(rng.choice([-90_000, 500, 3_600, 10**6]))
    return [int(time) for time in times]


@pytest.mark.parametrize("seed", range(12))
def test_dense_streams(seed: int) -> None:
    batch = [10**6, 2_000, 700, 333][seed % 4]
    compare(dense_stream(seed), batch, EventTimeLimits(), restart=seed % 3 == 0)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(12, 500))
def test_many_dense_streams(seed: int) -> None:
    test_dense_streams(seed)


@pytest.mark.parametrize("visits", [0, 1, 2, 19, 20, 21])
def test_few_visits(visits: int) -> None:
    times = [T + 86_400 * number for number in range(visits)]
    if times:
        compare(times, 7, EventTimeLimits(), restart=True)
    judge = SourceJudge()
    judge.step(np.array(times, np.int64), FAR)
    assert judge.end().clock_s == (times[-1] if times else None)
