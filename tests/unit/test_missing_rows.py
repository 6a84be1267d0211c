"""Any one row is lost: every answer is right, or an error that says so; and `check` notices each."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import uniqdb
from engines import options, rows_of
from model import GRANULARITIES, Model
from uniqdb.change_set import ChangeSet
from uniqdb.errors import StoreCorrupt
from uniqdb.format import Database
from uniqdb.granularity import Granularity

T = 1_468_281_600
LOST_FROM = (Database.UIDS, Database.UNITS, Database.BUCKETS, *(Database.of(one) for one in Granularity))


def filled(path: Path) -> Model:
    """Some minutes of many visitors, written by several commits, so that there are fragments to lose."""
    model = Model()
    with uniqdb.open(path, options=options()) as db:
        for part in range(3):
            times = [T + number % 3 * 40_000 for number in range(90)]
            uids = [f"visitor-{part * 70 + number}" for number in range(90)]
            model.add(times, uids)
            db.add_many(times, uids)
            db.commit()
    return model


def lose(path: Path, database: Database, key: bytes) -> None:
    with uniqdb.open(path, options=options()) as db:
        changes = ChangeSet()
        changes.delete(database, key)
        db._store.commit(changes, based_on=db._store.view().txn_id)


def right_or_refused(ask: Callable[[], object], truth: object) -> bool:
    """Whether it was refused."""
    try:
        found = ask()
    except StoreCorrupt:
        return True
    assert found == truth
    return False


def refusals(path: Path, model: Model) -> int:
    """How many questions are refused; the others are answered as the sets have it."""
    everybody = sorted(set().union(*model.members.values()))
    asked = [*everybody[::5], "nobody"]
    with uniqdb.open(path, read_only=True, options=options()) as db:
        refused = [right_or_refused(lambda: rows_of(db), model.rows())]
        refused.append(right_or_refused(lambda: db.check_many(asked), [uid in everybody for uid in asked]))
        for kind in GRANULARITIES:
            for (one, at), uids in list(model.members.items()):
                if one == kind:
                    refused.append(right_or_refused(lambda one=one, at=at: set(db.members(one, at)), uids))
                    end = db.zone.bucket_at(Granularity.from_word(one), at).end_s
                    count = len(model.union(at, end))
                    refused.append(right_or_refused(lambda at=at, end=end: db.count_between(at, end).count, count))
        assert db.check().problems != []
    return sum(refused)


@pytest.mark.parametrize("database", LOST_FROM, ids=lambda one: one.name.lower())
def test_a_lost_row_is_never_taken_for_nothing(tmp_path: Path, database: Database) -> None:
    model = filled(tmp_path / "whole")
    with uniqdb.open(tmp_path / "whole", read_only=True) as db:
        keys = [bytes(key) for key, _ in db._store.view().raw_rows(database)]
    assert keys
    refused = 0
    for number, key in enumerate(keys):
        path = tmp_path / f"lost{number}"
        shutil.copytree(tmp_path / "whole", path)
        lose(path, database, key)
        refused += refusals(path, model) > 0
    assert refused, "no question needed any of these rows: this shows nothing"
