"""The lock of a handle: one call at a time, and between calls a reader holds no transaction."""

import threading
from types import TracebackType

from uniqdb.store import Store


class HandleLock:
    """Reentrant. When the outermost call on a read-only handle ends, its read transaction is parked.

    So a process that opened a store and went silent never keeps the writer from reusing pages; and since what was
    cached is kept if the next call finds the same commit, asking again costs about a microsecond more.
    """

    __slots__ = ("_depth", "_lock", "_store")

    def __init__(self, store: Store) -> None:
        self._store, self._lock, self._depth = store, threading.RLock(), 0

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        try:
            if not self._depth and self._store.read_only:
                self._store.park()
        finally:
            self._lock.release()
