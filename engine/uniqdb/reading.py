"""Questions in the words of a caller: window and period texts, dates, instants; and snapshots."""

import datetime
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TypeAlias, TypeGuard, TypeVar

import msgspec
import numpy as np
from pyroaring import BitMap

from uniqdb.answers import Answers, UidSet
from uniqdb.calendar_zone import YEAR_MIN, CalendarZone
from uniqdb.completeness import Completeness, read_completeness
from uniqdb.errors import UsageError
from uniqdb.granularity import Granularity
from uniqdb.handle_lock import in_chunks
from uniqdb.limits import UID_BYTES_MAX
from uniqdb.lost_names import assert_known, assert_nobody_lost, find
from uniqdb.record import CountRecord
from uniqdb.seen_uids import SeenUids
from uniqdb.store import ReadView, Store
from uniqdb.store_facts import StoreFacts
from uniqdb.visit import encoded_uids, uid_text
from uniqdb.window import TrailingWindow, parse_edge, parse_window, trailing_interval

T = TypeVar("T")
_RESOLVED_MAX = 256
Moment: TypeAlias = int | str | datetime.date | datetime.datetime
"""A point in time: Unix seconds, an aware datetime, a date, or period text such as 2016-07-11."""


@dataclass(frozen=True, slots=True)
class ResolvedWindow:
    """A trailing window at a point in time: ``[start_s, end_s)`` and the date or minute it ends with, as text."""

    window: TrailingWindow
    as_of: str
    start_s: int
    end_s: int


def resolve_window(zone: CalendarZone, text: str, as_of: Moment | None, newest_s: int | None) -> ResolvedWindow:
    """The interval of ``text`` (30d, 24h, 45m) as of a date or instant; by default as of ``newest_s``.

    Days are whole local dates, the as-of date included; a date that a zone skipped counts as one of them.
    """
    window = parse_window(text)
    if isinstance(as_of, str):
        as_of = _date_or_instant(zone, as_of)
    if as_of is None:
        if newest_s is None:
            raise UsageError("there is nothing to be as of", hint="give as_of")
        as_of = newest_s
    if window.unit is not Granularity.DAY:
        instant = zone.day_end(as_of) - 60 if _is_date(as_of) else _instant(zone, as_of)
        start_s, end_s = trailing_interval(zone, window, instant)
        return ResolvedWindow(window, zone.isoformat(instant // 60 * 60), start_s, end_s)
    day = as_of if _is_date(as_of) else zone.local_date(_instant(zone, as_of))
    try:
        first = day - datetime.timedelta(days=window.length - 1)
    except OverflowError:
        raise UsageError(f"{text} before {day} is before the calendar", hint="ask for fewer days") from None
    start_s, end_s = zone.day_start(first), zone.day_end(day)
    if start_s >= end_s:
        hint = f"it is before {YEAR_MIN}, or a date that {zone.name} skipped"
        raise UsageError(f"{text} as of {day} holds no time at all", hint=hint)
    return ResolvedWindow(window, day.isoformat(), start_s, end_s)


def _is_trailing(text: str) -> bool:
    """Period texts (2016, 2016-W28, 2016-07-11T13) never end with one of these letters."""
    return text[-1:] in ("d", "h", "m")


def _is_date(value: object) -> TypeGuard[datetime.date]:
    return isinstance(value, datetime.date) and not isinstance(value, datetime.datetime)


def _instant(zone: CalendarZone, value: Moment) -> int:
    """Any second, not only whole minutes; of a date or period its start."""
    if isinstance(value, str):
        value = _date_or_instant(zone, value)
    if isinstance(value, int):
        return value
    if not isinstance(value, datetime.datetime):
        return zone.day_start(value)
    if value.tzinfo is None:
        raise UsageError("a datetime without a zone says no instant", hint="give it a tzinfo")
    return math.floor(value.timestamp())


def _date_or_instant(zone: CalendarZone, text: str) -> datetime.date | int:
    """A date, or the second that a time (without an offset: in the store's zone) or a period's start means."""
    if text.lstrip("-").isdigit() and len(text) > len("2016"):
        return int(text)
    try:
        if "T" not in text:
            return datetime.date.fromisoformat(text)
        moment = datetime.datetime.fromisoformat(text)
        return math.floor((moment if moment.tzinfo else moment.replace(tzinfo=zone.zone_info)).timestamp())
    except (ValueError, OverflowError):
        return parse_edge(zone, text, is_end=False)


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
            if not _is_trailing(window):
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
            bucket = self._zone.bucket_at(kind, _instant(self._zone, start))
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
        with self._lock.alone:
            if not store.resume_newest(seen.view):
                return None
            try:
                return self._find_out(seen, uid)
            finally:
                if store.read_only:
                    seen.view.park()

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
        if as_of is None and _is_trailing(window):
            state = self.answers.state
            as_of = max(newest_s, state.event_time_s_max or 0) if state.clock_s is None else state.clock_s
        return self._span(window, as_of)

    def _span(self, window: str, as_of: Moment | None) -> tuple[int, int]:
        if not _is_trailing(window):
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
                    with self._lock.alone:  # of the handle's own view nothing is asked
                        return self._find_out(seen, uid)
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


def closing_after(snapshot: Snapshot, items: Iterator[T]) -> Iterator[T]:
    """The items; the snapshot ends with them."""
    with snapshot:
        yield from items
