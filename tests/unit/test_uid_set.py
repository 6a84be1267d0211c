"""Set algebra on the visitors of a snapshot: what Python's sets do, and what they are not mixed with."""

from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import pytest

import uniqdb
from engines import options
from uniqdb import HandleClosed, Snapshot, UidSet, UsageError

T = 1_468_244_340
DAY_S = 86_400
DAYS = {"2016-07-11": {"ann", "ben"}, "2016-07-12": {"ben", "cleo"}, "2016-07-13": set(), "2016-07-14": {"dora"}}


@pytest.fixture
def snapshot(store_path: Path) -> Iterator[Snapshot]:
    with uniqdb.open(store_path, options=options()) as db:
        for number, uids in enumerate(DAYS.values()):
            db.add_many([T + number * DAY_S] * len(uids), sorted(uids))
        with db.snapshot() as taken:
            yield taken


def test_they_do_what_sets_do(snapshot: Snapshot) -> None:
    sets = {day: snapshot.window(day) for day in DAYS}
    for one, other in product(DAYS, DAYS):
        mine, others, a, b = sets[one], sets[other], DAYS[one], DAYS[other]
        for found, expected in (
            (mine | others, a | b),
            (mine & others, a & b),
            (mine - others, a - b),
            (mine ^ others, a ^ b),
        ):
            assert set(found) == expected
            assert found.count == len(found) == len(expected)
        assert mine.isdisjoint(others) == a.isdisjoint(b)
        assert (mine <= others) == (a <= b)
        assert (mine == others) == (a == b)
        assert (mine != others) == (a != b)
    assert set(sets["2016-07-11"]) == DAYS["2016-07-11"], "nothing was changed in place"
    assert "ann" in sets["2016-07-11"]
    assert "nobody" not in sets["2016-07-11"]
    assert 7 not in sets["2016-07-11"]
    assert repr(sets["2016-07-11"]) == "<UidSet of 2 visitors>"
    assert not sets["2016-07-13"]
    with pytest.raises(TypeError):
        hash(sets["2016-07-13"])


def test_sets_of_different_snapshots_do_not_go_together(store_path: Path) -> None:
    with uniqdb.open(store_path, options=options()) as db:
        db.add_new_data(T, "ann")
        with db.snapshot() as one, db.snapshot() as other:
            mine, others = one.window("2016"), other.window("2016")
            for combine in (
                *(UidSet.__or__, UidSet.__and__, UidSet.__sub__, UidSet.__xor__),
                *(UidSet.__le__, UidSet.__eq__, UidSet.isdisjoint),
            ):
                with pytest.raises(UsageError) as caught:
                    combine(mine, others)
                assert caught.value.message == "the two sets come from different snapshots"
            with pytest.raises(UsageError, match="does not go with a set"):
                mine & {"ann"}  # type: ignore[operator]
            assert mine != {"ann"}
        assert (mine | mine).count == 1, "the snapshot is closed; the numbers are there"
        with pytest.raises(HandleClosed):
            list(mine)
        with pytest.raises(HandleClosed):
            "ann" in mine  # noqa: B015 - it is the asking that fails


def test_questions_in_every_way_to_say_what_they_are_about(snapshot: Snapshot) -> None:
    record = snapshot.count("2d", as_of="2016-07-12")
    edges = ("2016-07-11", "2016-07-12")
    assert record.count == 3
    for asked in (record, edges, (record.start_ts, record.end_ts)):
        assert snapshot.new_and_returning(asked).new == snapshot.new_visitors(asked).count == 3
        assert snapshot.overlap(asked, "2016-07-14").both == 0
        assert snapshot.overlap("2016-07-12", asked).both == 2
    assert set(snapshot.new_visitors("2016-07-12")) == {"cleo"}
    assert set(snapshot.returning_visitors("2016-07-12")) == {"ben"}
    assert snapshot.new_visitors("2016-07-12", before="30m").count == 2
    assert snapshot.overlap("2016-07-12", "previous").both == 1
    each = list(snapshot.told_apart(snapshot.series("day"), before=None))
    assert [(one.new, one.returning) for one in each] == [(2, 0), (1, 1), (1, 0)]
    with pytest.raises(UsageError, match="nothing is before the calendar"):
        snapshot.overlap("1999", "previous")
    with pytest.raises(UsageError, match="no cohorts by hour"):
        snapshot.cohorts("hour")
    with pytest.raises(UsageError, match="at most 400 cohorts"):
        snapshot.cohorts("day", "2001")
    start_s = snapshot.answers.zone.start_s
    for before in ("36600d", "878400h", "52704000m"):
        found = snapshot.new_and_returning("1d", before=before, as_of="2016-07-14")
        assert (found.new, found.since_ts) == (1, max(start_s, found.start_ts - 36_600 * DAY_S))
        assert snapshot.new_and_returning("1d", before=before, as_of="1999-01-01").since_ts == start_s
    for end_s in (start_s + 60, start_s + 40 * DAY_S):
        assert sum(one.new for one in snapshot.cohorts("week", end=end_s).periods) == 0
        assert snapshot.stickiness(end=end_s).dau_mau is None
    for ask in (snapshot.stickiness, partial(snapshot.cohorts, "week")):
        with pytest.raises(UsageError, match="outside the calendar"):
            ask(end=start_s)
