"""One partition of the input topic on its way into the store: decoded, judged, and what closes buckets by it."""

from dataclasses import dataclass, field

import msgspec
import numpy as np
from xxhash import xxh3_64_hexdigest, xxh3_128_digest

from uniqdb.clock import Arrival, arrival_delay_s, closing_clock_s, is_idle, recent_delays_s
from uniqdb.field_settings import FieldSettings
from uniqdb.intake import Intake, Place, Taken, open_intake
from uniqdb.limits import RECENT_VISITS
from uniqdb.meta import KafkaPlace, SourceRow, read_source
from uniqdb.quarantine import Quarantined
from uniqdb.recent_times import EventTimeLimits
from uniqdb.store import ReadView
from uniqdb.stream.file_identity import new_row
from uniqdb.stream.kafka_batch import PartitionBatch
from uniqdb.visit import I64Array, Reason, Visits, plausible
from uniqdb.visit_decoder import VisitDecoder

KAFKA_KIND = "kafka"


def partition_source_key(topic: str, partition: int) -> bytes:
    """The source key of a partition."""
    return xxh3_128_digest(f"kafka\0{topic}\0{partition}".encode())


@dataclass(frozen=True, slots=True)
class Moment:
    """Now: Unix seconds of the wall clock, and monotonic seconds."""

    wall_s: int
    monotonic_s: float


@dataclass(slots=True)
class _Waiting:
    """Decoded but not committed."""

    refused: list[Quarantined] = field(default_factory=list)
    records: int = 0
    moved: bool = False


