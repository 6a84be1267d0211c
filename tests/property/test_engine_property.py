"""The engine against Python sets: any visits, zone, order, commit size, with reopening in between."""

import random
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

import uniqdb
from engines import assert_sound, options, rows_of
from model import Model

ZONES = st.sampled_from(
    ["UTC", "Europe/Zurich", "Asia/Kolkata", "Australia/Lord_Howe", "Asia/Beirut", "Pacific/Apia", "America/St_Johns"]
)
# Instants around which calendars are odd, beside a plain day and the edges of what is plausible.
AROUND = st.sampled_from(
    [
        946_684_800,  # 2000-01-01
        1_204_000_000,  # February 2008
        1_225_593_000,  # St John's falls back at 00:01, 2008-11-02
        1_325_239_200,  # Apia skips 2011-12-30
        1_445_700_600,  # Lord Howe and Zurich leave summer time, October 2015
        1_451_606_400,  # 2016 begins in week 53 of 2015
        1_468_244_340,
        1_616_882_400,  # Zurich enters summer time, Beirut's day begins at 01:00
        253_370_000_000,  # the last days of 9998
    ]
)
TIMES = st.builds(lambda at, off: max(at + off, 946_684_800), AROUND, st.integers(-200_000, 200_000))
UIDS = st.one_of(
    st.integers(0, 60).map(lambda number: f"user-{number}"),
    st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable() or "\0" in text),
    st.integers(0, 2).map(lambda number: "é" * (510 + number)),
)
VISITS = st.lists(st.tuples(TIMES, UIDS), max_size=60)


@given(ZONES, st.lists(VISITS, min_size=1, max_size=3), st.sampled_from([1, 7, 50]), st.booleans())
@settings(max_examples=25)
def test_any_visits_equal_the_sets(
    zone: str, parts: list[list[tuple[int, str]]], commit_visits: int, one_by_one: bool
) -> None:
    folder = Path(tempfile.mkdtemp())
    model = Model(zone)
    try:
        for part in parts:  # a new handle each time: what was written is all there is
            times, uids = [time_s for time_s, _ in part], [uid for _, uid in part]
            model.add(times, uids)
            with uniqdb.open(folder / "store", timezone=zone, options=options(commit_visits)) as db:
                if one_by_one:
                    assert all(db.add_new_data(time_s, uid) == "accepted" for time_s, uid in part)
                else:
                    db.add_many(times, uids)
                assert rows_of(db) == model.rows()
        assert_sound(folder / "store")
        with uniqdb.open(folder / "store", read_only=True) as db:
            assert rows_of(db) == model.rows()
            _assert_sets(db, model)
    finally:
        shutil.rmtree(folder)


def _assert_sets(db: uniqdb.Engine, model: Model) -> None:
    everyone = set().union(*model.members.values())
    asked = [*sorted(everyone)[:20], "nobody", "user-99"]
    assert db.check_many(asked) == [uid in everyone for uid in asked]
    for (kind, start_s), members in list(model.members.items())[::7]:
        assert set(db.members(kind, start_s)) == members
        assert db.count_between(start_s, start_s + 86_400).count == len(model.union(start_s, start_s + 86_400))


@given(st.integers(0, 2**32), st.sampled_from([1, 7, 50, 400, 5_000]), st.sampled_from([5, 50, 999]))
@settings(max_examples=8)
def test_windows_and_membership_equal_the_sets(seed: int, uids: int, commit_visits: int) -> None:
    rng = random.Random(seed)
    folder = Path(tempfile.mkdtemp())
    model = Model("Europe/Zurich")
    times = [1_459_000_000 + rng.randrange(40 * 86_400) for _ in range(600)]
    names = [f"u{rng.randrange(uids)}" for _ in times]
    model.add(times, names)
    try:
        with uniqdb.open(folder / "store", timezone="Europe/Zurich", options=options(commit_visits)) as db:
            db.add_many(times, names)
            newest = model.day_of(max(times))
            for days in (1, 2, 7, 30, 365):
                record = db.count(f"{days}d")
                assert record.as_of == newest.isoformat()
                inside = model.union(record.start_ts, record.end_ts)
                assert record.count == len(inside)
                for uid in {rng.choice(names) for _ in range(10)} | {"nobody"}:
                    assert db.check_if_uid_exists(uid, f"{days}d") == (uid in inside)
            with db.snapshot() as snapshot:
                week, month = snapshot.window("7d"), snapshot.window("30d")
                assert set(month - week) == set(month) - set(week)
                assert (month & week).count == len(set(month) & set(week))
                assert set(month | week) == set(month) | set(week)
        assert_sound(folder / "store")
    finally:
        shutil.rmtree(folder)
