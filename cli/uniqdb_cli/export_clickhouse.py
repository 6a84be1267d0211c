"""Sets and uids as ClickHouse reads them: RowBinaryWithNamesAndTypes, with the sets as states of groupBitmap.

``docs/exports.md`` tells every byte.
"""

from collections.abc import Iterable
from struct import Struct

from pyroaring import BitMap

from uniqdb.exporting import Members
from uniqdb_cli.export_formats import RECORD_FIELDS, UidBatches, portable
from uniqdb_cli.export_out import Out

SMALL_SET_MEMBERS = 32
"""ClickHouse holds a set of at most so many members as an array, and writes it so."""
STATE_TYPE = "AggregateFunction(groupBitmap, UInt32)"
_SMALL, _BITMAP = b"\x00", b"\x01"
_I64, _U32 = Struct("<q"), Struct("<I")
_INTEGERS = frozenset({"count", "visits", "start_ts", "end_ts", "revision", "epoch"})


def varuint(number: int) -> bytes:
    """ClickHouse's VarUInt (unsigned LEB128): seven bits a byte, the lowest first; the top bit says that more come."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def group_bitmap_state(members: BitMap) -> bytes:
    """The state of ``groupBitmap`` over UInt32, byte for byte as ClickHouse writes that of the same set."""
    if len(members) <= SMALL_SET_MEMBERS:
        return _SMALL + varuint(len(members)) + members.to_array().tobytes()
    serialized = portable(members)
    return _BITMAP + varuint(len(serialized)) + serialized


def _string(text: bytes) -> bytes:
    return varuint(len(text)) + text


def _head(columns: dict[str, str]) -> bytes:
    words = [*columns, *columns.values()]
    return varuint(len(columns)) + b"".join(_string(word.encode()) for word in words)


class RowBinaryTables:
    """The tables of an export of sets."""

    def __init__(self, zone_name: str) -> None:
        self._moment = f"DateTime64(0, '{zone_name}')"

    def sets(self, out: Out, sets: Iterable[Members]) -> int:
        types = {"datetime": self._moment, "complete": "Bool", **dict.fromkeys(_INTEGERS, "Int64")}
        columns = {name: types.get(name, "String") for name in RECORD_FIELDS}
        out.write(_head({**columns, "set": STATE_TYPE}))
        number = 0
        for record, members in sets:
            parts = []
            for name in RECORD_FIELDS:
                value = record.start_ts if name == "datetime" else getattr(record, name)
                if name == "complete":
                    parts.append(bytes([value]))
                else:
                    parts.append(_I64.pack(value) if isinstance(value, int) else _string(value.encode()))
            out.write(b"".join(parts) + group_bitmap_state(members))
            number += 1
        return number

    def uids(self, out: Out, batches: UidBatches) -> int:
        out.write(_head({"ordinal": "UInt32", "uid": "String"}))
        number = 0
        for ordinals, uids in batches:
            rows = zip(ordinals.tolist(), uids, strict=True)
            out.write(b"".join(_U32.pack(ordinal) + _string(uid) for ordinal, uid in rows))
            number += len(uids)
        return number
