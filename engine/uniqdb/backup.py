"""A copy of a store at one commit, itself a store, while the writer goes on."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from uniqdb.copying import copy_rows
from uniqdb.errors import UsageError
from uniqdb.manifest import Manifest
from uniqdb.meta import read_state
from uniqdb.new_place import new_store
from uniqdb.store import Store


@dataclass(frozen=True, slots=True)
class Backup:
    """What was copied. ``size_bytes``: of the copy's data file."""

    commit_number: int
    visits: int
    size_bytes: int


def backup(
    path: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    on_progress: Callable[[str, int], None] = lambda _what, _count: None,
) -> Backup:
    """Copy the newest commit of the store to a new directory, which is a store then; it has no free pages.

    Another process may write meanwhile, and notices nothing but that pages are not used again before the copy is done.
    ``destination`` is there whole and durable, or not at all; killed runs leave something whose name begins with a dot,
    which the next run removes. Every checksum is verified. Cost: reads everything once.
    Raises NotFound, StoreCorrupt, UsageError if ``destination`` lies in the store, CannotWrite if it exists.
    """
    source, target = Path(path).absolute(), Path(destination).absolute()
    if source.resolve() in (target.resolve(), *target.resolve().parents):
        raise UsageError(f"{target} lies within the store itself", hint="name a place outside of it")
    store = Store(source, read_only=True)
    try:
        view = store.pin()
        state = read_state(view)
        # A store of its own has generations of its own; its uuid tells whose copy it is.
        with new_store(target, Manifest(store.manifest.store_uuid)) as fresh:
            copy_rows(view, fresh, on_progress=on_progress)
            fresh.flush()
        size_bytes = (target / "g1" / "data.mdb").stat().st_size
        return Backup(state.commit_number, state.visits, size_bytes)
    finally:
        store.close()
