"""Generations of a store's data file: who holds which, how the next one takes the place of the present one.

A generation is a directory ``g<number>``. Whoever has it open holds a shared flock on that directory (on a file of
ours: never on LMDB's). A new one is written under another name, synced, renamed, and then named by MANIFEST, which is
replaced atomically: at every instant MANIFEST names one that is whole. The old one is removed once nobody holds it.

::

    g1/         what MANIFEST names
    g2.new/     being written; of no meaning
    g1.gone/    being removed; of no meaning
"""

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import structs

from uniqdb.errors import FormatUnsupported, NotFound, StoreBusy, StoreCorrupt
from uniqdb.format import FORMAT_VERSION
from uniqdb.manifest import (
    MANIFEST_NAME,
    Manifest,
    cannot_write,
    data_directory,
    read_manifest,
    sync_directory,
    write_manifest,
)

_GENERATION = re.compile(r"g[1-9][0-9]*")
_LEFTOVER = re.compile(rf"g[1-9][0-9]*\.(new|gone)|{MANIFEST_NAME}\.new")
_TRIES, _PAUSE_S = 50, 0.01


class Hold:
    """A shared lock on a generation's directory: while it lasts the generation is not removed.

    It ends with the process at the latest. Where the file system has no such locks nothing is held, and what nobody
    can lock nobody removes.
    """

    def __init__(self, directory: Path) -> None:
        """Raises OSError if the directory is gone, BlockingIOError if it is being removed."""
        self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise
        except OSError:
            self.release()

    def release(self) -> None:
        """Hold it no longer. In a forked child this leaves the parent's lock alone. Twice does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def hold_current(store_path: Path) -> tuple[Manifest, Hold]:
    """MANIFEST, and a hold of the generation that it names. Raises as `read_manifest`, StoreBusy."""
    refused = ""
    for _ in range(_TRIES):
        try:
            manifest = read_manifest(store_path)
            hold = Hold(data_directory(store_path, manifest))
        except StoreCorrupt as error:
            if error.message == refused:
                raise
            refused = error.message  # the generation may have been replaced just now
            continue
        except OSError:
            time.sleep(_PAUSE_S)
            continue
        if _generation(store_path) == manifest.generation:
            return manifest, hold
        hold.release()
    raise StoreBusy(f"the data files of {store_path} are being replaced", hint="try again")


def _generation(store_path: Path) -> int | None:
    """The generation that MANIFEST names in this moment; None if it names none that is there."""
    try:
        return read_manifest(store_path).generation
    except (StoreCorrupt, NotFound):
        return None


def manifest_of(store_path: Path, store_uuid: str) -> Manifest:
    """MANIFEST; if it is damaged or missing, one of this uuid with the newest generation that is there, 0 if none is.

    Raises FormatUnsupported.
    """
    try:
        return read_manifest(store_path)
    except FormatUnsupported:
        raise
    except (StoreCorrupt, NotFound):
        with os.scandir(store_path) as entries:
            found = [int(entry.name[1:]) for entry in entries if _GENERATION.fullmatch(entry.name)]
        return Manifest(store_uuid, max(found, default=0))


@contextlib.contextmanager
def next_generation(store_path: Path, manifest: Manifest) -> Iterator[Path]:
    """An empty directory; what stands in it when the block ends without an error is the store's data from then on.

    To be used with the WRITER lock and ``manifest`` as it is under that. The block writes ``data.mdb`` and closes it.
    Before the instant in which MANIFEST is replaced the store is what it was, also for whoever is killed; what is left
    then is removed by the next writer. Raises CannotWrite.
    """
    following = structs.replace(manifest, generation=manifest.generation + 1, format_version=FORMAT_VERSION)
    place = data_directory(store_path, following)
    building = place.with_name(f"{place.name}.new")
    try:
        for leftover in (building, place):
            if leftover.exists():
                shutil.rmtree(leftover)
        building.mkdir(mode=0o700)
        yield building
        _make_durable(building)
        building.rename(place)
        sync_directory(store_path)
        write_manifest(store_path, following)
    except OSError as error:
        raise cannot_write(store_path, error) from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
        if _generation(store_path) == manifest.generation:
            shutil.rmtree(place, ignore_errors=True)


def _make_durable(directory: Path) -> None:
    """Give the files their mode, and sync them and the directory."""
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fchmod(descriptor, 0o600)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_directory(directory)


def remove_others(store_path: Path, current: Manifest) -> list[str]:
    """Remove all other generations that nobody holds, and what killed runs have left; returns the names of held ones.

    Only with the WRITER lock. What cannot be removed for another reason stays, too, and is tried again by the next
    writer.
    """
    held: list[str] = []
    kept = data_directory(store_path, current).name
    with os.scandir(store_path) as entries:
        names = sorted(entry.name for entry in entries if entry.name != kept)
    for name in names:
        path = store_path / name
        if _GENERATION.fullmatch(name):
            if not _remove_unheld(path):
                held.append(name)
        elif _LEFTOVER.fullmatch(name):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()
    return held


def _remove_unheld(path: Path) -> bool:
    """Remove a generation; False if somebody holds it. Its name goes first, so that nobody opens half of it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gone = path.with_name(f"{path.name}.gone")
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        return not gone.exists()
    except OSError:
        return False
    finally:
        os.close(descriptor)
