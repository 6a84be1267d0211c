"""Images of a disk whose power failed: what was synced is there, of the rest any part.

A `Disk` follows a log of `shim.c`. At any point it can be asked for an image: of the writes that were not synced each
sector is there or not, as a generator of random numbers decides; of changes to directories that were not synced a
prefix. A file that grew may have its new size without its data.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from crash.shimmed import CREATE, MKDIR, RENAME, SYNC, SYNCED, TRUNCATE, UNLINK, WRITE, Operation

_DIRECTORY = -1


@dataclass
class _File:
    """Its synced bytes, and what came since: (offset, bytes), or (new size, None)."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def sync(self) -> None:
        for offset, data in self.pending:
            _apply(self.synced, offset, data)
        self.pending.clear()

    def sync_last(self) -> None:
        _apply(self.synced, *self.pending.pop())

    def image(self, rng: random.Random, sector_bytes: int, kept: float) -> bytearray:
        found = bytearray(self.synced)
        for offset, data in self.pending:
            if data is None:
                if rng.random() < kept:
                    _apply(found, offset, None)
                continue
            if rng.random() < 0.1 and offset + len(data) > len(found):
                found.extend(bytes(offset + len(data) - len(found)))
            for start, piece in _sectors(offset, data, sector_bytes):
                if rng.random() < kept:
                    _apply(found, start, piece)
        return found


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _sectors(offset: int, data: bytes, sector_bytes: int) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        step = min(sector_bytes - (offset + at) % sector_bytes, len(data) - at)
        yield offset + at, data[at : at + step]
        at += step


Names = dict[str, int]
"""Path to number of a file; of a directory -1."""


class Disk:
    """What a log has made of an empty directory."""

    def __init__(self) -> None:
        self._files: list[_File] = []
        self._now: Names = {"": _DIRECTORY}
        self._synced: Names = {"": _DIRECTORY}
        self._changes: list[tuple[Operation, int]] = []

    def follow(self, one: Operation) -> None:
        """The next operation of the log."""
        if one.what in (CREATE, MKDIR, RENAME, UNLINK):
            number = _DIRECTORY
            if one.what == CREATE:
                number = len(self._files)
                self._files.append(_File())
            self._changes.append((one, number))
            _change(self._now, one, number)
            return
        number = self._now.get(one.path, _DIRECTORY)
        if one.what == SYNC and (number == _DIRECTORY or one.path == ""):
            self._sync_directory(one.path)
        elif number == _DIRECTORY:
            return
        elif one.what == WRITE:
            self._files[number].pending.append((one.offset, one.data))
        elif one.what == TRUNCATE:
            self._files[number].pending.append((one.offset, None))
        elif one.what == SYNC:
            self._files[number].sync()
        elif one.what == SYNCED:
            self._files[number].sync_last()

    def _sync_directory(self, path: str) -> None:
        """Changes up to the last one of this directory are durable: file systems keep their order."""
        last = max((at for at, (one, _) in enumerate(self._changes) if path in _parents(one)), default=-1)
        for change in self._changes[: last + 1]:
            _change(self._synced, *change)
        del self._changes[: last + 1]

    def image(self, rng: random.Random) -> dict[str, bytearray | None]:
        """The content of every file by path; None: a directory."""
        names = dict(self._synced)
        for change in self._changes[: rng.randrange(len(self._changes) + 1)]:
            _change(names, *change)
        sector_bytes, kept = rng.choice([512, 4_096]), rng.choice([0.0, 0.1, 0.5, 0.5, 0.9, 1.0])
        return {
            path: None if number == _DIRECTORY else self._files[number].image(rng, sector_bytes, kept)
            for path, number in names.items()
            if not path.endswith("lock.mdb")  # of no meaning without the processes that shared it
        }


def _parents(one: Operation) -> set[str]:
    return {_parent(path) for path in (one.path, one.other) if path}


def _parent(path: str) -> str:
    return "" if "/" not in path else str(PurePosixPath(path).parent)


def _change(names: Names, one: Operation, number: int) -> None:
    if one.what in (CREATE, MKDIR):
        names.setdefault(one.path, number)
    elif one.what == UNLINK:
        names.pop(one.path, None)
    elif one.what == RENAME:
        moved = [path for path in names if path == one.path or path.startswith(one.path + "/")]
        for path in moved:
            names[one.other + path[len(one.path) :]] = names.pop(path)


def lay_out(image: dict[str, bytearray | None], folder: Path) -> None:
    """Write an image to an empty folder."""
    for path in sorted(image):
        content, place = image[path], folder / path
        if content is None:
            place.mkdir(exist_ok=True, parents=True)
        elif place.parent.is_dir():
            place.write_bytes(content)
