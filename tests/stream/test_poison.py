"""One flipped bit, or many, in a long stream: every other visit is in its bucket, and nothing closes too early."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import uniqdb
from event_time_streams import DAY_S, Stream, honest, poisson
from model import GRANULARITIES
from uniqdb.plausibility import SourceJudge
from uniqdb.quarantine import read_quarantine

LATENESS_S = 5
ONE_BY_ONE = 299
"""Batches so small are judged visit by visit, with exact clocks."""


class Early(NamedTuple):
    """Minutes that close earlier than in the clean stream when ``bad`` visits have a flipped bit."""

    bad: int
    where: str
    bit: int
    minutes: int
    visits_early: int


def three_days(visits: int) -> Stream:
    return honest("three days", poisson(visits, 3 * DAY_S / visits, np.random.default_rng(7)))


def flip(stream: Stream, start: int, visits: int, bit: int) -> Stream:
    times_s, good = stream.times_s.copy(), stream.honest.copy()
    part = slice(start, start + visits)
    times_s[part] = (times_s[part].view(np.uint64) ^ np.uint64(1 << bit)).view(np.int64)
    good[part] = False
    return Stream(f"bit {bit} of {visits} at {start}", times_s, good)


def starts_s(kind: str, times_s: np.ndarray) -> np.ndarray:
    """Where the buckets of these times start, in UTC."""
    if kind in ("minute", "hour", "day"):
        step_s = {"minute": 60, "hour": 3_600, "day": DAY_S}[kind]
        return times_s // step_s * step_s
    if kind == "week":  # 1970-01-01 was a Thursday
        return (times_s + 3 * DAY_S) // (7 * DAY_S) * (7 * DAY_S) - 3 * DAY_S
    unit = "M" if kind == "month" else "Y"
    return times_s.astype("datetime64[s]").astype(f"datetime64[{unit}]").astype("datetime64[s]").astype(np.int64)


def assert_others_are_in_place(path: Path, stream: Stream) -> int:
    """Ingest with a visitor of its own for each visit; returns how many of the flipped visits were refused."""
    chunk = 50_000
    with uniqdb.open(path, options=uniqdb.OpenOptions(wall_clock=lambda: stream.reference_s)) as db:
        for first in range(0, len(stream.times_s), chunk):
            part = stream.times_s[first : first + chunk]
            db.add_many(part, [str(first + number) for number in range(len(part))], source="web")
            db.commit()
    with uniqdb.open(path, read_only=True) as db, db.snapshot() as snapshot:
        refused = np.zeros(len(stream.times_s), bool)
        for _, row in read_quarantine(snapshot.answers.view):
            number = row.uid if row.uid is not None else row.record.split(b"\t")[1].strip(b"'").decode()
            refused[int(number)] = True
        assert not (refused & stream.honest).any(), stream.name
        for kind in GRANULARITIES:
            found = {one.start_ts: (one.count, one.visits) for one in snapshot.series(kind)}
            starts, counts = np.unique(starts_s(kind, stream.times_s[~refused]), return_counts=True)
            truth = {at: (n, n) for at, n in zip(starts.tolist(), counts.tolist(), strict=True)}
            assert found == truth, (stream.name, kind)
    return int(refused.sum())


def closed_at(stream: Stream, ends_s: np.ndarray) -> np.ndarray:
    """The number of the visit with which each of the minutes closes."""
    judge, clocks = SourceJudge(), []
    for first in range(0, len(stream.times_s), ONE_BY_ONE):
        judged = judge.step(stream.times_s[first : first + ONE_BY_ONE], stream.reference_s)
        clocks.append(judged.clock_before_s)
    after_s = np.append(np.concatenate(clocks)[1:], -(2**62) if judge.clock_s is None else judge.clock_s)
    return np.searchsorted(np.maximum.accumulate(after_s), ends_s + LATENESS_S)


def earlier(ends_s: np.ndarray, clean: np.ndarray, stream: Stream) -> tuple[int, int]:
    """(how many minutes close earlier than in the clean stream, by how many visits at most)."""
    sooner = clean - closed_at(stream, ends_s)
    return int((sooner > 0).sum()), int(sooner.max(initial=0))


def places(visits: int, together: int) -> dict[str, int]:
    return {"start": 0, "middle": visits // 2, "end": visits - together}


def poison(tmp_path: Path, visits: int, bits: list[int], together: tuple[int, ...]) -> list[Early]:
    """Every combination; returns those in which something closed earlier, with how many minutes and visits."""
    clean, refused = three_days(visits), Counter[int]()
    ends_s = np.unique(clean.times_s // 60 * 60 + 60)
    closed = closed_at(clean, ends_s)
    found: list[Early] = []
    runs = 0
    for bad in together:
        for where, start in places(visits, bad).items():
            for bit in bits:
                stream = flip(clean, start, bad, bit)
                refused[bad] += assert_others_are_in_place(tmp_path / f"{runs}.uniqdb", stream)
                minutes, visits_early = earlier(ends_s, closed, stream)
                if minutes:
                    found.append(Early(bad, where, bit, minutes, visits_early))
                runs += 1
    print(f"{runs} runs, flipped visits refused: {dict(refused)}; closed earlier: {found}", flush=True)
    return found


def assert_only_as_documented(found: list[Early]) -> None:
    """A flipped time that time itself has nearly reached looks honest: the 20th largest is the 19th of the honest ones.

    So one flip closes a minute one visit earlier, at most. Twenty that agree, or more than half of the last hundred
    visits, are believed.
    """
    for one in found:
        assert one.visits_early == 1 or one.bad >= 20, found
        assert one.bit < 20 or one.bad > 50, found


def test_flipped_bits_put_no_other_visit_out_of_place(tmp_path: Path) -> None:
    assert_only_as_documented(poison(tmp_path, 4_000, [3, 9, 13, 17, 31, 63], (1, 20, 200)))


@pytest.mark.soak
@pytest.mark.parametrize("bit", range(64))
def test_every_bit_of_one_visit(tmp_path: Path, bit: int) -> None:
    assert_only_as_documented(poison(tmp_path, 200_000, [bit], (1,)))


@pytest.mark.soak
@pytest.mark.parametrize("bit", [0, 5, 9, 10, 13, 16, 17, 20, 24, 31, 63])
def test_many_together(tmp_path: Path, bit: int) -> None:
    assert_only_as_documented(poison(tmp_path, 200_000, [bit], (20, 25, 200)))
