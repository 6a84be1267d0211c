"""What a repair could not restore: how it is asked for, written to, swept, copied, checked."""

import io
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import structs

import uniqdb
from engines import assert_sound, options
from lost import Bucket, Fate, lose, span_at, was_seen
from model import GRANULARITIES
from swept import DAY_S, T, brief_options, set_clock
from uniqdb import WindowNotKept
from uniqdb.backup import backup
from uniqdb.change_set import ChangeSet
from uniqdb.compaction import compact
from uniqdb.dump import dump
from uniqdb.forgetting import forget
from uniqdb.granularity import Granularity
from uniqdb.horizons import LostSpan, RetentionRow, read_retention, write_retention
from uniqdb.lost_times import LostTimes, expired_edges_s
from uniqdb.merging import Merging, merge_stores
from uniqdb.outbox import WindowKey, read_due
from uniqdb.restore import Restoring, restore
from uniqdb.stream.emission import EmissionRules
from uniqdb.stream.publishing import Publishing
from uniqdb.sweeping import sweep
from uniqdb.writer import nothing

HOUR_S = 3_600
VISITS = [T, T + 60, T + 120, T + HOUR_S, T + HOUR_S + 60, T + DAY_S, T + 40 * DAY_S]
"""T is the midnight that begins 2016-07-12."""
UIDS = ["a", "b", "c", "a", "d", "e", "f"]


def all_to(what: Fate) -> Callable[[Bucket], Fate]:
    return lambda _bucket: what


@pytest.fixture
def db(store_path: Path) -> uniqdb.Engine:
    return filled(store_path)


def filled(path: Path) -> uniqdb.Engine:
    db = uniqdb.open(path, options=brief_options())
    db.add_many(VISITS, UIDS)
    set_clock(db, T + 41 * DAY_S)
    return db


def refused(ask: Callable[[], object]) -> str:
    with pytest.raises(WindowNotKept) as caught:
        ask()
    assert caught.value.exit_code == 70
    assert "restore a backup" in caught.value.hint
    return caught.value.message


# ---------------------------------------------------------------- which moments
def test_moments_in_lost_spans() -> None:
    row = RetentionRow(
        members_from_s={"minute": 60},
        lost=(LostSpan("minute", 120, 180), LostSpan("minute", 180, 240), LostSpan("hour", 0, HOUR_S)),
    )
    lost = LostTimes(row)
    times_s = np.arange(0, 300, 30, dtype=np.int64)
    assert times_s[lost.mask("minute", times_s)].tolist() == [120, 150, 180, 210]
    assert [at for at in times_s.tolist() if lost.has("minute", at)] == [120, 150, 180, 210]
    assert [at for at in times_s.tolist() if not row.keeps(Granularity.MINUTE, at)] == [0, 30, 120, 150, 180, 210]
    assert not lost.mask("day", times_s).any()
    assert not lost.has("window", 0)
    assert lost.first(0, HOUR_S) == row.lost[0]
    assert lost.first(200, 210) == row.lost[1]
    assert lost.first(0, 60) == lost.first(0, HOUR_S, "hour") == row.lost[2]
    assert lost.first(HOUR_S, HOUR_S + 60) is None
    assert RetentionRow().keeps(Granularity.YEAR, 0)


def test_where_nothing_is_kept() -> None:
    spans = tuple(LostSpan(kind, 600, 900) for kind in GRANULARITIES)
    assert expired_edges_s(RetentionRow()) == []
    assert expired_edges_s(RetentionRow(dict.fromkeys(GRANULARITIES, 600))) == []
    assert expired_edges_s(RetentionRow(lost=spans)) == [600, 900]
    assert expired_edges_s(RetentionRow(lost=spans[:5])) == []
    assert expired_edges_s(RetentionRow(members_from_s={"minute": 700}, lost=spans[1:])) == [600, 700]
    several = RetentionRow(lost=(*spans[:5], LostSpan("year", 600, 700), LostSpan("year", 800, 1_200)))
    assert expired_edges_s(several) == [600, 700, 800, 900]


