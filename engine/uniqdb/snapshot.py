"""One commit of a store, asked as often as one likes: counts, series, sets, and the questions that compare sets."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeAlias, TypeVar

from uniqdb.cohorts import PERIODS, Cohorts, cohorts, newest_periods
from uniqdb.completeness import Completeness, read_completeness
from uniqdb.granularity import Granularity
from uniqdb.handle_lock import in_chunks
from uniqdb.limits import UID_BYTES_MAX
from uniqdb.look_back import previous_of
from uniqdb.moments import Moment
from uniqdb.reading import Reader
from uniqdb.record import CountRecord
from uniqdb.stickiness import DAYS, Stickiness, stickiness
from uniqdb.uid_set import UidSet
from uniqdb.visitor_questions import BEFORE, NewAndReturning, Overlap, new_ordinals, overlap, split, split_each
from uniqdb.window import TrailingWindow, parse_edge, parse_window

T = TypeVar("T")
Asked: TypeAlias = str | tuple[Moment, Moment] | CountRecord
"""What a question is about: a trailing window or a period, as text; the two edges of an interval; or what one of these
was counted to be, by the same snapshot."""
PREVIOUS = "previous"
"""Stands for the window of the same length before another one."""


class Snapshot(Reader):
    """All answers from one commit, whatever is written meanwhile. Close it: it keeps LMDB from reusing pages."""

    def check_if_uid_exists(self, uid: str | int, window: str | None = None, *, as_of: Moment | None = None) -> bool:
        """`Reader.check_if_uid_exists`. Cost without a window, of a uid that was asked for before: 0.2 us."""
        if window is None and type(uid) is str and not self.answers.view.ended:
            seen = self._seen
            if seen is not None:
                if uid in seen.seen:
                    return True
                if uid in seen.unseen:
                    return False
                if uid.isascii() and 0 < len(uid) <= UID_BYTES_MAX:
                    alone = self._lock.alone  # of the handle's own view nothing is asked
                    alone.acquire()  # `with` takes twice as long: 0.15 us
                    try:
                        return self._find_out(seen, uid)
                    finally:
                        alone.release()
        return super().check_if_uid_exists(uid, window, as_of=as_of)

    @property
    def commit_number(self) -> int:
        """The commit that every answer comes from."""
        with self._lock:
            return self.answers.state.commit_number

    @property
    def version(self) -> tuple[int, int, int]:
        """(epoch, generation, transaction): names the state that is read; no other state of the store has it."""
        with self._lock:
            view = self.answers.view
            return self.answers.epoch, view.generation, view.txn_id

    # ------------------------------------------------------------ questions of sets
    def new_visitors(self, window: Asked, *, before: str | None = BEFORE, as_of: Moment | None = None) -> UidSet:
        """Who is in the window and was not seen in the time before it.

        ``window``: a trailing window, a period, or the two edges of an interval. ``before``: how far is looked back
        from the window's start (whole days, hours or minutes); None: over all that the store keeps. Cost: the window's
        union, and a difference for each bucket that covers the look-back. Raises as `count`, and WindowNotKept if no
        kept buckets cover the look-back.
        """
        with self._lock:
            record = self._counted(window, as_of)
            edges_s = record.start_ts, record.end_ts
            return self.answers.set_of(new_ordinals(self.answers, edges_s, _look_back(before)))

    def returning_visitors(self, window: Asked, *, before: str | None = BEFORE, as_of: Moment | None = None) -> UidSet:
        """Who is in the window and was seen in the time before it, too. As `new_visitors`."""
        with self._lock:
            record = self._counted(window, as_of)
            return self.answers.interval(record.start_ts, record.end_ts) - self.new_visitors(
                window, before=before, as_of=as_of
            )

    def new_and_returning(
        self, window: Asked, *, before: str | None = BEFORE, as_of: Moment | None = None
    ) -> NewAndReturning:
        """How many visitors of the window are new, and how many came back. As `new_visitors`."""
        with self._lock:
            return split(self.answers, self._counted(window, as_of), _look_back(before))

    def told_apart(self, buckets: Iterable[CountRecord], *, before: str | None = BEFORE) -> Iterator[NewAndReturning]:
        """`new_and_returning` for each bucket of a `series`, by what was seen before that bucket, as they are taken.

        Cost: `uniqdb.visitor_questions.split_each`.
        """
        with self._lock:
            return in_chunks(self._lock, split_each(self.answers, buckets, _look_back(before)))

    def overlap(self, window: Asked, other: Asked, *, as_of: Moment | None = None) -> Overlap:
        """How many visitors are in both of two windows, and in either. Trailing ones end with the same ``as_of``.

        ``other`` may be ``previous``: the window of the same kind and length before. Cost: two unions. Raises as
        `count` does.
        """
        with self._lock:
            record = self._counted(window, as_of)
            if other == PREVIOUS:
                edges_s = previous_of(self._zone, record)
                return overlap(self.answers, record, self.answers.count_interval(*edges_s), PREVIOUS)
            text = other if isinstance(other, str) else None
            return overlap(self.answers, record, self._counted(other, as_of), text)

    def cohorts(
        self,
        by: str | Granularity,
        start: Moment | None = None,
        end: Moment | None = None,
    ) -> Cohorts:
        """Of the visitors first seen in each day, week or month from ``start`` to ``end``, how many came back when.

        First seen in what the store keeps. Without ``end``: up to the store's clock; without ``start``: twelve periods.
        Cost: `uniqdb.cohorts.cohorts`. Raises UsageError, NotFound, WindowNotKept.
        """
        with self._lock:
            kind = by if isinstance(by, Granularity) else Granularity.from_word(by)
            edges_s = newest_periods(self.answers, kind, self._open_edges(start, end), PERIODS)
            return cohorts(self.answers, kind, edges_s)

    def stickiness(self, start: Moment | None = None, end: Moment | None = None) -> Stickiness:
        """Which part of the visitors of 7 and of 30 days came on the last of them, for each day of an interval.

        Without ``end``: up to the store's clock; without ``start``: 30 days. Cost: two unions for each day. Raises
        UsageError, NotFound, WindowNotKept.
        """
        with self._lock:
            edges_s = newest_periods(self.answers, Granularity.DAY, self._open_edges(start, end), DAYS)
            return stickiness(self.answers, edges_s)

    def _counted(self, window: Asked, as_of: Moment | None) -> CountRecord:
        if isinstance(window, CountRecord):
            return window
        return self.count(window, as_of=as_of) if isinstance(window, str) else self.count_between(*window)

    def _open_edges(self, start: Moment | None, end: Moment | None) -> tuple[int | None, int | None]:
        return (
            None if start is None else parse_edge(self._zone, start, is_end=False),
            None if end is None else parse_edge(self._zone, end, is_end=True),
        )

    def completeness(self) -> Completeness:
        """What became of every record received, and up to when each source is complete. Cost: a row per source."""
        with self._lock:
            return read_completeness(self.answers.view)

    def close(self) -> None:
        """End the snapshot. Its sets keep their counts; asking anything else raises HandleClosed."""
        with self._lock:
            self.answers.view.end()

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _look_back(before: str | None) -> TrailingWindow | None:
    return None if before is None else parse_window(before)


def closing_after(snapshot: Snapshot, items: Iterator[T]) -> Iterator[T]:
    """The items; the snapshot ends with them."""
    with snapshot:
        yield from items
