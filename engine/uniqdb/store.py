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
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import lmdb

from uniqdb import manifest
from uniqdb.change_set import ChangeSet
from uniqdb.errors import CannotWrite, CommitFailed, HandleClosed, StoreCorrupt, UsageError
from uniqdb.format import FORMAT_VERSION, Database, Directory, FragmentView, corrupt, open_row
from uniqdb.limits import (
    MAP_BYTES_INITIAL,
    MAP_BYTES_MIN,
    MAP_USED_FRACTION_MAX,
    READ_TXN_AGE_S_MAX,
    READERS_MAX,
    VERIFIED_FRAGMENTS_MAX,
)
from uniqdb.map_room import grown_map_bytes, no_room

PAGE_BYTES, PAGE_ROUND_BYTES = 4096, 1024 * 1024
_DAMAGE = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.CursorFullError, lmdb.BadTxnError)
"""What LMDB raises where its own pages make no sense (no checksum of ours covers them), and ever after in that view."""
_ADDED = frozenset({Database.CLOCKS, Database.HELD, Database.OUTBOX, Database.DUE, Database.WINDOWS})
"""Databases that a store may lack because it is older: its next writer makes them, a reader finds nothing in them."""
Handle: TypeAlias = Any  # LMDB's handle of a named database; its type has no public name


class StoreMoved(Exception):
    """Internal: another transaction was committed since the change set was put together; caches must be dropped."""


