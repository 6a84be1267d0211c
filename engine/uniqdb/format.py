"""The bytes on disk: checksummed rows, fragments in checksummed blocks, directories, bucket rows, keys.

``docs/format.md`` tells this in prose with byte diagrams; a golden store in the tests proves both.
Every struct here is persisted: a change is a new ``FORMAT_VERSION``. All integers are little-endian, except in keys,
where they are big-endian so that LMDB's byte order is the numeric order.

Checksums are xxh3-64, seeded with the xxh3-64 of the row's key (itself seeded with the database's number), so that a
row that turns up under another key or in another database does not verify.
"""

import sys
from enum import IntEnum
from struct import Struct
from struct import error as StructError
from typing import NamedTuple, TypeAlias

import msgspec
from xxhash import xxh3_64_intdigest

from uniqdb.errors import StoreCorrupt
from uniqdb.granularity import Granularity
from uniqdb.limits import CHECKSUM_BLOCK_BYTES, EVENT_TIME_S_MAX, EVENT_TIME_S_MIN, ORDINAL_MAX

assert sys.byteorder == "little", "columns are read in place, as little-endian"

FORMAT_VERSION = 2
"""Persisted in MANIFEST and in ``meta``: what a new store is written in."""
READABLE_VERSIONS = frozenset({1, 2})
"""A reader accepts exactly these. Each is a part of the newest one, so a writer simply goes on in it."""

Buffer: TypeAlias = bytes | bytearray | memoryview


class Database(IntEnum):
    """The named databases. The number seeds the checksums of its rows (persisted)."""

    META = 1
    UIDS = 2
    UNITS = 3
    BUCKETS = 4
    SOURCES = 5
    QUARANTINE = 6
    CLOCKS = 7
    HELD = 8
    OUTBOX = 9
    DUE = 10
    MINUTE = 11
    HOUR = 12
    DAY = 13
    WEEK = 14
    MONTH = 15
    YEAR = 16
    WINDOWS = 17

    @property
    def file_name(self) -> bytes:
        """The name of the LMDB database, for example ``b"minute"``."""
        return self.name.lower().encode()

    @classmethod
    def of(cls, granularity: Granularity) -> "Database":
        """The database that holds the members of this granularity's buckets."""
        return cls(10 + granularity)


class Status(IntEnum):
    """How settled a count is (persisted)."""

    PROVISIONAL = 0
    FINAL = 1
    AMENDED = 2

    @property
    def word(self) -> str:
        """The name in records: provisional, final or amended."""
        return self.name.lower()


class MembersState(IntEnum):
    """Where a bucket's members are (persisted): in fragments, dropped, or, few as they are, in the bucket's row."""

    KEPT = 0
    SWEPT = 1
    INLINE = 2


# ---------------------------------------------------------------- checksums
CHECKSUM = Struct("<Q")
_FRAGMENT_HEAD = Struct("<QII")  # checksum, payload_bytes, block_count
_U64 = 0xFFFF_FFFF_FFFF_FFFF


def key_seed(database: Database, key: bytes) -> int:
    """The checksum seed of the row ``key`` in ``database``."""
    return xxh3_64_intdigest(key, database)


def place(database: Database, key: bytes) -> str:
    """Where a damaged row is, in words for an error message."""
    return f"{database.name.lower()}/{key.hex()}"


def corrupt(database: Database, key: bytes, what: str) -> StoreCorrupt:
    """The one error for damaged data: names the database and the key."""
    return StoreCorrupt(
        f"damaged data in {place(database, key)}: {what}",
        hint="run `uniqdb check`; restore a backup or ingest the input into a new store",
    )


def seal_row(database: Database, key: bytes, payload: bytes) -> bytes:
    """A small row: checksum (8 bytes), then the payload."""
    return CHECKSUM.pack(xxh3_64_intdigest(payload, key_seed(database, key))) + payload


