"""Nothing is lost: whatever is done, each record is accepted, in quarantine, held, or was discarded by the user."""

import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import uniqdb
from engines import assert_sound, rows_of
from event_time_streams import T
from model import Model
from uniqdb import CommitRule, OpenOptions
from uniqdb.errors import NotFound
from uniqdb.quarantine_review import QuarantineFilter, accept_quarantined, discard_quarantined
from uniqdb.source_clocks import reset_clock

DAY_S, WALL_S = 86_400, T + 3 * 86_400
REASONS = ["too_late", "ahead", "implausible", "bad_ts", "bad_uid"]
near = st.integers(T, T + 3_000)
far = st.integers(T - 900 * DAY_S, WALL_S + DAY_S)
wild = st.integers(-(2**63), 2**63 - 1)
odd = st.sampled_from(["noon", None, 1.5e300, "12", WALL_S + DAY_S, WALL_S + DAY_S + 1])
visits = st.lists(
    st.tuples(st.one_of(near, near, near, far, wild, odd), st.sampled_from(["a", "b", "c", "d", ""])), max_size=60
)
runs = st.builds(lambda start, n, step: [(start + k * step, f"r{k % 9}") for k in range(n)], far, st.integers(1, 60),
                 st.integers(0, 40))  # fmt: skip
sources = st.sampled_from([None, "one", "two"])
steps = st.one_of(
    st.tuples(st.just("add"), sources, st.one_of(visits, runs)),
    st.tuples(st.just("add"), sources, st.one_of(visits, runs)),
    st.tuples(st.just("add one by one"), sources, visits),
    st.tuples(st.just("commit")),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("accept"), st.sampled_from(REASONS)),
    st.tuples(st.just("discard"), st.just("bad_ts")),
    st.tuples(st.just("reset"), st.sampled_from(["one", "two"]), st.booleans()),
    st.tuples(st.just("close buckets")),
)


def options() -> OpenOptions:
    return OpenOptions(commit=CommitRule(visits=45, interval_s=1e9), wall_clock=lambda: WALL_S)


def do(db: uniqdb.Engine, step: tuple[Any, ...]) -> list[tuple[object, str]]:
    """Carry the step out; returns the records that it handed over."""
    if step[0] == "add":
        counts = db.add_many([ts for ts, _ in step[2]], [uid for _, uid in step[2]], source=step[1])
        assert sum(counts.values()) == len(step[2])
        return step[2]
    if step[0] == "add one by one":
        for ts, uid in step[2]:
            db.add_new_data(ts, uid, source=step[1])
        return step[2]
    if step[0] == "commit":
        db.commit()
    elif step[0] == "accept":
        accept_quarantined(db, QuarantineFilter(reasons=frozenset({step[1]})))
    elif step[0] == "discard":
        discard_quarantined(db, QuarantineFilter(reasons=frozenset({step[1]})))
    elif step[0] == "reset":
        with suppress(NotFound):
            reset_clock(db, step[1], end=step[2])
    elif step[0] == "close buckets":
        db.close_buckets()
    return []


def assert_adds_up(db: uniqdb.Engine, received: int) -> None:
    with db.snapshot() as snapshot:
        found = snapshot.completeness()
    parts = found.accepted, found.held, found.expired, sum(found.quarantined.values()), sum(found.discarded.values())
    assert sum(parts) == received, parts


def plausible(ts: object, uid: str) -> int | None:
    """The time of a record that is a plausible visit."""
    if isinstance(ts, str) and ts.isdigit():
        ts = int(ts)
    is_one = isinstance(ts, int) and uid and 946_684_800 <= ts <= WALL_S + DAY_S
    return ts if is_one else None  # type: ignore[return-value]  # it is an int then


@given(st.lists(steps, max_size=14))
@settings(max_examples=60)
def test_every_record_is_somewhere_and_the_whole_quarantine_can_be_accepted(todo: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        db = uniqdb.open(store, options=options())
        handed: list[tuple[object, str]] = []
        implausible: Counter[tuple[int, str]] = Counter()
        for step in todo:
            if step[0] == "reopen":
                db.close()
                db = uniqdb.open(store, options=options())
            handed += do(db, step)
            if step[0] == "accept" and step[1] == "implausible":
                implausible = Counter(
                    (ts, uid)
                    for ts, uid in handed
                    if isinstance(ts, int) and uid and WALL_S + DAY_S < ts < 253_370_764_800
                )
            assert_adds_up(db, len(handed))
        db.close()
        with uniqdb.open(store, options=options()) as db:
            assert_adds_up(db, len(handed))
            left = accept_quarantined(db, QuarantineFilter()).left
            assert left.keys() <= {"implausible", "bad_ts", "bad_uid"}
            assert_adds_up(db, len(handed))
            model = Model()
            for ts, uid in handed:
                time_s = plausible(ts, uid)
                if time_s is not None:
                    model.add([time_s], [uid])
            for (ts, uid), count in implausible.items():
                model.add([ts] * count, [uid] * count)
            assert rows_of(db) == model.rows()
        assert_sound(store)
