"""Values that no store of ours holds, behind checksums that hold: each is refused by name, and nothing is guessed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import uniqdb
from engines import options
from uniqdb.change_set import ChangeSet
from uniqdb.commit_plan import CommitPlan
from uniqdb.errors import HandleClosed, StoreCorrupt
from uniqdb.format import (
    YOUNG_KEY,
    BucketRow,
    Database,
    MembersState,
    Status,
    bucket_key,
    fragment_key,
)
from uniqdb.granularity import Granularity
from uniqdb.outbox import (
    WindowKey,
    acknowledge,
    mark_due,
    mark_not_due,
    quarantine_key,
    queue,
    read_due,
    read_outbox,
    read_window,
)
from uniqdb.uid_dictionary import DICTIONARY_KEY

T = 1_468_281_600
MINUTE = bucket_key(Granularity.MINUTE, T)
WINDOW = WindowKey(7, 736_000)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[uniqdb.Engine]:
    opened = uniqdb.open(tmp_path / "rare.uniqdb", options=options())
    opened.add_many([T] * 3, ["ann", "ben", "cleo"])
    opened.commit()
    yield opened
    opened._store.close()  # what waits in it cannot be committed


def write(db: uniqdb.Engine, fill: Callable[[CommitPlan], None]) -> None:
    """A commit of rows made by hand."""
    view = db._store.view()
    plan = CommitPlan(view, 99, ChangeSet())
    fill(plan)
    db._store.commit(plan.changes, based_on=view.txn_id)


def put(database: Database, key: bytes, payload: bytes) -> Callable[[CommitPlan], None]:
    return lambda plan: plan.changes.put_row(database, key, payload)


def test_a_row_that_names_a_member_twice(db: uniqdb.Engine) -> None:
    twice = np.array([1, 1, 2], np.uint32).tobytes()
    row = BucketRow(3, 3, 1, 0, Status.PROVISIONAL, MembersState.INLINE, twice)
    write(db, put(Database.BUCKETS, MINUTE, row.pack()))
    with pytest.raises(StoreCorrupt, match="a member twice"):
        list(db.members("minute", T))


def test_a_bucket_with_members_and_no_row(db: uniqdb.Engine) -> None:
    hour_later = bucket_key(Granularity.MINUTE, T + 3_600)
    directory = db._store.view().row(Database.UNITS, YOUNG_KEY)
    assert directory is not None
    write(db, put(Database.UNITS, hour_later, directory))
    db.add_many([T + 3_600] * 90, [f"visitor-{number}" for number in range(90)])
    with pytest.raises(StoreCorrupt, match="members but no row"):
        db.commit()


def test_an_ordinal_that_was_never_given_out(db: uniqdb.Engine) -> None:
    row = BucketRow(1, 1, 1, 0, Status.PROVISIONAL, MembersState.INLINE, np.array([77], np.uint32).tobytes())
    write(db, put(Database.BUCKETS, MINUTE, row.pack()))
    with pytest.raises(StoreCorrupt, match="a set has an ordinal"):
        list(db.members("minute", T))


def dictionary_fragment(db: uniqdb.Engine, change: Callable[[bytearray], None]) -> None:
    """Change the payload of the only fragment of uids."""
    view = db._store.view()
    directory = view.directory(YOUNG_KEY)
    assert directory is not None
    key = fragment_key(YOUNG_KEY, directory.fragments[0].id)
    payload = bytearray(view.fragment(Database.UIDS, key).whole())
    change(payload)
    write(db, lambda plan: plan.changes.put_fragment(Database.UIDS, key, bytes(payload)))
    db._store._opened.data.verified.clear()


def test_a_uid_with_an_ordinal_that_was_never_given_out(db: uniqdb.Engine) -> None:
    def change(payload: bytearray) -> None:
        payload[8 + 3 * 12 : 8 + 3 * 12 + 4] = (99).to_bytes(4, "little")

    dictionary_fragment(db, change)
    with pytest.raises(StoreCorrupt, match="it has an ordinal"):
        list(db.members("minute", T))


def test_a_uid_that_is_no_text(db: uniqdb.Engine) -> None:
    def change(payload: bytearray) -> None:
        payload[-1] = 0xFF
        payload[-4] = 0xFF
        payload[-7] = 0xFF

    dictionary_fragment(db, change)
    with pytest.raises(StoreCorrupt, match="not UTF-8"):
        list(db.members("minute", T))


def test_rows_of_the_outbox_that_make_no_sense(db: uniqdb.Engine) -> None:
    write(db, put(Database.OUTBOX, MINUTE, b"short"))
    write(db, put(Database.WINDOWS, WINDOW.pack(), b"short"))
    with db.snapshot() as snapshot:
        with pytest.raises(StoreCorrupt, match="too short"):
            read_outbox(snapshot.answers.view, b"", b"\xff", 10)
        with pytest.raises(StoreCorrupt, match="length is wrong"):
            read_window(snapshot.answers.view, WINDOW)


def test_what_waits_goes_when_it_is_acknowledged_and_not_before(db: uniqdb.Engine) -> None:
    other = quarantine_key(3)

    def first(plan: CommitPlan) -> None:
        queue(plan, [MINUTE, other])
        mark_due(plan, [WINDOW, WINDOW])

    def second(plan: CommitPlan) -> None:
        queue(plan, [other])
        acknowledge(plan, {MINUTE: 98, other: 99, quarantine_key(4): 99})
        mark_not_due(plan, [WINDOW, WindowKey(30, 736_000)])

    write(db, first)
    write(db, second)
    with db.snapshot() as snapshot:
        view = snapshot.answers.view
        assert [row.key for row in read_outbox(view, b"", b"\xff", 10)] == [MINUTE, other]
        assert [row.key for row in read_outbox(view, b"", b"\xff", 1)] == [MINUTE]
        assert list(read_due(view)) == []
    write(db, lambda plan: acknowledge(plan, {MINUTE: 99}))
    with db.snapshot() as snapshot:
        assert [row.key for row in read_outbox(snapshot.answers.view, b"", b"\xff", 10)] == [other]


def test_a_row_to_be_deleted_that_is_not_there(db: uniqdb.Engine) -> None:
    with pytest.raises(StoreCorrupt, match="was not there"):
        write(db, lambda plan: plan.changes.delete(Database.META, b"nothing"))
    assert db.check().problems == []


def test_a_reader_commits_nothing(db: uniqdb.Engine) -> None:
    db.close()
    with uniqdb.open(db.path, read_only=True) as reader, pytest.raises(HandleClosed, match="read-only"):
        reader._store.commit(ChangeSet(), based_on=1)


def test_a_dictionary_without_an_ordinal_left(db: uniqdb.Engine) -> None:
    view = db._store.view()
    row = db._facts.dictionary.row(view)._replace(next_ordinal=2**32 - 1)
    write(db, put(Database.META, DICTIONARY_KEY, row.pack()))
    db.add_many([T], ["one too many"])
    with pytest.raises(StoreCorrupt, match="ordinal"):
        db.commit()
