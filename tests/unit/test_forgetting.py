"""Forgetting visitors: all the places that name them, what is published, and what a running writer remembers."""

import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

import uniqdb
from engines import assert_sound, options, rows_of
from model import Model
from uniqdb import DictionarySizes
from uniqdb.change_set import ChangeSet
from uniqdb.compaction import compact
from uniqdb.errors import HandleClosed
from uniqdb.forgetting import forget
from uniqdb.format import BucketRow, Database, MembersState, bucket_key, fragment_key
from uniqdb.granularity import Granularity
from uniqdb.horizons import RetentionRow, write_retention
from uniqdb.intake import open_intake, read_held
from uniqdb.meta import SourceRow, read_source
from uniqdb.needles import Needles
from uniqdb.outbox import read_due, read_outbox, read_window
from uniqdb.quarantine import Quarantined, read_quarantine
from uniqdb.stream.emission import DEFAULT_RULES, Emission, Urgency, work_out
from uniqdb.writer import nothing

T = 1_468_244_340
DAY_S = 86_400


@pytest.fixture
def db(store_path: Path) -> Iterator[uniqdb.Engine]:
    with uniqdb.open(store_path, options=options()) as engine:
        yield engine


def add(db: uniqdb.Engine, model: Model, visits: int, visitors: int, seed: int = 1) -> None:
    rng = random.Random(seed)
    times = [T + rng.randrange(3 * 1_440) * 60 for _ in range(visits)]
    uids = [f"visitor-{rng.randrange(visitors):06}" for _ in range(visits)]
    model.add(times, uids)
    db.add_many(times, uids)
    db.commit()


def without(model: Model, uids: set[str]) -> Model:
    for members in model.members.values():
        members.difference_update(uids)
    return model


def in_files(path: Path) -> set[str]:
    """Every visitor whose uid stands anywhere in a file of the store."""
    found = (re.findall(rb"visitor-[0-9]{6}", file.read_bytes()) for file in path.rglob("*") if file.is_file())
    return {uid.decode() for uids in found for uid in uids}


def test_a_thousand_of_a_hundred_thousand_leave_no_byte(store_path: Path) -> None:
    model = Model()
    model.start = cache(model.start)  # type: ignore[method-assign]  # it is asked for few different times
    usual = options(20_000, DictionarySizes(young_bytes=500_000, partition_entries=5_000))
    with uniqdb.open(store_path, options=usual) as db:
        add(db, model, 130_000, 100_000)
        gone = {f"visitor-{number:06}" for number in range(0, 100_000, 100)}
        known = gone & model.members["year", 1_451_606_400]
        done = forget(db, sorted(gone))
        assert (done.uids, done.unknown) == (len(known), len(gone) - len(known))
        assert rows_of(db) == without(model, gone).rows()
        assert not any(db.check_many(sorted(gone)))
        assert not gone & set(db.members("year", T))
        assert db.info().erasures == [done]
    assert_sound(store_path)
    assert in_files(store_path) & gone, "freed pages still have them"
    assert compact(store_path, usual).held == []
    assert in_files(store_path) == model.members["year", 1_451_606_400]
    with uniqdb.open(store_path, options=usual) as db:
        back = sorted(known)[0]
        db.add_new_data(T, back)
        model.add([T], [back])
        assert rows_of(db) == model.rows(), "who comes back is new"
        assert db.check_if_uid_exists(back)


def test_revisions_and_statuses(db: uniqdb.Engine) -> None:
    db.add_many(list(range(T, T + 7_200, 10)), [f"u{number % 9}" for number in range(720)], source="web")
    db.commit()
    before = {(one.granularity, one.start_ts): one for kind in ("minute", "hour", "day") for one in db.series(kind)}
    only = next(one for one in before.values() if one.granularity == "minute" and one.status == "final")
    (first,) = {uid for uid in db.members("minute", only.start_ts) if uid == "u0"} or {"u1"}
    members = {key: first in set(db.members(*key)) for key in before}
    assert forget(db, [first]).buckets == sum(members.values()) + sum(
        first in ["u0", "u1"] for _ in ("week", "month", "year")
    )
    after = {(one.granularity, one.start_ts): one for kind in ("minute", "hour", "day") for one in db.series(kind)}
    for key, was in before.items():
        now = after[key]
        assert (now.count, now.visits) == (was.count - members[key], was.visits)
        assert now.revision == was.revision + members[key]
        assert now.status == ("amended" if members[key] and was.status == "final" else was.status)
    assert {one.status for one in after.values()} == {"amended", "provisional"} | (
        {"final"} if not all(members.values()) else set()
    )


