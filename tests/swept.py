"""Stores that are swept, and an oracle that knows what may be gone."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from msgspec import structs

import uniqdb
from engines import options
from model import GRANULARITIES, Model
from uniqdb import OpenOptions
from uniqdb.meta import KafkaPlace, SourceRow
from uniqdb.options import Retention
from uniqdb.writer import Commit, nothing

DAY_S = 86_400
T = 1_468_281_600  # 2016-07-12T00:00:00Z, a Tuesday
SOURCE_KEY = b"the-clock-source"
BRIEF = Retention(minute_days=1, hour_days=2, day_days=5, week_days=9, month_days=16, year_days=30, count_days=45)
"""Everything goes within weeks."""


def brief_options(retention: Retention = BRIEF, visits: int = 50_000) -> OpenOptions:
    return replace(options(visits), retention=retention)


def at_clock(commit: Commit, clock_s: int, next_offset: int = 0) -> Commit:
    """The commit, as of a partition that has come so far, in event time and in offsets."""
    place = KafkaPlace(topic="t", partition=0, next_offset=next_offset, closing_clock_s=clock_s)
    row = SourceRow(kind="kafka", name="t/0", ts_field="ts", uid_field="uid", ts_unit="s", kafka=place)
    return structs.replace(commit, sources={SOURCE_KEY: row})


def set_clock(db: uniqdb.Engine, clock_s: int) -> None:
    """From now on this is the store's clock."""
    db.write(at_clock(nothing(), clock_s))


class SweptModel(Model):
    """Python sets of every visit, and of each bucket whether the store still has it."""

    def __init__(self, zone: str = "UTC") -> None:
        super().__init__(zone)
        self.skipped: Counter[str] = Counter()
        self.expired = 0
        self.kept_from_s: dict[str, int] = {}

    def add(self, times: Iterable[int], uids: Iterable[str]) -> None:
        for time_s, uid in zip(times, uids, strict=True):
            buckets = [(kind, self.start(kind, time_s)) for kind in GRANULARITIES]
            kept = [bucket for bucket in buckets if self.keeps(bucket)]
            if not kept:
                self.expired += 1
                continue
            self.skipped += Counter(kind for kind, at in buckets if (kind, at) not in kept)
            for bucket in kept:
                self.members.setdefault(bucket, set()).add(uid)
                self.visits[bucket] = self.visits.get(bucket, 0) + 1

    def keeps(self, bucket: tuple[str, int]) -> bool:
        return bucket[1] >= self.kept_from_s.get(bucket[0], 0)

    def live(self) -> set[str]:
        """Who is in a kept bucket."""
        return set().union(*(uids for bucket, uids in self.members.items() if self.keeps(bucket)))

    def assert_equals(self, db: uniqdb.Engine) -> None:
        """All rows that are there, all kept members, who is seen, what is counted beside."""
        info = db.info()
        assert info.kept_from_s == self.kept_from_s
        rows = {
            bucket: row for bucket, row in self.rows().items() if bucket[1] >= info.counted_from_s.get(bucket[0], 0)
        }
        found = {(kind, one.start_ts): (one.count, one.visits) for kind in GRANULARITIES for one in db.series(kind)}
        assert found == rows
        assert (info.completeness.expired, info.completeness.skipped) == (self.expired, dict(self.skipped))
        with db.snapshot() as snapshot:
            for (kind, at), uids in self.members.items():
                if self.keeps((kind, at)):
                    assert set(snapshot.members(kind, at)) == uids
        everybody = sorted(set().union(*self.members.values()))
        live = self.live()
        assert db.check_many(everybody) == [uid in live for uid in everybody]
