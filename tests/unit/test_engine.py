"""The handle's own promises: verdicts, what is visible when, windows, snapshots, threads, failing commits."""

import datetime
import threading
from pathlib import Path
from zoneinfo import ZoneInfo

import lmdb  # a test makes LMDB refuse
import msgspec
import numpy as np
import pytest

import uniqdb
from engines import options
from uniqdb import CommitRule, OpenOptions, Verdict
from uniqdb.errors import CommitFailed, HandleClosed, NotFound, UsageError

T = 1_468_244_384
DAY = 86_400
KEYS = (
    *("granularity", "datetime", "count", "visits", "start_ts", "end_ts"),
    *("timezone", "status", "complete", "revision", "epoch"),
)


def test_verdicts_and_quarantine(store_path: Path) -> None:
    with uniqdb.open(store_path, options=options()) as db:
        assert db.add_new_data(T, "a") is Verdict.ACCEPTED
        assert db.add_new_data(str(T), 17) is Verdict.ACCEPTED
        assert db.add_new_data(-T, "a") is Verdict.IMPLAUSIBLE
        assert db.add_new_data("soon", "a") is Verdict.INVALID
        assert db.add_new_data(T, "") is Verdict.INVALID
        counts = db.add_many([T, T, -1, None, T], ["b", "\ud800", "c", "d", "e" * 1_025])
        assert counts == {Verdict.ACCEPTED: 1, Verdict.IMPLAUSIBLE: 1, Verdict.INVALID: 3}
        assert db.add_many(np.array([T, T + 1]), np.array(["x", "y"])) == {Verdict.ACCEPTED: 2}
        assert db.add_many([], []) == {}
        with pytest.raises(UsageError, match="2 event times but 1 uids"):
            db.add_many([T, T], ["a"])
        info = db.info()
        assert (info.visits, info.uids) == (5, 5)
        assert info.quarantined == {"implausible": 2, "bad_ts": 2, "bad_uid": 3}
        assert db.check_if_uid_exists("17")
        assert db.check_if_uid_exists(17)


def test_visits_are_visible_at_once_and_durable_after_commit(store_path: Path) -> None:
    db = uniqdb.open(store_path, options=options())
    assert not db.check_if_uid_exists("a")
    db.add_new_data(T, "a")
    assert db.check_if_uid_exists("a")
    assert db.check_if_uid_exists("a", "1d")
    assert not db.check_if_uid_exists("a", "2016-07-12")
    assert db.check_if_uid_exists("a", "2016-07-11")
    db.add_new_data(T + 40 * DAY, "b")
    assert not db.check_if_uid_exists("a", "30d")  # the newest visit, which waits, moves the window
    assert db.check_if_uid_exists("a", "30d", as_of="2016-07-11")
    assert db.info().commits == 1  # info commits what waits
    db.add_new_data(T, "c")
    db._store.close()  # a crash: what waits is gone
    with uniqdb.open(store_path) as again:
        assert again.check_many(["a", "b", "c"]) == [True, True, False]


def test_a_handle_commits_by_number_and_by_time(store_path: Path) -> None:
    with uniqdb.open(store_path, options=OpenOptions(commit=CommitRule(visits=10, interval_s=1e9))) as db:
        for number in range(25):
            db.add_new_data(T, f"u{number}")
        assert db._store.view().txn_id == 1 + 2 + 0 or db.info().commits == 3
    with uniqdb.open(store_path, options=OpenOptions(commit=CommitRule(visits=10**6, interval_s=0.0))) as db:
        before = db.info().commits
        db.add_new_data(T, "v")
        assert db.info().commits == before + 1