class Partition:
    """A partition between its topic and the commits."""

    def __init__(self, row: SourceRow, intake: Intake, fields: FieldSettings, now: Moment) -> None:
        assert row.kafka is not None
        self.row, self.place, self._intake = row, row.kafka, intake
        self.key = intake.key
        self._decoder = VisitDecoder(fields)
        self._waiting = _Waiting()
        self._delays_s: I64Array = np.empty(0, np.int64)
        self._heard_at_s = now.monotonic_s
        self.caught_up = False
        self.newest_s: int | None = None
        """The newest visit of the last `cut`."""

    @classmethod
    def open(
        cls, view: ReadView, place: KafkaPlace, how: tuple[FieldSettings, EventTimeLimits, int], now: Moment
    ) -> "Partition":
        """The partition as the view's commit left it, or a new one at ``place``. ``how``: fields, limits, lateness."""
        fields, limits, allowed_lateness_s = how
        key = partition_source_key(place.topic, place.partition)
        row = read_source(view, key)
        if row is None:
            fresh = new_row(KAFKA_KIND, f"{place.topic}/{place.partition}", fields, limits)
            row = msgspec.structs.replace(fresh, kafka=place)
        if row.kafka is not None:
            kept = msgspec.structs.replace(
                row.kafka, next_offset=place.next_offset, cluster_id=place.cluster_id, topic_id=place.topic_id
            )
            row = msgspec.structs.replace(row, kafka=kept, finished=False, ended=False)
        return cls(row, open_intake(view, key, row, allowed_lateness_s), fields, now)

    @property
    def waiting(self) -> int:
        """Records that wait for their commit."""
        return self._waiting.records

    @property
    def has_moved(self) -> bool:
        """Whether there is anything to commit."""
        return self._waiting.moved

    @property
    def delay_s(self) -> int:
        """D: the delay with which its visits arrive. Until 1,000 have come, not less than what is remembered."""
        delay_s = arrival_delay_s(self._delays_s)
        return delay_s if len(self._delays_s) >= RECENT_VISITS else max(delay_s, self.place.delay_s)

    # ------------------------------------------------------------ records
    def take(self, batch: PartitionBatch, visits: Visits | None, now: Moment) -> None:
        """Judge a batch. ``visits``: of its records, if these are a line each; else they are decoded one by one."""
        self._waiting.records += len(batch.values)
        self._waiting.moved = True
        self.place = msgspec.structs.replace(self.place, next_offset=batch.next_offset)
        if not batch.values:
            return
        arrivals_s = np.where(batch.timestamps_ms >= 0, batch.timestamps_ms // 1_000, now.wall_s)
        last_s, largest_s = int(arrivals_s[-1]), int(arrivals_s.max())
        self._heard_at_s = now.monotonic_s
        self.place = msgspec.structs.replace(
            self.place,
            idle=False,
            last_arrival_s=last_s,
            largest_arrival_s=max(largest_s, self.place.largest_arrival_s or largest_s),
        )
        visits, at = self._one_by_one(batch) if visits is None else self._at_once(batch, visits)
        if not len(visits):
            return
        references_s = arrivals_s[at]

        def place_of(visit: int) -> Place:
            record = batch.values[int(at[visit])] or b""
            return Place(int(batch.offsets[int(at[visit])]), 0, xxh3_64_hexdigest(record))

        self._intake.take(visits.event_times_s, visits.uids, references_s, place_of)
        believable = plausible(visits.event_times_s)
        self._delays_s = recent_delays_s(self._delays_s, references_s[believable], visits.event_times_s[believable])

    def _at_once(self, batch: PartitionBatch, visits: Visits) -> tuple[Visits, I64Array]:
        """The visits, and the index of the record of each. What is none is refused here."""
        for one in visits.refused:
            self._refuse(batch, one.line, one.record, one.reason)
        return visits, np.arange(len(visits)) if visits.lines is None else np.array(visits.lines, np.int64)

    def _one_by_one(self, batch: PartitionBatch) -> tuple[Visits, I64Array]:
        times_s: list[int] = []
        uids: list[str] = []
        at: list[int] = []
        for index, value in enumerate(batch.values):
            blank = value is None or not value or value.isspace()
            outcome = Reason.NO_VALUE if value is None or blank else self._decoder.decode_one(value)
            if isinstance(outcome, Reason):
                self._refuse(batch, index, value or b"", outcome)
                continue
            times_s.append(outcome[0])
            uids.append(outcome[1])
            at.append(index)
        return Visits(np.array(times_s, np.int64), uids), np.array(at, np.int64)

    def _refuse(self, batch: PartitionBatch, index: int, record: bytes, reason: Reason) -> None:
        time_s, uid = self._decoder.decodable(record)
        offset = int(batch.offsets[index])
        self._waiting.refused.append(
            Quarantined(str(reason), self.row.name, record, offset, event_time_s=time_s, uid=uid)
        )

    # ------------------------------------------------------------ time
    def tick(self, now: Moment, idle_timeout_s: float, *, caught_up: bool) -> None:
        """Time has passed: work out the clock by which the partition closes buckets, and whether it is idle."""
        self.caught_up = caught_up
        silent_s = now.monotonic_s - self._heard_at_s
        closing_s = self._intake.clock_s
        if self.place.last_arrival_s is not None and self.place.largest_arrival_s is not None:
            arrival = Arrival(
                now.wall_s, self.place.last_arrival_s, self.place.largest_arrival_s, int(silent_s), caught_up
            )
            closing_s = closing_clock_s(closing_s, arrival, self.delay_s)
        self.place = msgspec.structs.replace(
            self.place, closing_clock_s=closing_s, idle=is_idle(caught_up, silent_s, idle_timeout_s)
        )

    # ------------------------------------------------------------ commits
    def row_now(self, *, is_left_out: bool) -> SourceRow:
        """The row as it is without further records: only time has passed."""
        place = msgspec.structs.replace(self.place, idle=is_left_out, delay_s=self.delay_s)
        return msgspec.structs.replace(self.row, kafka=place)

    def cut(self, *, is_left_out: bool) -> tuple[Taken, list[Quarantined], SourceRow]:
        """What there is for a commit: visits, all that was refused, the row. To be followed by `committed`."""
        taken = self._intake.cut(is_open=not is_left_out)
        closing_s = self.place.closing_clock_s
        taken.advance.clock_s = closing_s
        if closing_s is not None:
            taken.advance.peak_s = max(taken.advance.peak_s, closing_s)
        self.newest_s = int(taken.event_times_s.max()) if len(taken.uids) else None
        refused = self._waiting.refused + taken.refused
        row = msgspec.structs.replace(
            self.row_now(is_left_out=is_left_out),
            visits=self.row.visits + len(taken.uids),
            refused=self.row.refused + len(refused),
            lines=self.row.lines + self._waiting.records,
            held=self._intake.held,
            clock_s=self._intake.clock_s,
        )
        return taken, refused, row

    def committed(self, row: SourceRow) -> None:
        """What `cut` gave is in the store."""
        self._intake.committed()
        self._waiting = _Waiting()
        self.row = row

    def end(self) -> None:
        """All that the topic held when the run began was read: nothing stays held."""
        self._intake.end(follow=True)
        self._waiting.moved = True
