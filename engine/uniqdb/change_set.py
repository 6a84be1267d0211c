"""Everything one commit writes, as plain data: put together without any lock, written by `uniqdb.store` as one."""

from collections.abc import Iterator

from uniqdb.format import Database, seal_fragment, seal_row


class ChangeSet:
    """Everything one commit writes, as plain data. ``None`` deletes."""

    __slots__ = ("_changes",)

    def __init__(self) -> None:
        self._changes: dict[Database, dict[bytes, bytes | None]] = {}

    def put_row(self, database: Database, key: bytes, payload: bytes) -> None:
        """Write a small row, sealed with its checksum."""
        self._changes.setdefault(database, {})[key] = seal_row(database, key, payload)

    def put_fragment(self, database: Database, key: bytes, payload: bytes) -> None:
        """Write a fragment, sealed block by block."""
        self._changes.setdefault(database, {})[key] = seal_fragment(database, key, payload)

    def put_sealed(self, database: Database, rows: dict[bytes, bytes]) -> None:
        """Write small rows that have their checksums already."""
        self._changes.setdefault(database, {}).update(rows)

    def delete(self, database: Database, key: bytes) -> None:
        """Delete a row. One that this change set wrote is simply not written."""
        changes = self._changes.setdefault(database, {})
        if changes.get(key) is not None:
            del changes[key]
        else:
            changes[key] = None

    def writes(self, database: Database, key: bytes) -> bool:
        """Whether the row is written or deleted."""
        return key in self._changes.get(database, ())

    def keys(self, database: Database) -> list[bytes]:
        """The keys of the rows that are written."""
        return [key for key, value in self._changes.get(database, {}).items() if value is not None]

    def __bool__(self) -> bool:
        return any(self._changes.values())

    def __iter__(self) -> Iterator[tuple[Database, list[tuple[bytes, bytes | None]]]]:
        for database in sorted(self._changes):
            yield database, sorted(self._changes[database].items())