# ---------------------------------------------------------------- answers
def test_a_lost_bucket_is_answered_from_its_row_and_never_as_complete(db: uniqdb.Engine) -> None:
    with db:
        lose(db, [span_at(db, "minute", T, 2), span_at(db, "month", T)], all_to(Fate.COUNT))
        record = db.count("2016-07-12T00:00")
        assert (record.count, record.status, record.complete) == (1, "final", False)
        assert not db.count("2016-07").complete
        assert db.count("2016-07-12T00:02").complete
        assert [one.complete for one in db.series("minute")][:3] == [False, False, True]
        assert db.check().problems == []


def test_a_lost_bucket_without_a_row_is_unknown_and_not_zero(db: uniqdb.Engine) -> None:
    with db:
        lose(db, [span_at(db, "minute", T, 5)], all_to(Fate.NOTHING))
        for minute in ("00:00", "00:04"):
            message = refused(lambda minute=minute: db.count(f"2016-07-12T{minute}"))
            assert "minutes from 2016-07-12T00:00:00+00:00 to 2016-07-12T00:05:00+00:00 were lost to damage" in message
            assert "not swept" in message
        assert db.count("2016-07-12T00:05").count == 0, "its hour's row says that it has none"
        filled = [one.start_ts for one in db.series("minute", T, T + 600, fill=True)]
        assert filled == [T + 60 * n for n in range(5, 10)]
        assert [one.start_ts for one in db.series("minute", T, T + HOUR_S + 60)] == [T + HOUR_S]
        assert db.check().problems == []


def test_no_row_proves_nothing_where_the_row_above_was_lost(db: uniqdb.Engine) -> None:
    """A day that nobody visited, in a month whose row, which would say so, is not there."""
    with db:
        assert db.count("2016-07-20").count == 0
        lose(db, [span_at(db, "month", T)], all_to(Fate.NOTHING))
        assert "months from" in refused(lambda: db.count("2016-07-20"))
        assert "months from" in refused(lambda: db.count("2016-07-20T10:11"))
        assert db.count("2016-07-12T00:59").count == 0, "its hour's row is there"
        assert db.count("2016-07-12").count == 4
        filled = [one.start_ts for one in db.series("day", T, T + 3 * DAY_S, fill=True)]
        assert filled == [T, T + DAY_S]
        assert db.check().problems == []


def test_windows_are_covered_by_what_is_whole(db: uniqdb.Engine) -> None:
    with db:
        lose(db, [span_at(db, "minute", T, 2)], all_to(Fate.NOTHING))
        assert db.count_between(T, T + HOUR_S).count == 3, "the hour is whole"
        assert db.count_between(T + 120, T + HOUR_S + 60).count == 2, "it does not touch what was lost"
        assert "minutes from" in refused(lambda: db.count_between(T, T + HOUR_S - 60))
        assert "minutes from" in refused(lambda: list(db.snapshot().between(T, T + 60)))
        lose(db, [span_at(db, "day", T)], all_to(Fate.COUNT))
        assert db.count_between(T, T + DAY_S).count == 4, "its hours are whole"
        assert sorted(db.members("day", T)) == ["a", "b", "c", "d"]
        assert db.count("2d", as_of="2016-07-13").count == 5
        lose(db, [span_at(db, "hour", T)], all_to(Fate.COUNT))
        assert "lost to damage" in refused(lambda: db.count("2d", as_of="2016-07-13"))
        assert "lost to damage" in refused(lambda: db.check_if_uid_exists("a", "2016-07-12"))
        assert db.count().count == 6
        assert db.count("2d", as_of="2016-08-20").complete
        assert db.check().problems == []


def test_what_was_swept_is_not_told_as_damage(db: uniqdb.Engine) -> None:
    with db:
        lose(db, [span_at(db, "minute", T + 40 * DAY_S)], all_to(Fate.NOTHING))
        sweep(db, T + 41 * DAY_S, forced=True)
        for ask in (lambda: db.count_between(T, T + 60), lambda: db.count_between(T, T + 40 * DAY_S + 60)):
            with pytest.raises(WindowNotKept, match="no longer kept"):
                ask()
        assert db.check().problems == []


