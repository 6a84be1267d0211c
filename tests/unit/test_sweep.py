"""What a sweep removes, what it leaves, what becomes of visits and questions about what is gone."""

from dataclasses import replace
from pathlib import Path

import pytest

import uniqdb
from engines import assert_sound
from model import GRANULARITIES
from swept import BRIEF, DAY_S, T, brief_options, set_clock
from uniqdb import UsageError, WindowNotKept
from uniqdb.format import BucketRow, Database, MembersState
from uniqdb.granularity import Granularity
from uniqdb.options import Retention
from uniqdb.sweeping import SweepRun, preview, sweep

LATER_S = T + 4_000 * DAY_S
"""A wall clock that is past everything."""


def filled(path: Path, days: int, retention: Retention = BRIEF, per_day: int = 5) -> uniqdb.Engine:
    """A store with visits at some minutes of so many days, each with visitors of its own, and a clock behind them."""
    db = uniqdb.open(path, options=brief_options(retention))
    for day in range(days):
        at = [T + day * DAY_S + 3_600 * n + 60 * (n % 3) for n in range(per_day)]
        db.add_many([*at, at[0]], [*(f"day{day}-{n}" for n in range(per_day)), "daily"])
        db.commit()
    set_clock(db, T + days * DAY_S)
    return db


def starts(db: uniqdb.Engine, granularity: Granularity, state: MembersState) -> list[int]:
    """Of the buckets whose members are swept, or not."""
    found = []
    with db.snapshot() as snapshot:
        for key, payload in snapshot.answers.view.rows(
            Database.BUCKETS, bytes((granularity,)), bytes((granularity + 1,))
        ):
            if (BucketRow.unpack(key, payload).members is MembersState.SWEPT) == (state is MembersState.SWEPT):
                found.append(int.from_bytes(key[1:], "big"))
    return found


def test_members_go_when_both_clocks_have_passed_their_deadline(store_path: Path) -> None:
    with filled(store_path, 8) as db:
        now_s = T + 8 * DAY_S
        report = sweep(db, LATER_S, forced=True)
        assert report.due == {}
        assert report.is_over
        for granularity, days in ((Granularity.MINUTE, 1), (Granularity.HOUR, 2), (Granularity.DAY, 5)):
            length_s = {Granularity.MINUTE: 60, Granularity.HOUR: 3_600, Granularity.DAY: DAY_S}[granularity]
            # What is not closed yet, 5 s after its end, is not old either.
            gone = {
                at for at in starts(db, granularity, MembersState.SWEPT) if at + length_s + days * DAY_S <= now_s - 5
            }
            assert set(starts(db, granularity, MembersState.SWEPT)) == gone
            kept = starts(db, granularity, MembersState.KEPT)
            assert kept
            assert min(kept) + length_s + days * DAY_S > now_s - 5
            assert report.swept[granularity.word] == len(gone)
        assert starts(db, Granularity.MONTH, MembersState.SWEPT) == []
        assert len(list(db.series("minute"))) == 8 * 5, "counts stay"
        assert sweep(db, LATER_S, forced=True).removed() == {}, "there is nothing left to do"


@pytest.mark.parametrize(
    ("wall_s", "clock_s"),
    [
        (T - 365 * DAY_S, T + 8 * DAY_S),  # a year back
        (T + DAY_S, T + 8 * DAY_S),  # before the deadlines
        (T + (8 + 365) * DAY_S, T + DAY_S),  # a year ahead
        (LATER_S, T + DAY_S),
    ],
)
def test_one_clock_alone_removes_nothing(store_path: Path, wall_s: int, clock_s: int) -> None:
    with filled(store_path, 1) as db:
        set_clock(db, clock_s)
        before = [list(db.members("minute", one.start_ts)) for one in db.series("minute")]
        assert sweep(db, wall_s, forced=True).removed() == {}
        assert preview(db, wall_s, forced=True).removed() == {}
        assert [list(db.members("minute", one.start_ts)) for one in db.series("minute")] == before


def test_a_wrong_wall_clock_sweeps_what_the_right_one_sweeps(tmp_path: Path) -> None:
    kept = []
    for number, wall_s in enumerate((T + 8 * DAY_S + 60, T + (8 + 366) * DAY_S)):
        path = tmp_path / f"{number}.uniqdb"
        with filled(path, 8) as db:
            sweep(db, wall_s, forced=True)
            kept.append([starts(db, granularity, MembersState.KEPT) for granularity in Granularity])
        assert_sound(path)
    assert kept[0] == kept[1]
    assert all(kept[0])


def test_a_store_without_a_clock_is_not_swept_whatever_a_time_says(store_path: Path) -> None:
    with uniqdb.open(store_path, options=brief_options()) as db:
        db.add_many([T, T + 900 * DAY_S], ["a", "from a clock that is wrong"])
        report = sweep(db, LATER_S, forced=True)
        assert not report.has_clock
        assert report.removed() == {}


