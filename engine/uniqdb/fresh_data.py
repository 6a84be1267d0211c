"""Data files from nothing: a new store's, and those of a store's next generation."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uniqdb import manifest
from uniqdb.change_set import ChangeSet
from uniqdb.errors import CannotWrite
from uniqdb.format import Buffer, Database, corrupt
from uniqdb.limits import FRESH_TXN_BYTES
from uniqdb.page_walk import write_stamp
from uniqdb.store import LmdbError, MapFull, open_empty


def create_store(path: Path, store_uuid: str, first_rows: ChangeSet) -> None:
    """Create a store with these rows; another process sees none of it or all of it. Raises CannotWrite."""
    with manifest.creating(path) as directory:
        first = manifest.Manifest(store_uuid)
        data = manifest.data_directory(directory, first)
        data.mkdir(mode=0o700)
        with FreshData(data) as fresh:
            fresh.put_all(first_rows)
        manifest.write_manifest(directory, first)


class FreshData:
    """A data file in the making, in a directory that nobody reads yet. Durable when the block ends without an error.

    Rows come in ascending order of their keys in each database, so that pages are filled. Memory: the rows of one
    transaction, 16 MiB. Raises CannotWrite.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with self._refusals():
            self._env, self._handles = open_empty(directory)
        self._rows: list[tuple[Database, bytes, Buffer]] = []
        self._waiting_bytes = 0

    def put(self, database: Database, key: bytes, value: Buffer) -> None:
        """A sealed row or fragment; its memory has to last until the next `flush`."""
        self._rows.append((database, key, value))
        self._waiting_bytes += len(key) + len(value)
        if self._waiting_bytes >= FRESH_TXN_BYTES:
            self.flush()

    def put_all(self, changes: ChangeSet) -> None:
        """Everything that the change set writes. What it deletes was never here."""
        for database, items in changes:
            for key, value in items:
                if value is not None:
                    self.put(database, key, value)

    def flush(self) -> None:
        """Write the rows that wait."""
        with self._refusals():
            while not self._try():
                self._env.set_mapsize(2 * int(self._env.info()["map_size"]))
        self._rows, self._waiting_bytes = [], 0

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """What LMDB and the system refuse, as one of our errors."""
        try:
            yield
        except (LmdbError, OSError) as error:
            raise CannotWrite(
                f"cannot write {self.directory}: {error}", hint="check the free space of the disk"
            ) from None

    def _try(self) -> bool:
        """False if the map is too small: then nothing was written."""
        try:
            with self._env.begin(write=True) as txn:
                for database, key, value in self._rows:
                    if not txn.put(key, value, db=self._handles[database], append=True):
                        raise corrupt(database, key, "the keys do not ascend")
            return True
        except MapFull:
            return False

    def __enter__(self) -> "FreshData":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.flush()
                with self._refusals():
                    self._env.sync(True)
        finally:
            self._env.close()
        if kind is None:
            write_stamp(self.directory)