def test_a_visitor_of_any_bucket_that_is_left_was_seen(db: uniqdb.Engine) -> None:
    """Years are lost, weeks and months, too; a visitor is known by an hour alone, another by a row in a lost span."""
    with db:
        coarse = ("day", "week", "month", "year")
        fates = {("day", T + DAY_S): Fate.WHOLE}
        lose(
            db,
            [*(span_at(db, kind, T, 60) for kind in coarse), span_at(db, "minute", T, 10), span_at(db, "hour", T, 900)],
            lambda bucket: fates.get(bucket, Fate.WHOLE if bucket[0] == "hour" and bucket[1] == T else Fate.NOTHING),
        )
        assert db.check_many([*"abcdef"]) == [True] * 6
        assert was_seen(db, "nobody") is None, "of the days that are lost nobody knows who came"
        assert db.check_if_uid_exists("c")
        assert db.check().problems == []
        sweep(db, T + 2 * DAY_S, forced=True)
        assert [uid for uid in "abcdef" if not was_seen(db, uid)] == ["d"], "only its minute was left, and went"
        assert db.info().uids == 5
        assert db.check().problems == []


# ---------------------------------------------------------------- later visits
def test_a_later_visit_skips_what_was_lost(db: uniqdb.Engine) -> None:
    with db:
        lose(db, [span_at(db, "minute", T, 2), span_at(db, "day", T)], all_to(Fate.WHOLE))
        lose(db, [span_at(db, "year", T)], all_to(Fate.NOTHING))
        before = [list(db.series(kind)) for kind in ("minute", "day", "year")]
        assert db.add_many([T + 1, T + 61, T + 121], ["late"] * 3) == {"accepted": 3}
        db.commit()
        after = [list(db.series(kind)) for kind in ("minute", "day", "year")]
        assert after[1:] == before[1:]
        assert [one for one in after[0] if one.start_ts != T + 120] == [
            one for one in before[0] if one.start_ts != T + 120
        ]
        assert db.count("2016-07-12T00:02").count == 2
        assert db.count("2016-07-12T00").count == 4
        assert db.info().completeness.skipped == {"minute": 2, "day": 3, "year": 3}
        assert db.check_if_uid_exists("late")
        assert db.check().problems == []


def test_rows_that_were_lost_count_the_new_rows_under_them_and_are_closed(store_path: Path) -> None:
    with uniqdb.open(store_path, options=options()) as db:
        db.add_many([T, T + 60], ["a", "b"])
        set_clock(db, T + 120)
        lose(db, [span_at(db, "hour", T)], all_to(Fate.WHOLE))
        revision = db.count("2016-07-12T00").revision
        db.add_many([T + 180], ["c"])
        set_clock(db, T + 2 * HOUR_S)
        hour = db.count("2016-07-12T00")
        assert (hour.count, hour.visits, hour.status, hour.revision) == (2, 2, "final", revision + 1)
        assert db.count("2016-07-12T00:03").count == 1
        assert db.check().problems == []


def test_a_visit_that_nothing_takes_is_expired(db: uniqdb.Engine) -> None:
    with db:
        lose(db, [span_at(db, kind, T) for kind in GRANULARITIES], all_to(Fate.NOTHING))
        before = db.info()
        assert db.add_new_data(T + 30, "ghost") == "expired"
        assert was_seen(db, "ghost") is None, "it waits for its commit, and will count nowhere"
        assert db.add_many([T + 31, T + 60, T + 40 * DAY_S], ["ghost", "guest", "guest"]) == {
            "expired": 1,
            "accepted": 2,
        }
        db.commit()
        after = db.info()
        assert after.completeness.expired == 2
        assert (after.visits, after.ordinals_used) == (before.visits + 2, before.ordinals_used + 1)
        assert [was_seen(db, uid) for uid in ("ghost", "guest")] == [None, True]
        with pytest.raises(WindowNotKept, match="cannot be told"):
            db.check_many(["guest", "ghost"])
        assert db.check().problems == []