def open_row(database: Database, key: bytes, value: Buffer) -> bytes:
    """The payload of a small row, copied. Raises StoreCorrupt if the checksum does not hold."""
    raw = bytes(value)
    payload = raw[8:]
    if len(raw) < 8 or CHECKSUM.unpack_from(raw)[0] != xxh3_64_intdigest(payload, key_seed(database, key)):
        raise corrupt(database, key, "the checksum of the row does not hold")
    return payload


def seal_fragment(database: Database, key: bytes, payload: bytes) -> bytes:
    """A fragment: head (16 bytes), one checksum per 64 KiB block if there is more than one block, the payload.

    The head's checksum covers the rest of the head and the block table, or, for a single block, the payload too.
    """
    seed = key_seed(database, key)
    size_bytes = len(payload)
    if size_bytes <= CHECKSUM_BLOCK_BYTES:
        rest = _FRAGMENT_HEAD.pack(0, size_bytes, 0)[8:]
        return CHECKSUM.pack(xxh3_64_intdigest(rest + payload, seed)) + rest + payload
    view = memoryview(payload)
    sums = [
        xxh3_64_intdigest(view[at : at + CHECKSUM_BLOCK_BYTES], (seed + number + 1) & _U64)
        for number, at in enumerate(range(0, size_bytes, CHECKSUM_BLOCK_BYTES))
    ]
    rest = _FRAGMENT_HEAD.pack(0, size_bytes, len(sums))[8:] + Struct(f"<{len(sums)}Q").pack(*sums)
    return b"".join((CHECKSUM.pack(xxh3_64_intdigest(rest, seed)), rest, payload))


class FragmentView:
    """A fragment's payload in LMDB's memory, verified block by block when first asked for.

    Valid only inside the read transaction that produced ``value``. ``verified`` outlives it: one byte per block,
    kept by the caller per (unit, fragment id), so that a block is hashed once per process and not once per use.
    """

    __slots__ = ("_database", "_key", "_payload_at", "_value", "payload_bytes", "verified")

    def __init__(self, database: Database, key: bytes, value: memoryview, verified: bytearray | None) -> None:
        self._database, self._key, self._value = database, key, value
        if len(value) < _FRAGMENT_HEAD.size:
            raise corrupt(database, key, "the fragment is shorter than its head")
        checksum, self.payload_bytes, block_count = _FRAGMENT_HEAD.unpack_from(value)
        self._payload_at = _FRAGMENT_HEAD.size + 8 * block_count
        if len(value) != self._payload_at + self.payload_bytes:
            raise corrupt(database, key, "the fragment's length is not what its head says")
        if verified is not None:
            self.verified = verified
        else:
            self.verified = bytearray(max(block_count, 1))
            covered = value[8 : self._payload_at] if block_count else value[8:]
            if checksum != xxh3_64_intdigest(covered, key_seed(database, key)):
                raise corrupt(database, key, "the checksum of the fragment does not hold")
            if block_count == 0:
                self.verified[0] = 1

    @property
    def is_verified(self) -> bool:
        """Whether every block is verified."""
        return 0 not in self.verified

    def part(self, start: int, end: int) -> memoryview:
        """Payload bytes ``[start, end)``, with every block they touch verified."""
        if not 0 <= start <= end <= self.payload_bytes:
            raise corrupt(self._database, self._key, "an offset points outside the fragment")
        if end > start:
            first, last = start // CHECKSUM_BLOCK_BYTES, (end - 1) // CHECKSUM_BLOCK_BYTES
            if self.verified.find(0, first, last + 1) >= 0:
                self._verify(first, last)
        return self._value[self._payload_at + start : self._payload_at + end]

    def whole(self) -> memoryview:
        """The whole payload, verified."""
        return self.part(0, self.payload_bytes)

    def _verify(self, first: int, last: int) -> None:
        payload, seed = self._value[self._payload_at :], key_seed(self._database, self._key)
        for block in range(first, last + 1):
            if self.verified[block]:
                continue
            at = block * CHECKSUM_BLOCK_BYTES
            digest = xxh3_64_intdigest(payload[at : at + CHECKSUM_BLOCK_BYTES], (seed + block + 1) & _U64)
            if digest != CHECKSUM.unpack_from(self._value, _FRAGMENT_HEAD.size + CHECKSUM.size * block)[0]:
                raise corrupt(self._database, self._key, f"the checksum of block {block} does not hold")
            self.verified[block] = 1