class ReadView:
    """One read transaction: everything read through it is one committed state.

    Memory views that it hands out die with it; nothing of LMDB's memory may leave the call that asked for it.
    """

    def __init__(self, store: "Store", txn: "lmdb.Transaction") -> None:
        self._store, self._txn = store, txn
        self.txn_id: int = txn.id()
        self.opened_at_s = time.monotonic()
        self._directories: dict[bytes, Directory | None] = {}
        self._ended = ""
        self.parked = False

    def get(self, database: Database, key: bytes) -> memoryview | None:
        """The sealed value, in LMDB's memory."""
        if self._ended:
            raise HandleClosed(self._ended, hint="take a new snapshot")
        handle = self._store.handle_of(database)
        try:
            value = None if handle is None else self._txn.get(key, db=handle)
        except _DAMAGE as error:
            raise corrupt(database, key, f"LMDB cannot read its pages: {error}") from None
        return None if value is None else memoryview(value)

    def values(self, database: Database, keys: list[bytes], wanted: list[bool]) -> list[memoryview | None]:
        """`get` for many keys, None where it is not wanted. Cheapest if they ascend."""
        self.get(Database.META, b"state")  # refuses an ended view
        get: Callable[..., Any] = self._txn.get  # with buffers, its stub does not say so
        handle = self._store.handle_of(database)
        try:
            return [get(key, db=handle) if yes else None for key, yes in zip(keys, wanted, strict=True)]
        except _DAMAGE as error:
            raise corrupt(database, b"", f"LMDB cannot read its pages: {error}") from None

    def row(self, database: Database, key: bytes) -> bytes | None:
        """The payload of a small row, verified, or None if there is none."""
        value = self.get(database, key)
        return None if value is None else open_row(database, key, value)

    def fragment(self, database: Database, key: bytes) -> FragmentView:
        """A fragment that a directory lists. Raises StoreCorrupt if it is missing."""
        value = self.get(database, key)
        if value is None:
            raise corrupt(database, key, "a fragment that its directory lists is missing")
        verified = self._store.verified
        known = verified.get((database, key))
        view = FragmentView(database, key, value, known)
        if known is None:
            verified[(database, key)] = view.verified
            if len(verified) > VERIFIED_FRAGMENTS_MAX:
                verified.popitem(last=False)
        return view

    def directory(self, unit_key: bytes) -> Directory | None:
        """The unit's directory row, read once per view."""
        try:
            return self._directories[unit_key]
        except KeyError:
            payload = self.row(Database.UNITS, unit_key)
            found = None if payload is None else Directory.unpack(unit_key, payload)
            self._directories[unit_key] = found
            return found

    def rows(self, database: Database, first_key: bytes, end_key: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Verified small rows with ``first_key <= key < end_key``, ascending."""
        for key, value in self.raw_rows(database, first_key, end_key):
            yield key, open_row(database, key, value)

    def raw_rows(
        self, database: Database, first_key: bytes = b"", end_key: bytes | None = None
    ) -> Iterator[tuple[bytes, memoryview]]:
        """Keys and sealed values with ``first_key <= key < end_key`` (None = to the end), ascending."""
        self.get(Database.META, b"state")  # refuses an ended view
        key, handle = first_key, self._store.handle_of(database)
        if handle is None:
            return
        try:
            with self._txn.cursor(db=handle) as cursor:
                found = cursor.set_range(first_key) if first_key else cursor.first()
                while found:
                    key = bytes(cursor.key())
                    if end_key is not None and key >= end_key:
                        return
                    yield key, memoryview(cursor.value())
                    found = cursor.next()
        except _DAMAGE as error:
            raise corrupt(database, key, f"LMDB cannot read its pages: {error}") from None

    def stat(self, database: Database) -> Counter[str]:
        """LMDB's figures of the database: entries, depth, branch, leaf and overflow pages."""
        handle = self._store.handle_of(database)
        return Counter() if handle is None else Counter(self._txn.stat(handle))

    def end(self, why: str = "the snapshot was closed") -> None:
        """End the transaction. Its memory views are invalid from now on."""
        if not self._ended:
            self._ended = why
            self._directories.clear()
            if not self.parked:
                self._txn.abort()

    def park(self) -> None:
        """End the transaction for now."""
        if not self._ended and not self.parked:
            self.parked = True
            self._txn.abort()

    def resume(self, fresh: "ReadView") -> None:
        """Go on with the transaction of a view of the same commit.

        No commit means that no page of this state was reused and the map did not move, so even memory views still hold.
        """
        self._txn, self.opened_at_s, self.parked = fresh._txn, fresh.opened_at_s, False


_open_stores: "weakref.WeakSet[Store]" = weakref.WeakSet()


class Store:
    """An open store directory. Not thread-safe by itself: the engine's handle serialises the calls."""

    def __init__(self, path: Path, *, read_only: bool, sizes_bytes: tuple[int, int] = (MAP_BYTES_INITIAL, 0)) -> None:
        """Open an existing store. A writer takes the WRITER lock first. Raises NotFound, StoreBusy, StoreCorrupt.

        ``sizes_bytes``: of the map at the start, and the most that a writer lets it become (0: no bound).
        """
        self.path, self.read_only = path, read_only
        self._max_bytes = 0 if read_only else sizes_bytes[1] // PAGE_BYTES * PAGE_BYTES
        self.manifest = manifest.read_manifest(path)
        self._lock = None if read_only else manifest.WriterLock(path)
        self.verified: OrderedDict[tuple[Database, bytes], bytearray] = OrderedDict()
        self._handles: dict[Database, Handle] = {}
        self._view: ReadView | None = None
        self._pinned: weakref.WeakSet[ReadView] = weakref.WeakSet()
        self._unusable, self._closed = "", False
        try:
            if self._lock is not None:
                self.manifest = manifest.read_manifest(path)  # it may have been swapped before the lock was ours
            self._env = self._open_environment(sizes_bytes[0])
            if not read_only and self.manifest.format_version != FORMAT_VERSION:
                self.manifest = manifest.upgrade(path, self.manifest)
        except BaseException:
            self._release_lock()
            raise
        _open_stores.add(self)

    @classmethod
    def create(cls, path: Path, store_uuid: str, first_rows: ChangeSet) -> None:
        """Create a store with these rows; another process sees none of it or all of it. Raises CannotWrite."""
        with manifest.creating(path) as directory:
            fresh = manifest.Manifest(store_uuid)
            data = manifest.data_directory(directory, fresh)
            data.mkdir(mode=0o700)
            env = lmdb.open(str(data), map_size=MAP_BYTES_MIN * 16, **_FLAGS)
            try:
                handles = {database: env.open_db(database.file_name) for database in Database}
                with env.begin(write=True) as txn:
                    _write(txn, handles, first_rows)
            except lmdb.Error as error:
                raise CannotWrite(f"cannot create {path}: {error}", hint="check the free space of the disk") from None
            finally:
                env.close()
            manifest.write_manifest(directory, fresh)

    def _open_environment(self, map_bytes: int) -> "lmdb.Environment":
        data = manifest.data_directory(self.path, self.manifest)
        try:
            wanted = max(map_bytes, MAP_BYTES_MIN, 2 * (data / manifest.DATA_NAME).stat().st_size)
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
                    self._handles[database] = env.open_db(database.file_name, create=create)
                except lmdb.NotFoundError:
                    if database not in _ADDED:
                        raise
            env.reader_check()  # frees the slots of readers that died
        except (lmdb.Error, OSError) as error:
            if "already open in this process" in str(error):  # LMDB's locks belong to the process, not to the handle
                what = f"{self.path} is open in this process already"
                raise UsageError(what, hint="use that handle; it is thread-safe") from None
            hint = "check that the directory is whole and readable; restore a backup"
            raise StoreCorrupt(f"LMDB cannot open {data}: {error}", hint=hint) from None
        return env

    def handle_of(self, database: Database) -> Handle | None:
        """LMDB's handle of the database; None in a store from before there was one."""
        return self._handles.get(database)

    # ------------------------------------------------------------ reading
    def view(self) -> ReadView:
        """The handle's own read view of the newest commit; renewed when there is a newer one, or after 5 s."""
        self.assert_usable()
        view = self._view
        if view is not None and view.parked:
            fresh = self._begin()
            if self._view is view and fresh.txn_id == view.txn_id:
                view.resume(fresh)
                return view
            self.drop_view()
            self._view = fresh
            return fresh
        if view is not None and time.monotonic() - view.opened_at_s <= READ_TXN_AGE_S_MAX:
            return view
        self.drop_view()
        self._view = self._begin()
        return self._view

    def park(self) -> None:
        """End the transaction of the handle's own view, but keep the view for when nothing was committed meanwhile."""
        if self._view is not None:
            self._view.park()

    def drop_view(self) -> None:
        """End the handle's own read view; its memory views are invalid from now on."""
        if self._view is not None:
            self._view.end("this view was renewed")
            self._view = None

    def pin(self) -> ReadView:
        """A read view of its own, which the caller ends. While it lives, LMDB cannot reuse newer free pages."""
        self.assert_usable()
        view = self._begin()
        self._pinned.add(view)
        return view

    def _begin(self) -> ReadView:
        try:
            return ReadView(self, self._env.begin(buffers=True))
        except lmdb.MapResizedError:
            self._resize(0)
            return ReadView(self, self._env.begin(buffers=True))

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
        pages, page_bytes = self.page_counts()
        if pages * page_bytes > MAP_USED_FRACTION_MAX * self._env.info()["map_size"]:
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
                self._unusable = "a failed write left LMDB's environment unusable"
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
        for view in list(self._pinned):
            view.end("the snapshot ended because the store's map grew")
        self._env.set_mapsize(map_bytes)

    def page_counts(self) -> tuple[int, int]:
        """(pages of the file up to its last used one, bytes of a page)."""
        return int(self._env.info()["last_pgno"]) + 1, int(self._env.stat()["psize"])

    # ------------------------------------------------------------ the end
    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def assert_usable(self) -> None:
        """Raise HandleClosed unless the store is open in this very process."""
        if self._unusable:
            raise HandleClosed(self._unusable, hint="open the store again")

    def disown(self) -> None:
        """In a forked child: the handle is the parent's; using it, or LMDB's environment, would corrupt the store."""
        self._unusable, self._closed = "this handle was opened before a fork", True
        if self._lock is not None:
            self._lock.abandon()

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def close(self) -> None:
        """End every view, close LMDB, give the WRITER lock back. Calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        self._unusable = self._unusable or "the handle is closed"
        self.drop_view()
        for view in list(self._pinned):
            view.end("the store was closed")
        self._env.close()
        self._release_lock()


_FLAGS: dict[str, Any] = {
    **{"subdir": True, "mode": 0o600, "sync": True, "metasync": True, "writemap": False},
    **{"max_dbs": 32, "max_readers": READERS_MAX, "max_spare_txns": 4, "lib_version": 0},
}


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
