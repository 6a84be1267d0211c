"""The public handle: open a store, add visits, ask for counts."""

import os
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np

from uniqdb.answers import MembersCache, StoreFacts
from uniqdb.calendar_zone import CalendarZone
from uniqdb.change_set import ChangeSet
from uniqdb.check import CheckReport, check_view
from uniqdb.errors import HandleClosed, UsageError
from uniqdb.format import Database
from uniqdb.granularity import Granularity
from uniqdb.handle_lock import HandleLock
from uniqdb.info import StoreInfo, collect_info
from uniqdb.manifest import is_store
from uniqdb.meta import STATE_KEY, STORE_KEY, StateRow, StoreRow, read_store_row, write_row
from uniqdb.options import OpenOptions
from uniqdb.quarantine import Quarantined
from uniqdb.reading import Moment, Reader, Snapshot, resolve_window
from uniqdb.record import CountRecord
from uniqdb.store import Store
from uniqdb.uid_dictionary import UidDictionary, first_rows
from uniqdb.visit import Reason, Verdict, check_many, check_one, decodable, uid_text
from uniqdb.writer import Commit, Writer

T = TypeVar("T")
CALL_ORIGIN = "call"
"""Origin, in quarantine, of visits that were handed over by a call."""


def create(path: str | os.PathLike[str], *, timezone: str = "UTC") -> None:
    """Create an empty store. Its time zone never changes. Raises UsageError if one is there, CannotWrite."""
    where = Path(path).absolute()
    if is_store(where):
        raise UsageError(f"there is a store at {where} already", hint="open it, or name another path")
    _write_new_store(where, timezone)


def _write_new_store(where: Path, timezone: str) -> None:
    write_empty_store(where, CalendarZone.from_name(timezone), str(uuid.uuid4()), secrets.randbits(64))


def write_empty_store(where: Path, zone: CalendarZone, store_uuid: str, hash_seed: int) -> None:
    """The store of `create`, with its two random numbers given: the same visits then make the same bytes."""
    row = StoreRow(store_uuid=store_uuid, zone_name=zone.name, zone_tzif=zone.tzif_bytes, hash_seed=hash_seed)
    changes = ChangeSet()
    write_row(changes, Database.META, STORE_KEY, row)
    write_row(changes, Database.META, STATE_KEY, StateRow())
    first_rows(changes)
    Store.create(where, row.store_uuid, changes)


def open(
    path: str | os.PathLike[str],
    *,
    timezone: str | None = None,
    read_only: bool = False,
    options: OpenOptions | None = None,
) -> "Engine":
    """Open the store at ``path``; create it first if there is none (not with ``read_only``).

    ``timezone`` is an IANA name, used at creation (default UTC); for an existing store it must be the store's own.
    One process may have the store open for writing, any number read-only.
    Raises UsageError (another zone), NotFound, StoreBusy (names the writer's process id), StoreCorrupt, CannotWrite.

    >>> import tempfile, uniqdb
    >>> with uniqdb.open(tempfile.mkdtemp() + "/visits.uniqdb") as db:
    ...     verdict = db.add_new_data(1468244384, "fbfcbfc80d60cb19266")
    ...     db.check_if_uid_exists("fbfcbfc80d60cb19266"), db.count("2016-07-11").count
    (True, 1)
    """
    where = Path(path).absolute()
    if not read_only and not is_store(where):
        # If another process creates it in this very moment, theirs is as good.
        _write_new_store(where, timezone or "UTC")
    engine = Engine(Store(where, read_only=read_only, map_bytes=(options or OpenOptions()).map_bytes), options)
    if timezone is not None and timezone != engine.timezone:
        engine.close()
        raise UsageError(
            f"the store at {where} has the time zone {engine.timezone}, not {timezone}",
            hint=f"leave the time zone out, or give {engine.timezone}",
        )
    return engine