def test_a_late_visit_makes_the_windows_of_a_lost_day_due(store_path: Path) -> None:
    """Its hours are whole, so the window can be worked out, and has changed."""
    with uniqdb.open(store_path, options=options()) as db:
        db.add_many(VISITS, UIDS)
        set_clock(db, T + 41 * DAY_S)
        publishing = Publishing(db, None, EmissionRules(), print)  # type: ignore[arg-type]  # nothing is sent
        lose(db, [span_at(db, "day", T), span_at(db, "minute", T)], all_to(Fate.COUNT))
        db.write(structs.replace(nothing(), is_publishing=True))
        assert worked_out(publishing, db), "they are worked out from hours"
        db.add_many([T + 5], ["late"])
        db.commit()
        again = worked_out(publishing, db)
        assert {days for days, _ in again} == {7, 30, 90, 180, 365}
        assert json.loads(again[WindowKey(7, date(2016, 7, 13).toordinal())])["count"] == 6
        lose(db, [span_at(db, "hour", T), span_at(db, "week", T)], all_to(Fate.NOTHING))
        assert "lost to damage" in refused(lambda: db.count("7d", as_of="2016-07-13"))
        db.add_many([T + 120], ["late"])
        db.commit()
        left = worked_out(publishing, db)
        assert {days for days, _ in left} <= {30, 90, 180, 365}, "months are left"
        with db.snapshot() as snapshot:
            assert list(read_due(snapshot.answers.view)) == []


def worked_out(publishing: Publishing, db: uniqdb.Engine) -> dict[WindowKey, bytes]:
    """All windows that are due, written, and their records."""
    found: dict[WindowKey, bytes] = {}
    while some := publishing.windows(everything=True):
        found |= {key: record for key, _, record in some}
        db.write(structs.replace(nothing(), windows=some))
    return found


# ---------------------------------------------------------------- upkeep
def test_spans_go_once_members_and_rows_are_swept(db: uniqdb.Engine) -> None:
    with db:
        lose(db, [span_at(db, kind, T) for kind in GRANULARITIES], all_to(Fate.NOTHING))
        before = sweep(db, T + 41 * DAY_S, forced=True)
        dead = before.uids
        assert {one.granularity for one in db.info().lost} == set(GRANULARITIES), "rows are kept for 45 days"
        assert db.check().problems == []
        set_clock(db, T + 1_000 * DAY_S)
        report = sweep(db, T + 1_000 * DAY_S, forced=True)
        assert db.info().lost == ()
        assert db.info().uids == 0
        assert dead + report.uids == 6
        assert db.check().problems == [], "the visits of the lost year are among those of years that are gone"
        with pytest.raises(WindowNotKept, match="no longer kept"):
            db.count("2016")


@pytest.mark.parametrize("kind", ["minute", "hour", "day", "week", "month"])
def test_visitors_go_with_the_last_bucket_that_has_them(store_path: Path, kind: str) -> None:
    """Of a lost year one granularity is left. The first sweep drops whom nobody has, the second who was left."""
    with uniqdb.open(store_path, options=brief_options()) as db:
        db.add_many(VISITS[:5], UIDS[:5])
        set_clock(db, T + 2 * HOUR_S)
        others = [span_at(db, one, T, 3 if one == "hour" else 90) for one in GRANULARITIES if one != kind]
        lose(db, others, all_to(Fate.NOTHING))
        sweep(db, T + 2 * HOUR_S, forced=True)
        assert db.info().uids == 4
        set_clock(db, T + 40 * DAY_S)
        assert sweep(db, T + 40 * DAY_S, forced=True).uids == 4
        assert db.info().uids == 0


def test_forgotten_visitors_are_out_of_what_is_left(db: uniqdb.Engine) -> None:
    with db:
        lose(
            db,
            [span_at(db, "month", T, 2), span_at(db, "year", T), span_at(db, "day", T)],
            lambda bucket: Fate.WHOLE if bucket[0] == "day" else Fate.NOTHING,
        )
        db.add_many([T + 2 * HOUR_S], ["a"])
        forget(db, ["a"])
        assert db.count("2016-07-12").count == 3
        assert db.count("2016-07-12T00").count == 2
        assert db.count("2016-07-12T02").count == 0
        assert not db.check_if_uid_exists("a")
        assert db.check().problems == []