def test_a_bucket_of_nobody_else_stays_with_its_visits(db: uniqdb.Engine) -> None:
    db.add_many([T, T + 1, T + 60], ["alone", "alone", "other"])
    assert forget(db, ["alone", "nobody"]).unknown == 1
    found = db.count_between(T, T + 60)
    assert (found.count, found.visits) == (0, 2)
    assert db.check().problems == []
    db.add_many([T], ["third"])
    assert db.count_between(T, T + 60).count == 1


def test_counts_that_are_kept(store_path: Path) -> None:
    model = Model()
    with uniqdb.open(store_path, options=options(500)) as db:
        add(db, model, 4_000, 300)
        before, revisions = rows_of(db), [one.revision for one in db.series("minute")]
        gone = {f"visitor-{number:06}" for number in range(100)}
        assert forget(db, gone, keep_counts=True).buckets == 0
        assert (rows_of(db), [one.revision for one in db.series("minute")]) == (before, revisions)
        assert set(db.members("year", T)) == model.members["year", 1_451_606_400] - gone
        assert db.count("2d").count == len(model.union(db.count("2d").start_ts, db.count("2d").end_ts))
        assert not any(db.check_many(sorted(gone)))
        assert db.info().uids == 200
        assert (forget(db, gone).uids, forget(db, gone, keep_counts=True).unknown) == (0, 100), "nobody is left to find"
        db.add_many([T], ["visitor-000000"])
        assert db.count("2016").count == 301, "who comes back is not known as who was there"
        before = rows_of(db)
    assert compact(store_path, options(), renumber=True).ordinals_after == 301
    with uniqdb.open(store_path, options=options()) as db:
        assert rows_of(db) == before
        assert "visitor-000001" not in in_files(store_path)


@pytest.mark.parametrize("seed", range(4))
def test_in_the_midst_of_a_drain(db: uniqdb.Engine, seed: int) -> None:
    """The dictionary is tiny: with each commit something drains, is merged or split."""
    rng, model = random.Random(seed), Model()
    gone: set[str] = set()
    for step in range(60):
        uids = [f"<{step}-{number}-{'x' * rng.randrange(30)}>" for number in range(rng.randrange(1, 40))]
        model.add([T] * len(uids), uids)
        db.add_many([T] * len(uids), uids)
        if step % 3 == 0:
            chosen = set(rng.sample(sorted(model.members["minute", T]), 2))
            assert forget(db, chosen).uids == len(chosen)
            gone |= chosen
            without(model, chosen)
            assert set(db.members("minute", T)) == model.members["minute", T]
            assert db.check().problems == []
            with db.snapshot() as snapshot:
                scanned = db._facts.dictionary.scan(snapshot.answers.view)
                bytes_kept = b"\0".join(columns.blob.tobytes() for _, columns in scanned)
            assert not [uid for uid in chosen if uid.encode() in bytes_kept]
    assert rows_of(db) == model.rows()
    assert not any(db.check_many(sorted(gone)))


def test_what_waits_in_the_handle_is_forgotten_too(db: uniqdb.Engine) -> None:
    db.add_many([T, T], ["a", "b"])
    assert forget(db, ["a"]).uids == 1
    db.add_many([T], ["b"])
    assert db.count_between(T, T + 60).count == 1
    db.add_many([T], ["a"])
    assert db.count_between(T, T + 60).count == 2
    with uniqdb.open(db.path.with_name("other"), options=options()) as other:
        assert forget(other, ["a"]).uids == 0
        assert other.info().commits == 0, "nothing to do, nothing written"


