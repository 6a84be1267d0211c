"""What a store must hold by Python sets, moved on by each commit that has become durable."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import uniqdb
from model import GRANULARITIES, Model
from simulation.judge import HeldVisit, Judge
from uniqdb.quarantine import read_quarantine

Bucket = tuple[str, int]


@lru_cache(maxsize=500_000)
def buckets_of(zone: str, minute: int) -> tuple[Bucket, ...]:
    """The bucket of each granularity that holds a minute."""
    model = _calendar(zone)
    return tuple((kind, model.start(kind, minute * 60)) for kind in GRANULARITIES)


@lru_cache
def _calendar(zone: str) -> Model:
    return Model(zone)


class Sent(NamedTuple):
    """A record of the input topic as it should be understood. ``reason``: why it is none, or empty."""

    offset: int
    broker_s: int
    time_s: int
    uid: str
    reason: str = ""


class Refused(NamedTuple):
    """A record in quarantine. ``uid`` may be known, ``time_s`` too; with both it can be accepted after all."""

    reason: str
    origin: str
    position: int
    time_s: int | None
    uid: str | None


@dataclass
class Truth:
    """Sets, and beside them what is judged but not counted."""

    zone: str
    limits: tuple[int, int]
    """Ahead and late, in seconds."""
    gaps: set[tuple[int, int, int]] = field(default_factory=set)
    """Partition, first and next offset of what was given up."""
    members: dict[Bucket, set[str]] = field(default_factory=dict)
    visits: Counter[Bucket] = field(default_factory=Counter)
    kept_from_s: dict[str, int] = field(default_factory=dict)
    counted_from_s: dict[str, int] = field(default_factory=dict)
    judges: dict[int, Judge] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)
    refused: set[Refused] = field(default_factory=set)
    expired: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    nameless: int = 0
    total: int = 0

    def copy(self) -> "Truth":
        judges = {one: judge.copy() for one, judge in self.judges.items()}
        return Truth(
            *(self.zone, self.limits, self.gaps.copy()),
            {bucket: uids.copy() for bucket, uids in self.members.items()},
            self.visits.copy(),
            *(self.kept_from_s.copy(), self.counted_from_s.copy(), judges, self.positions.copy()),
            *(self.refused.copy(), self.expired, self.skipped.copy(), self.nameless, self.total),
        )

    # ------------------------------------------------------------ what commits do
    def read(self, partition: int, origin: str, records: Iterable[Sent], next_offset: int) -> None:
        """The records of a partition up to its next offset are in the store."""
        judge = self.judges.setdefault(partition, Judge(*self.limits))
        given_up = [one[1:] for one in self.gaps if one[0] == partition]
        for one in records:
            if any(start <= one.offset < end for start, end in given_up):
                continue
            if one.reason:
                known = (one.time_s or None, one.uid or None)
                self.refused.add(Refused(one.reason, origin, one.offset, *known))
            else:
                self._decide(origin, judge.visit(HeldVisit(one.time_s, one.uid, one.offset), one.broker_s))
        self.positions[partition] = next_offset

    def end(self, partition: int, origin: str) -> None:
        """Nothing of the partition stays held."""
        if partition in self.judges:
            self._decide(origin, self.judges[partition].end())

    def begin_anew(self, partition: int, origin: str) -> None:
        """Its clock was reset."""
        if partition in self.judges:
            self._decide(origin, self.judges[partition].begin_anew())

    def _decide(self, origin: str, decided: list[tuple[str, HeldVisit]]) -> None:
        for verdict, one in decided:
            if verdict == "accepted":
                self.count(one.time_s, one.uid)
            else:
                self.refused.add(Refused(verdict, origin, one.offset, one.time_s, one.uid))

    def count(self, time_s: int, uid: str) -> None:
        """A visit counts wherever its bucket is not swept."""
        buckets = buckets_of(self.zone, time_s // 60)
        if self.kept_from_s:
            kept = [bucket for bucket in buckets if self.keeps(bucket)]
            if not kept:
                self.expired += 1
                return
            if len(kept) < len(buckets):
                self.skipped.update(kind for kind, at in buckets if (kind, at) not in kept)
        else:
            kept = list(buckets)
        self.total += 1
        for bucket in kept:
            self.members.setdefault(bucket, set()).add(uid)
            self.visits[bucket] += 1

    def keeps(self, bucket: Bucket) -> bool:
        return bucket[1] >= self.kept_from_s.get(bucket[0], 0)

    def counts(self, bucket: Bucket) -> bool:
        """Whether its row is there still."""
        return bucket[1] >= self.counted_from_s.get(bucket[0], 0)

    def sweep(self, kept_from_s: dict[str, int], counted_from_s: dict[str, int]) -> None:
        """These are the horizons now; rows that are gone are forgotten here, too."""
        self.kept_from_s, self.counted_from_s = dict(kept_from_s), dict(counted_from_s)
        for bucket in [bucket for bucket in self.members if not self.counts(bucket)]:
            del self.members[bucket], self.visits[bucket]

    def forget(self, uids: set[str], *, keep_counts: bool) -> None:
        """Out of every kept bucket; swept ones keep their counts."""
        for uid in sorted(uids):
            self.nameless += 1
            for bucket, members in self.members.items():
                if uid in members and self.keeps(bucket):
                    members.remove(uid)
                    if keep_counts:
                        members.add(f"\0{self.nameless}")
        for judge in self.judges.values():
            judge.forget(uids)
        self.refused = {one for one in self.refused if one.uid not in uids}

    def accept(self, reasons: set[str]) -> None:
        """The refused visits of these reasons count after all."""
        chosen = {one for one in self.refused if one.reason in reasons and one.time_s is not None and one.uid}
        chosen = {one for one in chosen if 946_684_800 <= (one.time_s or 0) < 253_370_764_800}
        for one in chosen:
            self.count(one.time_s or 0, one.uid or "")
        self.refused -= chosen

    def discard(self, reasons: set[str]) -> None:
        self.refused = {one for one in self.refused if one.reason not in reasons}

    # ------------------------------------------------------------ what is asked
    def rows(self) -> dict[Bucket, tuple[int, int]]:
        return {bucket: (len(uids), self.visits[bucket]) for bucket, uids in self.members.items()}

    def row(self, bucket: Bucket) -> tuple[int, int]:
        return len(self.members.get(bucket, ())), self.visits[bucket]

    def is_live(self, uid: str) -> bool:
        """Whether he is in a kept bucket."""
        return any(uid in uids and self.keeps(bucket) for bucket, uids in self.members.items())

    def live(self) -> set[str]:
        """Who is in a kept bucket."""
        return set().union(*(uids for bucket, uids in self.members.items() if self.keeps(bucket)))

    def days_between(self, start_s: int, end_s: int) -> set[str] | None:
        """Who came on the days of an interval; None if a day of it is swept."""
        if start_s < self.kept_from_s.get("day", 0):
            return None
        days = (uids for (kind, at), uids in self.members.items() if kind == "day" and start_s <= at < end_s)
        return set().union(*days)

    def assert_equals(self, db: uniqdb.Engine) -> None:
        """Everything that the store answers."""
        info = db.info()
        assert info.kept_from_s == self.kept_from_s
        found = {(kind, one.start_ts): (one.count, one.visits) for kind in GRANULARITIES for one in db.series(kind)}
        assert found == self.rows(), _differences(found, self.rows())
        assert (info.completeness.expired, info.completeness.skipped) == (self.expired, dict(self.skipped))
        assert info.visits == self.total
        live = self.live()
        named = [uid for uid in sorted(set().union(*self.members.values())) if uid[0] != "\0"]
        asked = [*named[:: max(1, len(named) // 40)], "nobody"]
        assert db.check_many(asked) == [uid in live for uid in asked]
        with db.snapshot() as snapshot:
            kept = [bucket for bucket in self.members if self.keeps(bucket)]
            for kind, at in kept[:: max(1, len(kept) // 12)]:
                assert set(snapshot.members(kind, at)) == {one for one in self.members[kind, at] if one[0] != "\0"}
            rows = {(row.reason, row.origin, row.position) for _, row in read_quarantine(snapshot.answers.view)}
        expected = {(one.reason, one.origin, one.position) for one in self.refused}
        assert rows == expected, _differences(dict.fromkeys(rows), dict.fromkeys(expected))


def _differences(found: dict[object, object] | dict[Bucket, tuple[int, int]], expected: object) -> str:
    """The first few, for whoever reads the failure."""
    assert isinstance(expected, dict)
    names = [one for one in {**found, **expected} if found.get(one, "-") != expected.get(one, "-")]
    return "; ".join(f"{one}: found {found.get(one, '-')}, true {expected.get(one, '-')}" for one in names[:5])
