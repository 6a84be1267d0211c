"""New and returning visitors, overlaps, cohorts and stickiness against plain Python sets, in zones with odd days."""

import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

import uniqdb
from asked_sets import days_back, periods, sticky, told_apart, triangle
from engines import assert_sound, options
from model import Model
from swept import set_clock
from uniqdb import OpenOptions, WindowNotKept
from uniqdb.options import Retention
from uniqdb.sweeping import sweep

# A zone, and a date around which its calendar is odd.
PLACES = st.sampled_from(
    [
        ("UTC", date(2016, 2, 29)),
        ("Europe/Zurich", date(2016, 3, 27)),  # 23 hours
        ("Europe/Zurich", date(2016, 10, 30)),  # 25 hours
        ("America/Sao_Paulo", date(2018, 11, 4)),  # it begins at 01:00
        ("America/Sao_Paulo", date(2019, 2, 16)),  # 25 hours, and its last one comes twice
        ("Australia/Lord_Howe", date(2015, 10, 4)),  # half an hour less
        ("Pacific/Apia", date(2011, 12, 30)),  # it is not there
        ("Asia/Kolkata", date(2016, 12, 31)),
    ]
)
STORES = st.tuples(PLACES, st.integers(0, 2**32), st.sampled_from([1, 5, 60]))
"""Where and when, a seed, and how many visitors there may be."""
Made = tuple[tuple[str, date], int, int]
DAY_S = 86_400
SPAN_DAYS = 75
"""Visits lie within so many days before and after the odd date, and in few of them."""


@contextmanager
def store_of(made: Made, swept: OpenOptions | None = None) -> Iterator[tuple[uniqdb.Snapshot, Model]]:
    """A store of visits that are many on some days and none on most, perhaps swept, and the sets of them."""
    (zone, odd), seed, users = made
    rng, model, folder = random.Random(seed), Model(zone), Path(tempfile.mkdtemp())
    odd_s = model.midnight(odd)
    days = [0, *(rng.randrange(-SPAN_DAYS, SPAN_DAYS) for _ in range(rng.randrange(1, 25)))]
    times = [odd_s + rng.choice(days) * DAY_S + rng.randrange(DAY_S) for _ in range(rng.choice([1, 40, 300]))]
    uids = [f"u{rng.randrange(users)}" for _ in times]
    model.add(times, uids)
    try:
        with uniqdb.open(folder / "store", timezone=zone, options=swept or options(rng.choice([7, 50_000]))) as db:
            db.add_many(times, uids)
            db.commit()
            if swept is not None:
                set_clock(db, max(times))
                sweep(db, max(times), forced=True)
            with db.snapshot() as snapshot:
                yield snapshot, model
        assert_sound(folder / "store")
    finally:
        shutil.rmtree(folder)


def newest_of(model: Model) -> date:
    return model.day_of(max(at for kind, at in model.members if kind == "minute"))


@given(STORES, st.integers(1, 90), st.integers(1, 200), st.integers(-80, 10))
@settings(max_examples=15)
def test_new_and_returning_are_differences(made: Made, days: int, before: int, off: int) -> None:
    with store_of(made) as (snapshot, model):
        as_of = newest_of(model) + timedelta(off)
        if model.midnight(as_of) == model.midnight(as_of + timedelta(1)):
            return  # no window ends with a date that is not there
        found = snapshot.new_and_returning(f"{days}d", before=f"{before}d", as_of=as_of)
        edges_s = model.midnight(as_of - timedelta(days - 1)), model.midnight(as_of + timedelta(1))
        since_s = days_back(model, edges_s[0], before)
        new, returning = told_apart(model, edges_s, since_s)
        assert (found.start_ts, found.end_ts, found.since_ts) == (*edges_s, since_s)
        assert (found.new, found.returning, found.count) == (len(new), len(returning), len(new | returning))
        assert set(snapshot.new_visitors(f"{days}d", before=f"{before}d", as_of=as_of)) == new
        assert set(snapshot.returning_visitors(f"{days}d", before=f"{before}d", as_of=as_of)) == returning
        ever = snapshot.new_and_returning(f"{days}d", before=None, as_of=as_of)
        assert ever.new == len(told_apart(model, edges_s, 0)[0])
        assert ever.new <= found.new