@pytest.mark.parametrize("poisoned_s", [T + 25 * DAY_S, T + 100 * DAY_S, T + 900 * DAY_S])
def test_a_poisoned_time_never_triggers_a_sweep(store_path: Path, poisoned_s: int) -> None:
    """Of a source whose other visits are fine; the wall clock is far ahead and would allow it all."""
    with uniqdb.open(store_path, options=brief_options()) as db:
        times = [T + 60 * n for n in range(200)]
        for n in range(0, 200, 40):
            db.add_many([*times[n : n + 40], poisoned_s], [f"u{n}"] * 41, source="web")
            db.commit()
        assert sweep(db, LATER_S, forced=True).removed() == {}
        assert db.info().completeness.clock_s is not None


def test_a_run_removes_a_tenth_and_says_what_remains(store_path: Path) -> None:
    with filled(store_path, 12) as db:
        there = {granularity: len(starts(db, granularity, MembersState.KEPT)) for granularity in Granularity}
        expected = preview(db, LATER_S)
        report = sweep(db, LATER_S)
        assert report.swept == expected.swept
        assert report.due == expected.due
        assert report.swept == {"minute": there[Granularity.MINUTE] // 10, "hour": 6, "day": 1}
        minutes_due = 5 * 11 - report.swept["minute"]
        assert report.due["minute"] == minutes_due
        runs = 1
        while sweep(db, LATER_S).removed():
            runs += 1
        assert runs > 10
        horizons = db.info().kept_from_s
        assert sweep(db, LATER_S, forced=True).removed() == {}
        assert db.info().kept_from_s == horizons


def test_a_coarser_bucket_never_goes_before_its_finer_ones(store_path: Path) -> None:
    with filled(store_path, 20) as db:
        for _ in range(12):
            sweep(db, LATER_S)
            horizons = db.info().kept_from_s
            for granularity in Granularity:
                finer = granularity.finer
                if finer is not None:
                    assert horizons.get(granularity.word, 0) <= horizons.get(finer.word, 0)
            assert db.check().problems == []


def test_swept_buckets_never_come_back(store_path: Path) -> None:
    with filled(store_path, 8) as db:
        sweep(db, LATER_S, forced=True)
        old_s, unseen_s = T + 60, T + 50 * 60  # a minute that had no visit has no row, either
        before = [list(db.series(kind)) for kind in ("minute", "hour", "day")]
        assert db.add_many([old_s, unseen_s], ["late", "late"]) == {"accepted": 2}
        assert [list(db.series(kind)) for kind in ("minute", "hour", "day")] == before
        assert db.info().completeness.skipped == {"minute": 2, "hour": 2, "day": 2}
        assert "late" in set(db.members("week", T))
        assert db.count("2016").visits == 8 * 6 + 2
        assert db.check_if_uid_exists("late")
        assert db.info().completeness.expired == 0
        assert db.check().problems == []


def test_a_visit_that_no_granularity_keeps_is_expired(store_path: Path) -> None:
    with filled(store_path, 8) as db:
        set_clock(db, T + 400 * DAY_S)
        sweep(db, LATER_S, forced=True)
        before = db.info()
        assert db.add_new_data(T + 5, "ghost") == "expired"
        assert db.add_many([T + 6, T + 399 * DAY_S], ["ghost", "guest"]) == {"expired": 1, "accepted": 1}
        assert not db.check_if_uid_exists("ghost"), "it waits for its commit, and will count nowhere"
        db.commit()
        after = db.info()
        assert after.completeness.expired == 2
        assert after.visits == before.visits + 1
        assert after.ordinals_used == before.ordinals_used + 1
        assert after.quarantined == {}
        assert db.check_many(["ghost", "guest"]) == [False, True]


def test_questions_about_what_is_gone(store_path: Path) -> None:
    with filled(store_path, 8) as db:
        sweep(db, LATER_S, forced=True)
        day = "2016-07-12"
        assert db.count(day).count == 6, "the count of a swept bucket stays"
        for ask in (
            lambda: db.count_between(T, T + 3_600),
            lambda: db.check_if_uid_exists("daily", day),
            lambda: db.check_many(["daily"], day),
            lambda: list(db.members("day", T)),
            lambda: db.count("3d", as_of=day),
            lambda: db.count_between(T, T + DAY_S + 60),
        ):
            with pytest.raises(WindowNotKept) as caught:
                ask()
            assert caught.value.exit_code == 70
        assert db.count("3d").count == 11
        assert db.count().count == 8 * 5 + 1, "years are kept: everything is in them"
        assert db.count_between(T - DAY_S, T + 6 * DAY_S).count == 6 * 5 + 1, "a whole week is kept"


def test_rows_with_counts_go_as_well_when_they_are_to(store_path: Path) -> None:
    with filled(store_path, 8, replace(BRIEF, count_days=31, year_days=31)) as db:
        set_clock(db, T + 36 * DAY_S)
        report = sweep(db, LATER_S, forced=True)
        assert report.rows["minute"] == 4 * 5 + 5
        assert db.check().problems == []
        left = [record.start_ts for record in db.series("day")]
        assert left == [T + day * DAY_S for day in (4, 5, 6, 7)]
        assert [record.start_ts for record in db.series("day", T, T + 8 * DAY_S, fill=True)] == left
        with pytest.raises(WindowNotKept):
            db.count("2016-07-12")
        assert db.count("2016").count == 41
        set_clock(db, T + 2_000 * DAY_S)
        report = sweep(db, LATER_S, forced=True)
        assert report.uids == 41
        assert [list(db.series(kind)) for kind in GRANULARITIES] == [[]] * 6
        assert db.check().problems == []
        assert db.add_new_data(T + 1_999 * DAY_S, "day0-0") == "accepted"
        db.commit()
        info = db.info()
        assert (info.uids, info.ordinals_used, info.uids_dropped) == (1, 42, 41)
        assert info.visits == 8 * 6 + 1
        with pytest.raises(WindowNotKept):
            db.count()


def test_a_dead_uid_that_returns_is_a_new_visitor(store_path: Path) -> None:
    with filled(store_path, 3) as db:
        set_clock(db, T + 500 * DAY_S)
        assert sweep(db, LATER_S, forced=True).uids == 16
        assert db.info().uids == 0
        assert not db.check_if_uid_exists("daily")
        db.add_many([T + 499 * DAY_S], ["daily"])
        assert db.info().ordinals_used == 17
        assert db.count("2d").count == 1
        assert list(db.members("year", T + 499 * DAY_S)) == ["daily"]


@pytest.mark.parametrize("forgets", [False, True], ids=["cached", "looked up"])
@pytest.mark.parametrize("steps_after_mark", [1, 2])
def test_a_uid_that_comes_between_mark_and_drop_stays(
    store_path: Path, monkeypatch: pytest.MonkeyPatch, steps_after_mark: int, forgets: bool
) -> None:
    """Dead when the run marks, it comes back before the step that would drop it, or that has just dropped it."""
    with filled(store_path, 3) as db:
        set_clock(db, T + 500 * DAY_S)
        run, marked = SweepRun(db, LATER_S, forced=True), []
        mark_live = db.mark_live
        monkeypatch.setattr(db, "mark_live", lambda: marked.append(mark_live()) or marked[0])
        while not marked:
            assert run.step()
        assert len(marked[0].live) == 0
        assert run.report.uids == 0
        if forgets:
            db._writer.forget_cached()  # type: ignore[union-attr]  # it writes
            marked[0].valid = True  # it was not somebody else who wrote
        db.add_many([T + 499 * DAY_S], ["day1-1"])
        db.commit()
        for _ in range(steps_after_mark):
            run.step()
        db.add_many([T + 499 * DAY_S + 60, T + 499 * DAY_S + 61], ["day1-1", "day1-2"])
        db.commit()
        run.to_the_end()
        assert db.info().uids == 2
        assert db.count("2d").count == 2
        assert sorted(db.members("day", T + 499 * DAY_S)) == ["day1-1", "day1-2"]
        assert db.check_many(["day1-1", "day1-2", "day1-3"]) == [True, True, False]
        assert db.check().problems == []


def test_marks_of_before_somebody_else_wrote_are_made_anew(store_path: Path) -> None:
    with filled(store_path, 3) as db:
        set_clock(db, T + 500 * DAY_S)
        run = SweepRun(db, LATER_S, forced=True)
        while not db._writer._marks:  # type: ignore[union-attr]  # it writes
            run.step()
        db._writer.forget_cached()  # type: ignore[union-attr]  # what a foreign commit leads to
        assert run.to_the_end().uids == 16
        assert db.info().uids == 0


def test_destructive_runs_are_remembered(store_path: Path) -> None:
    with filled(store_path, 8) as db:
        sweep(db, LATER_S)
        sweep(db, LATER_S + 60, forced=True)
        sweep(db, LATER_S + 120, forced=True)
        audit = db.info().audit
        assert [(one.at_s, one.forced, one.action) for one in audit] == [
            (LATER_S, False, "sweep"),
            (LATER_S + 60, True, "sweep"),
        ]
        assert audit[0].removed["minute"] == 4
        assert sum(one.removed["minute"] for one in audit) == len(starts(db, Granularity.MINUTE, MembersState.SWEPT))
        assert len({one.run for one in audit}) == 2


def test_what_is_finer_is_not_kept_longer() -> None:
    for wrong in (
        {"minute_days": 36},
        {"day_days": 0},
        {"month_days": 400},
        {"year_days": 100},
        {"minute_days": -1},
        {"count_days": 10**9},
    ):
        with pytest.raises(UsageError):
            Retention(**wrong)
    assert Retention().rows_s("minute") is None
    assert Retention(count_days=3).rows_s("minute") == 7 * DAY_S
    assert Retention(count_days=30).rows_s("minute") == 30 * DAY_S
    assert [days for days in (7, 90, 365, 401) if not Retention().keeps_window(days)] == [401]
