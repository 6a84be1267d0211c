"""One flipped bit, or one wrong byte, found: each is tried until the checksum holds, or until a page makes sense.

A checksum of 64 bits that holds by chance after a million tries is one in 10^13. Where more is wrong none of this finds
anything; then a row is lost, and `uniqdb.repair` makes it anew of others where it can.
"""

from collections.abc import Callable, Iterator
from struct import Struct
from typing import TypeVar

from xxhash import xxh3_64_intdigest

from uniqdb.errors import StoreCorrupt
from uniqdb.format import CHECKSUM, Database, FragmentView, key_seed, open_row
from uniqdb.limits import CHECKSUM_BLOCK_BYTES
from uniqdb.lmdb_pages import PageDamage

T = TypeVar("T")
_FRAGMENT_HEAD_BYTES = 16
_SMALL_BYTES = 4_096
"""In a value of at most so many, a whole byte may be wrong."""
_U64 = 0xFFFF_FFFF_FFFF_FFFF


def flips(data: bytes) -> Iterator[bytearray]:
    """The data with each of its bits the other way, one after the other. The array is the same one each time."""
    copy = bytearray(data)
    for at in range(len(copy)):
        for bit in range(8):
            copy[at] ^= 1 << bit
            yield copy
            copy[at] ^= 1 << bit


def other_bytes(data: bytes) -> Iterator[bytearray]:
    """The data with each of its bytes replaced by each other one: single bits, too."""
    copy = bytearray(data)
    for at, byte in enumerate(data):
        for other in range(256):
            if other != byte:
                copy[at] = other
                yield copy
        copy[at] = byte


def mended_page(page: bytes, read: Callable[[bytes], T]) -> T | None:
    """What ``read`` makes of the page with one bit changed; it raises PageDamage where that makes no sense."""
    for candidate in flips(page):
        try:
            return read(bytes(candidate))
        except PageDamage:
            continue
    return None


def holds(database: Database, key: bytes, value: bytes, *, is_fragment: bool) -> bool:
    """Whether the value under this key is what was once written there."""
    try:
        if is_fragment:
            FragmentView(database, key, memoryview(value), None).whole()
        else:
            open_row(database, key, value)
    except StoreCorrupt:
        return False
    return True


def mended_value(database: Database, key: bytes, value: bytes, *, is_fragment: bool) -> bytes | None:
    """The value without its one wrong bit. Cost: up to 3 s."""
    seed = key_seed(database, key)
    if not is_fragment:
        return _sealed(value, seed)
    head = _FRAGMENT_HEAD_BYTES
    if len(value) < head:
        return None
    blocks = _blocks_of(value)
    if blocks is None:  # one block, or a head that makes no sense: its checksum covers the number of blocks, too
        for candidate in flips(value[:head]):
            if holds(database, key, bytes(candidate) + value[head:], is_fragment=True):
                return bytes(candidate) + value[head:]
        return _sealed(value, seed) if len(value) <= head + CHECKSUM_BLOCK_BYTES else None
    payload_at = head + 8 * blocks
    whole_head = _sealed(value[:payload_at], seed)
    if whole_head is None:
        return None
    return _mended_blocks(whole_head, value[payload_at:], seed)


def _blocks_of(value: bytes) -> int | None:
    """The number of blocks of a fragment that has several, by its length."""
    for blocks in range(2, len(value) // CHECKSUM_BLOCK_BYTES + 2):
        payload_bytes = len(value) - _FRAGMENT_HEAD_BYTES - 8 * blocks
        if (payload_bytes + CHECKSUM_BLOCK_BYTES - 1) // CHECKSUM_BLOCK_BYTES == blocks:
            return blocks
    return None


def _mended_blocks(head: bytes, payload: bytes, seed: int) -> bytes | None:
    sums = Struct(f"<{(len(head) - _FRAGMENT_HEAD_BYTES) // 8}Q").unpack_from(head, _FRAGMENT_HEAD_BYTES)
    found = [head]
    for number, expected in enumerate(sums):
        block = payload[number * CHECKSUM_BLOCK_BYTES : (number + 1) * CHECKSUM_BLOCK_BYTES]
        whole = _hashing_to(expected, block, (seed + number + 1) & _U64)
        if whole is None:
            return None
        found.append(whole)
    return b"".join(found)


def _sealed(value: bytes, seed: int) -> bytes | None:
    """A checksum and what it covers, one of which may have a wrong bit."""
    if len(value) < CHECKSUM.size:
        return None
    (expected,), covered = CHECKSUM.unpack_from(value), value[CHECKSUM.size :]
    found = xxh3_64_intdigest(covered, seed)
    if (expected ^ found).bit_count() <= 1:  # the checksum itself
        return CHECKSUM.pack(found) + covered
    whole = _hashing_to(expected, covered, seed)
    return None if whole is None else value[: CHECKSUM.size] + whole


def _hashing_to(expected: int, data: bytes, seed: int) -> bytes | None:
    """The data, or the data with one bit changed, that has this checksum."""
    if xxh3_64_intdigest(data, seed) == expected:
        return data
    candidates = flips(data) if len(data) > _SMALL_BYTES else other_bytes(data)
    for candidate in candidates:
        if xxh3_64_intdigest(candidate, seed) == expected:
            return bytes(candidate)
    return None


def mended_key(database: Database, key: bytes, value: bytes, *, is_fragment: bool) -> bytes | None:
    """The key without its one wrong bit."""
    for candidate in flips(key):
        if holds(database, bytes(candidate), value, is_fragment=is_fragment):
            return bytes(candidate)
    return None
