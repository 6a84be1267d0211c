"""Write a store's newest commit as a dump: a tar stream in a documented form."""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from uniqdb.content import Content, StoreContent
from uniqdb.dump_format import (
    CHUNK_BYTES,
    CHUNK_LINES,
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
from uniqdb.format import parse_bucket_key
from uniqdb.new_place import new_file, refuse_taken
from uniqdb.store import Store

Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Dumped:
    """What was written."""

    visits: int
    uids: int
    size_bytes: int


def dump(
    path: str | os.PathLike[str],
    out: BinaryIO | str | os.PathLike[str],
    *,
    on_progress: Progress = lambda _what, _count: None,
) -> Dumped:
    """Write the newest commit to a stream, or to a new file that is there whole or not at all.

    Other processes may write the store meanwhile. What waits to be published is no part of it. Cost: reads everything
    once; memory: a few entries of 4 MiB, or the largest set.
    Raises NotFound, StoreCorrupt, CannotWrite if the file is there already.
    """
    store = Store(Path(path).absolute(), read_only=True)
    try:
        content = StoreContent(store.pin(), store.manifest.store_uuid, str(path))
        if not isinstance(out, str | os.PathLike):
            return write_dump(content, out, on_progress)
        place = Path(out).absolute()
        refuse_taken(place)
        with new_file(place) as descriptor, os.fdopen(descriptor, "wb", closefd=False) as file:
            return write_dump(content, file, on_progress)
    finally:
        store.close()


def write_dump(content: Content, out: BinaryIO, on_progress: Progress) -> Dumped:
    """Write the content."""
    with _Entries(out) as entries:
        manifest = DumpManifest(FORMAT, VERSION, f"uniqdb {_own_version()}", content.head)
        entries.add(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        uids = entries.add_lines("uids", _uid_lines(content, on_progress))
        entries.add(NAMELESS, content.nameless().serialize())
        _add_buckets(entries, content, on_progress)
        encode = msgspec.json.encode
        for part, rows in groupby(content.rows(), lambda one: one.part.name):
            entries.add_lines(part, (encode(RowLine(one.key.hex(), one.row)) for one in rows))
    return Dumped(content.head.state.visits, uids, entries.size_bytes)


def _own_version() -> str:
    try:
        return version("uniqdb")
    except PackageNotFoundError:  # run from its source
        return "unknown"


def _uid_lines(content: Content, on_progress: Progress) -> Iterator[bytes]:
    encode, done = msgspec.json.encode, 0
    for ordinals, uids in content.uids():
        for ordinal, uid in zip(ordinals.tolist(), uids, strict=True):
            yield encode(UidLine(ordinal, uid.decode()))
        done += len(uids)
        on_progress("uids", done)


def _add_buckets(entries: "_Entries", content: Content, on_progress: Progress) -> None:
    sets, lines, number = bytearray(), list[bytes](), 0
    zone, encode = content.head.zone(), msgspec.json.encode

    def end() -> None:
        nonlocal number
        entries.add(entry_name("sets", number, "roaring"), bytes(sets))
        entries.add(entry_name("buckets", number), b"".join(lines))
        sets.clear()
        lines.clear()
        number += 1

    for done, (key, row, members) in enumerate(content.buckets(), start=1):
        granularity, start_s = parse_bucket_key(key)
        place = None
        if members is not None:
            serialized = members.serialize()
            place = len(sets), len(serialized)
            sets += serialized
        end_s = zone.bucket_at(granularity, start_s).end_s
        words, status = granularity.word, row.status.word
        line = BucketLine(words, start_s, end_s, row.unique_count, row.visits, status, row.revision, place)
        lines.append(encode(line) + b"\n")
        on_progress("buckets", done)
        if len(lines) >= CHUNK_LINES or len(sets) >= CHUNK_BYTES:
            end()
    if lines:
        end()


class _Entries:
    """A tar stream with the sums of its entries at its end. Without times and owners: equal content, equal bytes."""

    def __init__(self, out: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed in __exit__
        self._sums: list[str] = []
        self.size_bytes = 0

    def add(self, name: str, content: bytes) -> None:
        """One entry."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), 0o600
        self._tar.addfile(info, io.BytesIO(content))
        self._sums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
        self.size_bytes += len(content)

    def add_lines(self, kind: str, lines: Iterable[bytes]) -> int:
        """As many entries as it takes; returns the number of lines."""
        waiting, waiting_bytes, number, total = list[bytes](), 0, 0, 0
        for line in lines:
            waiting.append(line + b"\n")
            waiting_bytes += len(line) + 1
            total += 1
            if len(waiting) >= CHUNK_LINES or waiting_bytes >= CHUNK_BYTES:
                self.add(entry_name(kind, number), b"".join(waiting))
                waiting, waiting_bytes, number = [], 0, number + 1
        if waiting:
            self.add(entry_name(kind, number), b"".join(waiting))
        return total

    def __enter__(self) -> "_Entries":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.add(SUMS, "".join(self._sums).encode())
            self._tar.close()
        else:  # or it would write its last block when it is collected, perhaps to a file that is closed by then
            stream: Any = self._tar.fileobj
            stream.closed = True