# ---------------------------------------------------------------- keys
_UNIT_KEY = Struct(">Bq")
_FRAGMENT_ID = Struct(">QH")
_PARTITION_KEY = Struct(">BQ")

UNIT_YOUNG = 0x10
UNIT_PARTITION = 0x11


_STARTS_S_MIN = EVENT_TIME_S_MIN - 367 * 86_400
"""West of Greenwich the first visits lie in 1999 by the calendar, and so do the beginnings of their month and year."""


def bucket_key(granularity: Granularity, start_s: int) -> bytes:
    """Key in ``buckets`` and ``units``: granularity (1 byte), start (8 bytes; starts are never negative)."""
    return _UNIT_KEY.pack(granularity, start_s)


def parse_bucket_key(key: Buffer) -> tuple[Granularity, int]:
    """The inverse of `bucket_key`. Raises StoreCorrupt."""
    try:
        code, start_s = _UNIT_KEY.unpack(bytes(key))
        if not _STARTS_S_MIN <= start_s < EVENT_TIME_S_MAX:
            raise ValueError(start_s)
        return Granularity(code), start_s
    except (StructError, ValueError):
        raise corrupt(Database.BUCKETS, bytes(key), "this is no key of a bucket") from None


def partition_key(first_hash: int) -> bytes:
    """Key in ``units`` of the dictionary partition whose hashes begin at ``first_hash``."""
    return _PARTITION_KEY.pack(UNIT_PARTITION, first_hash)


YOUNG_KEY = _PARTITION_KEY.pack(UNIT_YOUNG, 0)
"""Key in ``units`` of the young unit of the dictionary."""


class FragmentId(NamedTuple):
    """The commit that wrote the fragment and its place among those that this commit wrote for the unit."""

    commit_number: int
    sequence: int


def fragment_key(unit_key: bytes, fragment: FragmentId) -> bytes:
    """Key of a fragment: the unit's key without its kind for buckets, whole for the dictionary, then the id."""
    kept = unit_key if unit_key[0] >= UNIT_YOUNG else unit_key[1:]
    return kept + _FRAGMENT_ID.pack(*fragment)


# ---------------------------------------------------------------- directories
class FragmentEntry(NamedTuple):
    """One line of a unit's directory."""

    id: FragmentId
    entries: int
    payload_bytes: int


_DIRECTORY_HEAD = Struct("<QHH")  # note, fragment count, reserved
_DIRECTORY_ENTRY = Struct("<QHHII")  # commit number, index, reserved, entries, payload_bytes


class Directory(msgspec.Struct, frozen=True):
    """A unit: its fragments, oldest first. ``note`` is the partition's last hash (inclusive), else 0."""

    fragments: tuple[FragmentEntry, ...] = ()
    note: int = 0

    @property
    def entries(self) -> int:
        """Entries of all fragments."""
        return sum(fragment.entries for fragment in self.fragments)

    @property
    def payload_bytes(self) -> int:
        """Payload bytes of all fragments."""
        return sum(fragment.payload_bytes for fragment in self.fragments)

    def pack(self) -> bytes:
        """The row's payload."""
        head = _DIRECTORY_HEAD.pack(self.note, len(self.fragments), 0)
        return head + b"".join(
            [_DIRECTORY_ENTRY.pack(f.id[0], f.id[1], 0, f.entries, f.payload_bytes) for f in self.fragments]
        )

    @classmethod
    def unpack(cls, key: bytes, payload: bytes) -> "Directory":
        """The inverse of `pack`."""
        note, count, _ = _DIRECTORY_HEAD.unpack_from(payload.ljust(_DIRECTORY_HEAD.size, b"\0"))
        if len(payload) != _DIRECTORY_HEAD.size + count * _DIRECTORY_ENTRY.size:
            raise corrupt(Database.UNITS, key, "the directory's length is not what its head says")
        rows = _DIRECTORY_ENTRY.iter_unpack(payload[_DIRECTORY_HEAD.size :])
        return cls(tuple(FragmentEntry(FragmentId(c, i), n, size) for c, i, _, n, size in rows), note)


