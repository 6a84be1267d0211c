"""The preloaded library of `shim.c`: built where there is a compiler, and a log of it read."""

import ctypes
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from crash.test_kill import ENVIRONMENT, HERE

WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MKDIR, CREATE, NOTE, SYNCED = range(1, 10)
WRITES, SYNCS = 1, 2
_HEAD = struct.Struct("<IIIQQ")


class Operation(NamedTuple):
    """What a process did to a file. ``offset`` is the new size of a truncation, and the number of a note.

    ``SYNCED``: the write before it is on the disk.
    """

    what: int
    path: str
    other: str
    offset: int
    data: bytes


@cache
def build(folder: Path) -> Path:
    """The library, compiled. Skips the test where there is no compiler, and by what it says where it fails."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler, or not Linux: the calls of the store cannot be watched")
    library = folder / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(HERE / "shim.c"), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the C compiler does not make a library here: {done.stderr[:300]}")
    return library


def run(library: Path, program: str, root: Path, *arguments: str, log: Path | None = None) -> str:
    """Run a program of this folder with the library; what it prints. ``root``: whose files are watched."""
    environment = {**ENVIRONMENT, "LD_PRELOAD": str(library), "UNIQDB_SHIM_ROOT": str(root)}
    if log is not None:
        environment["UNIQDB_SHIM_LOG"] = str(log)
    done = subprocess.run(
        [sys.executable, str(HERE / program), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    return done.stdout


class Shim:
    """The library from within the process that it is preloaded in."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.uniqdb_shim_calls.restype = ctypes.c_long

    def note(self, number: int) -> None:
        self._library.uniqdb_shim_note(ctypes.c_uint64(number))

    def fail(self, what: int, number: int, error: int, *, forever: bool) -> None:
        self._library.uniqdb_shim_fail(what, ctypes.c_long(number), error, int(forever))

    def count(self, what: int) -> None:
        """Let nothing fail, and count from now on."""
        self.fail(what, -1, 0, forever=False)

    def quiet(self) -> None:
        self.fail(0, 0, 0, forever=False)

    @property
    def calls(self) -> int:
        return int(self._library.uniqdb_shim_calls())


def read_log(path: Path, root: Path) -> Iterator[Operation]:
    """The operations in order; paths relative to the root."""
    content, at, prefix = path.read_bytes(), 0, str(root)
    while at < len(content):
        what, length, other_length, offset, size_bytes = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        names = [content[at : at + length], content[at + length : at + length + other_length]]
        at += length + other_length
        data = content[at : at + size_bytes] if what == WRITE else b""
        at += len(data)
        first, second = (os.fsdecode(name).removeprefix(prefix).lstrip("/") for name in names)
        yield Operation(what, first, second, offset, data)
