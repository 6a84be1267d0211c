"""Read a dump: a content that comes from a tar stream, in which nothing is believed before it was looked at."""

import hashlib
import struct
import tarfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeVar

import msgspec
import numpy as np
from pyroaring import BitMap

from uniqdb.batch import U32Array
from uniqdb.content import PARTS, BucketContent, Head, SmallRow
from uniqdb.dump_format import (
    ENTRY_BYTES_MAX,
    FORMAT,
    MANIFEST,
    NAMELESS,
    SUMS,
    VERSION,
    BucketLine,
    DumpManifest,
    RowLine,
    UidLine,
    entry_name,
)
from uniqdb.errors import InputRefused
from uniqdb.format import BucketRow, Status, bucket_key
from uniqdb.granularity import Granularity
from uniqdb.limits import ORDINAL_MAX, UID_BYTES_MAX, UID_BYTES_MIN

_Line = TypeVar("_Line")
_STATUSES = {status.word: status for status in Status}
_GRANULARITIES = {kind.word: kind for kind in Granularity}
_SET_HEAD_BYTES_MIN = 8
HINT = "dump the store again, or use another copy of the dump"


def refused(cause: str) -> InputRefused:
    """The dump is not whole, or was changed."""
    return InputRefused(f"this is no whole dump of uniqdb: {cause}", hint=HINT)


class DumpContent:
    """The content of a dump. ``finish`` has to be called before anything of it counts: only then its sums are known."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name = name
        self._sums: dict[str, str] = {}
        try:
            self._tar = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115 - the stream is the caller's
        except (tarfile.TarError, EOFError, OSError) as error:
            raise refused(str(error)) from None
        self._next: tuple[str, bytes] | None = None
        self._advance()
        manifest = _decoded(self._take(MANIFEST), _FormatOnly)
        if manifest.format != FORMAT:
            raise refused("its manifest names another format")
        if manifest.version != VERSION:
            raise InputRefused(
                f"the dump has version {manifest.version}, this uniqdb reads {VERSION}",
                hint="load it with the version of uniqdb that wrote it",
            )
        self.head: Head = _decoded(self._taken, DumpManifest).head
        if not 0 <= self.head.uids <= self.head.ordinals <= ORDINAL_MAX:
            raise refused("its numbers of visitors make no sense")

    # ------------------------------------------------------------ entries
    def _advance(self) -> None:
        """Read the next entry whole."""
        self._next = None
        try:
            info = self._tar.next()
            if info is None:
                return
            if not info.isreg() or info.size > ENTRY_BYTES_MAX:
                raise refused(f"the entry {info.name!r} is no file of a dump")
            file = self._tar.extractfile(info)
            content = b"" if file is None else file.read()
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            raise refused(str(error)) from None
        if len(content) != info.size:
            raise refused("it ends too early")
        if info.name in self._sums:
            raise refused(f"the entry {info.name!r} is there twice")
        self._next = info.name, content
        if info.name != SUMS:
            self._sums[info.name] = hashlib.sha256(content).hexdigest()

    def _is_next(self, name: str) -> bool:
        return self._next is not None and self._next[0] == name

    def _take(self, name: str) -> bytes:
        if self._next is None or self._next[0] != name:
            found = "it ends" if self._next is None else f"there is {self._next[0]!r}"
            raise refused(f"where {name} is expected, {found}")
        self._taken = self._next[1]
        self._advance()
        return self._taken

    def _lines(self, kind: str, line: type[_Line]) -> Iterator[_Line]:
        number = 0
        while self._is_next(name := entry_name(kind, number)):
            yield from _decoded_lines(self._take(name), line)
            number += 1

    # ------------------------------------------------------------ the content
    def uids(self) -> Iterator[tuple[U32Array, list[bytes]]]:
        """Ordinals and uids, an entry at a time."""
        number = 0
        while self._is_next(name := entry_name("uids", number)):
            lines = _decoded_lines(self._take(name), UidLine)
            uids = [line.uid.encode() for line in lines]
            if not all(UID_BYTES_MIN <= len(uid) <= UID_BYTES_MAX for uid in uids):
                raise refused("a uid is empty or too long")
            yield _believed(lambda: np.array([line.ordinal for line in lines], np.uint32)), uids  # noqa: B023 - at once
            number += 1

    def nameless(self) -> BitMap:
        """Ordinals in buckets that no uid has any more."""
        return _set(self._take(NAMELESS))

    def buckets(self) -> Iterator[BucketContent]:
        """Every bucket."""
        number = 0
        while self._is_next(name := entry_name("sets", number, "roaring")):
            sets = self._take(name)
            for line in _decoded_lines(self._take(entry_name("buckets", number)), BucketLine):
                yield _believed(lambda: _bucket(line, sets))  # noqa: B023 - at once
            number += 1

    def rows(self) -> Iterator[SmallRow]:
        """The rows of all parts."""
        for part in PARTS:
            before = b""
            for line in self._lines(part.name, RowLine):
                key = _believed(lambda: bytes.fromhex(line.key))  # noqa: B023 - at once
                if not part.first <= key < part.end or (before and key <= before):
                    raise refused(f"the key {line.key!r} of {part.name} is out of place")
                before = key
                yield SmallRow(part, key, _believed(lambda: msgspec.convert(line.row, part.kind)))  # noqa: B023

    def finish(self) -> None:
        """Raise InputRefused unless everything was there and nothing was changed."""
        listed = self._take(SUMS)
        expected = "".join(f"{digest}  {name}\n" for name, digest in self._sums.items())
        if listed != expected.encode():
            raise refused("an entry does not have the SHA-256 sum that stands at its end")
        if self._next is not None:
            raise refused("something follows its end")


class _FormatOnly(msgspec.Struct):
    format: str
    version: int


def _decoded(content: bytes, kind: type[_Line]) -> _Line:
    found: _Line = _believed(lambda: msgspec.json.decode(content, type=kind))
    return found


def _decoded_lines(content: bytes, kind: type[_Line]) -> list[_Line]:
    found: list[_Line] = _believed(lambda: msgspec.json.Decoder(kind).decode_lines(content))
    return found


def _believed(make: Callable[[], Any]) -> Any:
    """What is made of the dump's bytes. Whatever makes no sense in them is refused."""
    try:
        return make()
    except (ValueError, KeyError, IndexError, OverflowError, RecursionError, struct.error) as error:
        raise refused(f"{type(error).__name__}: {error}") from None


def _set(content: bytes) -> BitMap:
    found: BitMap = _believed(lambda: BitMap.deserialize(content))
    return found


def _bucket(line: BucketLine, sets: bytes) -> BucketContent:
    members = None
    if line.set is not None:
        start, size = line.set
        if start < 0 or size < _SET_HEAD_BYTES_MIN or start + size > len(sets):
            raise ValueError("a set lies outside its entry")
        members = BitMap.deserialize(sets[start : start + size])
    row = BucketRow(line.count, line.visits, line.revision, 0, _STATUSES[line.status])
    row.pack()  # refuses numbers that are too large
    if line.visits < 1 or line.visits < line.count or line.start_ts < 0:
        raise ValueError("a bucket's numbers make no sense")
    return BucketContent(bucket_key(_GRANULARITIES[line.granularity], line.start_ts), row, members)
