"""Questions in the words of a caller: window and period texts, dates, instants."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from pyroaring import BitMap

from uniqdb.answers import Answers
from uniqdb.errors import UsageError
from uniqdb.granularity import Granularity
from uniqdb.handle_lock import in_chunks
from uniqdb.limits import UID_BYTES_MAX
from uniqdb.lost_names import assert_known, assert_nobody_lost, find
from uniqdb.moments import Moment, ResolvedWindow, instant_of, is_trailing, resolve_window
from uniqdb.record import CountRecord
from uniqdb.seen_uids import SeenUids
from uniqdb.store import ReadView, Store
from uniqdb.store_facts import StoreFacts
from uniqdb.uid_set import UidSet
from uniqdb.visit import encoded_uids, uid_text
from uniqdb.window import parse_edge

_RESOLVED_MAX = 256


class Reader:
    """Answers from one read view, in the words of a caller. `Engine` has one; `Snapshot` is one with its own view."""

    def __init__(self, view: ReadView, facts: StoreFacts, before: SeenUids | None = None) -> None:
        """``before``: what was found out in an earlier view."""
        self._facts, self._lock, self._zone = facts, facts.lock, facts.zone
        self.answers = Answers(view, facts)
        self._seen: SeenUids | None = None
        self._before = before
        self._are_all_kept: bool | None = None
        self._resolved: dict[tuple[str, str | None], ResolvedWindow] = {}

    def _resolve(self, window: str, as_of: Moment | None) -> ResolvedWindow:
        if as_of is not None and not isinstance(as_of, str):
            return resolve_window(self._zone, window, as_of, None)
        found = self._resolved.get((window, as_of))
        if found is None:
            newest = self.answers.as_of_default_s() if as_of is None else None
            found = resolve_window(self._zone, window, as_of, newest)
            if len(self._resolved) >= _RESOLVED_MAX:
                self._resolved.clear()
            self._resolved[(window, as_of)] = found
        return found

    def count(self, window: str | None = None, *, as_of: Moment | None = None) -> CountRecord:
        """The count of a trailing window (``30d``) or of a period (``2016``, ``2016-07``, ``2016-W28``, ...).

        Without an argument: of everything, from the first to the newest visit's minute. Cost: one row for a period,
        whether its members are kept or not; for a window the union of the fewest kept buckets that cover it. Raises
        UsageError, NotFound, and WindowNotKept if no kept buckets cover the window, or the period's row is gone.
        """
        with self._lock:
            if window is None:
                return self.answers.count_all()
            if not is_trailing(window):
                return self.answers.bucket_record(self._facts.period(window))
            found = self._resolve(window, as_of)
            record = self.answers.count_interval(found.start_s, found.end_s, "window")
            return msgspec.structs.replace(record, window=found.window.text, as_of=found.as_of)

    def count_between(self, start: Moment, end: Moment) -> CountRecord:
        """The count of ``[start, end)``, whole minutes. An end given as a day, week, month or year includes it."""
        with self._lock:
            start_s, end_s = self._edges(start, end)
            return self.answers.count_interval(start_s, end_s)

    def series(
        self,
        granularity: str | Granularity,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        fill: bool = False,
    ) -> Iterator[CountRecord]:
        """Records of the buckets that start in ``[start, end)``, ascending; ``fill`` adds those without visits.

        Without ``start`` or ``end``: from the first, to the newest bucket with visits. Cost: one row per bucket, and
        the rows above them, which prove that none is missing.
        """
        with self._lock:
            kind = granularity if isinstance(granularity, Granularity) else Granularity.from_word(granularity)
            start_s, end_s = self.series_edges(kind, start, end)
            if start_s >= end_s:
                return iter(())
            return in_chunks(self._lock, self.answers.series(kind, start_s, end_s, fill=fill))

    def series_edges(self, kind: Granularity, start: Moment | None, end: Moment | None) -> tuple[int, int]:
        """``[start_s, end_s)`` of a series; empty if the start is not before the end, or there is nothing to go by."""
        with self._lock:
            state = self.answers.state
            start_s = parse_edge(self._zone, start, is_end=False) if start is not None else None
            end_s = parse_edge(self._zone, end, is_end=True) if end is not None else None
            if state.event_time_s_min is None or state.event_time_s_max is None:
                return (0, 0) if start_s is None or end_s is None else (start_s, end_s)
            if start_s is None:
                start_s = self._zone.bucket_at(kind, state.event_time_s_min).start_s
            if end_s is None:
                end_s = self._zone.bucket_at(kind, state.event_time_s_max).end_s
            return start_s, end_s

    def members(self, granularity: str | Granularity, start: Moment) -> Iterator[str]:
        """The uids of the bucket that holds ``start``, in no order. Cost: its set and one scan of the dictionary."""
        with self._lock:
            kind = granularity if isinstance(granularity, Granularity) else Granularity.from_word(granularity)
            bucket = self._zone.bucket_at(kind, instant_of(self._zone, start))
            return iter(self.answers.interval(bucket.start_s, bucket.end_s))

    def window(self, window: str, *, as_of: Moment | None = None) -> UidSet:
        """The set of visitors of a trailing window or a period, for set algebra."""
        with self._lock:
            return self.answers.interval(*self._span(window, as_of))

    def between(self, start: Moment, end: Moment) -> UidSet:
        """The set of visitors of ``[start, end)``, whole minutes."""
        with self._lock:
            return self.answers.interval(*self._edges(start, end))

    def check_if_uid_exists(self, uid: str | int, window: str | None = None, *, as_of: Moment | None = None) -> bool:
        """Whether the visitor was seen: in the trailing window or period, or without one in any kept bucket.

        Cost: one dictionary lookup and one membership test per bucket of the cover. Without a window it is remembered.
        """
        with self._lock:
            self.answers.view.assert_open()
            return self.is_seen(uid, window, as_of)

    def is_seen(self, uid: object, window: str | None, as_of: Moment | None) -> bool:
        """`check_if_uid_exists`, to be called with the handle's lock and an open view."""
        text = uid if type(uid) is str and uid.isascii() and 0 < len(uid) <= UID_BYTES_MAX else uid_text(uid)
        if text is None:
            return False
        if window is None:
            return self._was_ever_seen(text)
        ordinal = self._find(text)
        return ordinal >= 0 and any(ordinal in one for one in self.answers.sets(*self._span(window, as_of)))

    @property
    def seen(self) -> SeenUids:
        """What was found out of uids, without a window. Raises StoreCorrupt."""
        if self._seen is None:
            self._seen, self._before = SeenUids(self.answers.view, self._before), None
        return self._seen

    def _was_ever_seen(self, uid: str) -> bool:
        seen = self._seen or self.seen
        if uid in seen.seen:
            return True
        if seen.unseen and uid in seen.unseen:
            return False
        return self._find_out(seen, uid)

    def find_out(self, store: Store, seen: SeenUids, uid: str) -> bool | None:
        """Whether a visitor is in any kept bucket who is not known in ``seen``, which is of this view.

        For a handle between its calls: None if the view is not that of the newest commit any more, or the uid is one
        that needs a closer look.
        """
        if not uid.isascii() or not 0 < len(uid) <= UID_BYTES_MAX or seen is not self._seen:
            return None
        alone = self._lock.alone
        alone.acquire()  # `with` takes twice as long: 0.15 us
        try:
            if not store.resume_newest(seen.view):
                return None
            try:
                return self._find_out(seen, uid)
            finally:
                if store.read_only:
                    seen.view.park()
        finally:
            alone.release()

    def _find_out(self, seen: SeenUids, uid: str) -> bool:
        answers = self.answers
        if self._are_all_kept is None:
            self._are_all_kept = answers.are_all_kept
        if self._are_all_kept:
            is_seen = self._facts.dictionary.has(answers.view, uid.encode())
        else:
            ordinal = self._find(uid)
            is_seen = ordinal >= 0 and any(ordinal in one for one in answers.kept_sets())
        if not is_seen:
            assert_nobody_lost(answers.retention)
        seen.put(uid, is_seen)
        return is_seen

    def _find(self, uid: str) -> int:
        return find(self._facts.dictionary, self.answers.view, self.answers.retention, uid.encode())

    def seen_between(self, uid: str, start_s: int, end_s: int) -> bool:
        """Whether the visitor was seen in ``[start_s, end_s)``, whole minutes."""
        with self._lock:
            ordinal = self._find(uid)
            return ordinal >= 0 and any(ordinal in one for one in self.answers.sets(start_s, end_s))

    def check_many(
        self, uids: Sequence[str | int], window: str | None = None, *, as_of: Moment | None = None
    ) -> list[bool]:
        """`check_if_uid_exists` for a batch: one dictionary pass, one union. Cost: about a microsecond each."""
        with self._lock:
            encoded, dictionary, view = encoded_uids(uids), self._facts.dictionary, self.answers.view
            hashes = dictionary.hashes_of(encoded)
            is_enough = window is None and self.answers.are_all_kept
            if is_enough:
                is_seen = dictionary.lookup_known(view, encoded, hashes)
            else:
                ordinals = dictionary.lookup(view, encoded, hashes)
                is_seen = ordinals >= 0
            if self.answers.retention.lost_names is not None:
                is_unknown = ~is_seen & np.array(list(map(bool, encoded)), np.bool_)  # an empty uid is nobody's
                assert_known(self.answers.retention, hashes[is_unknown].tolist())
            if not is_enough and is_seen.any():
                found = ordinals[is_seen].tolist()
                asked, sets = BitMap(found), self._sets(window, as_of)
                inside = BitMap.union(BitMap(), *(asked & one for one in sets))
                is_seen[is_seen] = [ordinal in inside for ordinal in found]
            if window is None and not is_seen.all():
                assert_nobody_lost(self.answers.retention)
            answers: list[bool] = is_seen.tolist()
            return answers

    def _sets(self, window: str | None, as_of: Moment | None) -> list[BitMap]:
        if window is None:
            return self.answers.kept_sets()
        return self.answers.sets(*self._span(window, as_of))

    def span(self, window: str, as_of: Moment | None, *, newest_s: int) -> tuple[int, int]:
        """``[start_s, end_s)`` of a window or period, if there is a visit of this moment, too."""
        if as_of is None and is_trailing(window):
            state = self.answers.state
            as_of = max(newest_s, state.event_time_s_max or 0) if state.clock_s is None else state.clock_s
        return self._span(window, as_of)

    def _span(self, window: str, as_of: Moment | None) -> tuple[int, int]:
        if not is_trailing(window):
            bucket = self._facts.period(window)
            return bucket.start_s, bucket.end_s
        found = self._resolve(window, as_of)
        return found.start_s, found.end_s

    def _edges(self, start: Moment, end: Moment) -> tuple[int, int]:
        start_s = parse_edge(self._zone, start, is_end=False)
        end_s = parse_edge(self._zone, end, is_end=True)
        if start_s >= end_s:
            raise UsageError("the interval is empty: its start is not before its end", hint="swap the two")
        return start_s, end_s
