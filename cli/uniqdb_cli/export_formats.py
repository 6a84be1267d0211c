"""Exports as CSV and JSON lines, and what every format can write."""

import base64
import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Protocol, TypeAlias

import msgspec
from pyroaring import BitMap

from uniqdb.exporting import MemberGroup, Members
from uniqdb.record import CountRecord
from uniqdb.uid_fragment import I64Array, U32Array
from uniqdb_cli.export_out import Out
from uniqdb_cli.output import write_csv

UidBatches: TypeAlias = Iterable[tuple[U32Array, list[bytes]]]
RECORD_FIELDS = [name for name in CountRecord.__struct_fields__ if name not in ("window", "as_of")]
"""What the record of a bucket has."""
CHUNK_ROWS = 65_536
"""So many members are written at once."""


class SetTables(Protocol):
    """A format for sets. Each method writes one table, with its head if there is one; returns the number of rows."""

    def sets(self, out: Out, sets: Iterable[Members]) -> int:
        """A row for each bucket: its record, and its members as a set."""

    def uids(self, out: Out, batches: UidBatches) -> int:
        """A row for each uid: its ordinal, and itself."""


class Tables(SetTables, Protocol):
    """A format for everything."""

    def counts(self, out: Out, records: Iterable[CountRecord]) -> int:
        """The records."""

    def members(self, out: Out, groups: Iterable[MemberGroup]) -> int:
        """A row for each member of each bucket: its granularity, its start, the uid."""


def portable(members: BitMap) -> bytes:
    """The set in the portable serialisation of Roaring bitmaps. It may be given run containers."""
    members.run_optimize()
    return members.serialize()


def chunks(places: I64Array) -> Iterator[I64Array]:
    """The array in parts of bounded length."""
    for at in range(0, len(places), CHUNK_ROWS):
        yield places[at : at + CHUNK_ROWS]


class CsvTables:
    """CSV with a line of names. Uids stand in quotes, so that line breaks are part of them, whoever reads it."""

    def counts(self, out: Out, records: Iterable[CountRecord]) -> int:
        """Exactly as `uniqdb query --by` prints them."""
        with _text(out) as text:
            return write_csv(records, text)

    def members(self, out: Out, groups: Iterable[MemberGroup]) -> int:
        out.write(b"granularity,start_ts,uid\n")
        return sum(_write_members(out, group, list(map(_quoted, group.uids)), "{},{},") for group in groups)

    def sets(self, out: Out, sets: Iterable[Members]) -> int:
        number = 0
        with _text(out) as text:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow([*RECORD_FIELDS, "set"])
            for record, members in sets:
                values = {**record.to_dict(), "complete": "true" if record.complete else "false"}
                encoded = base64.b64encode(portable(members)).decode()
                writer.writerow([*(values[name] for name in RECORD_FIELDS), encoded])
                number += 1
        return number

    def uids(self, out: Out, batches: UidBatches) -> int:
        out.write(b"ordinal,uid\n")
        number = 0
        for ordinals, uids in batches:
            lines = [b"%d,%s" % pair for pair in zip(ordinals.tolist(), map(_quoted, uids), strict=True)]
            out.write(b"".join(lines))
            number += len(lines)
        return number


class JsonTables:
    """JSON lines. Sets are in base64."""

    def counts(self, out: Out, records: Iterable[CountRecord]) -> int:
        """Exactly as `uniqdb query --by` prints them."""
        return _write_lines(out, (record.to_json() for record in records))

    def members(self, out: Out, groups: Iterable[MemberGroup]) -> int:
        head, encode, number = '{{"granularity":"{}","start_ts":{},"uid":', msgspec.json.Encoder().encode, 0
        for group in groups:
            number += _write_members(out, group, [encode(uid.decode()) + b"}\n" for uid in group.uids], head)
        return number

    def sets(self, out: Out, sets: Iterable[Members]) -> int:
        encode = msgspec.json.Encoder().encode
        return _write_lines(out, (encode({**record.to_dict(), "set": portable(one)}) for record, one in sets))

    def uids(self, out: Out, batches: UidBatches) -> int:
        encode = msgspec.json.Encoder().encode
        rows = (pair for ordinals, uids in batches for pair in zip(ordinals.tolist(), uids, strict=True))
        return _write_lines(out, (encode({"ordinal": ordinal, "uid": uid.decode()}) for ordinal, uid in rows))


def _quoted(uid: bytes) -> bytes:
    return b'"' + uid.replace(b'"', b'""') + b'"\n'


def _write_members(out: Out, group: MemberGroup, written: list[bytes], head: str) -> int:
    """The rows of a group. ``written``: each uid as it ends its row; ``head``: how a row begins."""
    number = 0
    for record, places in group.buckets:
        begin = head.format(record.granularity, record.start_ts).encode()
        for chunk in chunks(places):
            out.write(begin + begin.join(map(written.__getitem__, chunk.tolist())))
        number += len(places)
    return number


def _write_lines(out: Out, lines: Iterable[bytes]) -> int:
    number = 0
    for line in lines:
        out.write(line + b"\n")
        number += 1
    return number


@contextmanager
def _text(out: Out) -> Iterator[IO[str]]:
    text = io.TextIOWrapper(io.BufferedWriter(out), "utf-8", newline="")
    try:
        yield text
    finally:
        text.detach().detach()  # flushes both, and leaves the stream open
