"""What was salvaged of a data file, to be read like a commit."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from uniqdb.format import Database
from uniqdb.lmdb_pages import Bounds, PageFile
from uniqdb.read_view import OpenData, ReadView

Big = tuple[int, int]
"""The first page of a large value, and its size."""


@dataclass(slots=True)
class Salvage:
    """The rows, all verified, by database and key. ``lost``: between which keys there were others.

    ``mended`` and ``unreadable`` tell in words what was found damaged. ``has_old_meta``: rows of ``meta`` are those of
    an earlier commit. ``lacks_commit``: the page on which the newest commit hangs may be lost.
    """

    rows: dict[Database, dict[bytes, bytes | Big]] = field(default_factory=lambda: {one: {} for one in Database})
    lost: dict[Database, list[Bounds]] = field(default_factory=lambda: {one: [] for one in Database})
    mended: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    has_old_meta: bool = False
    lacks_commit: bool = False


class SalvagedView(ReadView):
    """The rows of a salvage, to be read like a commit. What is lost is not there."""

    is_mapped = False

    def __init__(self, found: Salvage, file: PageFile) -> None:
        self._found, self._file = found, file
        self._sorted: dict[Database, list[bytes]] = {}
        super().__init__(OpenData(()), _Nothing())

    def get(self, database: Database, key: bytes) -> memoryview | None:
        """The sealed value."""
        value = self._found.rows[database].get(key)
        if isinstance(value, tuple):
            value = self._file.value(*value)
        return None if value is None else memoryview(value)

    def values(self, database: Database, keys: list[bytes], wanted: list[bool]) -> list[memoryview | None]:
        """`get` for many keys."""
        return [self.get(database, key) if yes else None for key, yes in zip(keys, wanted, strict=True)]

    def raw_rows(
        self, database: Database, first_key: bytes = b"", end_key: bytes | None = None
    ) -> Iterator[tuple[bytes, memoryview]]:
        """Keys and sealed values, ascending."""
        keys = self._sorted.get(database)
        if keys is None:
            keys = self._sorted[database] = sorted(self._found.rows[database])
        end = len(keys) if end_key is None else bisect_left(keys, end_key)
        for key in keys[bisect_left(keys, first_key) : end]:
            value = self.get(database, key)
            assert value is not None
            yield key, value


class _Nothing:
    """In place of LMDB's transaction: everything is read from the salvage."""

    def id(self) -> int:
        """No transaction has this number."""
        return 0

    def abort(self) -> None:
        """There is nothing to end."""
