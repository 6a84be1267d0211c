"""The picture of a service, from what the service tells, and the cheap figures of a store."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

import uniqdb
from uniqdb.engine import Engine
from uniqdb.gauges import OPEN_BUCKETS_MAX, read_gauges
from uniqdb.meta import StateRow
from uniqdb.outbox import WindowKey, WindowRow
from uniqdb.stream.meter import LATENCY_EDGES_S, Measures, Meter, PartitionMeasures
from uniqdb.stream.partition import Moment
from uniqdb.writer import nothing

T = 1_468_244_340
DAY_S = 86_400


@pytest.fixture
def db(store_path: Path) -> Iterator[Engine]:
    with uniqdb.open(store_path) as engine:
        yield engine


def write_window(db: Engine, length_days: int) -> None:
    """A commit after which a window waits to be published."""
    commit = nothing()
    commit.windows.append((WindowKey(length_days, 736_000), WindowRow(1, 1), b"{}"))
    db.write(commit)


def take_out(db: Engine, length_days: int, commit_number: int) -> None:
    commit = nothing()
    commit.published[WindowKey(length_days, 736_000).pack()] = commit_number
    db.write(commit)


def pictures(db: Engine) -> tuple[Meter, list[Measures]]:
    found: list[Measures] = []
    return Meter(db, found.append), found


# ---------------------------------------------------------------- the store
def test_gauges_of_an_empty_store(db: Engine) -> None:
    found = read_gauges(db)
    assert set(found.open_buckets.values()) == {0}
    assert found.final_end_s == {}
    assert (found.uids, found.held, found.outbox_rows, found.outbox_oldest_commit, found.due_windows) == (0,) * 3 + (
        None,
        0,
    )


def test_gauges_of_open_and_closed_buckets(db: Engine) -> None:
    db.add_many([T + 60 * number for number in range(100)], ["a", "b"] * 50, source="web")
    db.commit()
    found = read_gauges(db)
    assert found.uids == 2
    assert found.state.visits + found.held == 100
    closed_s = found.state.closed_through_s
    assert closed_s is not None
    assert found.final_end_s["minute"] == closed_s // 60 * 60
    assert found.final_end_s["hour"] == closed_s // 3600 * 3600
    assert found.final_end_s["month"] == 1_467_331_200
    minutes = [record for record in db.series("minute") if record.status == "provisional"]
    assert found.open_buckets["minute"] == len(minutes) > 0
    assert (found.open_buckets["day"], found.open_buckets["year"]) == (1, 1)
    assert 0 < found.live_bytes <= found.file_bytes
    assert found.disk_free_bytes > 0
    assert found.file_bytes == db.info().file_bytes


def test_counting_open_buckets_has_an_end(db: Engine) -> None:
    times_s = np.arange(T, T + 60 * (OPEN_BUCKETS_MAX + 500), 60)
    db.add_many(times_s, ["a"] * len(times_s))
    db.commit()
    assert read_gauges(db).open_buckets["minute"] == OPEN_BUCKETS_MAX


# ---------------------------------------------------------------- the picture
def test_a_picture_is_put_down_once_a_second(db: Engine) -> None:
    meter, found = pictures(db)
    for tenth in range(25):
        meter.turned(Moment(T, 100 + tenth / 10), tenth)
    assert [one.records for one in found] == [0, 10, 20]
    assert meter.latest is found[-1]
    assert meter.turned_at_s == pytest.approx(102.4)


def test_verdicts_are_what_commits_add(db: Engine) -> None:
    meter, found = pictures(db)
    before = StateRow(visits=100, quarantined={"malformed": 7, "ahead": 1}, late_visits={"minute": 3}, expired=5)
    after = msgspec.structs.replace(
        before, visits=150, quarantined={"malformed": 9, "ahead": 1, "no_ts": 4}, late_visits={"minute": 4}, expired=6
    )
    meter.committed(before, after, 0.003)
    # Meanwhile somebody has accepted what was malformed: it is no record less that came.
    accepted = msgspec.structs.replace(after, quarantined={"ahead": 1, "no_ts": 4}, visits=159)
    meter.committed(accepted, msgspec.structs.replace(accepted, visits=160, skipped={"hour": 2}), 40.0)
    meter.turned(Moment(T, 0), 0)
    seen = {key: number for key, number in found[0].verdicts.items() if number}
    assert seen == {"accepted": 51, "expired": 1, "malformed": 2, "no_ts": 4}
    assert found[0].late["minute"] == 1
    assert found[0].skipped["hour"] == 2
    counts = found[0].commits.counts
    assert counts[LATENCY_EDGES_S.index(0.0025)] == 0
    assert counts[LATENCY_EDGES_S.index(0.005)] == counts[-2] == 1
    assert counts[-1] == 2
    assert found[0].commits.sum_s == pytest.approx(40.003)


def test_what_waits_to_be_published_has_an_age(db: Engine) -> None:
    meter, found = pictures(db)
    meter.turned(Moment(T, 0), 0)
    write_window(db, 7)
    first = db.info().commits
    meter.turned(Moment(T + 10, 10), 0)
    write_window(db, 30)
    meter.turned(Moment(T + 20, 20), 0)
    meter.turned(Moment(T + 50, 50), 0)
    assert [one.outbox_age_s for one in found] == [0, 0, 10, 40]
    take_out(db, 7, first)
    meter.turned(Moment(T + 60, 60), 0)
    assert found[-1].outbox_age_s == 40
    take_out(db, 30, first + 1)
    meter.turned(Moment(T + 70, 70), 0)
    assert (found[-1].outbox_age_s, found[-1].outbox_since_s) == (0, None)


def test_what_a_predecessor_left_waits_since_the_start(db: Engine) -> None:
    for length_days in (7, 30, 90):
        write_window(db, length_days)
    meter, found = pictures(db)
    meter.turned(Moment(T, 0), 0)
    db.add_new_data(T, "a")
    db.commit()
    meter.turned(Moment(T + 25, 25), 0)
    assert found[-1].outbox_age_s == 25


def test_moments_of_commits_do_not_grow_without_end(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniqdb.stream.meter._COMMITS_REMEMBERED", 10)
    meter, found = pictures(db)
    write_window(db, 7)
    for second in range(60):
        db.add_new_data(T + second, "a")
        db.commit()
        meter.turned(Moment(T + second, second), 0)
    assert found[-1].outbox_age_s == 59
    assert len(meter._commit_moments) <= 10


def test_published(db: Engine) -> None:
    meter, found = pictures(db)
    meter.turned(Moment(T, 0), 0)
    meter.published(12, 0.2)
    meter.publishing_failed()
    meter.turned(Moment(T + 1, 1), 0)
    meter.turned(Moment(T + 2, 2), 0)
    assert [one.published_at_s for one in found] == [None, T + 1, T + 1]
    assert (found[-1].published, found[-1].publish_failures, found[-1].publishing.counts[-1]) == (12, 1, 1)


def test_kafka_and_history(db: Engine) -> None:
    meter, found = pictures(db)
    meter.looked({}, {}, history=True)
    meter.turned(Moment(T, 0), 0)
    meter.looked(None, {}, history=False)
    meter.turned(Moment(T, 1), 0)
    assert [(one.is_kafka_up, one.is_history) for one in found] == [(True, True), (False, False)]


def test_lag(db: Engine) -> None:
    meter, found = pictures(db)
    meter.turned(Moment(T + 100, 0), 0)
    assert (found[0].lag_records, found[0].lag_s) == (None, None)

    def lags(*partitions: PartitionMeasures) -> tuple[int | None, int | None]:

        one = replace(found[0], partitions=partitions)
        return one.lag_records, one.lag_s

    assert lags(PartitionMeasures(0, 5, T, False), PartitionMeasures(1, 7, T + 90, False)) == (12, 100)
    assert lags(PartitionMeasures(0, 5, T, True), PartitionMeasures(1, 7, T + 90, False)) == (12, 10)
    assert lags(PartitionMeasures(0, 0, T, True), PartitionMeasures(1, 0, T + 90, True)) == (0, 100)
    assert lags(PartitionMeasures(0, None, T, False), PartitionMeasures(1, 7, None, False)) == (None, None)
    assert lags(PartitionMeasures(0, 0, T + 500, False)) == (0, 0)
