"""The store: one LMDB environment with named databases. The only module that knows LMDB.

Reading goes through a `ReadView` (one read transaction), writing through a `ChangeSet` that is put together from the
view without any lock and then written by `Store.commit` in one short write transaction: all of it or nothing. A change
set is plain data: a full map is grown and the same change set written again.

Durability: ``sync=True, metasync=True, writemap=False`` and LMDB's 0.9 engine, the only flags under which thousands of
simulated power cuts lost nothing.
"""

import os
import time
import weakref
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from uniqdb import manifest
from uniqdb.change_set import ChangeSet
from uniqdb.errors import CommitFailed, HandleClosed, NotFound, StoreCorrupt, UsageError
from uniqdb.format import FORMAT_VERSION, Database, corrupt
from uniqdb.generations import Hold, hold_current, remove_others
from uniqdb.limits import (
    GENERATION_LOOK_S,
    MAP_BYTES_INITIAL,
    MAP_BYTES_MIN,
    MAP_USED_FRACTION_MAX,
    READ_TXN_AGE_S_MAX,
    READERS_MAX,
)
from uniqdb.map_room import PANICKED, grown_map_bytes, no_room, panicked
from uniqdb.page_walk import assert_pages, remove_stamp, write_stamp
from uniqdb.read_view import Handle, OpenData, ReadView

__all__ = ["LmdbError", "MapFull", "ReadView", "Store", "StoreMoved", "open_empty"]

PAGE_BYTES, PAGE_ROUND_BYTES = 4096, 1024 * 1024
_DAMAGE = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.CursorFullError, lmdb.BadTxnError)
"""What LMDB raises where its own pages make no sense (no checksum of ours covers them), and ever after in that view."""
_ADDED = frozenset({Database.CLOCKS, Database.HELD, Database.OUTBOX, Database.DUE, Database.WINDOWS})
"""Databases that a store may lack because it is older: its next writer makes them, a reader finds nothing in them."""


class StoreMoved(Exception):
    """Internal: another transaction was committed since the change set was put together; caches must be dropped."""


_open_stores: "weakref.WeakSet[Store]" = weakref.WeakSet()


class _Opened(msgspec.Struct):
    """A generation that this handle has open, and the snapshots that read it."""

    env: "lmdb.Environment"
    data: OpenData
    hold: Hold
    pinned: "weakref.WeakSet[ReadView]" = msgspec.field(default_factory=weakref.WeakSet)

    def close(self) -> None:
        self.env.close()
        self.hold.release()


