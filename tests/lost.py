"""Stores that lost something to damage and were repaired, and an oracle that knows what is left."""

from collections import Counter
from collections.abc import Callable, Iterable
from enum import Enum, auto
from itertools import count
from typing import NamedTuple

import msgspec

import uniqdb
from model import GRANULARITIES
from swept import DAY_S, SweptModel
from uniqdb import WindowNotKept
from uniqdb.change_set import ChangeSet
from uniqdb.format import BucketRow, Database, MembersState, bucket_key, fragment_key, parse_bucket_key
from uniqdb.granularity import Granularity
from uniqdb.horizons import LostSpan, read_retention, write_retention
from uniqdb.info import StoreInfo
from uniqdb.meta import STATE_KEY, read_state, write_row

Bucket = tuple[str, int]


class Fate(Enum):
    """What is left of a bucket in a lost span."""

    WHOLE = auto()
    COUNT = auto()
    NOTHING = auto()


def lose(db: uniqdb.Engine, spans: Iterable[LostSpan], fate: Callable[[Bucket], Fate]) -> None:
    """Make the store what a repair leaves: spans are lost, and of each bucket in them what its fate is.

    The handle forgets what it had in memory. Row counts are those of the rows that are there.
    """
    store, view, changes = db._store, db._store.view(), ChangeSet()
    retention = read_retention(view)
    retention = msgspec.structs.replace(retention, lost=_joined([*retention.lost, *spans]), has_dead_uids=True)
    old = {key: BucketRow.unpack(key, payload) for key, payload in view.rows(Database.BUCKETS, b"", b"\xff")}
    rows = dict(old)
    for key, row in old.items():
        granularity, start_s = parse_bucket_key(key)
        if not retention.loses(granularity, start_s):
            continue
        what = fate((granularity.word, start_s))
        if what is not Fate.WHOLE and row.members is MembersState.KEPT:
            directory = view.directory(key)
            assert directory is not None
            for entry in directory.fragments:
                changes.delete(Database.of(granularity), fragment_key(key, entry.id))
            changes.delete(Database.UNITS, key)
        if what is Fate.NOTHING:
            del rows[key]
            changes.delete(Database.BUCKETS, key)
            if view.get(Database.OUTBOX, key) is not None:
                changes.delete(Database.OUTBOX, key)
        elif what is Fate.COUNT:
            rows[key] = row._replace(members=MembersState.SWEPT, inline=b"")
    finer: Counter[bytes] = Counter()
    for granularity, start_s in map(parse_bucket_key, rows):
        for coarser in granularity.coarser:
            finer[bucket_key(coarser, db.zone.bucket_at(coarser, start_s).start_s)] += 1
    for key, row in rows.items():
        if (changed := row._replace(finer_rows=finer[key])) != old[key]:
            changes.put_row(Database.BUCKETS, key, changed.pack())
    kinds = Counter(key[0] for key in rows)
    state = read_state(view)
    state = msgspec.structs.replace(state, weeks=kinds[Granularity.WEEK], years=kinds[Granularity.YEAR])
    write_row(changes, Database.META, STATE_KEY, state)
    write_retention(changes, retention)
    store.commit(changes, based_on=view.txn_id)
    assert db._writer is not None
    db._writer.forget_cached()
    db._reader = db._seen = None  # a true repair writes another data file, which no handle confuses with this one


def _joined(spans: list[LostSpan]) -> tuple[LostSpan, ...]:
    """In the order of the format, those that overlap made one."""
    found: list[LostSpan] = []
    for one in sorted(spans, key=lambda one: (GRANULARITIES.index(one.granularity), one.start_s)):
        if found and found[-1].granularity == one.granularity and one.start_s <= found[-1].end_s:
            found[-1] = LostSpan(one.granularity, found[-1].start_s, max(found[-1].end_s, one.end_s))
        else:
            found.append(one)
    return tuple(found)


def span_at(db: uniqdb.Engine, word: str, time_s: int, buckets: int = 1) -> LostSpan:
    """A span of so many buckets, from the one that holds a moment on."""
    granularity = Granularity.from_word(word)
    first = end = db.zone.bucket_at(granularity, time_s)
    for _ in range(buckets - 1):
        end = db.zone.bucket_at(granularity, end.end_s)
    return LostSpan(word, first.start_s, end.end_s)


