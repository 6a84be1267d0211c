"""Which of the counts that wait are sent now, and what their records look like in Kafka."""

import datetime
from dataclasses import dataclass, field

import msgspec
from msgspec import UNSET

from uniqdb.answers import Answers
from uniqdb.format import Status, parse_bucket_key
from uniqdb.granularity import Granularity
from uniqdb.outbox import (
    DELETION,
    QUARANTINE_KIND,
    WINDOW_KIND,
    OutboxRow,
    WindowKey,
    WindowRow,
    read_outbox,
    read_window,
)
from uniqdb.quarantine import QuarantineRow, read_quarantined
from uniqdb.record import CountRecord
from uniqdb.snapshot import Snapshot
from uniqdb.stream.publisher import OutgoingRecord

UPDATE_INTERVAL_S = 10.0
"""Provisional and amended counts of one bucket are sent at most so often."""
WINDOW_INTERVAL_S = 3_600.0
"""A trailing window that late visits amend is worked out at most so often."""
ROWS_PER_TURN = 20_000
"""So much of the outbox is looked at in one turn."""


_BEFORE_WINDOWS = bytes((WINDOW_KIND - 1,))


@dataclass(frozen=True, slots=True)
class OutputTopics:
    """Where counts are published, and refused records."""

    minute: str = "visits_per_minute"
    hour: str = "visits_per_hour"
    day: str = "visits_per_day"
    week: str = "visits_per_week"
    month: str = "visits_per_month"
    year: str = "visits_per_year"
    trailing: str = "unique_visitors_trailing"
    quarantine: str = "website_visits_quarantine"

    def of(self, granularity: Granularity) -> str:
        """The topic of a granularity's counts."""
        name: str = getattr(self, granularity.word)
        return name

    def names(self) -> list[str]:
        """All of them."""
        return [self.of(granularity) for granularity in Granularity] + [self.trailing, self.quarantine]


def count_message(topics: OutputTopics, record: CountRecord) -> OutgoingRecord:
    """The message of a bucket's record, or of a trailing window's."""
    is_window = record.window is not UNSET
    topic = topics.trailing if is_window else topics.of(Granularity.from_word(record.granularity))
    return OutgoingRecord(topic, record.key(), record.to_json())


DEFAULT_UPDATES = frozenset(Granularity) - {Granularity.MINUTE}


@dataclass(frozen=True, slots=True)
class EmissionRules:
    """What is sent when. ``updates``: granularities whose provisional counts are sent, too."""

    topics: OutputTopics = OutputTopics()
    updates: frozenset[Granularity] = DEFAULT_UPDATES


DEFAULT_RULES = EmissionRules()


class Urgency(msgspec.Struct, frozen=True):
    """How a turn chooses. ``everything``: whatever the rules say; ``at_once``: what only waits for its turn, too;
    ``finals_only``: no provisional counts, for history is being read.
    """

    everything: bool = False
    at_once: bool = False
    finals_only: bool = False


@dataclass(slots=True)
class Chosen:
    """What is to be sent: records, and the keys with the commit numbers to acknowledge then."""

    records: list[OutgoingRecord] = field(default_factory=list)
    acknowledged: dict[bytes, int] = field(default_factory=dict)

    def add(self, row: OutboxRow, record: OutgoingRecord | None) -> None:
        """Send the record for the row; None: there is nothing to send any more."""
        self.acknowledged[row.key] = row.commit_number
        if record is not None:
            self.records.append(record)


