"""What handles remember between questions: that it saves work, is bounded, and ends with what it is about.

That it is never stale is asked in `tests/property/test_open_readers_property.py`.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

import uniqdb
import uniqdb.members_cache
import uniqdb.seen_uids
import uniqdb.store
from asking import asked_process
from engines import options
from uniqdb.errors import HandleClosed
from uniqdb.forgetting import forget
from uniqdb.options import CacheSizes

T = 1_467_331_200  # 2016-07-01T00:00:00Z
DAY_S = 86_400
DAYS, VISITORS = 45, 200
F = TypeVar("F", bound=Callable[..., object])


def add_day(db: uniqdb.Engine, day: int, first: int, count: int = VISITORS) -> None:
    """Visits of a day, by so many visitors from one on: more than stand in a row."""
    db.add_many([T + day * DAY_S + 60 * at for at in range(count)], [f"u{first + at}" for at in range(count)])
    db.commit()


@pytest.fixture
def db(store_path: Path) -> Iterator[uniqdb.Engine]:
    with uniqdb.open(store_path, options=options(10**6)) as engine:
        for day in range(DAYS):
            add_day(engine, day, day * 10)
        yield engine


class Calls(list[object]):
    """What a function was called with that is followed."""

    def follow(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        real = getattr(owner, name)

        def followed(*arguments: object, **more: object) -> object:
            self.append(arguments)
            return real(*arguments, **more)

        monkeypatch.setattr(owner, name, followed)


def test_after_a_commit_only_what_it_added_is_read(db: uniqdb.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = Calls(), Calls()
    whole.follow(monkeypatch, uniqdb.members_cache, "load_members")
    parts.follow(monkeypatch, uniqdb.members_cache, "load_fragment")
    before = db.count("30d").count
    assert (len(whole) > 3, len(parts)) == (True, 0)
    whole.clear()
    add_day(db, DAYS - 1, 50_000)
    assert db.count("30d").count == before + VISITORS
    assert (len(whole), len(parts)) == (0, 1), "the newest day has one more fragment"
    assert db.count("30d").count == before + VISITORS
    parts.clear()
    add_day(db, DAYS, 60_000)
    leaving = len(db.snapshot().window("30d", as_of="2016-08-15").ordinals)
    whole.clear()
    assert db.count("30d").count == leaving
    assert (len(whole), len(parts)) == (0, 0)


def test_a_day_that_begins_costs_the_days_that_change(db: uniqdb.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Calls()
    whole.follow(monkeypatch, uniqdb.members_cache, "load_members")
    db.count("30d")
    whole.clear()
    add_day(db, DAYS, 60_000)
    count = db.count("30d").count
    assert len(whole) <= 8, "the new day, and what the cover has at its beginning instead"
    assert count == len(set().union(*(db.members("day", T + day * DAY_S) for day in range(DAYS - 29, DAYS + 1))))


def test_repeated_questions_unite_nothing(db: uniqdb.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    unions = Calls()
    unions.follow(monkeypatch, uniqdb.members_cache.MembersCache, "count_union")
    first = db.count("30d"), db.count()
    assert len(unions) >= 1
    unions.clear()
    assert (db.count("30d"), db.count()) == first
    with db.snapshot() as snapshot:
        assert (snapshot.count("30d"), snapshot.count("30d")) == (first[0], first[0])
    assert len(unions) == 1, "that of the snapshot"


def test_sets_and_unions_are_bounded(store_path: Path) -> None:
    bound_bytes = 20_000
    small = replace(options(10**6), caches=CacheSizes(members_bytes=bound_bytes))
    with uniqdb.open(store_path, options=small) as db:
        for day in range(DAYS):
            add_day(db, day, day * 10)
            for window in ("7d", "20d", "30d", "40d", "50h"):
                db.count(window)
        cache = db._facts.cache
        assert sum(one[2] for one in cache._sets.values()) <= bound_bytes
        assert len(cache._unions) == 1 or sum(one[1] for one in cache._unions.values()) <= bound_bytes // 4
        assert len(cache._unions) <= uniqdb.members_cache._UNIONS_MAX
        assert db.count("40d").count == len(set().union(*(db.members("day", T + at * DAY_S) for at in range(5, DAYS))))


def test_uids_that_were_asked_for_are_not_looked_up_again(db: uniqdb.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = Calls()
    for name in ("has", "find", "lookup"):
        lookups.follow(monkeypatch, type(db._facts.dictionary), name)
    for reader in (db, db.snapshot()):
        lookups.clear()
        for _ in range(3):
            assert [reader.check_if_uid_exists(uid) for uid in ("u1", "nobody", "u5")] == [True, False, True]
        assert len(lookups) == 3
    lookups.clear()
    add_day(db, DAYS, 90_000, 70)
    assert [db.check_if_uid_exists(uid) for uid in ("u1", "u90001", "nobody", "u5")] == [True, True, False, True]
    assert len(lookups) == 2, "of who came with the commit, and of who was not there before"


def test_what_is_remembered_of_uids_is_bounded(db: uniqdb.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uniqdb.seen_uids, "SEEN_UIDS_MAX", 10)
    uids = [f"u{at}" for at in range(300)] + [f"nobody{at}" for at in range(300)]
    assert [db.check_if_uid_exists(uid) for uid in uids] == [True] * 300 + [False] * 300
    seen = db._seen
    assert seen is not None
    assert 0 < len(seen.seen) <= 10
    assert 0 < len(seen.unseen) <= 10
    assert not db.check_if_uid_exists("n" * 129)
    assert "n" * 129 not in seen.unseen


@pytest.mark.parametrize("uid", ["", "x" * 1_025, "\ud800", 1.5, None, True, ["u1"], {"u1": 1}])
def test_what_is_no_uid_was_not_seen(db: uniqdb.Engine, uid: object) -> None:
    assert db.check_if_uid_exists("u1")
    with db.snapshot() as snapshot:
        assert snapshot.check_if_uid_exists("u1")
        for reader in (db, snapshot):
            assert not reader.check_if_uid_exists(uid)  # type: ignore[arg-type]  # what callers may do
            assert reader.check_many(["u1", uid, "u2"]) == [True, False, True]  # type: ignore[list-item]


def test_an_integer_is_its_text(db: uniqdb.Engine) -> None:
    db.add_many([T], [17])
    for reader in (db, db.snapshot()):
        assert [reader.check_if_uid_exists(uid) for uid in (17, "17", 17, 18)] == [True, True, True, False]
        assert reader.check_many([17, "17", 18]) == [True, True, False]


def test_a_snapshot_that_was_closed_remembers_nothing(db: uniqdb.Engine) -> None:
    snapshot = db.snapshot()
    questions: list[Callable[[], object]] = [
        lambda: snapshot.check_if_uid_exists("u1"),
        lambda: snapshot.check_if_uid_exists("nobody"),
        lambda: snapshot.check_if_uid_exists("u1", "30d"),
        lambda: snapshot.check_many(["u1", "u2"]),
        lambda: snapshot.check_many([f"u{at}" for at in range(300)]),
        lambda: snapshot.count("30d"),
        snapshot.count,
    ]
    for ask in questions:
        ask()
    snapshot.close()
    for ask in questions:
        with pytest.raises(HandleClosed):
            ask()


def test_a_handle_that_was_closed_or_forked_remembers_nothing(db: uniqdb.Engine) -> None:
    assert db.check_if_uid_exists("u1")
    assert not db.check_if_uid_exists("nobody")
    child = os.fork()
    if not child:
        refused = 0
        for uid in ("u1", "nobody"):
            try:
                db.check_if_uid_exists(uid)
            except HandleClosed:
                refused += 1
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    db.close()
    for uid in ("u1", "nobody"):
        with pytest.raises(HandleClosed):
            db.check_if_uid_exists(uid)


def test_what_is_made_of_a_view_outlives_its_transaction_but_no_commit(
    db: uniqdb.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uniqdb.store, "READ_TXN_AGE_S_MAX", -1.0)
    assert db.check_many(["u1", "u2"]) == [True, True]
    view = db._store.view()
    lookup = view.lookup
    assert lookup is not None
    assert db._store.view() is view, "another transaction, the same commit"
    add_day(db, DAYS, 0, 3)
    assert db._store.view() is not view
    assert (view.lookup, view.ended) == (None, True)


def test_a_reader_forgets_whom_the_writer_forgets(store_path: Path) -> None:
    with uniqdb.open(store_path, options=options(10**6)) as db, asked_process() as asked:
        add_day(db, 0, 0)
        uids = [f"u{at}" for at in range(60)]
        asked("open", str(store_path))
        assert all(asked("now", uids)["one by one"])
        forget(db, uids[:30])
        assert asked("now", uids)["one by one"] == [False] * 30 + [True] * 30
        add_day(db, 0, 0, 1)
        assert asked("now", uids)["one by one"] == [True] + [False] * 29 + [True] * 30
        asked("close")
