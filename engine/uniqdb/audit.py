"""What is known of visitors that were forgotten: when how many, never who; and the ordinals that nobody has any more.

Forgetting takes a uid out of the dictionary. Where counts are to stay, its ordinal stays in the buckets: it then stands
for a visitor without a name, and is kept in one set, so that the check knows it from a lost entry of the dictionary.
"""

from collections.abc import Iterator

import msgspec
from pyroaring import BitMap

from uniqdb.change_set import ChangeSet
from uniqdb.format import Database, corrupt
from uniqdb.store import ReadView

NAMELESS_KEY = b"nameless"
AUDIT_PREFIX = b"audit"
_AUDIT_END = b"audiu"


class ErasureRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of ``meta``: an erasure. ``at_s`` is the writer's wall clock, Unix seconds.

    ``uids`` were found somewhere, ``unknown`` nowhere. ``buckets`` are those that they were members of, ``held`` and
    ``refused`` the records that went with them. ``keep_counts``: the counts stayed.
    """

    at_s: int
    uids: int
    unknown: int = 0
    buckets: int = 0
    held: int = 0
    refused: int = 0
    keep_counts: bool = False

    def plus(self, more: "ErasureRow") -> "ErasureRow":
        """Both together, as of the later one."""
        numbers = {name: getattr(self, name) + getattr(more, name) for name in _NUMBERS}
        return ErasureRow(at_s=more.at_s, keep_counts=more.keep_counts, **numbers)


_NUMBERS = ("uids", "unknown", "buckets", "held", "refused")


def write_audit(changes: ChangeSet, commit_number: int, row: ErasureRow) -> None:
    """Add the row to the commit."""
    changes.put_row(Database.META, AUDIT_PREFIX + commit_number.to_bytes(8, "big"), msgspec.msgpack.encode(row))


def read_audits(view: ReadView) -> Iterator[tuple[int, ErasureRow]]:
    """(commit number, row) of every erasure, oldest first. Raises StoreCorrupt."""
    for key, payload in view.rows(Database.META, AUDIT_PREFIX, _AUDIT_END):
        try:
            yield int.from_bytes(key[len(AUDIT_PREFIX) :], "big"), msgspec.msgpack.decode(payload, type=ErasureRow)
        except (ValueError, RecursionError) as error:
            raise corrupt(Database.META, key, str(error)) from None


def read_nameless(view: ReadView) -> BitMap:
    """The ordinals in buckets that no uid has any more. Raises StoreCorrupt."""
    payload = view.row(Database.META, NAMELESS_KEY)
    try:
        return BitMap() if payload is None else BitMap.deserialize(payload)
    except (ValueError, IndexError) as error:
        raise corrupt(Database.META, NAMELESS_KEY, str(error)) from None


def nameless_payload(ordinals: BitMap) -> bytes:
    """The payload of the row that `read_nameless` reads."""
    return ordinals.serialize()
