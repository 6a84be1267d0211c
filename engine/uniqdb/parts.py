"""Several stores that share no visitor, each asked as a part of the whole: so that what they answer can be added.

A part goes by the times of the whole. Its first and its newest visit, its clock, and the buckets that have visits are
those of all the stores; so all parts speak of the same windows, ranges and buckets, and differ in nothing but numbers.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec
import numpy as np

from uniqdb.answers import Answers
from uniqdb.batch import ends_of
from uniqdb.errors import NotFound
from uniqdb.format import Status
from uniqdb.granularity import Granularity
from uniqdb.record import CountRecord
from uniqdb.snapshot import Snapshot


def add_up(snapshots: Sequence[Snapshot], names: Sequence[str]) -> None:
    """Make each of the snapshots answer as a part of all of them. They are of one time zone, and share no visitor.

    They are asked by one thread at a time then, with the locks of all their handles. Cost: a row or two of each.
    """
    whole = _Whole([one.answers for one in snapshots])
    for name, snapshot in zip(names, snapshots, strict=True):
        snapshot.answers = PartAnswers(snapshot.answers, name, whole)


def uids_given(answers: Answers) -> int:
    """How many uids the store ever had.

    It never falls, and rises with each visitor who is new, or comes back after the sweeper dropped them. So where no
    store has more than when it was proved that they share no visitor, the proof still holds.
    """
    with answers.facts.lock:
        return answers.facts.dictionary.row(answers.view).next_ordinal


class _Whole:
    """What the parts have in common."""

    def __init__(self, parts: Sequence[Answers]) -> None:
        self._parts = parts
        states = [one.state for one in parts]
        firsts_s = [one.event_time_s_min for one in states]
        closed_s = [one.closed_through_s for one in states]
        self.first_s = min((at for at in firsts_s if at is not None), default=None)
        self.newest_s = max((one.event_time_s_max for one in states if one.event_time_s_max is not None), default=None)
        self.clock_s = min((one.clock_s for one in states if one.clock_s is not None), default=None)
        self.whole_from_s = _largest_of_all(firsts_s)
        # Closed is what is closed in each of them.
        self.closed_through_s = None if None in closed_s else min(at for at in closed_s if at is not None)
        self.has_lost = any(one.retention.lost for one in parts)
        self._starts: tuple[tuple[Granularity, int, int, bool], list[int]] | None = None

    def as_of_default_s(self) -> int:
        """The least of the stores' clocks: up to it all of them have counted. Raises NotFound if none has a visit."""
        found: list[int] = []
        for part in self._parts:
            with suppress(NotFound):
                found.append(part.as_of_default_s())
        if not found:
            raise NotFound("none of the stores has visits yet", hint="ingest some, or give an interval")
        return min(found)

    def counted_from_s(self, granularity: Granularity) -> int:
        """From when on every store has its rows."""
        return max(one.retention.counted_from_s(granularity) for one in self._parts)

    def starts_s(self, granularity: Granularity, start_s: int, end_s: int, *, fill: bool) -> list[int]:
        """Where those buckets of ``[start_s, end_s)`` start that some store tells of, ascending."""
        asked = granularity, start_s, end_s, fill
        if self._starts is None or self._starts[0] != asked:
            found: set[int] = set()
            for part in self._parts:
                if fill:
                    found |= {one.start_ts for one in part.series(granularity, start_s, end_s, fill=True)}
                else:
                    found |= {at for at, _ in part.rows(granularity, start_s, end_s)}
            self._starts = asked, sorted(found)
        return self._starts[1]


class PartAnswers(Answers):
    """Questions to one store, for the times of the whole."""

    def __init__(self, own: Answers, name: str, whole: _Whole) -> None:
        """``own``: what the store answers for itself; ``name``: what it is called."""
        super().__init__(own.view, own.facts)
        self.name, self.own_state, self._whole = name, own.state, whole
        self._state = msgspec.structs.replace(
            own.state,
            event_time_s_min=whole.first_s,
            event_time_s_max=whole.newest_s,
            clock_s=whole.clock_s,
            closed_through_s=whole.closed_through_s,
        )

    @property
    def whole_from_s(self) -> int | None:
        """From the first visit of the store that has the latest one: before it that one may not have counted."""
        return self._whole.whole_from_s

    def as_of_default_s(self) -> int:
        """The least of the stores' clocks. Raises NotFound if none has a visit."""
        return self._whole.as_of_default_s()

    def series(self, granularity: Granularity, start_s: int, end_s: int, *, fill: bool) -> Iterator[CountRecord]:
        """As of one store, with a record of each bucket that any of the stores tells of."""
        start_s = max(start_s, self._whole.counted_from_s(granularity))
        if fill and not self._whole.has_lost:
            yield from super().series(granularity, start_s, end_s, fill=True)
            return
        if start_s >= end_s:
            return
        starts_s = self._whole.starts_s(granularity, start_s, end_s, fill=fill)
        rows = dict(self.rows(granularity, start_s, end_s))
        ends_s = ends_of(self.zone, granularity, np.array(starts_s, np.int64)).tolist()
        for at, end_at in zip(starts_s, ends_s, strict=True):
            yield self._record(granularity.word, at, end_at, rows.get(at) or self._empty_row(end_at))


def _largest_of_all(times_s: Sequence[int | None]) -> int | None:
    known = [at for at in times_s if at is not None]
    return max(known) if len(known) == len(times_s) else None


# ---------------------------------------------------------------- adding
def added_counts(records: Sequence[CountRecord]) -> CountRecord:
    """One record of those of all parts: whatever changes in a store makes (epoch, revision) of the sum larger, too."""
    return msgspec.structs.replace(
        records[0],
        count=sum(record.count for record in records),
        visits=sum(record.visits for record in records),
        status=added_status([record.status for record in records]),
        complete=all(record.complete for record in records),
        revision=sum(record.revision for record in records),
        epoch=sum(record.epoch for record in records),
    )


def added_status(words: Sequence[str]) -> str:
    """Provisional as long as it is in one of the stores; else amended if it is in one of them."""
    for word in (Status.PROVISIONAL.word, Status.AMENDED.word):
        if word in words:
            return word
    return Status.FINAL.word