class Left(NamedTuple):
    """What a repair left of a bucket. ``members`` None: only its count."""

    count: int
    visits: int
    members: set[str] | None


class LostModel(SweptModel):
    """Python sets of the truth, whatever was lost; and of lost buckets what is left of them."""

    def __init__(self, zone: str = "UTC") -> None:
        super().__init__(zone)
        self.lost: tuple[LostSpan, ...] = ()
        self.left: dict[Bucket, Left] = {}
        self.seen: list[tuple[int, str]] = []
        """Every visit that counts somewhere."""
        self._numbers = count()

    def is_lost(self, bucket: Bucket) -> bool:
        return any(one.granularity == bucket[0] and one.start_s <= bucket[1] < one.end_s for one in self.lost)

    def is_whole(self, bucket: Bucket) -> bool:
        return self.keeps(bucket) and not self.is_lost(bucket)

    def add(self, times: Iterable[int], uids: Iterable[str]) -> None:
        for time_s, uid in zip(times, uids, strict=True):
            buckets = [(kind, self.start(kind, time_s)) for kind in GRANULARITIES]
            if not any(map(self.is_whole, buckets)):
                self.expired += 1
            else:
                self.skipped += Counter(bucket[0] for bucket in buckets if not self.is_whole(bucket))
                self.seen.append((time_s, uid))
            for bucket in filter(self.keeps, buckets):
                self.members.setdefault(bucket, set()).add(uid)
                self.visits[bucket] = self.visits.get(bucket, 0) + 1

    def lose(self, db: uniqdb.Engine, spans: list[LostSpan], fate: Callable[[Bucket], Fate]) -> None:
        """Lose it in the store, too. Rows in spans that were lost before may lose more."""
        rows = {(kind, one.start_ts): one for kind in GRANULARITIES for one in db.series(kind)}
        before = set(filter(self.is_lost, rows))
        self.lost = _joined([*self.lost, *spans])
        fates = {bucket: fate(bucket) for bucket in filter(self.is_lost, rows)}
        lose(db, spans, fates.__getitem__)
        for bucket, what in fates.items():
            row = rows[bucket]
            members = self.left[bucket].members if bucket in before else self._copy(bucket)
            self.left[bucket] = Left(row.count, row.visits, members if what is Fate.WHOLE else None)
            if what is Fate.NOTHING:
                del self.left[bucket]

    def _copy(self, bucket: Bucket) -> set[str] | None:
        return set(self.members[bucket]) if self.keeps(bucket) else None

    def forget(self, uids: set[str], *, keep_counts: bool) -> None:
        """Everywhere, or in favour of visitors without a name."""
        for uid in uids:
            other = f"\0{next(self._numbers)}" if keep_counts else ""
            for members in self._sets():
                if uid in members:
                    members.remove(uid)
                    members.update(filter(None, [other]))
            self.seen = [(at, other if one == uid else one) for at, one in self.seen]
        for bucket, left in self.left.items():
            if left.members is not None and self.keeps(bucket):
                self.left[bucket] = left._replace(count=len(left.members))

    def _sets(self) -> Iterable[set[str]]:
        yield from self.members.values()
        yield from (left.members for left in self.left.values() if left.members is not None)

    def live(self) -> set[str]:
        """Who is in a bucket that has members."""
        whole = (uids for bucket, uids in self.members.items() if self.is_whole(bucket))
        left = (one.members for bucket, one in self.left.items() if one.members is not None and self.keeps(bucket))
        return named(set().union(*whole, *left))

    def assert_truthful(self, db: uniqdb.Engine) -> None:
        """Every answer is the truth, or refused, or not complete; and what can be answered is."""
        info = db.info()
        self.kept_from_s = info.kept_from_s
        self._assert_spans(info)
        assert (info.completeness.expired, info.completeness.skipped) == (self.expired, dict(self.skipped))
        for kind in GRANULARITIES:
            self._assert_series(db, kind, info.counted_from_s.get(kind, 0))
        live = self.live()
        everybody = sorted(named(set().union({uid for _, uid in self.seen}, *self._sets())) - {""})
        for uid in everybody:
            assert was_seen(db, uid) in ([True] if uid in live else [False, None] if info.lost else [False])
        with db.snapshot() as snapshot:
            for kind, at in list(self.members)[::7]:
                bucket = snapshot.answers.zone.bucket_at(Granularity.from_word(kind), at)
                try:
                    found = set(snapshot.members(kind, at))
                except WindowNotKept:
                    assert not self.is_whole((kind, at))
                else:
                    assert found == named(self.between(bucket.start_s, bucket.end_s))

    def _assert_spans(self, info: StoreInfo) -> None:
        """Those before the horizons the store forgets at a sweep, and the model never; who is next to one is joined."""
        gone_s = {kind: min(info.kept_from_s.get(kind, 0), info.counted_from_s.get(kind, 0)) for kind in GRANULARITIES}
        there, expected = (
            [
                msgspec.structs.replace(one, start_s=max(one.start_s, gone_s[one.granularity]))
                for one in spans
                if one.end_s > gone_s[one.granularity]
            ]
            for spans in (info.lost, self.lost)
        )
        assert there == expected

    def _assert_series(self, db: uniqdb.Engine, kind: str, counted_from_s: int) -> None:
        found = {one.start_ts: one for one in db.series(kind)}
        for at, record in found.items():
            bucket = kind, at
            if self.is_lost(bucket):
                assert not record.complete
                assert (record.count, record.visits) == self.left[bucket][:2], "it stays as the repair left it"
            elif self.keeps(bucket):
                assert (record.count, record.visits) == (len(self.members[bucket]), self.visits[bucket])
        whole = {at for one, at in self.members if one == kind and self.is_whole((kind, at))}
        assert whole <= found.keys()
        if not found:
            return
        first_s, last_s = min(found), max(found)
        filled_s = {"minute": 3 * 3_600, "hour": 3 * DAY_S, "day": 60 * DAY_S}.get(kind, 2_000 * DAY_S)
        if first_s < last_s - filled_s:
            first_s = self.start(kind, last_s - filled_s)
        for record in db.series(kind, first_s, last_s + 60, fill=True):
            if record.start_ts not in found:
                assert record.count == record.visits == 0
                assert not self.is_lost((kind, record.start_ts))
                assert (kind, record.start_ts) not in self.members
        assert counted_from_s <= first_s

    def assert_bucket(self, db: uniqdb.Engine, kind: str, time_s: int) -> None:
        """The count of one bucket is the truth, or what is left and not complete, or refused."""
        with db.snapshot() as snapshot:
            bucket = snapshot.answers.zone.bucket_at(Granularity.from_word(kind), time_s)
            try:
                record = snapshot.answers.bucket_record(bucket)
            except WindowNotKept:
                assert (kind, bucket.start_s) not in self.members or not self.is_whole((kind, bucket.start_s))
                return
        if self.is_lost((kind, bucket.start_s)):
            assert not record.complete
            assert (record.count, record.visits) == self.left[kind, bucket.start_s][:2]
        elif self.keeps((kind, bucket.start_s)):
            members = self.members.get((kind, bucket.start_s), set())
            assert (record.count, record.visits) == (len(members), self.visits.get((kind, bucket.start_s), 0))

    def between(self, start_s: int, end_s: int) -> set[str]:
        return {uid for at, uid in self.seen if start_s <= at < end_s} - {""}

    def assert_interval(self, db: uniqdb.Engine, start_s: int, end_s: int) -> bool:
        """The count of an interval is the truth, or refused; returns which."""
        try:
            record = db.count_between(start_s, end_s)
        except WindowNotKept:
            assert self.lost or self.kept_from_s
            return False
        assert record.count == len(self.between(start_s, end_s))
        assert record.visits == sum(start_s <= at < end_s for at, _ in self.seen)
        return True


def named(uids: set[str]) -> set[str]:
    return {uid for uid in uids if not uid.startswith("\0")}


def was_seen(db: uniqdb.Engine, uid: str) -> bool | None:
    """What the store answers; None if it cannot tell."""
    try:
        return db.check_if_uid_exists(uid)
    except WindowNotKept:
        return None