def test_a_failed_commit_loses_nothing(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with uniqdb.open(store_path, options=options(100)) as db:
        db.add_many([T] * 50, [f"u{number}" for number in range(50)])

        def refuse(*_: object) -> None:
            raise lmdb.DiskError("no space left on device")

        monkeypatch.setattr("uniqdb.store._write", refuse)
        with pytest.raises(CommitFailed, match="no space left"):
            db.add_many([T] * 250, [f"v{number}" for number in range(250)])
        with pytest.raises(CommitFailed):
            db.commit()
        assert db.check_if_uid_exists("v249")
        monkeypatch.undo()
        db.commit()
        assert db.count("1d").count == 300


def test_read_only_and_closed_handles(store_path: Path) -> None:
    uniqdb.create(store_path)
    with uniqdb.open(store_path, read_only=True) as reader:
        with pytest.raises(HandleClosed, match="read-only"):
            reader.add_new_data(T, "a")
        with pytest.raises(HandleClosed, match="read-only"):
            reader.commit()
        with pytest.raises(NotFound, match="no visits yet"):
            reader.count("30d")
        assert reader.count("30d", as_of="2016-07-11").count == 0
        assert list(reader.series("day")) == []
        assert not reader.check_if_uid_exists("a")
    with pytest.raises(HandleClosed, match="closed"):
        reader.count("30d", as_of="2016-07-11")
    reader.close()


@pytest.fixture
def month(store_path: Path) -> uniqdb.Engine:
    """40 days; visitor n comes on day n and on every day after it that is a multiple of n."""
    db = uniqdb.open(store_path, timezone="Europe/Zurich", options=options())
    for day in range(1, 41):
        noon = datetime.datetime(2016, 2, 1, 12, tzinfo=ZoneInfo("Europe/Zurich")) + datetime.timedelta(day - 1)
        visitors = [f"v{number}" for number in range(1, day + 1) if day % number == 0]
        db.add_many([int(noon.timestamp())] * len(visitors), visitors)
    return db


def test_windows_and_periods(month: uniqdb.Engine) -> None:
    with month as db:
        record = db.count("7d")
        assert (record.as_of, record.window, record.granularity) == ("2016-03-11", "7d", "window")
        assert record.count == len({n for day in range(34, 41) for n in range(1, 41) if day % n == 0})
        assert (record.end_ts - record.start_ts, record.timezone) == (7 * DAY, "Europe/Zurich")
        assert record.datetime == "2016-03-05T00:00:00+01:00"
        assert (record.status, record.complete, record.revision, record.epoch) == ("provisional", False, 0, 1)
        assert db.count("2016-02").count == len({n for day in range(1, 30) for n in range(1, 41) if day % n == 0})
        assert db.count("2016-W05").count == db.count_between("2016-02-01", "2016-02-07").count == 7
        assert db.count("2016-02-06").count == 4
        assert db.count("2016").count == db.count().count == 40
        for as_of in ("2016-02-06", datetime.date(2016, 2, 6), 1_454_756_400, "2016-02-06T18:00"):
            assert db.count("1d", as_of=as_of).count == 4
        assert db.count("24h", as_of="2016-02-06").count == 4
        assert db.count("1m", as_of="2016-02-06T12:00:59").count == 4
        assert db.count("1m", as_of="2016-02-06T12:01").count == 0
        assert [record.count for record in db.series("day", "2016-02-01", "2016-02-06")] == [1, 2, 2, 3, 2, 4]
        filled = list(db.series("hour", "2016-02-01", "2016-02-02", fill=True))
        assert len(filled) == 48
        assert sum(record.count for record in filled) == 3
        for wrong in ("30x", "0d", "-3d", "2016-13", "2016-02-30", "", "d"):
            with pytest.raises(UsageError):
                db.count(wrong)
        with pytest.raises(UsageError, match="empty"):
            db.count_between("2016-02-02", 1_454_284_800)
        with pytest.raises(UsageError):
            db.series("fortnight")


@pytest.mark.parametrize(
    "text", ["---2016", "\u00b2" * 5, "\u0661" * 10, "9" * 5_000, "9" * 19, "-" * 9, "1_468_244_384"]
)
def test_what_only_looks_like_seconds_is_refused(month: uniqdb.Engine, text: str) -> None:
    with month as db:
        for ask in (lambda: list(db.members("day", text)), lambda: db.count("3h", as_of=text)):
            with pytest.raises(UsageError):
                ask()


def test_an_interval_that_ends_thousands_of_years_ahead_costs_no_calendar_of_them(month: uniqdb.Engine) -> None:
    """One such question took half a minute and 800 MB."""
    ends = datetime.datetime(9999, 12, 1, 0, 7, tzinfo=datetime.UTC)
    of_all = month.count_between("2016", "2016")
    for begins in ("2000-01-01T00:01Z", "2016-01-01T00:07Z"):
        found = month.count_between(begins, ends)
        assert (found.count, found.visits, found.complete) == (of_all.count, of_all.visits, False)
    assert month.count_between("2017-01-01T00:01Z", ends).count == 0
    assert month.zone._year_table.cache_info().misses < 25
    month.close()


def test_the_record_has_the_documented_keys(month: uniqdb.Engine) -> None:
    with month as db:
        record = msgspec.json.decode(db.count("2016-02-06").to_json())
        assert list(record) == (
            [
                "granularity",
                "datetime",
                "count",
                "visits",
                "start_ts",
                "end_ts",
                "timezone",
                "status",
                "complete",
                "revision",
                "epoch",
            ]
        )
        window = msgspec.json.decode(db.count("30d").to_json())
        assert list(window)[-2:] == ["window", "as_of"]
        assert db.count("30d").to_dict() == window


def test_a_snapshot_stays_while_others_write(month: uniqdb.Engine) -> None:
    with month as db, db.snapshot() as snapshot:
        before = snapshot.count("40d")
        early = snapshot.window("2016-02") - snapshot.window("10d")
        db.add_many([before.end_ts - 1] * 3, ["new1", "new2", "v1"])
        assert db.count("40d").count == before.count + 2
        assert snapshot.count("40d") == before
        assert set(early) == set(snapshot.window("2016-02")) - set(snapshot.window("10d"))
        assert "v1" not in early
        assert "new1" not in snapshot.window("40d")
        with db.snapshot() as later, pytest.raises(UsageError, match="different snapshots"):
            early | later.window("1d")
        number = snapshot.commit_number
        snapshot.close()
        assert (number, early.count) == (1, len(early))
        with pytest.raises(HandleClosed):
            snapshot.count("40d")


def test_threads_share_a_handle(store_path: Path) -> None:
    with uniqdb.open(store_path, options=options(37)) as db:
        errors: list[BaseException] = []

        def work(name: str) -> None:
            try:
                for number in range(150):
                    db.add_new_data(T + number, f"{name}-{number}")
                    if number % 10 == 0:
                        assert db.check_if_uid_exists(f"{name}-{number}")
                        assert db.count("1d").count >= number
                        assert sum(1 for _ in db.members("day", T)) >= number
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert db.count("1d").count == 600
