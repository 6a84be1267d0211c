"""The store's directory: MANIFEST, the WRITER lock, generations; creation by rename.

::

    visits.uniqdb/
      MANIFEST     JSON: store_uuid, generation, format_version, checksum; replaced atomically
      WRITER       locked with flock by the one writer; holds its process id
      requests/    requests to a running writer
      g1/          LMDB's data.mdb and lock.mdb of generation 1

A missing or empty data file beside a MANIFEST is an error: LMDB itself would silently begin a new, empty store.
"""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import msgspec
from msgspec import structs
from xxhash import xxh3_64_hexdigest

from uniqdb.errors import CannotWrite, FormatUnsupported, NotFound, StoreBusy, StoreCorrupt
from uniqdb.format import FORMAT_VERSION, READABLE_VERSIONS

MANIFEST_NAME = "MANIFEST"
WRITER_NAME = "WRITER"
REQUESTS_NAME = "requests"
DATA_NAME = "data.mdb"
_LOCK_TRIES, _LOCK_PAUSE_S = 10, 0.01


class Manifest(msgspec.Struct, frozen=True):
    """What a process must know before it opens LMDB. ``generation`` counts from 1."""

    store_uuid: str
    generation: int = 1
    format_version: int = FORMAT_VERSION


def data_directory(store_path: Path, manifest: Manifest) -> Path:
    """The directory of LMDB's files of the manifest's generation."""
    return store_path / f"g{manifest.generation}"


def _digest(manifest: Manifest) -> str:
    text = f"{manifest.store_uuid}/{manifest.generation}/{manifest.format_version}"
    return xxh3_64_hexdigest(text.encode())


def write_manifest(store_path: Path, manifest: Manifest) -> None:
    """Replace MANIFEST atomically and durably (file and directory are synced)."""
    fields = {
        "store_uuid": manifest.store_uuid,
        "generation": manifest.generation,
        "format_version": manifest.format_version,
        "checksum": _digest(manifest),
    }
    temporary = store_path / f"{MANIFEST_NAME}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, msgspec.json.format(msgspec.json.encode(fields), indent=2) + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(store_path / MANIFEST_NAME)
    sync_directory(store_path)


def upgrade(store_path: Path, manifest: Manifest) -> Manifest:
    """MANIFEST in the newest format, of which older ones are parts: from now on older programs refuse the store."""
    upgraded = structs.replace(manifest, format_version=FORMAT_VERSION)
    write_manifest(store_path, upgraded)
    return upgraded


def sync_directory(path: Path) -> None:
    """Make renames and creations inside ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_store(path: Path) -> bool:
    """True if the directory holds a MANIFEST."""
    return (path / MANIFEST_NAME).is_file()


def read_manifest(store_path: Path) -> Manifest:
    """The manifest, checked. Raises NotFound, StoreCorrupt or FormatUnsupported, before anything is opened."""
    try:
        raw = (store_path / MANIFEST_NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(
            f"there is no store at {store_path}",
            hint="create one with `uniqdb init` or by the first `uniqdb ingest`, or name another with --store",
        ) from None
    except PermissionError:
        raise NotFound(
            f"the store at {store_path} cannot be read by this user",
            hint="run as the user that owns it",
        ) from None
    try:
        fields = msgspec.json.decode(raw, type=dict[str, str | int])
        manifest = Manifest(str(fields["store_uuid"]), int(fields["generation"]), int(fields["format_version"]))
        intact = fields["checksum"] == _digest(manifest)
    except (ValueError, KeyError, RecursionError):
        intact = False
    if not intact:
        raise StoreCorrupt(
            f"{store_path / MANIFEST_NAME} is damaged", hint="restore the store's directory from a backup"
        )
    if manifest.format_version not in READABLE_VERSIONS:
        known = ", ".join(map(str, sorted(READABLE_VERSIONS)))
        raise FormatUnsupported(
            f"{store_path} has format {manifest.format_version}, this uniqdb reads {known}",
            hint="use a newer uniqdb, or `uniqdb dump` it with the one that wrote it and `uniqdb load` that here",
        )
    data = data_directory(store_path, manifest) / DATA_NAME
    if not data.is_file() or data.stat().st_size == 0:
        raise StoreCorrupt(
            f"{data} is missing or empty, though MANIFEST names it",
            hint="restore the store's directory from a backup",
        )
    return manifest


@contextlib.contextmanager
def creating(store_path: Path) -> Iterator[Path]:
    """A temporary directory beside ``store_path`` that becomes the store when the block ends without an error.

    The rename is atomic: another process sees no store or a whole one. Raises CannotWrite.
    """
    parent = store_path.parent
    temporary = parent / f".{store_path.name}.new-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir(mode=0o700)
        (temporary / REQUESTS_NAME).mkdir(mode=0o700)
    except OSError as error:
        raise cannot_write(store_path, error) from None
    try:
        yield temporary
        sync_directory(temporary)
        temporary.rename(store_path)
        sync_directory(parent)
    except OSError as error:
        if is_store(store_path):
            return  # somebody else created it in the same moment: theirs is the store
        if store_path.is_dir() and any(store_path.iterdir()):
            raise CannotWrite(
                f"{store_path} is a directory with other things in it",
                hint="name a path that does not exist yet",
            ) from None
        raise cannot_write(store_path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """The operating system's refusal as one of ours."""
    return CannotWrite(
        f"cannot write {path}: {error.strerror or error}",
        hint="check the path, its permissions and the free space of the disk",
    )


