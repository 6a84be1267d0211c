"""A directory or file that appears under its name whole and durable, or not at all.

It is written beside its place, under a name that begins with a dot and ends in ``.building-`` and a random number, and
renamed at the end. Whoever writes holds a lock on it: what a killed run has left has none, and the next run removes it.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from uniqdb import manifest
from uniqdb.errors import CannotWrite, UsageError
from uniqdb.fresh_data import FreshData
from uniqdb.manifest import REQUESTS_NAME, Manifest, cannot_write, sync_directory

_TRIES = 50


@contextmanager
def new_store(place: Path, first: Manifest) -> Iterator[FreshData]:
    """A store that is there, durable, when the block ends without an error. Modes are 0700 and 0600.

    Raises CannotWrite if something is there already, or the disk refuses.
    """
    with new_directory(place) as directory:
        data = manifest.data_directory(directory, first)
        data.mkdir(mode=0o700)
        (directory / REQUESTS_NAME).mkdir(mode=0o700)
        with FreshData(data) as fresh:
            yield fresh
        sync_directory(data)
        manifest.write_manifest(directory, first)


@contextmanager
def new_directory(place: Path) -> Iterator[Path]:
    """An empty directory that stands at ``place`` when the block ends without an error; what it holds is synced by you.

    Raises CannotWrite if something is there already, or the disk refuses.
    """
    refuse_taken(place)
    descriptor = -1
    building = place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(place)
        building, descriptor = _begin(place)
        yield building
        sync_directory(building)
        refuse_taken(place)
        building.rename(place)
        sync_directory(place.parent)
    except OSError as error:
        raise cannot_write(place, error) from None
    finally:
        if descriptor >= 0:
            shutil.rmtree(building, ignore_errors=True)
            os.close(descriptor)


@contextmanager
def new_file(place: Path) -> Iterator[int]:
    """A file descriptor; what was written to it stands at ``place`` when the block ends without an error, mode 0600.

    A file that is there is replaced. Raises CannotWrite.
    """
    building = place.with_name(f".{place.name}.building-{os.urandom(8).hex()}")
    try:
        descriptor = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise cannot_write(place, error) from None
    try:
        yield descriptor
        os.fsync(descriptor)
        building.replace(place)
        sync_directory(place.parent)
    except OSError as error:
        raise cannot_write(place, error) from None
    finally:
        os.close(descriptor)
        with suppress(OSError):
            building.unlink()


def refuse_taken(place: Path) -> None:
    """Raise CannotWrite if there is anything at the place."""
    if os.path.lexists(place):
        raise CannotWrite(f"{place} is there already", hint="name a path that does not exist yet")


def refuse_within(place: Path, store_path: Path) -> None:
    """Raise UsageError if the place is the store's directory, or lies in it."""
    real = place.resolve()
    if store_path.resolve() in (real, *real.parents):
        raise UsageError(f"{place} lies within the store {store_path}", hint="name a place outside of it")


def _begin(place: Path) -> tuple[Path, int]:
    """A directory of ours, locked. Between its creation and the lock another run may take it for a leftover."""
    for _ in range(_TRIES):
        building = place.with_name(f".{place.name}.building-{os.urandom(8).hex()}")
        building.mkdir(mode=0o700)
        with suppress(OSError):
            descriptor = os.open(building, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with suppress(OSError):  # some file systems have no locks; then nobody removes what others have left
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if building.exists():
                return building, descriptor
            os.close(descriptor)
    raise CannotWrite(f"cannot write {place}: its directory goes away again and again", hint="try again")


def _remove_leftovers(place: Path) -> None:
    """Remove what killed runs have left of this very place."""
    begin = f".{place.name}.building-"
    with os.scandir(place.parent) as entries:
        left = [entry.name for entry in entries if entry.name.startswith(begin) and entry.is_dir(follow_symlinks=False)]
    for name in left:
        path = place.with_name(name)
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)