class Emission:
    """Goes round the outbox, a part in each turn, and remembers when it sent what."""

    def __init__(self, rules: EmissionRules, *, only_windows: bool = False) -> None:
        self._rules = rules
        # The keys before and after those of windows are those of buckets and of refused records.
        self._start, self._end = (_BEFORE_WINDOWS, bytes((QUARANTINE_KIND,))) if only_windows else (b"", b"\xff")
        self._cursor = self._start
        self._sent_at_s: dict[bytes, float] = {}

    def choose(self, snapshot: Snapshot, urgency: Urgency, now_s: float, most: int = ROWS_PER_TURN) -> Chosen:
        """What of the next part of the outbox is to be sent. ``now_s``: monotonic seconds.

        Cost: about 12 us for each row that is looked at.
        """
        chosen = Chosen()
        rows = read_outbox(snapshot.answers.view, self._cursor, self._end, most)
        self._cursor = rows[-1].key if len(rows) == most else self._start
        self._forget(now_s)
        buckets = [row for row in rows if row.key[0] < WINDOW_KIND]
        self._choose_buckets(snapshot.answers, buckets, chosen, (urgency, now_s))
        for row in rows:
            if row.key[0] == WINDOW_KIND:
                chosen.add(row, self._window(snapshot.answers, row))
            elif row.key[0] == QUARANTINE_KIND:
                chosen.add(row, self._refused(snapshot.answers, row))
        return chosen

    @property
    def is_at_start(self) -> bool:
        """Whether the last turn came to the end of the outbox."""
        return self._cursor == self._start

    def begin_anew(self) -> None:
        """Let the next turn begin at the start of the outbox."""
        self._cursor = self._start

    def sent(self, chosen: Chosen, now_s: float) -> None:
        """What was chosen is published."""
        for key in chosen.acknowledged:
            if key[0] < WINDOW_KIND:
                self._sent_at_s[key] = now_s

    def _forget(self, now_s: float) -> None:
        if len(self._sent_at_s) > 2 * ROWS_PER_TURN:
            self._sent_at_s = {key: at_s for key, at_s in self._sent_at_s.items() if now_s - at_s < UPDATE_INTERVAL_S}

    def _choose_buckets(
        self, answers: Answers, rows: list[OutboxRow], chosen: Chosen, how: tuple[Urgency, float]
    ) -> None:
        urgency, now_s = how
        records = answers.records_of([row.key for row in rows])
        for row, record in zip(rows, records, strict=True):
            granularity, _ = parse_bucket_key(row.key)
            if not urgency.everything:
                if record.status == Status.PROVISIONAL.word and (
                    granularity not in self._rules.updates or urgency.finals_only
                ):
                    continue
                early = now_s - self._sent_at_s.get(row.key, -UPDATE_INTERVAL_S) < UPDATE_INTERVAL_S
                if early and not urgency.at_once and record.status != Status.FINAL.word:
                    continue
            chosen.add(row, count_message(self._rules.topics, record))

    def _window(self, answers: Answers, row: OutboxRow) -> OutgoingRecord:
        window = WindowKey.unpack(row.key)
        key = f"window|{answers.zone.name}|{window.days}d|{window.as_of.isoformat()}".encode()
        return OutgoingRecord(self._rules.topics.trailing, key, row.record)

    def _refused(self, answers: Answers, row: OutboxRow) -> OutgoingRecord | None:
        number = int.from_bytes(row.key[1:], "big")
        refused = read_quarantined(answers.view, number)
        topic, key = self._rules.topics.quarantine, str(number).encode()
        if refused is None:  # erased; or accepted or thrown away before it was sent
            return OutgoingRecord(topic, key, None) if row.record == DELETION else None
        return OutgoingRecord(topic, key, dead_letter(number, refused))


class DeadLetter(msgspec.Struct, omit_defaults=True):
    """A refused record in its topic: why, of which source and where there (offset or byte), and what is known of it."""

    id: int
    reason: str
    source: str
    position: int
    event_time_s: int | None = None
    uid: str | None = None
    record: str = ""
    record_hash: str = ""


def dead_letter(number: int, row: QuarantineRow) -> bytes:
    """The value of a refused record's message: one JSON object. Bytes that are no UTF-8 are escaped."""
    text = row.record.decode("utf-8", "backslashreplace")
    return msgspec.json.encode(
        DeadLetter(number, row.reason, row.origin, row.position, row.event_time_s, row.uid, text, row.record_hash)
    )


def work_out(snapshot: Snapshot, key: WindowKey) -> tuple[WindowKey, WindowRow, bytes]:
    """A trailing window, its row and its record: provisional as long as its last day is not over. Cost: as `count`."""
    answers = snapshot.answers
    is_provisional = not answers.is_closed(answers.zone.day_end(key.as_of))
    before = read_window(answers.view, key)
    revision = 1 if before is None else before.revision + 1
    status = Status.FINAL
    if is_provisional:
        status = Status.PROVISIONAL
    elif before is not None and before.status != Status.PROVISIONAL:
        status = Status.AMENDED
    as_of: datetime.date = key.as_of
    record = snapshot.count(f"{key.days}d", as_of=as_of)
    record = msgspec.structs.replace(
        record, status=status.word, revision=revision, complete=record.complete and not is_provisional
    )
    return key, WindowRow(revision, int(status)), record.to_json()
