"""Reading a store: one LMDB transaction, in which everything that is read is one committed state."""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import msgspec

from uniqdb.errors import HandleClosed
from uniqdb.format import Database, Directory, FragmentView, corrupt, open_row
from uniqdb.limits import DIRECTORIES_MAX, VERIFIED_FRAGMENTS_MAX

Handle: TypeAlias = Any  # LMDB's handle of a named database; its type has no public name


class OpenData(msgspec.Struct):
    """What the views of one opened data file share. Its databases; those that an older store lacks have no handle."""

    damage: tuple[type[Exception], ...]
    """What LMDB raises where its own pages make no sense."""
    used_bytes: Callable[[], int] = int
    """Bytes of the file up to its last used page."""
    generation: int = 0
    """Which data file of the store it is: compaction and restoring begin another one."""
    handles: dict[Database, Handle] = msgspec.field(default_factory=dict)
    verified: OrderedDict[tuple[Database, bytes], bytearray] = msgspec.field(default_factory=OrderedDict)
    """Which blocks of which fragments need not be verified again."""
    directories: OrderedDict[bytes, tuple[bytes, Directory]] = msgspec.field(default_factory=OrderedDict)
    """Rows of ``units`` that were read lately, sealed and unpacked: what is the same need not be unpacked again."""


class ReadView:
    """One read transaction: everything read through it is one committed state.

    Memory views that it hands out die with it; nothing of LMDB's memory may leave the call that asked for it.
    """

    is_mapped = True
    """Whether all values lie in one stretch of memory, LMDB's map."""

    def __init__(self, data: OpenData, txn: Any) -> None:
        self.data, self._txn = data, txn
        self.txn_id: int = txn.id()
        self.generation = data.generation
        self.opened_at_s = time.monotonic()
        self._directories: dict[bytes, Directory | None] = {}
        self.lookup: Any = None
        """What the dictionary has made of this view; it goes with it."""
        self._ended = ""
        self.parked = False

    def get(self, database: Database, key: bytes) -> memoryview | None:
        """The sealed value, in LMDB's memory."""
        if self._ended:
            self.assert_open()
        handle = self.data.handles.get(database)
        try:
            value = None if handle is None else self._txn.get(key, db=handle)
        except self.data.damage as error:
            raise corrupt(database, key, f"LMDB cannot read its pages: {error}") from None
        return None if value is None else memoryview(value)

    def values(self, database: Database, keys: list[bytes], wanted: list[bool]) -> list[memoryview | None]:
        """`get` for many keys, None where it is not wanted. Cheapest if they ascend."""
        self.get(Database.META, b"state")  # refuses an ended view
        get: Callable[..., Any] = self._txn.get  # with buffers, its stub does not say so
        handle = self.data.handles.get(database)
        try:
            return [get(key, db=handle) if yes else None for key, yes in zip(keys, wanted, strict=True)]
        except self.data.damage as error:
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
        verified = self.data.verified
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
            found = self._directories[unit_key] = self._find_directory(unit_key)
            return found

    def _find_directory(self, unit_key: bytes) -> Directory | None:
        value = self.get(Database.UNITS, unit_key)
        if value is None:
            return None
        sealed, kept = bytes(value), self.data.directories
        known = kept.get(unit_key)
        if known is not None and known[0] == sealed:
            return known[1]
        found = Directory.unpack(unit_key, open_row(Database.UNITS, unit_key, sealed))
        kept[unit_key] = sealed, found
        kept.move_to_end(unit_key)
        if len(kept) > DIRECTORIES_MAX:
            kept.popitem(last=False)
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
        key, handle = first_key, self.data.handles.get(database)
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
        except self.data.damage as error:
            raise corrupt(database, key, f"LMDB cannot read its pages: {error}") from None

    def stat(self, database: Database) -> Counter[str]:
        """LMDB's figures of the database: entries, depth, branch, leaf and overflow pages."""
        handle = self.data.handles.get(database)
        return Counter() if handle is None else Counter(self._txn.stat(handle))

    def sizes(self) -> tuple[int, int]:
        """(bytes of the file up to its last used page, bytes of the pages that hold live data). Costs 20 us."""
        live_bytes = 0
        for database in Database:
            stat = self.stat(database)
            live_bytes += stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])
        # Two meta pages, the main database's root, the free list's.
        return self.data.used_bytes(), live_bytes + 4 * self.stat(Database.META)["psize"]

    def assert_open(self) -> None:
        """Raise HandleClosed if it has ended: for answers that are remembered, and read nothing."""
        if self._ended:
            raise HandleClosed(self._ended, hint="take a new snapshot")

    @property
    def ended(self) -> bool:
        """Whether `end` was called."""
        return bool(self._ended)

    def end(self, why: str = "the snapshot was closed") -> None:
        """End the transaction. Its memory views are invalid from now on."""
        if not self._ended:
            self._ended = why
            self._directories.clear()
            self.lookup = None
            if not self.parked:
                self._txn.abort()

    def park(self) -> None:
        """End the transaction for now."""
        if not self._ended and not self.parked:
            self.parked = True
            self._txn.abort()

    def resume(self, txn: Any, now_s: float) -> None:
        """Go on with another transaction of the same commit. ``now_s``: by the monotonic clock.

        No commit means that no page of this state was reused and the map did not move, so even memory views still hold.
        """
        self._txn, self.opened_at_s, self.parked = txn, now_s, False
