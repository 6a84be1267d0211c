"""Values that no store of ours holds, behind checksums that hold: each is refused by name, and nothing is guessed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import uniqdb
from engines import options
from uniqdb import bucket_members
from uniqdb.bucket_members import decode_members, every_member
from uniqdb.change_set import ChangeSet
from uniqdb.commit_plan import CommitPlan
from uniqdb.errors import HandleClosed, StoreCorrupt
from uniqdb.format import (
    MEMBERS_ARRAY,
    MEMBERS_ROARING,
    YOUNG_KEY,
    BucketRow,
    Database,
    DictionaryRow,
    FragmentEntry,
    FragmentId,
    MembersState,
    Status,
    bucket_key,
    fragment_key,
    parse_bucket_key,
)
from uniqdb.granularity import Granularity
from uniqdb.meta import read_state
from uniqdb.outbox import (
    WindowKey,
    WindowRow,
    acknowledge,
    mark_due,
    mark_not_due,
    quarantine_key,
    queue,
    queue_window,
    read_due,
    read_outbox,
    read_window,
)
from uniqdb.retention import Goal, delete_rows, sweep_members
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


def test_a_set_that_is_none() -> None:
    entry = FragmentEntry(FragmentId(1, 0), 2, 12)
    two = np.array([5, 9], np.uint32).tobytes()
    for payload, complaint in (
        (b"", "unknown kind"),
        (b"\x07\0\0\0" + two, "unknown kind"),
        (bytes((MEMBERS_ARRAY, 0, 0, 0)) + two[:-1], "unknown kind"),
        (bytes((MEMBERS_ROARING, 0, 0, 0)) + b"no set", "deserialize"),
        (bytes((MEMBERS_ARRAY, 0, 0, 0)) + two[:4], "as many members"),
    ):
        with pytest.raises(StoreCorrupt, match=complaint):
            decode_members(Database.MINUTE, MINUTE, entry, payload)
    assert list(decode_members(Database.MINUTE, MINUTE, entry, bytes((MEMBERS_ARRAY, 0, 0, 0)) + two)) == [5, 9]


@pytest.mark.parametrize("key", [b"", MINUTE[:-1], b"\xee" + MINUTE[1:], MINUTE[:1] + b"\xff" * 8])
def test_a_key_of_no_bucket(key: bytes) -> None:
    with pytest.raises(StoreCorrupt, match="no key of a bucket"):
        parse_bucket_key(key)


def test_rows_that_are_too_short_or_from_tomorrow() -> None:
    row = BucketRow(0, 3, 1, 0, Status.PROVISIONAL).pack()
    with pytest.raises(StoreCorrupt, match="too short"):
        BucketRow.unpack(MINUTE, row[:-1])
    with pytest.raises(StoreCorrupt, match="newer version"):
        BucketRow.unpack(MINUTE, row[:-4] + b"\x63\x63" + row[-2:])
    with pytest.raises(StoreCorrupt, match="length is wrong"):
        DictionaryRow.unpack(DictionaryRow().pack() + b"\0")
    with pytest.raises(StoreCorrupt, match="make no sense"):
        DictionaryRow.unpack(DictionaryRow(next_ordinal=2**40).pack())


def test_many_small_buckets_are_joined_in_parts(db: uniqdb.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    db.add_many([T + 60 * number for number in range(200)], [f"visitor-{number}" for number in range(200)])
    db.commit()
    monkeypatch.setattr(bucket_members, "_INLINE_CHUNK_BYTES", 100)
    with db.snapshot() as snapshot:
        assert len(every_member(snapshot.answers.view)) == 203


# ---------------------------------------------------------------- sweeps over what makes no sense
def swept_goal(granularity: Granularity) -> Goal:
    return Goal(granularity, T + 400 * 86_400, 100)


def test_a_bucket_with_members_and_no_directory_is_not_swept(db: uniqdb.Engine) -> None:
    row = BucketRow(3, 3, 1, 0, Status.FINAL, MembersState.KEPT)
    write(db, put(Database.BUCKETS, MINUTE, row.pack()))
    plan = CommitPlan(db._store.view(), 99, ChangeSet())
    with pytest.raises(StoreCorrupt, match="directory of a bucket"):
        sweep_members(plan, read_state(plan.view), swept_goal(Granularity.MINUTE))


def test_a_row_with_members_before_the_horizon_is_not_deleted(db: uniqdb.Engine) -> None:
    plan = CommitPlan(db._store.view(), 99, ChangeSet())
    with pytest.raises(StoreCorrupt, match="has members"):
        delete_rows(plan, read_state(plan.view), db.zone, swept_goal(Granularity.MINUTE))


def test_more_rows_than_the_one_above_has(db: uniqdb.Engine) -> None:
    swept = BucketRow(3, 3, 1, 0, Status.FINAL, MembersState.SWEPT).pack()
    write(db, put(Database.BUCKETS, MINUTE, swept))
    hour = bucket_key(Granularity.HOUR, T // 3_600 * 3_600)
    write(db, put(Database.BUCKETS, hour, BucketRow(3, 3, 1, 0, Status.FINAL, MembersState.SWEPT).pack()))
    plan = CommitPlan(db._store.view(), 99, ChangeSet())
    with pytest.raises(StoreCorrupt, match="more minute rows than it has"):
        delete_rows(plan, read_state(plan.view), db.zone, swept_goal(Granularity.MINUTE))


def test_what_is_known_of_published_windows_goes_with_the_rows_of_their_days(db: uniqdb.Engine) -> None:
    day_s = T // 86_400 * 86_400
    last = db.zone.local_date(T).toordinal()
    gone, kept = WindowKey(7, last), WindowKey(7, last + 500)

    def publish(plan: CommitPlan) -> None:
        for key in (gone, kept):
            queue_window(plan, key, WindowRow(1, int(Status.FINAL)), b"{}")
        mark_due(plan, [WindowKey(30, last), gone, kept])

    write(db, publish)
    for granularity in (Granularity.MINUTE, Granularity.HOUR, Granularity.DAY):
        key = bucket_key(granularity, db.zone.bucket_at(granularity, T).start_s)
        write(db, put(Database.BUCKETS, key, BucketRow(3, 3, 1, 0, Status.FINAL, MembersState.SWEPT).pack()))

    def sweep_days(plan: CommitPlan) -> None:
        delete_rows(plan, read_state(plan.view), db.zone, Goal(Granularity.DAY, day_s + 86_400, 100))

    month = bucket_key(Granularity.MONTH, db.zone.bucket_at(Granularity.MONTH, T).start_s)
    week = bucket_key(Granularity.WEEK, db.zone.bucket_at(Granularity.WEEK, T).start_s)
    for key in (month, week):
        write(db, put(Database.BUCKETS, key, BucketRow(3, 3, 1, 1, Status.FINAL, MembersState.SWEPT).pack()))
    write(db, sweep_days)
    view = db._store.view()
    assert (read_window(view, gone), read_window(view, kept)) == (None, WindowRow(1, int(Status.FINAL)))
    assert [row.key for row in read_outbox(view, b"", b"\xff", 10)] == [kept.pack()]
    assert list(read_due(view)) == [kept, WindowKey(30, last)]


@pytest.mark.parametrize("granularity", list(Granularity))
def test_a_bucket_that_begins_where_none_does(db: uniqdb.Engine, granularity: Granularity) -> None:
    """Looking through the store ended in an IndexError."""
    start_s = db.zone.bucket_at(granularity, T).start_s + 1
    write(db, put(Database.BUCKETS, bucket_key(granularity, start_s), BucketRow(3, 3, 1, 0).pack()))
    assert db.check().problems != []
