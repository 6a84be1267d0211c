"""An older store written anew in the newest format, as the next generation.

The old data is neither changed nor removed before the new is whole and MANIFEST names it: whoever is killed leaves one
or the other. Older formats are read as they are, and a writer that opens such a store goes on in the newest; so a
migration is for who wants all of a store in the newest format at a moment of his choice.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from uniqdb.compaction import Rewriting, remove_old
from uniqdb.format import FORMAT_VERSION
from uniqdb.fresh_data import FreshData
from uniqdb.generations import next_generation
from uniqdb.manifest import Manifest, WriterLock, read_manifest
from uniqdb.options import OpenOptions
from uniqdb.store import Store


@dataclass(frozen=True, slots=True)
class Migration:
    """What was done, or would be. Sizes are bytes of the data file up to its last used page.

    ``after_bytes`` is None where nothing was written: there was nothing to do, or it was not to be done.
    ``held``: directories of older generations that readers have open still. The next writer removes them.
    """

    from_version: int
    generation: int
    before_bytes: int
    after_bytes: int | None = None
    held: tuple[str, ...] = ()
    to_version: int = FORMAT_VERSION

    @property
    def is_needed(self) -> bool:
        """Whether the store was of an older format."""
        return self.from_version != self.to_version


def migrate(
    path: Path,
    options: OpenOptions | None = None,
    *,
    dry_run: bool = False,
    readers_wait_s: float = 10.0,
    on_progress: Callable[[str, int], None] = lambda _what, _count: None,
) -> Migration:
    """Write the store into the next generation in the newest format, unless it is of that already.

    Answers, rows, revisions, sources and what waits to be published stay what they were. ``dry_run``: only say what
    there is to do; then, and if there is nothing, no file changes and a writer may be at work. ``readers_wait_s``: so
    long it is waited for readers before the old data is removed. Cost: as `uniqdb.compaction.compact`.
    Raises FormatUnsupported for a newer format, before anything is written; StoreBusy while another process writes,
    NotFound, StoreCorrupt, CannotWrite.
    """
    where = path.absolute()
    found = _look(where)
    if dry_run or not found.is_needed:
        return found
    lock = WriterLock(where)
    try:
        store = Store(where, read_only=True)  # not for writing: that would change the old data
        try:
            before = store.manifest
            if before.format_version == FORMAT_VERSION:  # somebody was faster
                return _found(store)
            view = store.pin()
            copy = Rewriting(view, before.store_uuid, (options or OpenOptions()).dictionary, on_progress)
            with next_generation(where, before) as directory, FreshData(directory) as fresh:
                copy.write(fresh, renumber=False)
            view.end()
        finally:
            store.close()
        return _swapped(where, found, readers_wait_s)
    finally:
        lock.release()


def _look(path: Path) -> Migration:
    read_manifest(path)  # refuses what it cannot read before a file is opened
    store = Store(path, read_only=True)
    try:
        return _found(store)
    finally:
        store.close()


def _found(store: Store) -> Migration:
    manifest = store.manifest
    return Migration(manifest.format_version, manifest.generation, store.view().sizes()[0])


def _swapped(path: Path, found: Migration, wait_s: float) -> Migration:
    """What is there now. The new data is opened first: it must be readable before the old is removed."""
    now: Manifest = read_manifest(path)
    after_bytes = _look(path).before_bytes
    held = remove_old(path, now, wait_s)
    return replace(found, generation=now.generation, after_bytes=after_bytes, held=tuple(held))