def test_a_reader_forgets_nobody(store_path: Path) -> None:
    uniqdb.create(store_path)
    with uniqdb.open(store_path, read_only=True) as db, pytest.raises(HandleClosed):
        forget(db, ["a"])


# ---------------------------------------------------------------- doubtful and refused visits
def test_held_visits_of_a_source_of_calls(db: uniqdb.Engine) -> None:
    db.add_many(list(range(T, T + 100)), ["u"] * 100, source="web")
    db.add_many([T + DAY_S, T + 40 * DAY_S], ["gone", "stays"], source="web")
    done = forget(db, ["gone"])
    assert (done.uids, done.held) == (1, 1)
    with db.snapshot() as snapshot:
        completeness = snapshot.completeness()
        assert [row.uid for _, row in read_held(snapshot.answers.view, b"")] == ["stays"]
    assert (completeness.held, completeness.discarded) == (1, {"forgotten": 1})
    assert [(one.accepted, one.refused, one.held) for one in completeness.sources] == [(100, 1, 1)]
    db.add_many(list(range(T + DAY_S, T + DAY_S + 30)), ["v"] * 30, source="web")
    db.commit()
    assert not db.check_if_uid_exists("gone"), "its time has company now, but there is no visit any more"
    db.close()
    with uniqdb.open(db.path, read_only=True) as again:
        assert again.info().sources[0].finished, "the source ended with the handle"
        with again.snapshot() as snapshot:
            assert [row.uid for _, row in read_quarantine(snapshot.answers.view)] == ["stays"]


def test_held_visits_of_a_file(db: uniqdb.Engine) -> None:
    key, source = b"k" * 16, SourceRow(name="a.jsonl", ts_field="ts", uid_field="uid", ts_unit="s")
    intake = open_intake(None, key, source)
    times = [*range(T, T + 50), T + 90 * DAY_S, T + 91 * DAY_S]
    uids = ["u"] * 50 + ["gone", "stays"]
    intake.take(np.array(times), uids, T + 100 * DAY_S, lambda _: uniqdb.intake.Place(0, 0, ""))
    commit = nothing().then(intake.cut(is_open=True), [])
    commit.sources[key] = replace_row(source, visits=50, held=2, clock_s=intake.clock_s)
    db.write(commit)
    assert forget(db, ["gone"]).held == 1
    with db.snapshot() as snapshot:
        row = read_source(snapshot.answers.view, key)
        assert row is not None
        assert (row.held, row.refused) == (1, 1)
        open_intake(snapshot.answers.view, key, row)  # its clock and its held visits agree


def replace_row(row: SourceRow, **changes: object) -> SourceRow:
    return uniqdb.meta.msgspec.structs.replace(row, **changes)


def test_refused_records_that_name_them(db: uniqdb.Engine) -> None:
    records = [
        Quarantined("too_late", "f", b"", 1, event_time_s=T, uid="ann"),
        Quarantined("too_late", "f", b"", 2, event_time_s=T, uid="anna"),
        Quarantined("malformed", "f", b'{"uid": "ann", ts}', 3),
        Quarantined("malformed", "f", b'{"uid": "Z\\u00fcrich", ts}', 4),
        Quarantined("malformed", "f", '{"uid": "Zürich", ts}'.encode(), 5),
        Quarantined("malformed", "f", b"it is long: " + b"x" * 900 + b"ann", 6),
        Quarantined("bad_ts", "f", b'{"ts": "x"}', 7, uid="ann"),
        Quarantined("bad_ts", "f", b'{"ts": "x"}', 8, uid="ben"),
    ]
    db.write(structs.replace(nothing(), refused=records))
    done = forget(db, ["ann", "Zürich"])
    assert (done.uids, done.refused) == (2, 6)
    with db.snapshot() as snapshot:
        assert [row.position for _, row in read_quarantine(snapshot.answers.view)] == [2, 8]
        assert snapshot.completeness().discarded == {"too_late": 1, "malformed": 4, "bad_ts": 1}