# ---------------------------------------------------------------- bucket rows
BUCKET_ROW = Struct("<QQIIBBH")  # count, visits, revision, finer_rows, status, members, reserved
_STATUSES, _MEMBERS_STATES = tuple(Status), tuple(MembersState)
_ORDINAL_BYTES = 4


class BucketRow(NamedTuple):
    """One row of ``buckets``: what is published about a bucket and what proves that no finer row is missing.

    ``inline``: the members themselves as ascending u32 ordinals, where ``members`` says so.
    """

    unique_count: int
    visits: int
    revision: int
    finer_rows: int
    status: Status = Status.PROVISIONAL
    members: MembersState = MembersState.KEPT
    inline: bytes = b""

    def pack(self) -> bytes:
        """The row's payload."""
        count, visits, revision, finer_rows, status, members, inline = self
        return BUCKET_ROW.pack(count, visits, revision, finer_rows, status, members, 0) + inline

    @classmethod
    def unpack(cls, key: bytes, payload: bytes) -> "BucketRow":
        """The inverse of `pack`."""
        inline = payload[BUCKET_ROW.size :]
        try:
            count, visits, revision, finer_rows, status, members, _ = BUCKET_ROW.unpack_from(payload)
            row = cls(count, visits, revision, finer_rows, _STATUSES[status], _MEMBERS_STATES[members], inline)
        except (StructError, IndexError):
            raise corrupt(Database.BUCKETS, key, "the row is too short, or from a newer version") from None
        if len(inline) != (_ORDINAL_BYTES * count if members == MembersState.INLINE else 0):
            raise corrupt(Database.BUCKETS, key, "the row's length is wrong")
        return row


# ---------------------------------------------------------------- dictionary row
_DICTIONARY_ROW = Struct("<QQQQ")  # next_ordinal, layout, drain_through, drain_cursor


class DictionaryRow(NamedTuple):
    """The row ``meta/dictionary``.

    ``layout`` rises with every split. While the young unit drains, its fragments of commits up to ``drain_through``
    (0: none) have already given their entries with hashes below ``drain_cursor`` to the partitions.
    """

    next_ordinal: int = 0
    layout: int = 0
    drain_through: int = 0
    drain_cursor: int = 0

    def pack(self) -> bytes:
        """The row's payload."""
        return _DICTIONARY_ROW.pack(*self)

    @classmethod
    def unpack(cls, payload: bytes) -> "DictionaryRow":
        """The inverse of `pack`."""
        if len(payload) != _DICTIONARY_ROW.size:
            raise corrupt(Database.META, b"dictionary", "the row's length is wrong")
        row = cls(*_DICTIONARY_ROW.unpack(payload))
        if row.next_ordinal > ORDINAL_MAX + 1 or row.layout >= 2**63:
            raise corrupt(Database.META, b"dictionary", "its numbers make no sense")
        return row


# ---------------------------------------------------------------- members
MEMBERS_ARRAY = 1
MEMBERS_ROARING = 2


def members_payload(kind: int, data: bytes) -> bytes:
    """A members fragment: kind (1 byte), three zero bytes, then a sorted u32 array or a portable Roaring set."""
    return bytes((kind, 0, 0, 0)) + data