class Store:
    """An open store directory. Not thread-safe by itself: the engine's handle serialises the calls."""

    def __init__(self, path: Path, *, read_only: bool, sizes_bytes: tuple[int, int] = (MAP_BYTES_INITIAL, 0)) -> None:
        """Open an existing store. A writer takes the WRITER lock first. Raises NotFound, StoreBusy, StoreCorrupt.

        ``sizes_bytes``: of the map at the start, and the most that a writer lets it become (0: no bound).
        """
        self.path, self.read_only, self._map_bytes = path, read_only, sizes_bytes[0]
        self._max_bytes = 0 if read_only else sizes_bytes[1] // PAGE_BYTES * PAGE_BYTES
        self.manifest: manifest.Manifest
        hold_current(path)[1].release()  # refuses what is no store, before anything is written
        self._lock = None if read_only else manifest.WriterLock(path)
        self._view: ReadView | None = None
        self._retired: list[_Opened] = []
        self._unusable, self._closed = "", False
        try:
            self._open_current()
            if not read_only:
                if self.manifest.format_version != FORMAT_VERSION:
                    self.manifest = manifest.upgrade(path, self.manifest)
                remove_others(path, self.manifest)
        except BaseException:
            self._release_lock()
            raise
        _open_stores.add(self)

    def _open_current(self) -> None:
        """Open what MANIFEST names now: it may have been swapped before the lock was ours."""
        current, hold = hold_current(self.path)
        data, directory = OpenData(_DAMAGE), manifest.data_directory(self.path, current)
        data.generation = current.generation
        try:
            assert_pages(self.path, current, is_writer=not self.read_only)
            self._env = self._open_environment(directory, data)
        except BaseException:
            hold.release()
            raise
        if not self.read_only:
            remove_stamp(directory)
        self.manifest, self._opened = current, _Opened(self._env, data, hold)
        self._handles, self._looked_at_s = data.handles, time.monotonic()

    def _open_environment(self, data: Path, opened: OpenData) -> "lmdb.Environment":
        try:
            wanted = max(self._map_bytes, MAP_BYTES_MIN, 2 * (data / manifest.DATA_NAME).stat().st_size)
            wanted = min(wanted, self._max_bytes or wanted)  # LMDB takes more if there is more already
            while True:
                try:
                    env = lmdb.open(str(data), map_size=wanted, readonly=self.read_only, **_FLAGS)
                    break
                except lmdb.MemoryError:
                    if wanted <= 16 * PAGE_ROUND_BYTES:
                        raise
                    wanted //= 4  # an address-space limit: begin smaller, the map grows as needed
            for database in Database:
                create = database in _ADDED and not self.read_only
                try:
                    opened.handles[database] = env.open_db(database.file_name, create=create)
                except lmdb.NotFoundError:
                    if database not in _ADDED:
                        raise
            env.reader_check()  # frees the slots of readers that died
        except (lmdb.Error, OSError) as error:
            if "already open in this process" in str(error):  # LMDB's locks belong to the process, not to the handle
                raise UsageError(
                    f"{self.path} is open in this process already", hint="use that handle; it is thread-safe"
                ) from None
            raise StoreCorrupt(
                f"LMDB cannot open {data}: {error}",
                hint="check that the directory is whole and readable; restore a backup",
            ) from None
        opened.used_bytes = lambda: int((env.info()["last_pgno"] + 1) * env.stat()["psize"])
        return env

    def handle_of(self, database: Database) -> Handle | None:
        """LMDB's handle of the database; None in a store from before there was one."""
        return self._handles.get(database)

    # ------------------------------------------------------------ reading
    def view(self) -> ReadView:
        """The handle's own read view of the newest commit; renewed when there is a newer one, or after 5 s.

        If nothing was committed meanwhile it is the same view, with another transaction.
        """
        if self._unusable:
            self.assert_usable()
        now_s = time.monotonic()
        if self.read_only and now_s - self._looked_at_s >= GENERATION_LOOK_S:
            self._follow()
        view = self._view
        if view is not None and not view.parked:
            if now_s - view.opened_at_s <= READ_TXN_AGE_S_MAX:
                return view
            view.park()
        txn = self._begin()
        if view is not None and self._view is view and txn.id() == view.txn_id:
            view.resume(txn, now_s)
            return view
        self.drop_view()
        self._view = ReadView(self._opened.data, txn)
        return self._view

    def is_own(self, view: ReadView) -> bool:
        """Whether this is the handle's own view. In a writer, which knows its own commits, it is the newest then."""
        return view is self._view and not self._unusable

    def is_newest(self, view: ReadView) -> bool:
        """For readers: whether it is the handle's own view, and the newest. Cost: an empty transaction, 0.2 us."""
        if view is not self._view or self._unusable:
            return False
        if time.monotonic() - self._looked_at_s >= GENERATION_LOOK_S:
            return False
        try:
            txn = self._env.begin()
        except lmdb.Error:  # whoever asks for the view hears of it
            return False
        is_same: bool = txn.id() == view.txn_id
        txn.abort()
        return is_same

    def resume_newest(self, view: ReadView) -> bool:
        """Whether this is what `view` would give; of a reader it is no longer parked then. Cost of that: 0.5 us."""
        if view is not self._view or self._unusable or view.parked is not self.read_only:
            return False
        now_s = time.monotonic()
        if not self.read_only:
            return now_s - view.opened_at_s <= READ_TXN_AGE_S_MAX
        if now_s - self._looked_at_s >= GENERATION_LOOK_S:
            return False
        try:
            txn = self._env.begin(buffers=True)
        except lmdb.Error:  # whoever asks for the view hears of it
            return False
        if txn.id() != view.txn_id:
            txn.abort()
            return False
        view.resume(txn, now_s)
        return True

    def park(self) -> None:
        """End the transaction of the handle's own view, but keep the view for when nothing was committed meanwhile."""
        view = self._view
        if view is not None and not view.parked:
            view.park()

    def drop_view(self) -> None:
        """End the handle's own read view; its memory views are invalid from now on."""
        if self._view is not None:
            self._view.end("this view was renewed")
            self._view = None

    def pin(self) -> ReadView:
        """A read view of its own, which the caller ends. While it lives, LMDB cannot reuse newer free pages."""
        self.assert_usable()
        self._follow()
        view = ReadView(self._opened.data, self._begin())
        self._opened.pinned.add(view)
        return view

    def _begin(self) -> Any:
        try:
            return self._env.begin(buffers=True)
        except lmdb.MapResizedError:
            self._resize(0)
            return self._env.begin(buffers=True)
        except lmdb.PanicError:
            self._unusable = PANICKED
            raise panicked() from None

    def _follow(self) -> None:
        """A reader looks, at most once a second, whether the data was replaced, and goes on in the new generation.

        Snapshots of the old one stay what they are; it is held until the last of them has ended.
        """
        if not self.read_only or time.monotonic() - self._looked_at_s < GENERATION_LOOK_S:
            return
        self._looked_at_s = time.monotonic()
        self._close_retired()
        try:
            generation = manifest.read_manifest(self.path).generation
        except NotFound:  # the directory was moved away; what is open stays readable
            return
        if generation != self.manifest.generation:
            self.move_on()

    def move_on(self) -> None:
        """Go on in the generation that MANIFEST names now. Snapshots keep the one that they are of."""
        self.drop_view()
        before = self._opened
        self._open_current()
        self._retired.append(before)
        self._close_retired()

    def _close_retired(self) -> None:
        for opened in list(self._retired):
            if all(view.ended for view in opened.pinned):
                self._retired.remove(opened)
                opened.close()

    def last_txn_id(self) -> int:
        """Number of LMDB's newest committed transaction."""
        return int(self._env.info()["last_txnid"])

    # ------------------------------------------------------------ writing
    def commit(self, changes: ChangeSet, *, based_on: int, is_upkeep: bool = False) -> None:
        """Write the change set in one durable transaction.

        ``based_on`` is the ``txn_id`` of the view it was put together from; StoreMoved if that is not the newest.
        Raises CommitFailed (nothing was written) when the disk is full or refuses, or the bound of the store's size
        does; what ``is_upkeep`` may go beyond that a little.
        """
        self.assert_usable()
        if self.read_only:
            raise HandleClosed("the store was opened read-only", hint="open it without read_only=True")
        self.drop_view()
        if self._opened.data.used_bytes() > MAP_USED_FRACTION_MAX * self._env.info()["map_size"]:
            self._grow()
        while True:
            try:
                with self._env.begin(write=True) as txn:
                    if txn.id() != based_on + 1:
                        txn.abort()
                        raise StoreMoved
                    _write(txn, self._handles, changes)
                return
            except lmdb.MapFullError:
                if not self._grow(is_upkeep=is_upkeep):
                    raise no_room(self._max_bytes) from None
            except lmdb.PanicError as error:
                self._unusable = PANICKED
                raise CommitFailed(f"the commit failed: {error}", hint="close and reopen the store") from None
            except lmdb.Error as error:
                hint = "make room on the disk, then commit again"
                raise CommitFailed(f"the commit was undone: {error}", hint=hint) from None

    def _grow(self, *, is_upkeep: bool = False) -> bool:
        size_bytes = int(self._env.info()["map_size"])
        grown_bytes = grown_map_bytes(size_bytes, self._max_bytes, is_upkeep=is_upkeep)
        if grown_bytes > size_bytes:
            self._resize(grown_bytes)
        return grown_bytes > size_bytes

    def _resize(self, map_bytes: int) -> None:
        """A new map moves LMDB's memory: every read view of this handle ends."""
        self.drop_view()
        for view in list(self._opened.pinned):
            view.end("the snapshot ended because the store's map grew")
        self._env.set_mapsize(map_bytes)

    # ------------------------------------------------------------ the end
    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def assert_usable(self) -> None:
        """Raise HandleClosed unless the store is open in this very process; CannotWrite after LMDB has given up."""
        if self._unusable:
            if self.is_lost:
                raise panicked()
            raise HandleClosed(self._unusable, hint="open the store again")

    @property
    def is_lost(self) -> bool:
        """Whether LMDB has given up: this handle can only be closed."""
        return self._unusable is PANICKED

    def disown(self) -> None:
        """In a forked child: the handle is the parent's; using it, or LMDB's environment, would corrupt the store."""
        self._unusable, self._closed = "this handle was opened before a fork", True
        if self._lock is not None:
            self._lock.abandon()
        for opened in (self._opened, *self._retired):
            opened.hold.release()

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def close(self) -> None:
        """End every view, close LMDB, give the WRITER lock back. Calling it again does nothing."""
        if self._closed:
            return
        self._closed, failed = True, self._unusable
        self._unusable = failed or "the handle is closed"
        self.drop_view()
        for opened in (self._opened, *self._retired):
            for view in list(opened.pinned):
                view.end("the store was closed")
            opened.close()
        if self._lock is not None and not failed:
            write_stamp(manifest.data_directory(self.path, self.manifest))
        self._release_lock()


