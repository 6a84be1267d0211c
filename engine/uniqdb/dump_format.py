"""The portable form of a store: one tar stream that any tool can take apart. ``docs/backup.md`` tells it in prose.

::

    manifest.json            what it is: format, version, the head
    uids/000000.jsonl        {"ordinal": 0, "uid": "..."}
    nameless.roaring         ordinals in sets that no uid has any more
    sets/000000.roaring      Roaring sets, one behind the other
    buckets/000000.jsonl     one line per bucket; "set" is [offset, bytes] in the sets of the same number
    sources/000000.jsonl     {"key": "...", "row": {...}}, and the same for the other small rows
    SHA256SUMS               of all entries before it, as `sha256sum --check` reads it; without it the dump is not whole
"""

from typing import Any

import msgspec

from uniqdb.content import Head

FORMAT, VERSION = "uniqdb-dump", 1
MANIFEST, NAMELESS, SUMS = "manifest.json", "nameless.roaring", "SHA256SUMS"
CHUNK_LINES, CHUNK_BYTES = 50_000, 4 * 1024 * 1024
"""An entry is ended once it has so many lines or bytes, so whoever writes or reads holds little more in memory."""
ENTRY_BYTES_MAX = 2 * 1024**3
"""A larger entry is refused: no set of 2^32 members is so large."""


class DumpManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``manifest.json``. ``written_by`` is for people."""

    format: str
    version: int
    written_by: str
    head: Head


class UidLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of ``uids``."""

    ordinal: int
    uid: str


class BucketLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of ``buckets``. ``set`` null: the members were swept."""

    granularity: str
    start_ts: int
    end_ts: int
    count: int
    visits: int
    status: str
    revision: int
    set: tuple[int, int] | None


class RowLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the small rows: the key in hexadecimal, and the row, whose fields ``docs/format.md`` names."""

    key: str
    row: Any


def entry_name(kind: str, number: int, ending: str = "jsonl") -> str:
    """The name of an entry that there are several of."""
    return f"{kind}/{number:06}.{ending}"
