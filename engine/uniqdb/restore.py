"""A backup put in place as a store: at a new path, or as the next generation of the store that it was made of."""

import os
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from uniqdb.again import Standing, next_standing, queue_everything, standing_of
from uniqdb.copying import copy_rows
from uniqdb.errors import UsageError
from uniqdb.format import Database, DictionaryRow
from uniqdb.fresh_data import FreshData
from uniqdb.generations import manifest_of, next_generation, remove_others
from uniqdb.manifest import MANIFEST_NAME, Manifest, WriterLock, read_manifest
from uniqdb.meta import STATE_KEY, STORE_KEY, read_state, read_store_row
from uniqdb.new_place import new_store, refuse_within
from uniqdb.requests import RequestDesk
from uniqdb.standing import read_standing
from uniqdb.store import ReadView, Store
from uniqdb.uid_dictionary import DICTIONARY_KEY, UidDictionary

_QUEUES = frozenset({Database.OUTBOX, Database.DUE})


@dataclass(frozen=True, slots=True)
class Restoring:
    """How. ``now_s`` is the wall clock, Unix seconds, from which the epoch is made.

    ``as_new``: the copy gets a uuid of its own, to live beside the store that the backup was made of. ``replace``: the
    data of a store that is there already is given up.
    """

    now_s: int
    as_new: bool = False
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Restored:
    """What is there now. ``held``: directories of the replaced data that readers have open still."""

    store_uuid: str
    epoch: int
    visits: int
    held: list[str]


def restore(
    backup: str | os.PathLike[str],
    path: str | os.PathLike[str],
    how: Restoring,
    *,
    on_progress: Callable[[str, int], None] = lambda _what, _count: None,
) -> Restored:
    """Make the store at ``path`` what the backup holds, whole and durable, or leave it as it is.

    Sources go on where the backup stood. The epoch rises, and if the store publishes, all of it waits to be published
    again: so its records supersede those of before. Cost: reads and writes everything once.
    Raises NotFound, StoreCorrupt, UsageError (a store is there and is not to be replaced, or is another one),
    StoreBusy while a process writes there, CannotWrite.
    """
    source_path, target = Path(backup).absolute(), Path(path).absolute()
    if source_path.resolve() == target.resolve():
        raise UsageError(f"{target} is the backup itself", hint="name another path with --store")
    refuse_within(target, source_path)
    source = Store(source_path, read_only=True)
    try:
        store_uuid = str(uuid.uuid4()) if how.as_new else source.manifest.store_uuid
        copy = _Copy(source.pin(), source.manifest.store_uuid, store_uuid, on_progress)
        if os.path.lexists(target / MANIFEST_NAME):
            return _replace(copy, target, how)
        known = [copy.standing]
        standing = next_standing(how.now_s, known, is_complete=True)
        with new_store(target, Manifest(store_uuid)) as fresh:
            copy.write(fresh, standing)
        return Restored(store_uuid, standing.epoch, copy.visits, [])
    finally:
        source.close()


def _replace(copy: "_Copy", target: Path, how: Restoring) -> Restored:
    if not how.replace:
        raise UsageError(f"there is a store at {target} already", hint="--yes gives up its data for the backup's")
    if how.as_new:
        raise UsageError(
            f"there is a store at {target} already, and it keeps its uuid", hint="name a path that does not exist yet"
        )
    manifest_of(target, copy.store_uuid)  # a newer format is refused before anything is written, be it a lock
    with ExitStack() as stack:
        lock = WriterLock(target)
        stack.callback(lock.release)
        present = manifest_of(target, copy.store_uuid)
        if present.store_uuid != copy.store_uuid:
            raise UsageError(
                f"the backup is of another store than the one at {target}",
                hint="name a path that does not exist yet, or move that store away",
            )
        there = standing_of(target)
        known = [copy.standing, *([] if there is None else [there])]
        standing = next_standing(how.now_s, known, is_complete=there is not None)
        RequestDesk(target, {})  # what a dead writer has left half done
        with next_generation(target, present) as directory, FreshData(directory) as fresh:
            copy.write(fresh, standing)
        held = remove_others(target, read_manifest(target))
    return Restored(copy.store_uuid, standing.epoch, copy.visits, held)


class _Copy:
    """The backup on its way into a fresh data file."""

    def __init__(self, view: ReadView, old_uuid: str, store_uuid: str, on_progress: Callable[[str, int], None]) -> None:
        self._view, self._on_progress, self.store_uuid = view, on_progress, store_uuid
        self._row, self._state = read_store_row(view, old_uuid), read_state(view)
        self.visits = self._state.visits
        self.standing = read_standing(view, old_uuid)

    def write(self, fresh: FreshData, standing: Standing) -> None:
        """Everything, as of this standing."""
        view = self._view
        row = msgspec.structs.replace(self._row, store_uuid=self.store_uuid, epoch=standing.epoch)
        state = msgspec.structs.replace(self._state, commit_number=standing.commit_number)
        dictionary = UidDictionary(row.hash_seed).row(view)._replace(layout=standing.layout)
        changed = {
            STORE_KEY: msgspec.msgpack.encode(row),
            STATE_KEY: msgspec.msgpack.encode(state),
            DICTIONARY_KEY: DictionaryRow.pack(dictionary),
        }
        besides = _QUEUES if state.publishes else frozenset[Database]()
        copy_rows(view, fresh, besides=besides, changed=changed, on_progress=self._on_progress)
        if state.publishes:
            queue_everything(view, fresh, standing.commit_number)
        fresh.flush()