class Engine:
    """A handle on a store. Thread-safe: calls are serialised. Not usable after a fork.

    Visits that were added are visible to this handle at once and durable once committed. It commits when 50,000 visits
    wait or one second has passed (looked at in each call; there is no thread), in `commit`, and on `close`.
    """

    def __init__(self, store: Store, options: OpenOptions | None = None) -> None:
        """Use `uniqdb.open`."""
        options = options or OpenOptions()
        self._store, self._rule = store, options.commit
        self._lock = HandleLock(store)
        try:
            row = read_store_row(store.view(), store.manifest.store_uuid)
            self._zone = CalendarZone.from_tzif(row.zone_name, row.zone_tzif)
        except BaseException:
            store.close()
            raise
        self.store_uuid, self.epoch = row.store_uuid, row.epoch
        dictionary = UidDictionary(row.hash_seed, cache_entries=options.caches.uid_entries)
        cache = MembersCache(options.caches.members_bytes)
        self._facts = StoreFacts(self._zone, row.epoch, self._lock, dictionary, cache)
        self._writer = None if store.read_only else Writer(store, self._zone, dictionary, options)
        self._reader: Reader | None = None
        self._clear_pending()

    # ------------------------------------------------------------ adding
    def add_new_data(self, ts: object, uid: object) -> Verdict:
        """Add one visit: event time in Unix seconds, uid as text (or an integer: its decimal text).

        Returns the verdict. A refused visit never raises: it goes to quarantine. Cost: about a microsecond; every
        commit interval the batch is written. Raises HandleClosed, CommitFailed (nothing is lost: commit again).
        """
        with self._lock:
            self._writing()
            outcome = check_one(ts, uid, "s")
            if isinstance(outcome, Reason):
                self._refuse(ts, uid, outcome)
                verdict = Verdict.IMPLAUSIBLE if outcome is Reason.IMPLAUSIBLE else Verdict.INVALID
            else:
                self._times_s.append(outcome[0])
                self._uids.append(outcome[1])
                verdict = Verdict.ACCEPTED
            self._commit_if_due()
            return verdict

    def add_many(self, event_times: Iterable[object], uids: Iterable[object]) -> dict[Verdict, int]:
        """Add many visits, from lists or numpy arrays of equal length; returns the number per verdict.

        The fast way: about a microsecond per visit, commits included. Raises UsageError if the lengths differ.
        """
        with self._lock:
            self._writing()
            counts: dict[Verdict, int] = {}

            def refuse(ts: object, uid: object, reason: Reason) -> None:
                self._refuse(ts, uid, reason)
                verdict = Verdict.IMPLAUSIBLE if reason is Reason.IMPLAUSIBLE else Verdict.INVALID
                counts[verdict] = counts.get(verdict, 0) + 1

            visits = check_many(event_times, uids, refuse)
            if len(visits):
                counts[Verdict.ACCEPTED] = len(visits)
            self._times_s += visits.event_times_s.tolist()
            self._uids += visits.uids
            self._commit_if_due()
            return counts

    def commit(self) -> None:
        """Make everything added so far durable, in one transaction. Does nothing if nothing waits."""
        with self._lock:
            self._writing()
            self._commit_pending()

    def write(self, commit: Commit) -> None:
        """Write a source's batch with its position in one transaction, together with what calls have added."""
        with self._lock:
            writer = self._writing()
            if self._uids or self._refused:
                waiting = self._pending_commit()
                commit.event_times_s = np.concatenate([waiting.event_times_s, commit.event_times_s])
                commit.uids = waiting.uids + commit.uids
                commit.refused = waiting.refused + commit.refused
            writer.commit(commit)
            self._clear_pending()

    # ------------------------------------------------------------ asking
    def check_if_uid_exists(self, uid: str | int, window: str | None = None, *, as_of: Moment | None = None) -> bool:
        """Whether the visitor was seen: in a window (``30d``) or period (``2016-07``), or without one at all.

        Sees visits that wait for their commit. Cost: a dictionary lookup (a few microseconds) and one membership test
        per bucket of the cover. Raises UsageError, NotFound, WindowNotKept.
        """
        with self._lock:
            if not self._uids:
                return self._reading().check_if_uid_exists(uid, window, as_of=as_of)
            text = uid_text(uid)
            if text is None:
                return False
            reader, waiting = self._reading(), self._waiting_times_s(text)
            if window is None:
                return bool(waiting) or reader.check_if_uid_exists(text)
            start_s, end_s = self._span(reader, window, as_of)
            if any(start_s <= at < end_s for at in waiting):
                return True
            return reader.seen_between(text, start_s, end_s)

    def check_many(
        self, uids: Sequence[str | int], window: str | None = None, *, as_of: Moment | None = None
    ) -> list[bool]:
        """`check_if_uid_exists` for a batch. Commits what waits first. Cost: one pass over the dictionary."""
        with self._lock:
            return self._fresh().check_many(uids, window, as_of=as_of)

    def count(self, window: str | None = None, *, as_of: Moment | None = None) -> CountRecord:
        """The exact number of different visitors of a trailing window or a period; without one, of all time.

        ``count("30d")`` ends with the day of the newest visit unless ``as_of`` says otherwise. Commits what waits
        first. Cost: a period is one row; a window the union of the fewest buckets that cover it.
        """
        with self._lock:
            return self._fresh().count(window, as_of=as_of)

    def count_between(self, start: Moment, end: Moment) -> CountRecord:
        """The exact number of different visitors in ``[start, end)``, whole minutes. Commits what waits first."""
        with self._lock:
            return self._fresh().count_between(start, end)

    def series(
        self,
        granularity: str | Granularity,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        fill: bool = False,
    ) -> Iterator[CountRecord]:
        """Records of the buckets that start in ``[start, end)``, all from one commit; ``fill`` adds empty ones."""
        return self._iterate(lambda snapshot: snapshot.series(granularity, start, end, fill=fill))

    def members(self, granularity: str | Granularity, start: Moment) -> Iterator[str]:
        """The uids of the bucket that holds ``start``, in no order, all from one commit."""
        return self._iterate(lambda snapshot: snapshot.members(granularity, start))

    def snapshot(self) -> Snapshot:
        """All answers from one commit. A writing handle commits what waits first."""
        with self._lock:
            self._commit_pending()
            return Snapshot(self._store.pin(), self._facts)

    def info(self) -> StoreInfo:
        """Facts about the store: sizes, rows, sources, quarantine. Commits what waits first."""
        with self._lock:
            self._commit_pending()
            return collect_info(self._store, self._facts, self.store_uuid)

    def check(self, on_progress: Callable[[str, int], None] | None = None) -> CheckReport:
        """Check every invariant of the newest commit; an empty list of problems means sound.

        Commits what waits first. Cost: reads the whole store; other threads of this handle wait meanwhile, other
        processes do not. ``on_progress`` gets what is being counted and how many so far.
        """
        with self._lock, self.snapshot() as snapshot:
            return check_view(snapshot.answers.view, self._facts, on_progress)

    @property
    def timezone(self) -> str:
        """The store's IANA time zone."""
        return self._zone.name

    @property
    def path(self) -> Path:
        """The store's directory."""
        return self._store.path

    # ------------------------------------------------------------ the end
    def close(self) -> None:
        """Commit what waits and close. Calling it again does nothing. If the commit fails, the handle stays open."""
        with self._lock:
            if self._writer is not None and not self._store.closed:
                self._commit_pending()
            self._store.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------ inside
    def _writing(self) -> Writer:
        if self._writer is None:
            raise HandleClosed("this handle is read-only", hint="open the store without read_only=True")
        self._store.assert_usable()
        return self._writer

    def _refuse(self, ts: object, uid: object, reason: Reason) -> None:
        record = f"{ts!r}\t{uid!r}".encode("utf-8", "backslashreplace")
        time_s, text = decodable(ts, uid, "s")
        self._refused.append(Quarantined(str(reason), CALL_ORIGIN, record, event_time_s=time_s, uid=text))

    def _clear_pending(self) -> None:
        self._times_s: list[int] = []
        self._uids: list[str] = []
        self._refused: list[Quarantined] = []
        self._waiting: dict[str, list[int]] = {}
        self._waiting_count = 0
        self._committed_at_s = time.monotonic()
        self._reader = None

    def _pending_commit(self) -> Commit:
        return Commit(np.array(self._times_s, np.int64), self._uids, self._refused)

    def _commit_pending(self) -> None:
        """Commit everything that waits, at most a rule's number of visits at a time."""
        size = self._rule.visits
        while self._writer is not None and (self._uids or self._refused):
            self._store.assert_usable()
            if len(self._uids) <= size:
                self._writer.commit(self._pending_commit())
                self._clear_pending()
                return
            part = Commit(np.array(self._times_s[:size], np.int64), self._uids[:size], self._refused)
            self._writer.commit(part)
            rest = self._times_s[size:], self._uids[size:]
            self._clear_pending()
            self._times_s, self._uids = rest

    def _iterate(self, ask: Callable[[Snapshot], Iterator[T]]) -> Iterator[T]:
        """An iterator over an answer of a snapshot of its own, which ends with it."""
        snapshot = self.snapshot()
        try:
            items = ask(snapshot)
        except BaseException:
            snapshot.close()
            raise
        return _closing(snapshot, items)

    def _commit_if_due(self) -> None:
        waiting = len(self._uids) + len(self._refused)
        if waiting >= self._rule.visits or (
            waiting and time.monotonic() - self._committed_at_s >= self._rule.interval_s
        ):
            self._commit_pending()

    def _waiting_times_s(self, uid: str) -> list[int]:
        """Event times of the uid's visits that wait for the commit; indexed once per added visit."""
        for at in range(self._waiting_count, len(self._uids)):
            self._waiting.setdefault(self._uids[at], []).append(self._times_s[at])
        self._waiting_count = len(self._uids)
        return self._waiting.get(uid, [])

    def _span(self, reader: Reader, window: str, as_of: Moment | None) -> tuple[int, int]:
        if window[-1:] not in ("d", "h", "m"):
            bucket = self._facts.period(window)
            return bucket.start_s, bucket.end_s
        newest = max([*self._times_s, reader.answers.state.event_time_s_max or 0])
        found = resolve_window(self._zone, window, as_of, newest)
        return found.start_s, found.end_s

    def _reading(self) -> Reader:
        """Answers from the newest commit."""
        view = self._store.view()
        if self._reader is None or self._reader.answers.view is not view:
            self._reader = Reader(view, self._facts)
        return self._reader

    def _fresh(self) -> Reader:
        """Answers that include everything added so far; to be used while the lock is held."""
        self._commit_pending()
        return self._reading()


def _closing(snapshot: Snapshot, items: Iterator[T]) -> Iterator[T]:
    with snapshot:
        yield from items
