"""What a user makes of refused records: counts them after all, or throws them away."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from msgspec import structs

from uniqdb.engine import Engine
from uniqdb.limits import COMMIT_VISITS, EVENT_TIME_S_MAX, EVENT_TIME_S_MIN
from uniqdb.quarantine import CountedRow, Gone, QuarantineRow, read_counted, read_quarantine
from uniqdb.snapshot import Snapshot
from uniqdb.visit import Reason
from uniqdb.writer import Commit, nothing


@dataclass(frozen=True, slots=True)
class QuarantineFilter:
    """Which refused records are meant: those that fit everything that is given. Event times in ``[start_s, end_s)``."""

    reasons: frozenset[str] = frozenset()
    origin: str | None = None
    start_s: int | None = None
    end_s: int | None = None
    ids: frozenset[int] = frozenset()

    def rows(self, snapshot: Snapshot) -> Iterator[tuple[int, QuarantineRow]]:
        """(id, row) of those that are kept, oldest first. Cost: a look at every one that is kept."""
        for number, row in read_quarantine(snapshot.answers.view):
            if self._has(row.reason, row.origin) and self._in_time(row.event_time_s) and self._is_named(number):
                yield number, row

    def counted(self, snapshot: Snapshot) -> Iterator[CountedRow]:
        """Those that are only counted; nothing of them has a time or an id."""
        if self.start_s is None and self.end_s is None and not self.ids:
            yield from (one for one in read_counted(snapshot.answers.view) if self._has(one.reason, one.origin))

    def names(self, number: int, reason: str) -> bool:
        """Whether the record is meant by its reason or its id, and not only among others."""
        return reason in self.reasons or number in self.ids

    def _has(self, reason: str, origin: str) -> bool:
        return (not self.reasons or reason in self.reasons) and self.origin in (None, origin)

    def _is_named(self, number: int) -> bool:
        return not self.ids or number in self.ids

    def _in_time(self, time_s: int | None) -> bool:
        if self.start_s is None and self.end_s is None:
            return True
        if time_s is None:
            return False
        return (self.start_s is None or time_s >= self.start_s) and (self.end_s is None or time_s < self.end_s)


@dataclass(slots=True)
class Review:
    """What was done: how many records, and by reason how many of those that were meant stay in quarantine."""

    done: int = 0
    left: Counter[str] = field(default_factory=Counter)


def accept_quarantined(engine: Engine, wanted: QuarantineFilter) -> Review:
    """Count the visits among the refused records that are meant; they leave quarantine in the same commits.

    Those whose time or uid could not be made out stay, and so do implausible ones unless the filter names their reason
    or their id. Doing it again does nothing. Cost: as of adding the visits; at most 50,000 in a commit.
    """
    review = Review()
    with engine.snapshot() as snapshot:
        times_s: list[int] = []
        uids: list[str] = []
        gone: dict[int, str] = {}
        for number, row in wanted.rows(snapshot):
            if row.event_time_s is None or row.uid is None or not _is_countable(number, row, wanted):
                review.left[row.reason] += 1
                continue
            times_s.append(row.event_time_s)
            uids.append(row.uid)
            gone[number] = row.reason
            if len(uids) == COMMIT_VISITS:
                _accept(engine, times_s, uids, gone)
                times_s, uids, gone = [], [], {}
                review.done += COMMIT_VISITS
        if uids:
            _accept(engine, times_s, uids, gone)
            review.done += len(uids)
        for one in wanted.counted(snapshot):
            review.left[one.reason] += one.count
    return review


def _is_countable(number: int, row: QuarantineRow, wanted: QuarantineFilter) -> bool:
    if row.event_time_s is None or not EVENT_TIME_S_MIN <= row.event_time_s < EVENT_TIME_S_MAX:
        return False  # no bucket holds it
    return row.reason != Reason.IMPLAUSIBLE or wanted.names(number, row.reason)


def _accept(engine: Engine, times_s: list[int], uids: list[str], gone: dict[int, str]) -> None:
    engine.write(Commit(np.array(times_s, np.int64), uids, gone=Gone(gone, [])))


def discard_quarantined(engine: Engine, wanted: QuarantineFilter) -> Review:
    """Throw away the refused records that are meant, those that are only counted, too; how many stays known."""
    review = Review()
    with engine.snapshot() as snapshot:
        gone: dict[int, str] = {}
        for number, row in wanted.rows(snapshot):
            gone[number] = row.reason
            review.done += 1
            if len(gone) == COMMIT_VISITS:
                _discard(engine, gone, [])
                gone = {}
        counted = list(wanted.counted(snapshot))
        review.done += sum(one.count for one in counted)
        if gone or counted:
            _discard(engine, gone, counted)
    return review


def _discard(engine: Engine, gone: dict[int, str], counted: list[CountedRow]) -> None:
    engine.write(structs.replace(nothing(), gone=Gone(gone, counted, discarded=True)))
