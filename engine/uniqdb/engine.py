"""The public handle: open a store, add visits, ask for counts."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
from msgspec import structs

from uniqdb.calendar_zone import CalendarZone
from uniqdb.call_sources import CallSources
from uniqdb.check import CheckReport, check_view
from uniqdb.creation import write_new_store
from uniqdb.errors import HandleClosed, UsageError
from uniqdb.granularity import Granularity
from uniqdb.handle_lock import HandleLock, closed_if_lost
from uniqdb.info import StoreInfo, collect_info
from uniqdb.limits import IMPLAUSIBLE_AHEAD_S
from uniqdb.manifest import is_store
from uniqdb.members_cache import MembersCache
from uniqdb.meta import StateRow, read_state, read_store_row
from uniqdb.moments import Moment
from uniqdb.options import OpenOptions
from uniqdb.pending_visits import PendingVisits, seen_or_waits
from uniqdb.quarantine import Quarantined, refused_call
from uniqdb.reading import Reader
from uniqdb.record import CountRecord
from uniqdb.retention import live_ordinals
from uniqdb.seen_uids import SeenUids
from uniqdb.snapshot import Snapshot, closing_after
from uniqdb.store import Store
from uniqdb.store_facts import StoreFacts
from uniqdb.uid_batch import chosen
from uniqdb.uid_dictionary import UidDictionary
from uniqdb.upkeep_step import LiveMarks, Step
from uniqdb.visit import Reason, Verdict, check_many, check_one
from uniqdb.writer import Commit, Writer, nothing

T = TypeVar("T")


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
        write_new_store(where, timezone or "UTC")
    chosen = options or OpenOptions()
    sizes = chosen.map_bytes, chosen.max_store_bytes
    engine = Engine(Store(where, read_only=read_only, sizes_bytes=sizes), chosen)
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
        self.allowed_lateness_s = options.allowed_lateness_s
        """How long after its end a bucket is closed, by the store's clock."""
        self.retention, self.wall_clock = options.retention, options.wall_clock
        self._lock = HandleLock(store)
        try:
            row = read_store_row(store.view(), store.manifest.store_uuid)
            self._zone = CalendarZone.from_tzif(row.zone_name, row.zone_tzif)
        except BaseException:
            store.close()
            raise
        self.store_uuid = row.store_uuid
        dictionary = UidDictionary(row.hash_seed, options.caches)
        cache = MembersCache(options.caches.members_bytes)
        self._facts = StoreFacts(self._zone, self._lock, dictionary, cache)
        self._writer = None if store.read_only else Writer(store, self._zone, dictionary, options)
        self._calls = CallSources(options.allowed_lateness_s)
        self._reference_s = read_state(store.view()).reference_s or 0
        self._reader: Reader | None = None
        self._seen: SeenUids | None = None
        self._clear_pending()

    # ------------------------------------------------------------ adding
    def add_new_data(self, ts: object, uid: object, *, source: str | None = None) -> Verdict:
        """Add one visit: event time in Unix seconds, uid as text (or an integer: its decimal text).

        Returns the verdict. A refused visit never raises: it goes to quarantine. Without ``source`` it counts at once
        unless it is implausible; with one it is judged by the visits that came before it under this name, as those of a
        file are (see docs/event-time.md), and moves the clock that closes buckets. Cost: about a microsecond (with
        ``source`` 50); every commit interval the batch is written. Raises HandleClosed, CommitFailed (nothing is lost:
        commit again).
        """
        with self._lock:
            writer = self._writing()
            outcome = check_one(ts, uid, "s")
            if isinstance(outcome, Reason) or source is not None or outcome[0] > self.now_s() + IMPLAUSIBLE_AHEAD_S:
                return next(iter(self.add_many([ts], [uid], source=source)))
            self._pending.times_s.append(outcome[0])
            self._pending.uids.append(outcome[1])
            is_kept = writer.takes(outcome[0])
            self._commit_if_due()
            return Verdict.ACCEPTED if is_kept else Verdict.EXPIRED

    def add_many(
        self, event_times: Iterable[object], uids: Iterable[object], *, source: str | None = None
    ) -> dict[Verdict, int]:
        """Add many visits, from lists or numpy arrays of equal length; returns the number per verdict.

        The fast way: about a microsecond per visit, commits included. ``source`` as in `add_new_data`.
        Raises UsageError if the lengths differ.
        """
        with self._lock:
            writer = self._writing()
            counts: Counter[Verdict] = Counter()
            refused: list[Quarantined] = []

            def refuse(ts: object, uid: object, reason: Reason) -> None:
                refused.append(refused_call(ts, uid, reason, source))
                counts[Verdict.IMPLAUSIBLE if reason is Reason.IMPLAUSIBLE else Verdict.INVALID] += 1

            visits = check_many(event_times, uids, refuse)
            times_s, reference_s = visits.event_times_s, self.now_s()
            if source is not None:
                self._calls.refuse(self._store.view, source, refused)
                counts += self._calls.take(self._store.view, source, (times_s, visits.uids), reference_s)
            else:
                early = times_s <= reference_s + IMPLAUSIBLE_AHEAD_S
                for at in np.flatnonzero(~early).tolist():
                    refuse(int(times_s[at]), visits.uids[at], Reason.IMPLAUSIBLE)
                self._pending.times_s += times_s[early].tolist()
                self._pending.uids += visits.uids if early.all() else chosen(visits.uids, early)
                self._pending.refused += refused
                counts[Verdict.EXPIRED] += int((~writer.taken(times_s[early])).sum())
                counts[Verdict.ACCEPTED] += int(early.sum()) - counts[Verdict.EXPIRED]
            self._commit_if_due()
            return dict(+counts)

    def commit(self) -> None:
        """Make everything added so far durable, in one transaction. Does nothing if nothing waits."""
        with self._lock:
            self._writing()
            self._commit_pending()

    def write(self, commit: Commit) -> StateRow:
        """Write a source's batch with its position in one transaction, together with what calls have added."""
        with self._lock:
            writer = self._writing()
            if commit.erasure is not None:
                self._commit_pending()  # what waits is forgotten, too
            whole = commit.after(self._pending.commit(self._reference_s)) if self._pending else commit
            state = writer.commit(whole)
            self._calls.drop(commit.sources)
            if commit.erasure is not None:
                self._calls.read_again(self._store.view(), commit.erasure.sources)
            self._clear_pending()
            return state

    def change(self, step: Step) -> None:
        """Carry out a step of upkeep in a transaction of its own; what waits for a commit goes on waiting."""
        with self._lock:
            self._writing().change(step)
            self._reader = None

    def mark_live(self) -> LiveMarks:
        """The ordinals of all kept members; as long as the marks are kept, the writer adds what it looks up."""
        with self._lock:
            marks = LiveMarks(live_ordinals(self._store.view()))
            self._writing().mark(marks)
            return marks

    def wait_for(self, key: bytes) -> None:
        """A source is going to be read: close nothing until it has a clock, or `leave` is called for it."""
        with self._lock:
            self._writing().open_sources().wait_for(key)

    def leave(self, key: bytes, *, is_stored: bool) -> None:
        """A source is not read any longer; it stays open if it has a row that says so."""
        with self._lock:
            if self._writer is not None and not self._store.closed:
                self._writer.open_sources().leave(key, is_stored=is_stored)

    def close_due(self) -> None:
        """Commit if the store's clock has passed the end of a bucket since the last commit: a source was left."""
        with self._lock:
            if self._writing().is_behind():
                self.write(nothing())

    def close_buckets(self) -> None:
        """Close every bucket that has visits, although time has not passed its end. Later visits amend it."""
        with self._lock:
            self.write(structs.replace(nothing(), is_closing=True))

    # ------------------------------------------------------------ asking
    def check_if_uid_exists(self, uid: str | int, window: str | None = None, *, as_of: Moment | None = None) -> bool:
        """Whether the visitor was seen: in a window (``30d``) or period (``2016-07``), or without one at all.

        Sees visits that wait for their commit. Cost: a dictionary lookup (a few microseconds) and one membership test
        per bucket of the cover. Without a window, of a uid that was asked for lately: below a microsecond, in which a
        reader looks whether anybody has committed since. Raises UsageError, NotFound, WindowNotKept.
        """
        seen = self._seen
        if window is None and seen is not None and type(uid) is str:
            if uid in seen.seen and self._lock.is_newest(seen.view):
                return True
            if not (self._pending or self._calls.waiting):
                if uid in seen.unseen:
                    if self._lock.is_newest(seen.view):
                        return False
                elif (reader := self._reader) and (found := reader.find_out(self._store, seen, uid)) is not None:
                    return found
        with self._lock:
            if self._calls.waiting:
                self._commit_pending()
            reader = self._reading()
            if self._pending.uids:
                is_seen = seen_or_waits(reader, self._pending, self._writing().takes, (uid, window, as_of))
            else:
                is_seen = reader.is_seen(uid, window, as_of)
            if window is None:
                self._seen = reader.seen
            return is_seen

    def check_many(
        self, uids: Sequence[str | int], window: str | None = None, *, as_of: Moment | None = None
    ) -> list[bool]:
        """`check_if_uid_exists` for a batch. Commits what waits first. Cost: one pass over the dictionary."""
        with self._lock:
            return self._fresh().check_many(uids, window, as_of=as_of)

    def count(self, window: str | None = None, *, as_of: Moment | None = None) -> CountRecord:
        """The exact number of different visitors of a trailing window or a period; without one, of all time.

        ``count("30d")`` ends with the day of the store's clock unless ``as_of`` says otherwise. Commits what waits
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
    def zone(self) -> CalendarZone:
        """The store's calendar."""
        return self._zone

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
        """Commit what waits and close, once. If it fails, the handle stays open, unless no commit can succeed in it."""
        with self._lock:
            if self._writer is not None and not self._store.closed:
                with closed_if_lost(self._store):
                    self._commit_pending()
                    self._calls.end()
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

    def now_s(self) -> int:
        """The moment by which a call is judged: it does not go back when the wall clock does."""
        self._reference_s = max(self._reference_s, int(self.wall_clock()))
        return self._reference_s

    def _clear_pending(self, rest: PendingVisits | None = None) -> None:
        self._pending = rest or PendingVisits()
        self._committed_at_s = time.monotonic()
        self._reader = None

    def _commit_pending(self) -> None:
        """Commit everything that waits, at most a rule's number of visits at a time."""
        if self._writer is not None and self._calls.waiting:
            self._store.assert_usable()
            self._calls.commit(self._writer.commit)
            self._reader = None
        size = self._rule.visits
        while self._writer is not None and self._pending:
            self._store.assert_usable()
            self._writer.commit(self._pending.commit(self._reference_s, size))
            self._clear_pending(self._pending.after(size))

    def _iterate(self, ask: Callable[[Snapshot], Iterator[T]]) -> Iterator[T]:
        """An iterator over an answer of a snapshot of its own, which ends with it."""
        snapshot = self.snapshot()
        try:
            items = ask(snapshot)
        except BaseException:
            snapshot.close()
            raise
        return closing_after(snapshot, items)

    def _commit_if_due(self) -> None:
        waiting = len(self._pending) + self._calls.waiting
        if waiting >= self._rule.visits or (
            waiting and time.monotonic() - self._committed_at_s >= self._rule.interval_s
        ):
            self._commit_pending()

    def _reading(self) -> Reader:
        """Answers from the newest commit."""
        view = self._store.view()
        if self._reader is None or self._reader.answers.view is not view:
            self._reader = Reader(view, self._facts, self._seen)
        return self._reader

    def _fresh(self) -> Reader:
        """Answers that include everything added so far; to be used while the lock is held."""
        self._commit_pending()
        return self._reading()