@given(STORES, st.integers(1, 3_000), st.integers(1, 100_000), st.integers(1, 40))
@settings(max_examples=10)
def test_any_interval_is_told_apart(made: Made, from_hours: int, minutes: int, before: int) -> None:
    with store_of(made) as (snapshot, model):
        start_s = model.midnight(made[0][1] - timedelta(SPAN_DAYS)) + from_hours * 3_600 + 60 * (minutes % 60)
        edges_s = start_s, start_s + 60 * minutes
        new, returning = told_apart(model, edges_s, days_back(model, start_s, before))
        found = snapshot.new_and_returning(edges_s, before=f"{before}d")
        assert (found.new, found.returning) == (len(new), len(returning))
        minutely = snapshot.new_and_returning(edges_s, before=f"{before}m")
        assert minutely.new == len(told_apart(model, edges_s, start_s - 60 * before)[0])
        other_s = start_s - 3_600 * before, start_s + 3_600 * before
        both = snapshot.overlap(edges_s, other_s)
        one, other = model.union(*edges_s), model.union(*other_s)
        assert (both.count, both.other_count) == (len(one), len(other))
        assert (both.both, both.either) == (len(one & other), len(one | other))
        assert (snapshot.between(*edges_s) ^ snapshot.between(*other_s)).count == len(one ^ other)
        assert snapshot.between(*edges_s).isdisjoint(snapshot.between(*other_s)) == one.isdisjoint(other)
        assert (snapshot.between(*edges_s) <= snapshot.between(*other_s)) == (one <= other)


@given(STORES, st.sampled_from(["day", "week", "month"]), st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=15)
def test_cohorts_are_the_triangle_of_the_sets(made: Made, by: str, before: int, after: int) -> None:
    with store_of(made) as (snapshot, model):
        first, last = made[0][1] - timedelta(before), made[0][1] + timedelta(after)
        if model.midnight(first) == model.midnight(last + timedelta(1)):
            return
        found = snapshot.cohorts(by, first, last)
        newest = newest_of(model)
        begun = [one for one in periods(model, by, first, last) if model.day_of(one[0]) <= newest]
        assert [(one.start_ts, one.end_ts) for one in found.periods] == begun
        assert [one.count for one in found.periods] == [len(model.union(*one)) for one in begun]
        assert [one.returned for one in found.periods] == triangle(model, begun)
        assert [one.new for one in found.periods] == [one.returned[0] for one in found.periods]
        everybody = len(model.union(0, found.end_ts)) - len(model.union(0, found.start_ts))
        assert sum(one.new for one in found.periods) == everybody, "each visitor is in one cohort"


@given(STORES, st.integers(0, 40))
@settings(max_examples=10)
def test_stickiness_is_of_the_sets(made: Made, before: int) -> None:
    with store_of(made) as (snapshot, model):
        last = newest_of(model)
        found = snapshot.stickiness(last - timedelta(before), last)
        dates = [model.day_of(one[0]) for one in periods(model, "day", last - timedelta(before), last)]
        expected = [sticky(model, day) for day in dates]
        assert [(one.dau, one.wau, one.mau) for one in found.days] == expected
        parts = [dau / mau for dau, _, mau in expected if mau]
        assert [one.dau_mau for one in found.days if one.mau] == [round(part, 6) for part in parts]
        assert found.dau_mau == round(sum(parts) / len(parts), 6)


@given(
    STORES, st.sampled_from([Retention(1, 2, 5, 9, 16, 30, 45), Retention(1, 1, 9, 30, 60, 0, 0)]), st.integers(0, 50)
)
@settings(max_examples=15)
def test_what_was_swept_is_refused_and_never_guessed(made: Made, retention: Retention, days: int) -> None:
    """After a sweep an answer is that of the sets, from ``since_ts`` on, or there is none."""
    with store_of(made, replace(options(), retention=retention)) as (snapshot, model):
        newest, answered = newest_of(model), 0
        for before in (3, 20, 400):
            with suppress(WindowNotKept):
                found = snapshot.new_and_returning("2d", before=f"{before}d")
                edges_s = found.start_ts, found.end_ts
                assert found.new == len(told_apart(model, edges_s, found.since_ts)[0])
                answered += 1
        for by in ("day", "week", "month"):
            with suppress(WindowNotKept):
                cohorts = snapshot.cohorts(by, newest - timedelta(days), newest)
                asked = [(one.start_ts, one.end_ts) for one in cohorts.periods]
                since_s = cohorts.since_ts // 60 * 60  # it may be the very second of the first visit
                assert [one.returned for one in cohorts.periods] == triangle(model, asked, since_s)
                answered += 1
        with suppress(WindowNotKept):
            for one in snapshot.stickiness(newest - timedelta(days), newest).days:
                assert (one.dau, one.wau, one.mau) == sticky(model, model.day_of(one.start_ts))
        assert answered, "the newest are always kept"