def test_needles_are_found_like_one_after_the_other() -> None:
    rng = random.Random(3)
    letters = 'abé"\\\n'
    uids = {"".join(rng.choice(letters) for _ in range(rng.randrange(1, 14))) for _ in range(60)}
    records = [
        "".join(rng.choice(letters) for _ in range(rng.randrange(200))).encode()[: rng.randrange(200)]
        for _ in range(400)
    ]
    records += [b"", b"\xff\xfe", *(uid.encode() for uid in uids)]
    found = Needles(uids).find(records)
    for record, names in zip(records, found, strict=True):
        plain = {uid for uid in uids if uid.encode() in record}
        assert plain <= names
        forms = {uid: (uid, repr(uid)[1:-1], uid.replace("\\", "\\\\").replace('"', '\\"')) for uid in names - plain}
        for uid, one in forms.items():
            escaped = [
                *one,
                uniqdb.needles.json.dumps(uid)[1:-1],
                uniqdb.needles.json.dumps(uid, ensure_ascii=False)[1:-1],
            ]
            assert any(form.encode() in record for form in escaped)
    assert sum(map(len, found)) > 200
    assert Needles([]).find([b"a"]) == [set()]


# ---------------------------------------------------------------- what is published
def test_it_is_published_again(db: uniqdb.Engine) -> None:
    db.write(structs.replace(nothing(), is_publishing=True, refused=[Quarantined("malformed", "f", b"ann", 1)]))
    days = [T + day * DAY_S for day in range(4) for _ in range(30)]
    db.add_many([at + number for number, at in enumerate(days)], ["ann", "ben", "cleo"] * 40, source="web")
    db.add_many([days[-1] + DAY_S] * 30, ["ben"] * 30, source="web")
    db.commit()
    with db.snapshot() as snapshot:
        view = snapshot.answers.view
        windows = [work_out(snapshot, key) for key in read_due(view)]
        published = {row.key: row.commit_number for row in read_outbox(view, b"", b"\xff", 100_000)}
        assert windows
    db.write(structs.replace(nothing(), published=published, windows=windows))
    db.write(structs.replace(nothing(), published=outbox(db)))
    assert outbox(db) == {}
    done = forget(db, ["ann"])
    with db.snapshot() as snapshot:
        view = snapshot.answers.view
        due = set(read_due(view))
        closed_with_ann = {key for key, _, _ in windows}
        assert due == closed_with_ann, "every window of a closed day has a closed day of hers"
        chosen = Emission(DEFAULT_RULES).choose(snapshot, Urgency(everything=True), 0.0)
        assert len(chosen.records) == done.buckets + 1
        (letter,) = [one for one in chosen.records if one.topic == DEFAULT_RULES.topics.quarantine]
        assert (letter.key, letter.value) == (b"0", None), "the dead letter is deleted from its topic"
        again = [work_out(snapshot, key) for key in sorted(due)]
        for key, row, record in again:
            before = read_window(view, key)
            assert before is not None
            assert row.revision == before.revision + 1
            assert b'"status":"amended"' in record
    db.write(structs.replace(nothing(), published=outbox(db), windows=again))
    assert db.check().problems == []


def outbox(db: uniqdb.Engine) -> dict[bytes, int]:
    with db.snapshot() as snapshot:
        return {row.key: row.commit_number for row in read_outbox(snapshot.answers.view, b"", b"\xff", 100_000)}


def test_counts_that_are_kept_are_not_published_again(db: uniqdb.Engine) -> None:
    db.add_many([T, T], ["ann", "ben"])
    db.write(structs.replace(nothing(), is_publishing=True))
    db.write(structs.replace(nothing(), published=outbox(db)))
    assert forget(db, ["ann"], keep_counts=True).uids == 1
    assert outbox(db) == {}


