"""Late visits: how late is late enough to amend, what is refused, and how it comes back."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import uniqdb
from engines import options, rows_of
from model import GRANULARITIES, Model
from uniqdb.completeness import Completeness
from uniqdb.quarantine import read_quarantine
from uniqdb.quarantine_review import QuarantineFilter, accept_quarantined, discard_quarantined
from uniqdb.source_clocks import reset_clock
from uniqdb.visit import Verdict

T = 1_468_244_340  # 13:39:00
HOUR_S, DAY_S = 3_600, 86_400


@pytest.fixture
def db(store_path: Path) -> Iterator[uniqdb.Engine]:
    with uniqdb.open(store_path, options=options()) as engine:
        yield engine


def add(db: uniqdb.Engine, times: np.ndarray | list[int], source: str | None = "web", uid: str = "u") -> dict:
    found = db.add_many(list(times), [f"{uid}{number % 50}" for number in range(len(times))], source=source)
    db.commit()
    return found


def record(db: uniqdb.Engine, kind: str, time_s: int) -> uniqdb.CountRecord:
    start_s = Model().start(kind, time_s)
    return next(one for one in db.series(kind, start_s, start_s + 60) if one.start_ts == start_s)


def completeness(db: uniqdb.Engine) -> Completeness:
    with db.snapshot() as snapshot:
        return snapshot.completeness()


@pytest.mark.parametrize("late_s", [1, 2, 3, 4, 5])
def test_up_to_five_seconds_late_never_amends(db: uniqdb.Engine, late_s: int) -> None:
    rng = np.random.default_rng(late_s)
    times = np.repeat(np.arange(T, T + 900), 25)
    times[rng.random(len(times)) < 0.3] -= late_s
    add(db, times)
    statuses = {one.status for kind in GRANULARITIES for one in db.series(kind)}
    assert statuses == {"final", "provisional"}
    assert completeness(db).late == {}


@pytest.mark.parametrize("late_s", [5, 6, 7, 60, HOUR_S, 23 * HOUR_S])
def test_later_amends_the_closed_minute_once(db: uniqdb.Engine, late_s: int) -> None:
    """The visit belongs to the last second of a minute; it comes when the newest visits are ``late_s`` further."""
    last_s = T + 599
    add(db, np.repeat(np.arange(T, last_s + late_s + 1), 25 if late_s < 100 else 1))
    if late_s >= 100:
        add(db, [last_s + late_s] * 25)  # the clock is at the newest visit
    before = record(db, "minute", last_s)
    assert before.status == ("provisional" if late_s == 5 else "final")
    assert add(db, [last_s], uid="late") == {Verdict.ACCEPTED: 1}
    after = record(db, "minute", last_s)
    assert (after.count, after.visits) == (before.count + 1, before.visits + 1)
    assert (after.status, after.revision) == ("provisional" if late_s == 5 else "amended", before.revision + 1)
    closed = [kind for kind in GRANULARITIES if record(db, kind, last_s).status == "amended"]
    assert completeness(db).late == dict.fromkeys(closed, 1)
    assert closed == [*["minute"] * (late_s > 5), *["hour"] * (late_s >= HOUR_S), *["day"] * (late_s > 11 * HOUR_S)]


def test_a_close_is_one_revision_and_nothing_else(db: uniqdb.Engine) -> None:
    add(db, np.repeat(np.arange(T, T + 60), 25))
    open_minute = record(db, "minute", T)
    add(db, np.repeat(np.arange(T + 60, T + 66), 25))
    closed = record(db, "minute", T)
    assert (open_minute.status, closed.status) == ("provisional", "final")
    assert (closed.count, closed.visits, closed.revision) == (open_minute.count, open_minute.visits, 2)
    assert (closed.complete, open_minute.complete) == (True, False)
    add(db, np.repeat(np.arange(T + 66, T + 70), 25))
    assert record(db, "minute", T).revision == 2


def test_an_isolated_visit_beyond_the_limit_is_refused_and_can_be_accepted(db: uniqdb.Engine) -> None:
    old_s = T - 3 * DAY_S
    add(db, np.repeat(np.arange(old_s, old_s + 60), 25))
    add(db, np.repeat(np.arange(T, T + 60), 25))
    before = record(db, "minute", old_s)
    assert before.status == "final"
    lonely_s = old_s - 5 * DAY_S
    assert add(db, [lonely_s], uid="late") == {Verdict.HELD: 1}
    add(db, np.repeat(np.arange(T + 60, T + 99), 25))
    assert completeness(db).held == 1
    add(db, np.repeat(np.arange(T + 99, T + 100), 25))
    assert completeness(db).held == 0
    assert completeness(db).quarantined == {"too_late": 1}
    assert ("minute", lonely_s // 60 * 60) not in rows_of(db)
    review = accept_quarantined(db, QuarantineFilter(reasons=frozenset({"too_late"})))
    assert (review.done, review.left) == (1, {})
    found = record(db, "minute", lonely_s)
    assert (found.count, found.visits, found.status) == (1, 1, "amended")
    again = accept_quarantined(db, QuarantineFilter())
    assert (again.done, again.left, record(db, "minute", lonely_s)) == (0, {}, found)


def test_twenty_that_agree_count(db: uniqdb.Engine) -> None:
    add(db, np.repeat(np.arange(T, T + 60), 25))
    old = np.arange(T - 30 * DAY_S, T - 30 * DAY_S + 20)
    assert add(db, old[:19]) == {Verdict.HELD: 19}
    assert add(db, old[19:]) == {Verdict.ACCEPTED: 1}
    assert record(db, "day", int(old[0])).visits == 20
    assert completeness(db).held == 0


def test_what_cannot_be_counted_stays_in_quarantine(db: uniqdb.Engine) -> None:
    times = [T, "noon", 253_370_764_800 + 10, T + 5, -5]
    uids = ["a", "b", "c", "", "d"]
    assert db.add_many(times, uids) == {Verdict.ACCEPTED: 1, Verdict.INVALID: 2, Verdict.IMPLAUSIBLE: 2}
    review = accept_quarantined(db, QuarantineFilter())
    assert (review.done, review.left) == (0, {"bad_ts": 1, "bad_uid": 1, "implausible": 2})
    named = accept_quarantined(db, QuarantineFilter(reasons=frozenset({"implausible"})))
    assert (named.done, named.left) == (0, {"implausible": 2})  # no bucket holds them
    assert discard_quarantined(db, QuarantineFilter(reasons=frozenset({"bad_ts", "bad_uid"}))).done == 2
    found = completeness(db)
    assert (found.accepted, found.quarantined) == (1, {"implausible": 2})
    assert found.discarded == {"bad_ts": 1, "bad_uid": 1}


def test_a_visit_after_the_wall_clock_is_implausible_and_may_be_named(store_path: Path) -> None:
    day_later = uniqdb.OpenOptions(wall_clock=lambda: T)
    with uniqdb.open(store_path, options=day_later) as db:
        assert db.add_new_data(T + DAY_S, "a") is Verdict.ACCEPTED
        assert db.add_new_data(T + DAY_S + 1, "b") is Verdict.IMPLAUSIBLE
        assert db.add_new_data(T + DAY_S + 1, "b", source="web") is Verdict.IMPLAUSIBLE
        assert accept_quarantined(db, QuarantineFilter()).left == {"implausible": 2}
        with db.snapshot() as snapshot:
            number = next(number for number, _ in read_quarantine(snapshot.answers.view))
        assert accept_quarantined(db, QuarantineFilter(ids=frozenset({number}))).done == 1
        assert db.count().visits == 2
    with uniqdb.open(store_path, options=uniqdb.OpenOptions(wall_clock=lambda: 0.0)) as db:
        assert db.add_new_data(T + DAY_S, "late clock") is Verdict.ACCEPTED, "a reference never goes back"


def test_calls_without_a_source_close_nothing_and_amend_what_is_closed(db: uniqdb.Engine) -> None:
    add(db, np.repeat(np.arange(T, T + 600), 25), source=None)
    assert {one.status for one in db.series("minute")} == {"provisional"}
    add(db, np.repeat(np.arange(T, T + 600), 25))
    assert record(db, "minute", T).status == "final"
    add(db, [T], source=None)
    assert record(db, "minute", T).status == "amended"


def test_what_waits_does_not_move_the_default_as_of(db: uniqdb.Engine) -> None:
    add(db, range(T, T + 60), uid="ann")
    db.add_new_data(T + 40 * DAY_S, "wild")
    db.commit()
    assert db.check_if_uid_exists("ann0", "7d")
    db.add_new_data(T + 41 * DAY_S, "waits")
    assert db.check_if_uid_exists("ann0", "7d"), "as when nothing waits"
    assert db.count("7d").as_of == "2016-07-11"


def test_a_count_of_all_time_goes_beyond_the_clock(db: uniqdb.Engine) -> None:
    with pytest.raises(uniqdb.NotFound):
        db.count()
    add(db, range(T, T + 200))
    db.add_new_data(T + DAY_S, "new")
    found = db.count()
    assert (found.count, found.visits, found.status) == (51, 201, "provisional")
    assert found.end_ts == T + DAY_S + 60


def test_a_wrong_time_within_the_limits_carries_the_clock_as_far_as_documented(db: uniqdb.Engine) -> None:
    add(db, range(T, T + 300))
    assert completeness(db).clock_s == T + 280
    add(db, [T + 299 + 500])
    assert completeness(db).clock_s == T + 281, "one visit further: it looks like an honest one"
    reset_clock(db, "web", end=True)
    assert completeness(db).clock_s == T + 799, "at the end the newest visit within the limit"
    add(db, [T + 30 * DAY_S], source="single")
    reset_clock(db, "single", end=True)
    assert completeness(db).clock_s == T + 30 * DAY_S, "a source of one visit is believed"


def test_the_slowest_open_source_decides(db: uniqdb.Engine) -> None:
    add(db, np.repeat(np.arange(T, T + 600), 25), source="fast")
    assert record(db, "minute", T).status == "final"
    add(db, np.repeat(np.arange(T - 600, T), 25), source="slow")
    add(db, np.repeat(np.arange(T + 600, T + 1_200), 25), source="fast")
    assert record(db, "minute", T + 660).status == "provisional"
    assert record(db, "minute", T - 600).status == "amended", "it ended before what was closed when the visits came"
    add(db, np.repeat(np.arange(T, T + 900), 25), source="slow")
    assert record(db, "minute", T + 660).status == "final"
    assert record(db, "minute", T + 900).status == "provisional"
    reset_clock(db, "slow", end=True)
    assert record(db, "minute", T + 900).status == "final"


def test_a_source_that_is_reset_begins_anew(db: uniqdb.Engine) -> None:
    add(db, np.repeat(np.arange(T + 40 * DAY_S, T + 40 * DAY_S + 60), 25), source="broken")
    assert add(db, [T], source="broken") == {Verdict.HELD: 1}
    row = reset_clock(db, "broken")
    assert (row.clock_s, row.held, row.refused) == (None, 0, 1)
    assert add(db, np.arange(T, T + 19), source="broken") == {Verdict.HELD: 19}
    assert add(db, np.arange(T + 19, T + 60), source="broken") == {Verdict.ACCEPTED: 41}
    (source,) = completeness(db).sources
    assert (source.clock_s, source.accepted, source.refused) == (T + 40, 1_560, 1)


@pytest.mark.parametrize("name", ["", "\ud800", "x" * 2_000])
def test_a_source_has_a_name(db: uniqdb.Engine, name: str) -> None:
    for ts in (T, "noon"):
        with pytest.raises(uniqdb.UsageError, match="the name of a source"):
            db.add_new_data(ts, "a", source=name)


def test_close_buckets_closes_them_all(db: uniqdb.Engine) -> None:
    add(db, np.arange(T, T + 100), source=None)
    db.close_buckets()
    assert {one.status for kind in GRANULARITIES for one in db.series(kind)} == {"final"}
    assert db.count("2016").complete is False, "it reaches before the first visit"
    add(db, [T + 5], source=None)
    assert {record(db, kind, T + 5).status for kind in GRANULARITIES} == {"amended"}


def test_closed_minutes_do_not_stay_in_memory(store_path: Path) -> None:
    """Also where the commit that closes a minute is the one that brings its last visits."""
    with uniqdb.open(store_path, options=options()) as db:
        for half_minute in range(80):
            add(db, np.arange(30).repeat(10) + T + 30 * half_minute, uid=f"{half_minute}-")
            add(db, np.arange(30).repeat(10) + T + 30 * half_minute + 40, uid=f"{half_minute}-later-")
        assert len(db._writing()._members) < 15