@pytest.mark.parametrize("renumber", [False, True])
def test_copies_know_what_was_lost(db: uniqdb.Engine, store_path: Path, tmp_path: Path, renumber: bool) -> None:
    with db:
        spans = [span_at(db, "minute", T, 2), span_at(db, "year", T)]
        lose(db, spans, all_to(Fate.NOTHING))
    compact(store_path, renumber=renumber)
    backup(store_path, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored", Restoring(now_s=1_800_000_000))
    for path in (store_path, tmp_path / "backup", tmp_path / "restored"):
        with uniqdb.open(path, read_only=True) as copy:
            assert copy.info().lost == tuple(spans)
            refused(lambda copy=copy: copy.count("2016"))
            assert copy.count("2016-07-12T00").count == 3
        assert_sound(path)


def test_what_needs_every_bucket_is_refused(db: uniqdb.Engine, store_path: Path, tmp_path: Path) -> None:
    with db:
        lose(db, [span_at(db, "minute", T)], all_to(Fate.NOTHING))
    with uniqdb.open(tmp_path / "other") as other:
        other.add_new_data(T, "x")
    with pytest.raises(WindowNotKept, match="lost minutes, or more, to damage"):
        dump(store_path, io.BytesIO())
    with pytest.raises(WindowNotKept, match="to damage"):
        merge_stores([tmp_path / "other", store_path], tmp_path / "all", Merging(now_s=1_800_000_000))
    assert not (tmp_path / "all").exists()


# ---------------------------------------------------------------- check
@pytest.mark.parametrize(
    ("spans", "problem"),
    [
        ([LostSpan("fortnight", T, T + DAY_S)], "no such span"),
        ([LostSpan("day", T, T)], "no such span"),
        ([LostSpan("day", -(2**40), T)], "no such span"),
        ([LostSpan("day", T + 60, T + DAY_S)], "no bucket begins or ends there"),
        ([LostSpan("day", T, T + DAY_S - 60)], "no bucket begins or ends there"),
        ([LostSpan("minute", T + 60, T + 120), LostSpan("minute", T, T + 60)], "not in order"),
        ([LostSpan("minute", T, T + 120), LostSpan("minute", T + 60, T + 180)], "not in order"),
        ([LostSpan("day", T, T + DAY_S), LostSpan("minute", T, T + 60)], "not in order"),
    ],
)
def test_check_knows_spans_that_make_no_sense(tmp_path: Path, spans: list[LostSpan], problem: str) -> None:
    with filled(tmp_path / "store") as db:
        put_lost(db, spans)
        assert problem in " ".join(db.check().problems)


def put_lost(db: uniqdb.Engine, spans: list[LostSpan]) -> None:
    view, changes = db._store.view(), ChangeSet()
    write_retention(changes, msgspec.structs.replace(read_retention(view), lost=tuple(spans)))
    db._store.commit(changes, based_on=view.txn_id)


@pytest.mark.parametrize("kind", GRANULARITIES)
@pytest.mark.parametrize("what", [Fate.COUNT, Fate.NOTHING])
def test_check_forgives_nothing_beside_what_was_lost(tmp_path: Path, kind: str, what: Fate) -> None:
    """The same store is damaged if the spans lie elsewhere."""
    with filled(tmp_path / "store") as db:
        lose(db, [span_at(db, kind, T)], all_to(what))
        assert db.check().problems == []
        put_lost(db, [span_at(db, kind, T + 2_000 * DAY_S)])
        assert db.check().problems != []


def test_the_row_of_a_store_that_lost_nothing_is_as_before() -> None:
    assert msgspec.msgpack.encode(RetentionRow(uids_dropped=3)) == msgspec.msgpack.encode({"uids_dropped": 3})
    spans = (LostSpan("minute", 60, 120),)
    payload = msgspec.msgpack.encode(RetentionRow(lost=spans))
    assert msgspec.msgpack.decode(payload) == {"lost": [{"granularity": "minute", "start_s": 60, "end_s": 120}]}
    assert msgspec.msgpack.decode(payload, type=RetentionRow).lost == spans
