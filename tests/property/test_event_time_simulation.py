"""Streams of every kind: no honest visit is lost, and neither batches nor restarts change a verdict or a clock."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest

from event_time_streams import DAY_S, KINDS, Rng, Stream, T, bad_run, honest, poisson
from uniqdb.plausibility import ACCEPTED, HELD, VERDICTS, JudgeState, SourceJudge

LOST_FRACTION_MAX = 1e-5


@dataclass
class Outcome:
    """Final verdicts, the clocks where they are exact (batches of one visit: everywhere), and how it ended."""

    verdicts: np.ndarray
    clocks_s: np.ndarray
    releases: list[tuple[int, int, int]]
    clock_s: int | None


def outcome(stream: Stream, batch: int = 50_000, restart: Callable[[int], bool] = lambda _: False) -> Outcome:
    judge, verdicts, clocks_s, releases = SourceJudge(), [], [], []
    places: dict[int, int] = {}
    for start in range(0, len(stream.times_s), batch):
        judged = judge.step(stream.times_s[start : start + batch], stream.reference_s)
        held = np.flatnonzero(judged.verdicts == HELD) + start
        places.update(zip(judged.tickets.tolist(), held.tolist(), strict=True))
        verdicts.append(judged.verdicts)
        clocks_s.append(judged.clock_before_s)
        releases += [(one.ticket, one.verdict, one.visit_index + start) for one in judged.releases]
        if restart(start):
            judge = SourceJudge(state=msgspec.msgpack.decode(msgspec.msgpack.encode(judge.state()), type=JudgeState))
    releases += [(one.ticket, one.verdict, -1) for one in judge.end().releases]
    final = np.concatenate(verdicts)
    for ticket, verdict, _ in releases:
        final[places.pop(ticket)] = verdict
    assert not places
    return Outcome(final, np.concatenate(clocks_s), releases, judge.clock_s)


def streams(kind: str, visits: int, seed: int) -> list[Stream]:
    return list(KINDS[kind](visits, np.random.default_rng(seed)))


def assert_none_lost(kind: str, visits: int, seed: int) -> dict[str, int]:
    """The figures of a run, after the lost visits were named, if there are any."""
    seen = {"streams": 0, "honest": 0, "lost": 0, "bad": 0, "caught": 0, "flips": 0, "flips_caught": 0}
    names = []
    for stream in streams(kind, visits, seed):
        verdicts = outcome(stream).verdicts
        lost = stream.honest & (verdicts != ACCEPTED)
        caught = int((~stream.honest & (verdicts != ACCEPTED)).sum())
        seen["streams"] += 1
        seen["honest"] += int(stream.honest.sum())
        seen["lost"] += int(lost.sum())
        seen["bad"] += int((~stream.honest).sum())
        seen["caught"] += caught
        if stream.name.endswith("flipped"):
            seen["flips"] += int((~stream.honest).sum())
            seen["flips_caught"] += caught
        if lost.any():
            at = np.flatnonzero(lost)
            reasons = sorted({VERDICTS[code].value for code in verdicts[lost]})
            names.append(f"{stream.name}: {len(at)} of {stream.honest.sum()} as {reasons}, the first at {at[:5]}")
    print(kind, seen)
    assert seen["lost"] <= LOST_FRACTION_MAX * seen["honest"], names
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_no_honest_visit_is_lost(kind: str) -> None:
    assert_none_lost(kind, 2_000, 1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_no_honest_visit_is_lost_at_full_size(kind: str, seed: int) -> None:
    assert_none_lost(kind, 100_000, seed)


def assert_batches_agree(stream: Stream) -> None:
    exact = outcome(stream, 1)
    for batch, restarts in ((50, 7), (5_000, 1), (50_000, 0), (777, 2)):
        other = outcome(stream, batch, lambda start, batch=batch, every=restarts: every and start // batch % every == 0)
        assert np.array_equal(other.verdicts, exact.verdicts), (stream.name, batch)
        assert (other.releases, other.clock_s) == (exact.releases, exact.clock_s), (stream.name, batch)
        minute_end_s = (stream.times_s // 60 + 1) * 60 + 5
        believable = exact.verdicts != VERDICTS.index("implausible")
        differs = believable & (other.clocks_s != exact.clocks_s)
        assert (other.clocks_s[differs] < exact.clocks_s[differs]).all(), (stream.name, batch)
        assert (exact.clocks_s[differs] < minute_end_s[differs]).all(), (stream.name, batch)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_and_restarts_change_nothing(kind: str) -> None:
    for stream in streams(kind, 1_600, 2)[:: 12 if kind == "tr" else 3]:
        assert_batches_agree(stream)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_batches_and_restarts_change_nothing_at_full_size(kind: str) -> None:
    for stream in streams(kind, 20_000, 3):
        assert_batches_agree(stream)


# ---------------------------------------------------------------- poison
def three_days(visits: int) -> Stream:
    rng: Rng = np.random.default_rng(7)
    return honest("three days", poisson(visits, 3 * DAY_S / visits, rng))


def with_flip(stream: Stream, at: int, bit: int) -> Stream:
    times_s, good = stream.times_s.copy(), stream.honest.copy()
    times_s[at] = (times_s[at : at + 1].view(np.uint64) ^ np.uint64(1 << bit)).view(np.int64)[0]
    good[at] = False
    return Stream(f"bit {bit} at {at}", times_s, good)


def assert_harmless(stream: Stream) -> None:
    """Every other visit counts, and no clock is ahead of all honest visits so far: nothing closes too early."""
    found = outcome(stream, 299)
    lost = stream.honest & (found.verdicts != ACCEPTED)
    assert not lost.any(), (stream.name, np.flatnonzero(lost)[:5])
    newest_s = np.maximum.accumulate(np.where(stream.honest, stream.times_s, 0))
    assert (found.clocks_s[1:] <= newest_s[:-1]).all(), stream.name


def poison(visits: int, bits: list[int]) -> None:
    clean = three_days(visits)
    for at in (0, 5, visits // 2, visits - 1):
        for bit in bits:
            assert_harmless(with_flip(clean, at, bit))


def test_one_flipped_bit_harms_no_other_visit() -> None:
    poison(6_000, [0, 5, 9, 13, 16, 17, 20, 24, 30, 31, 40, 62, 63])


@pytest.mark.soak
def test_each_flipped_bit_of_a_long_stream_harms_no_other_visit() -> None:
    poison(200_000, list(range(64)))


@pytest.mark.parametrize("bad", [20, 25, 200])
@pytest.mark.parametrize("offset_s", [2 * DAY_S, -2 * DAY_S, -30 * DAY_S])
@pytest.mark.parametrize("where", ["start", "middle", "end"])
def test_many_bad_visits_together_harm_no_other(bad: int, offset_s: int, where: str) -> None:
    clean = three_days(20_000)
    start = {"start": 0, "middle": 10_000, "end": 20_000 - bad}[where]
    stream = bad_run(clean, start, bad, offset_s)
    found = outcome(stream, 299)
    assert (found.verdicts[stream.honest] == ACCEPTED).all()
    if where == "middle" and bad <= 50:
        newest_s = np.maximum.accumulate(np.where(stream.honest, stream.times_s, T))
        assert (found.clocks_s[1:] <= newest_s[:-1]).all()


def test_the_worked_example_of_the_documentation() -> None:
    noon_s = 1_468_195_200 + 13 * 3_600 + 40 * 60
    said_s = [0, -3, 2 + 512, -18_000 + 3, 4 + 3 * DAY_S, 3_605, -30 * DAY_S, *range(7, 27)]
    judge = SourceJudge()
    judge.step(np.arange(noon_s - 3_000, noon_s), noon_s)
    seen = []
    for at, after_s in enumerate(said_s):
        judged = judge.step(np.array([noon_s + after_s]), noon_s + at)
        seen.append((VERDICTS[judged.verdicts[0]].value, int(judged.clock_before_s[0]) - noon_s))
    assert seen[:4] == [("accepted", -20), ("accepted", -19), ("accepted", -18), ("accepted", -17)]
    assert seen[4:7] == [("implausible", -17), ("held", -17), ("held", -17)]
    assert seen[25:] == [("accepted", 0), ("accepted", 7)]
