"""Measures a running service: counts what it tells its observer, and puts down a whole picture once a second.

The picture is immutable. Other threads take the latest one and touch nothing else: neither the store's handle, which
is the loop's, nor what the loop is changing.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from uniqdb.engine import Engine
from uniqdb.gauges import StoreGauges, read_gauges
from uniqdb.granularity import Granularity
from uniqdb.meta import StateRow
from uniqdb.stream.partition import Moment, Partition
from uniqdb.visit import Reason

MEASURE_INTERVAL_S = 1.0
LATENCY_EDGES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_COMMITS_REMEMBERED = 4_096
"""When so many moments of commits are remembered, every second one is forgotten: an age is then less exact."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """How long something took, by the number of times: ``counts`` up to each of `LATENCY_EDGES_S`, and in all."""

    counts: tuple[int, ...]
    sum_s: float


class _Stopwatch:
    """Collects latencies; well below a microsecond each."""

    def __init__(self) -> None:
        self._counts, self._sum_s = [0] * (len(LATENCY_EDGES_S) + 1), 0.0

    def add(self, took_s: float) -> None:
        self._counts[bisect_left(LATENCY_EDGES_S, took_s)] += 1
        self._sum_s += took_s

    def read(self) -> Latencies:
        return Latencies(tuple(accumulate(self._counts)), self._sum_s)


@dataclass(frozen=True, slots=True)
class PartitionMeasures:
    """One partition of the input topic. ``lag_records``: behind what is committed; None: not known yet."""

    number: int
    lag_records: int | None
    clock_s: int | None
    is_idle: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """A service at one moment. Times are Unix seconds; numbers count from the start of this run.

    ``verdicts``: what became of records, ``accepted``, ``expired`` or the reason of a refusal. ``late`` and ``skipped``
    are by granularity: visits that amended a closed bucket, and that came when its members were gone.
    """

    at: Moment
    records: int
    verdicts: Mapping[str, int]
    late: Mapping[str, int]
    skipped: Mapping[str, int]
    commits: Latencies
    publishing: Latencies
    published: int
    publish_failures: int
    published_at_s: int | None
    """When a transaction was last committed to Kafka."""
    outbox_since_s: int | None
    """Since when the oldest of what may be published waits; of what a predecessor left, since this start."""
    gauges: StoreGauges
    partitions: tuple[PartitionMeasures, ...]
    is_kafka_up: bool
    """Whether Kafka answered when it was last asked where the topic ends."""
    is_history: bool
    waits_for_room: bool
    """Whether a commit found no room, and is tried again until there is some; nothing is read meanwhile."""

    @property
    def lag_records(self) -> int | None:
        """All partitions together; None while one is not known."""
        lags = [one.lag_records for one in self.partitions]
        known = [lag for lag in lags if lag is not None]
        return sum(known) if lags and len(known) == len(lags) else None

    @property
    def outbox_age_s(self) -> int:
        """How long the oldest of what may be published waits; 0: nothing does."""
        return 0 if self.outbox_since_s is None else max(self.at.wall_s - self.outbox_since_s, 0)

    @property
    def lag_s(self) -> int | None:
        """How far the slowest partition that is not idle is behind the wall clock, in event time."""
        waited_for = [one for one in self.partitions if not one.is_idle] or list(self.partitions)
        clocks_s = [one.clock_s for one in waited_for if one.clock_s is not None]
        return max(self.at.wall_s - min(clocks_s), 0) if clocks_s and len(clocks_s) == len(waited_for) else None


class Meter:
    """An `Observer`. One per run; used by the service's thread, except for what says that any thread may read it.

    Cost: about a microsecond a turn and a commit, half a millisecond per picture.
    """

    def __init__(self, engine: Engine, on_measures: Callable[[Measures], None] | None = None) -> None:
        """``on_measures`` gets each picture, in the service's thread."""
        self._engine, self._on_measures = engine, on_measures
        self.latest: Measures | None = None
        """The latest picture, for any thread; None until the loop has turned."""
        self.turned_at_s: float | None = None
        """When the loop turned last (monotonic), for any thread."""
        self._verdicts = dict.fromkeys(["accepted", "expired", *map(str, Reason)], 0)
        self._late = {one.word: 0 for one in Granularity}
        self._skipped = dict(self._late)
        self._commits, self._publishing = _Stopwatch(), _Stopwatch()
        self._published = self._failures = 0
        self._has_published = False
        self._published_at_s: int | None = None
        self._commit_moments: deque[tuple[int, int]] = deque()
        self._partitions: tuple[PartitionMeasures, ...] = ()
        self._is_kafka_up = self._is_history = self._waits_for_room = False
        self._measured_at_s = float("-inf")

    # ------------------------------------------------------------ what the service tells
    def turned(self, now: Moment, records: int) -> None:
        """Once a second, put down a picture."""
        self.turned_at_s = now.monotonic_s
        if now.monotonic_s - self._measured_at_s >= MEASURE_INTERVAL_S:
            self._measured_at_s = now.monotonic_s
            self.latest = self._measure(now, records)
            if self._on_measures is not None:
                self._on_measures(self.latest)

    def waits_for_room(self, now: Moment, records: int) -> None:
        """It is put down like a turn of the loop, which goes round only in waiting."""
        self._waits_for_room = True
        self.turned(now, records)

    def looked(self, ends: Mapping[int, int] | None, partitions: Mapping[int, Partition], *, history: bool) -> None:
        """Without an answer the last known ends stand: what is read of them meanwhile counts."""
        self._is_kafka_up, self._is_history = ends is not None, history
        if ends is None:
            return
        self._partitions = tuple(
            PartitionMeasures(
                number,
                max(ends[number] - _committed_offset(one), 0) if number in ends else None,
                one.place.closing_clock_s,
                one.place.idle,
            )
            for number, one in sorted(partitions.items())
        )

    def committed(self, before: StateRow, after: StateRow, took_s: float) -> None:
        """What the commit has added to the totals of the store."""
        self._waits_for_room = False
        self._commits.add(took_s)
        self._verdicts["accepted"] += after.visits - before.visits
        self._verdicts["expired"] += after.expired - before.expired
        _add_growth(self._verdicts, before.quarantined, after.quarantined)
        _add_growth(self._late, before.late_visits, after.late_visits)
        _add_growth(self._skipped, before.skipped, after.skipped)

    def published(self, records: int, took_s: float) -> None:
        """In Kafka."""
        self._publishing.add(took_s)
        self._published += records
        self._has_published = True

    def publishing_failed(self) -> None:
        """To be repeated."""
        self._failures += 1

    # ------------------------------------------------------------ the picture
    def _measure(self, now: Moment, records: int) -> Measures:
        gauges = read_gauges(self._engine)
        if self._has_published:
            self._has_published, self._published_at_s = False, now.wall_s
        return Measures(
            at=now,
            records=records,
            verdicts=dict(self._verdicts),
            late=dict(self._late),
            skipped=dict(self._skipped),
            commits=self._commits.read(),
            publishing=self._publishing.read(),
            published=self._published,
            publish_failures=self._failures,
            published_at_s=self._published_at_s,
            outbox_since_s=self._outbox_since_s(now, gauges),
            gauges=gauges,
            partitions=self._partitions,
            is_kafka_up=self._is_kafka_up,
            is_history=self._is_history,
            waits_for_room=self._waits_for_room,
        )

    def _outbox_since_s(self, now: Moment, gauges: StoreGauges) -> int | None:
        """Rows know their commit; when that was is remembered here, for as long as one of them waits."""
        moments = self._commit_moments
        if not moments or moments[-1][0] != gauges.state.commit_number:
            moments.append((gauges.state.commit_number, now.wall_s))
        oldest = gauges.outbox_oldest_commit
        if oldest is None:
            moments.clear()
            return None
        while moments[0][0] < oldest:  # the last one is the number of the newest commit
            moments.popleft()
        if len(moments) > _COMMITS_REMEMBERED:
            self._commit_moments = deque([*list(moments)[:-1:2], moments[-1]])
        return moments[0][1]


def _add_growth(totals: dict[str, int], before: Mapping[str, int], after: Mapping[str, int]) -> None:
    if after is before:
        return
    for key, number in after.items():
        totals[key] = totals.get(key, 0) + number - before.get(key, 0)


def _committed_offset(partition: Partition) -> int:
    place = partition.row.kafka
    return 0 if place is None else place.next_offset