@contextlib.contextmanager
def no_writer(store_path: Path) -> Iterator[bool]:
    """Whether nobody writes the store; if so, nobody begins to within the block."""
    try:
        descriptor = os.open(store_path / WRITER_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # it never had one
        yield True
        return
    except OSError:
        yield False
        return
    try:
        # Shared: others who only look are no writer.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        is_free = True
    except OSError:
        is_free = False
    try:
        yield is_free
    finally:
        os.close(descriptor)


def writer_process(store_path: Path) -> str:
    """The process id that WRITER names, or "unknown"."""
    try:
        text = (store_path / WRITER_NAME).read_text(errors="replace").strip()
    except OSError:
        return "unknown"
    return text if text.isdigit() else "unknown"


def is_written_here(store_path: Path) -> bool:
    """Whether this very process is the store's writer."""
    try:
        return _identity(os.stat(store_path / WRITER_NAME)) in WriterLock.held
    except OSError:
        return False


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


class WriterLock:
    """The store's one-writer lock: flock on a file of ours, held by its own descriptor until closed.

    Never on LMDB's lock.mdb: closing any descriptor of that file drops LMDB's own locks.
    """

    held: ClassVar[set[tuple[int, int]]] = set()
    """Device and inode of the files that this process has locked."""

    def __init__(self, store_path: Path) -> None:
        """Take the lock or raise StoreBusy, naming the holder's process id."""
        try:
            self._descriptor = os.open(store_path / WRITER_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise cannot_write(store_path, error) from None
        if not self._take():
            holder = self._holder()
            os.close(self._descriptor)
            raise StoreBusy(
                f"{store_path} is being written by process {holder}",
                hint="wait until it ends, or open the store read-only",
            )
        self.held.add(_identity(os.fstat(self._descriptor)))
        self._write(f"{os.getpid()}\n")

    def _write(self, text: str) -> None:
        """Say who holds it. On a disk that is full, or refuses, nobody is told, and the lock holds all the same."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode(), 0)

    def _take(self) -> bool:
        """Lock the file. Somebody who only looks whether it is locked has it for an instant: try again."""
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(_LOCK_PAUSE_S)
            else:
                return True
        return False

    def _holder(self) -> str:
        """The holder's process id. A fresh holder writes it a moment after it locked: wait for one that lives."""
        text = ""
        for _ in range(50):
            text = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            if text.isdigit() and Path(f"/proc/{text}").exists():
                break
            time.sleep(0.01)
        return text or "unknown"

    def release(self) -> None:
        """Give the lock back. Calling it again does nothing."""
        if self._descriptor >= 0:
            self.held.discard(_identity(os.fstat(self._descriptor)))
            self._write("")
            os.close(self._descriptor)
            self._descriptor = -1

    def abandon(self) -> None:
        """In a forked child: drop the inherited descriptor, so that the lock ends with the parent."""
        if self._descriptor >= 0:
            self.held.discard(_identity(os.fstat(self._descriptor)))
            os.close(self._descriptor)
            self._descriptor = -1