# ---------------------------------------------------------------- buckets without members
def sweep(db: uniqdb.Engine, horizons: dict[Granularity, int]) -> None:
    """Drop the members of the buckets that start before these moments; the rows stay. Needs no clock."""
    view, changes = db._store.view(), ChangeSet()
    for granularity, horizon_s in horizons.items():
        for key, payload in view.rows(Database.BUCKETS, bytes([granularity]), bucket_key(granularity, horizon_s)):
            row = BucketRow.unpack(key, payload)
            if row.members is MembersState.KEPT:
                directory = view.directory(key)
                assert directory is not None
                for entry in directory.fragments:
                    changes.delete(Database.of(granularity), fragment_key(key, entry.id))
                changes.delete(Database.UNITS, key)
            changes.put_row(Database.BUCKETS, key, row._replace(members=MembersState.SWEPT, inline=b"").pack())
    words = {granularity.word: horizon_s for granularity, horizon_s in horizons.items()}
    write_retention(changes, RetentionRow(members_from_s=words, has_dead_uids=True))
    db._store.commit(changes, based_on=view.txn_id)
    assert db._writer is not None
    db._writer.forget_cached()


def up_to(db: uniqdb.Engine, granularity: Granularity) -> dict[Granularity, int]:
    """Horizons that sweep every bucket of a granularity, and of those that it is made of."""
    end_s = max(one.end_ts for one in db.series(granularity.word))
    chain = [granularity]
    while (finer := chain[-1].finer) is not None:
        chain.append(finer)
    return dict.fromkeys(chain, end_s)


@pytest.mark.parametrize("swept", [Granularity.MINUTE, Granularity.HOUR, Granularity.MONTH])
def test_rows_without_members_stay_and_finer_ones_are_found(db: uniqdb.Engine, swept: Granularity) -> None:
    model = Model()
    add(db, model, 3_000, 200)
    before, horizons = rows_of(db), up_to(db, swept)
    words = {granularity.word for granularity in horizons}
    sweep(db, horizons)
    gone = {f"visitor-{number:06}" for number in range(50)}
    forget(db, gone)
    after = without(model, gone).rows()
    assert rows_of(db) == {key: before[key] if key[0] in words else row for key, row in after.items()}
    assert db.check().problems == []
    db.close()
    for renumber in (False, True):
        done = compact(db.path, options(), renumber=renumber)
        with uniqdb.open(db.path, read_only=True) as again:
            assert rows_of(again) == {key: before[key] if key[0] in words else row for key, row in after.items()}
            assert again.check().problems == []
    assert done.ordinals_after == 150


def test_renumbering_leaves_out_whom_nobody_needs(store_path: Path) -> None:
    model = Model()
    with uniqdb.open(store_path, options=options(200)) as db:
        add(db, model, 2_000, 150)
        db.add_many([T - 400 * DAY_S] * 80, [f"last-year-{number}" for number in range(80)])
        db.commit()
        sweep(db, dict.fromkeys(Granularity, 1451606400) | {Granularity.WEEK: 1_451_260_800})
        before = rows_of(db)
    done = compact(store_path, options(), renumber=True)
    assert (done.ordinals_before, done.ordinals_after) == (230, 150)
    with uniqdb.open(store_path, options=options()) as db:
        assert rows_of(db) == before
        assert set(db.members("year", T)) == model.members["year", 1_451_606_400]
        db.add_many([T, T], ["last-year-3", "visitor-000000"])
        model.add([T, T], ["last-year-3", "visitor-000000"])
        assert db.count_between(T, T + 60).count == len(model.union(T, T + 60)), "who was dropped and returns is new"


def test_questions_are_answered_when_everybody_of_a_year_was_forgotten(store_path: Path) -> None:
    """Renumbered, the store looks as if nobody had ever been removed, and the year has an empty set."""
    year_s = 366 * DAY_S
    with uniqdb.open(store_path, options=options()) as db:
        db.add_many([T, T + 60, T + year_s], ["ann", "bob", "cid"])
        forget(db, ["ann", "bob"])
    compact(store_path, options(), renumber=True)
    for read_only in (False, True):
        with uniqdb.open(store_path, options=options(), read_only=read_only) as db:
            assert [db.check_if_uid_exists(uid) for uid in ("ann", "bob", "cid")] == [False, False, True]
            assert db.check_many(["cid", "ann"]) == [True, False]
            assert (db.count("2016").count, db.count("2017").count) == (0, 1)
