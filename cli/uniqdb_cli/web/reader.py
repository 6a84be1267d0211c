"""Answers from the store, in threads of their own; the same question of the same commit is worked out once."""

import asyncio
import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec

from uniqdb import __version__
from uniqdb.errors import HandleClosed, UniqdbError
from uniqdb_cli.web.endpoints import ENDPOINTS, Endpoint, csv_of
from uniqdb_cli.web.limits import ANSWER_KEPT_BYTES_MAX, ANSWERS_KEPT_BYTES_MAX, KEEP_UP_S, READERS, WAITING_MAX
from uniqdb_cli.web.parameters import Query
from uniqdb_cli.web.problems import Busy
from uniqdb_cli.web.stores import Stores, Version

_KEY_BYTES = 500
"""What an answer takes beside its body, about."""
JSON, CSV = "application/json", "text/csv; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out. ``body`` None: whoever asks has it already."""

    etag: str
    media_type: str
    body: bytes | None


@dataclass(slots=True)
class KeptAnswers:
    """Answers of the newest version that was read, the ones used last at the end."""

    version: Version = ()
    bodies: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    size_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, version: Version, key: str) -> bytes | None:
        """The answer, if it is kept of this version."""
        with self.lock:
            if version != self.version:
                return None
            found = self.bodies.get(key)
            if found is not None:
                self.bodies.move_to_end(key)
            return found

    def put(self, version: Version, key: str, body: bytes) -> None:
        """Keep it; those of an older version go, as do those that were not used for longest."""
        with self.lock:
            if version < self.version or len(body) > ANSWER_KEPT_BYTES_MAX:
                return
            if version != self.version:
                self.version = version
                self.bodies.clear()
                self.size_bytes = 0
            if key in self.bodies:  # two threads have worked it out at the same time
                return
            self.bodies[key] = body
            self.size_bytes += len(body) + _KEY_BYTES
            while self.size_bytes > ANSWERS_KEPT_BYTES_MAX:
                self.size_bytes -= len(self.bodies.popitem(last=False)[1]) + _KEY_BYTES


class StoreReader:
    """Read-only handles, and the threads that ask them. Stores may be written, compacted or restored meanwhile."""

    def __init__(self, stores: Stores, clock: Callable[[], float] = time.monotonic) -> None:
        """The handles are read-only, and stay the caller's to close after `close`. ``clock`` counts seconds."""
        self._clock, self._kept_up_at_s = clock, 0.0
        self._stores, self._kept = stores, KeptAnswers()
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._waiting = 0

    def warm_up(self) -> None:
        """Begin to work out what the page asks first, so that the first who looks need not wait for it."""
        for one in ENDPOINTS:
            if not any(parameter.is_required for parameter in one.parameters):
                self._pool.submit(self._try, one)

    def keep_up(self) -> None:
        """To be called again and again: a handle that nobody asks would hold data that was compacted meanwhile."""
        now_s = self._clock()
        if now_s - self._kept_up_at_s >= KEEP_UP_S:
            self._kept_up_at_s = now_s
            self._pool.submit(self._try, ENDPOINTS[-1])
            self._pool.submit(self._keep_stores_up)

    def _keep_stores_up(self) -> None:
        with contextlib.suppress(UniqdbError):
            self._stores.keep_up()

    def _try(self, endpoint: Endpoint) -> None:
        with contextlib.suppress(UniqdbError):  # whoever asks will be told
            self.look_up(endpoint, Query({}), lambda _etag: False)

    async def answer(self, endpoint: Endpoint, query: Query, has_etag: Callable[[str], bool]) -> Answer:
        """The answer of the newest commit. Raises what the question raises, and Busy where too many wait."""
        if self._waiting >= WAITING_MAX:
            raise Busy("too many questions wait", hint="ask again in a moment")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self.look_up, endpoint, query, has_etag)
        finally:
            self._waiting -= 1

    def look_up(self, endpoint: Endpoint, query: Query, has_etag: Callable[[str], bool]) -> Answer:
        """`answer`, in the thread of the caller."""
        try:
            return self._look_up(endpoint, query, has_etag)
        except HandleClosed:
            # The map grew, or the data file was replaced, in the middle of it: that does not happen twice in a row.
            return self._look_up(endpoint, query, has_etag)

    def _look_up(self, endpoint: Endpoint, query: Query, has_etag: Callable[[str], bool]) -> Answer:
        is_csv = query.get("format") == "csv"
        media_type = CSV if is_csv else JSON
        with self._stores.read() as state:
            version = state.version
            etag = self._etag(version)
            if has_etag(etag) and not endpoint.is_private:
                return Answer(etag, media_type, None)
            key = f"{endpoint.path} {query.text}"
            body = None if endpoint.is_private else self._kept.get(version, key)
            if body is None:
                found = state.ask(endpoint, query)
                rows = endpoint.rows if is_csv else None
                body = msgspec.json.encode(found) if rows is None else csv_of(rows(found))
                if not endpoint.is_private:
                    self._kept.put(version, key, body)
            return Answer(etag, media_type, body)

    def _etag(self, version: Version) -> str:
        """Of one address; another program, store, or commit of it has another."""
        words = (__version__, self._stores.uuid[:8], *version)
        return f'"{"-".join(map(str, words))}"'

    def close(self) -> None:
        """End the threads, when they have answered what they are at."""
        self._pool.shutdown(cancel_futures=True)
        self._stores.close()