_FLAGS: dict[str, Any] = {
    **{"subdir": True, "mode": 0o600, "sync": True, "metasync": True, "writemap": False},
    **{"max_dbs": 32, "max_readers": READERS_MAX, "max_spare_txns": 4, "lib_version": 0},
}


LmdbError, MapFull = lmdb.Error, lmdb.MapFullError


def open_empty(directory: Path) -> tuple[Any, dict[Database, Handle]]:
    """LMDB's environment in a directory that nobody reads yet, and its databases, all empty.

    It syncs only when told to: until then its file is of no meaning.
    """
    env = lmdb.open(str(directory), map_size=MAP_BYTES_MIN * 16, **{**_FLAGS, "sync": False})
    return env, {database: env.open_db(database.file_name) for database in Database}


def _write(txn: "lmdb.Transaction", handles: dict[Database, Handle], changes: ChangeSet) -> None:
    for database, items in changes:
        handle = handles[database]
        for key, value in items:
            # LMDB reports a refused put or a missing key by a return value, never by an exception.
            done = txn.delete(key, db=handle) if value is None else txn.put(key, value, db=handle)
            if not done:
                raise corrupt(database, key, "a row to be replaced or deleted was not there")


def _disown_all() -> None:
    for store in list(_open_stores):
        store.disown()


os.register_at_fork(after_in_child=_disown_all)
