"""Visits, forgotten visitors, reopening and compaction in any order, against Python sets."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

import uniqdb
from engines import assert_sound, options, rows_of
from model import Model
from uniqdb.compaction import compact
from uniqdb.forgetting import forget

T = 1_459_000_000
ZONE = "Europe/Zurich"


class ForgetfulModel(Model):
    """The sets, without those who were forgotten; or, where counts stay, with somebody nameless in their place."""

    def __init__(self) -> None:
        super().__init__(ZONE)
        self.nameless = 0

    @property
    def everyone(self) -> set[str]:
        return {uid for uids in self.members.values() for uid in uids if not uid.startswith("\0")}

    def forget(self, uids: Iterable[str], *, keep_counts: bool) -> None:
        for uid in uids:
            self.nameless += 1
            for members in self.members.values():
                if uid in members:
                    members.remove(uid)
                    if keep_counts:
                        members.add(f"\0{self.nameless}")

    def named(self, bucket: tuple[str, int]) -> set[str]:
        return {uid for uid in self.members[bucket] if not uid.startswith("\0")}


UIDS = st.integers(0, 80).map(lambda number: f"visitor-{number}")
VISIT = st.tuples(st.integers(0, 400_000) | st.integers(0, 300), UIDS)
ADD = st.tuples(st.just("add"), st.lists(VISIT, max_size=120))
FORGET = st.tuples(st.sampled_from(["forget", "keep counts"]), st.sets(UIDS, max_size=30))
OTHER = st.tuples(st.sampled_from(["reopen", "compact", "renumber"]), st.none())


@given(st.lists(ADD | ADD | FORGET | OTHER, min_size=2, max_size=9), st.sampled_from([7, 50, 1_000]))
@settings(max_examples=25)
def test_any_sequence_equals_the_sets(steps: list[tuple[str, object]], commit_visits: int) -> None:
    folder = Path(tempfile.mkdtemp())
    path, model = folder / "store", ForgetfulModel()
    db = uniqdb.open(path, timezone=ZONE, options=options(commit_visits))
    try:
        for what, detail in steps:
            if what == "add":
                times, uids = [T + at for at, _ in detail], [uid for _, uid in detail]  # type: ignore[attr-defined]
                model.add(times, uids)
                db.add_many(times, uids)
            elif what in ("forget", "keep counts"):
                known = model.everyone & detail  # type: ignore[operator]  # a set
                done = forget(db, sorted(detail), keep_counts=what == "keep counts")  # type: ignore[call-overload]
                assert (done.uids, done.unknown) == (len(known), len(detail - known))  # type: ignore[operator]
                model.forget(known, keep_counts=what == "keep counts")
            else:
                db.close()
                if what != "reopen":
                    done_with = compact(path, options(), renumber=what == "renumber")
                    assert done_with.held == []
                    assert what != "renumber" or done_with.ordinals_after == len(set().union(*model.members.values()))
                db = uniqdb.open(path, options=options(commit_visits))
            assert_equal(db, model)
        assert db.check().problems == []
    finally:
        db.close()
        assert_sound(path)
        shutil.rmtree(folder)


def assert_equal(db: uniqdb.Engine, model: ForgetfulModel) -> None:
    assert rows_of(db) == model.rows()
    asked = [f"visitor-{number}" for number in range(0, 81, 5)]
    assert db.check_many(asked) == [uid in model.everyone for uid in asked]
    assert [db.check_if_uid_exists(uid) for uid in asked] == [uid in model.everyone for uid in asked]
    assert db.info().uids == len(model.everyone)
    for bucket in list(model.members)[::9]:
        assert set(db.members(*bucket)) == model.named(bucket)
        assert db.count_between(bucket[1], bucket[1] + 86_400).count == len(model.union(bucket[1], bucket[1] + 86_400))
