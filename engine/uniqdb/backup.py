"""A copy of a store at one commit, itself a store, while the writer goes on."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from uniqdb.copying import copy_rows
from uniqdb.engine import Engine
from uniqdb.manifest import DATA_NAME, Manifest
from uniqdb.meta import read_state
from uniqdb.new_place import new_store, refuse_within
from uniqdb.store import ReadView, Store


@dataclass(frozen=True, slots=True)
class Backup:
    """What was copied. ``size_bytes``: of the copy's data file."""

    commit_number: int
    visits: int
    size_bytes: int


def backup(
    store: "Engine | str | os.PathLike[str]",
    destination: str | os.PathLike[str],
    *,
    on_progress: Callable[[str, int], None] = lambda _what, _count: None,
) -> Backup:
    """Copy the newest commit of a store to a new directory, which is a store then; it has no free pages.

    ``store``: its path, or a handle if this process has it open (what waits there is committed first).

    Another process may write meanwhile, and notices nothing but that pages are not used again before the copy is done.
    ``destination`` is there whole and durable, or not at all; killed runs leave something whose name begins with a dot,
    which the next run removes. Every checksum is verified. Cost: reads everything once.
    Raises NotFound, StoreCorrupt, UsageError if ``destination`` lies in the store, CannotWrite if it exists.
    """
    if isinstance(store, Engine):
        with store.snapshot() as snapshot:
            return _copy(snapshot.answers.view, (store.path, store.store_uuid), Path(destination), on_progress)
    opened = Store(Path(store).absolute(), read_only=True)
    try:
        origin = opened.path, opened.manifest.store_uuid
        return _copy(opened.pin(), origin, Path(destination), on_progress)
    finally:
        opened.close()


def _copy(
    view: ReadView, origin: tuple[Path, str], destination: Path, on_progress: Callable[[str, int], None]
) -> Backup:
    (source, store_uuid), target = origin, destination.absolute()
    refuse_within(target, source)
    state = read_state(view)
    # A store of its own has generations of its own; its uuid tells whose copy it is.
    with new_store(target, Manifest(store_uuid)) as fresh:
        copy_rows(view, fresh, on_progress=on_progress)
        fresh.flush()
    size_bytes = (target / "g1" / DATA_NAME).stat().st_size
    return Backup(state.commit_number, state.visits, size_bytes)
