"""Single rules of the judge of a source, each with the smallest stream that shows it."""

import msgspec
import numpy as np
import pytest
from msgspec import structs

from uniqdb.clock import CLOCK_NOT_STARTED
from uniqdb.dense_stretch import STRETCH_VISITS_MAX, Standing, dense_stretch
from uniqdb.errors import UsageError
from uniqdb.plausibility import ACCEPTED, AHEAD, HELD, IMPLAUSIBLE, TOO_LATE, JudgeState, SourceJudge
from uniqdb.recent_times import EventTimeLimits, sparse_limit_s

T = 1_468_244_340
DAY_S = 86_400
FAR = 2**40


def steady(visits: int, start_s: int = T) -> np.ndarray:
    return np.arange(start_s, start_s + visits)


def test_implausible_visits_are_no_witnesses() -> None:
    times_s = np.array([946_684_799, 946_684_800, T + DAY_S, T + DAY_S + 1, -(2**63), 2**63 - 1])
    judge = SourceJudge()
    judged = judge.step(times_s, T)
    assert judged.verdicts.tolist() == [IMPLAUSIBLE, HELD, HELD, IMPLAUSIBLE, IMPLAUSIBLE, IMPLAUSIBLE]
    assert judged.tickets.tolist() == [1, 2]
    assert judge.state().visit_number == 2


def test_each_visit_has_its_own_reference() -> None:
    times_s = np.array([T + DAY_S + 1, T + DAY_S + 1])
    assert SourceJudge().step(times_s, np.array([T, T + 1])).verdicts.tolist() == [IMPLAUSIBLE, HELD]


def test_the_clock_starts_with_the_twentieth_visit() -> None:
    judge = SourceJudge()
    first = judge.step(steady(19), FAR)
    assert (first.clock_s, set(first.verdicts)) == (None, {HELD})
    second = judge.step(steady(2, T + 19), FAR)
    assert [one.ticket for one in second.releases] == list(range(1, 20))
    assert {(one.verdict, one.visit_index, one.clock_before_s) for one in second.releases} == {
        (ACCEPTED, 0, CLOCK_NOT_STARTED)
    }
    assert second.clock_before_s.tolist() == [CLOCK_NOT_STARTED, T]
    assert second.clock_s == T + 1


def test_a_held_visit_waits_for_a_thousand_others() -> None:
    judge = SourceJudge()
    judge.step(steady(500), FAR)
    assert judge.step(np.array([T + 10 * DAY_S]), FAR).tickets.tolist() == [501]
    assert judge.step(np.array([T - 10 * DAY_S]), FAR).tickets.tolist() == [502]
    judged = judge.step(steady(1_100, T + 500), FAR)
    assert [one[:4] for one in judged.releases] == [
        (501, T + 10 * DAY_S, AHEAD, 998),
        (502, T - 10 * DAY_S, TOO_LATE, 999),
    ]
    assert (judged.verdicts == ACCEPTED).all()


def test_a_jump_back_is_told() -> None:
    judge = SourceJudge()
    judge.step(steady(200), FAR)
    judged = judge.step(steady(100, T - 30 * DAY_S), FAR)
    assert [(one.visit_index, one.to_s) for one in judged.jumps_back] == [(50, T - 30 * DAY_S + 25)]
    assert judged.clock_s_min == T - 30 * DAY_S + 25
    assert judged.clock_s == T - 30 * DAY_S + 80


def test_the_end_moves_the_clock_only_without_following() -> None:
    judge = SourceJudge()
    judge.step(steady(200), FAR)
    judge.step(np.array([T + 10**6, T + 2 * 10**6, T + 10**6 + 600]), FAR)
    state = judge.state()
    followed = judge.end(follow=True)
    assert followed.clock_s == T + 180
    assert [(one.ticket, one.verdict) for one in followed.releases] == [(201, ACCEPTED), (202, AHEAD), (203, ACCEPTED)]
    assert SourceJudge(state=state).end().clock_s == T + 199


def test_nothing_at_all() -> None:
    judge = SourceJudge()
    judged = judge.step(np.empty(0, np.int64), FAR)
    assert (len(judged.verdicts), judged.clock_s, judged.clock_s_min) == (0, None, None)
    assert judge.end().releases == []
    assert judge.state() == JudgeState(b"", 0, None, 600, DAY_S, ())


def test_the_state_is_small() -> None:
    judge = SourceJudge()
    judge.step(steady(5_000), FAR)
    assert len(msgspec.msgpack.encode(judge.state())) < 8_100


def test_dense_visits_take_the_fast_path() -> None:
    recent_s, times_s = steady(1_000), steady(50_000, T + 1_000)
    standing = Standing(EventTimeLimits(), EventTimeLimits(), T + 980, 1_000, [], None)
    stretch = dense_stretch(recent_s, times_s, standing, 5)
    assert stretch is not None
    visits = len(stretch.clock_before_s)
    assert visits == STRETCH_VISITS_MAX, "the last block of fewer than 100, too"
    assert stretch.clock_s == T + 1_000 + visits - 20
    held = structs.replace(standing, held_s=[T + 5_000], first_expiry=1_900)
    shorter = dense_stretch(recent_s, times_s, held, 5)
    assert shorter is not None
    assert len(shorter.clock_before_s) == 899, "up to the visit before the one with which a held one expires"


def test_limits_of_sparse_sources() -> None:
    assert sparse_limit_s([T]) == 0
    assert sparse_limit_s([0, 10]) == 800
    assert sparse_limit_s([0, 10, 30]) == 1_600, "of two middle steps the longer"
    bursts = [day * DAY_S + second for day in range(20) for second in range(5)]
    assert sparse_limit_s(bursts[:99]) == 80
    assert sparse_limit_s(bursts) == 4 * (4 * DAY_S - 1)
    assert sparse_limit_s(np.array(range(0, 10_000, 10))) == 800


@pytest.mark.parametrize("limits", [(-1, 0), (0, -1), (2**41, 0)])
def test_wrong_limits(limits: tuple[int, int]) -> None:
    with pytest.raises(UsageError):
        EventTimeLimits(*limits)
