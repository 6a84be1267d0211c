"""Exports as Parquet, through pyarrow: typed columns, times with the store's zone."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import pyarrow as pa  # type: ignore[import-not-found, unused-ignore]  # an extra, seldom there where types are checked
from pyarrow import parquet

from uniqdb.exporting import MemberGroup, Members
from uniqdb.record import CountRecord
from uniqdb_cli.export_formats import RECORD_FIELDS, UidBatches, chunks, portable
from uniqdb_cli.export_out import Out

Batches: TypeAlias = Iterable[Any]
ROW_GROUP_ROWS, ROW_GROUP_BYTES = 1_000_000, 64 * 1024 * 1024
"""A group of rows is ended by the first of the two; it is held in memory until then."""
BATCH_RECORDS, BATCH_SET_BYTES = 10_000, 8 * 1024 * 1024
_FEW_VALUES = ["granularity", "datetime", "start_ts", "timezone", "status"]
"""Columns with few different values, which stand in a dictionary of their own."""


class ParquetTables:
    """Zstandard-compressed Parquet. A time is in milliseconds, for Parquet has no seconds."""

    def __init__(self, zone_name: str) -> None:
        moment = pa.timestamp("ms", zone_name)
        types = {"datetime": moment, "complete": pa.bool_(), "granularity": pa.string(), "timezone": pa.string()}
        types["status"] = pa.string()
        record = [pa.field(name, types.get(name, pa.int64()), nullable=False) for name in RECORD_FIELDS]
        fields = {field.name: field for field in record}
        uid = pa.field("uid", pa.string(), nullable=False)
        self._counts = pa.schema(record)
        self._members = pa.schema([fields["granularity"], fields["datetime"], fields["start_ts"], uid])
        self._sets = pa.schema([*record, pa.field("set", pa.binary(), nullable=False)])
        self._uids = pa.schema([pa.field("ordinal", pa.uint32(), nullable=False), uid])

    def counts(self, out: Out, records: Iterable[CountRecord]) -> int:
        return _write(out, self._counts, self._record_batches(records))

    def members(self, out: Out, groups: Iterable[MemberGroup]) -> int:
        return _write(out, self._members, self._member_batches(groups))

    def sets(self, out: Out, sets: Iterable[Members]) -> int:
        return _write(out, self._sets, self._set_batches(sets))

    def uids(self, out: Out, batches: UidBatches) -> int:
        found = (pa.record_batch([pa.array(ordinals), _texts(uids)], schema=self._uids) for ordinals, uids in batches)
        return _write(out, self._uids, found)

    def _record_batches(self, records: Iterable[CountRecord]) -> Batches:
        waiting = list[CountRecord]()
        for record in records:
            waiting.append(record)
            if len(waiting) >= BATCH_RECORDS:
                yield pa.record_batch(_columns(waiting, self._counts), schema=self._counts)
                waiting.clear()
        if waiting:
            yield pa.record_batch(_columns(waiting, self._counts), schema=self._counts)

    def _set_batches(self, sets: Iterable[Members]) -> Batches:
        records, written, written_bytes = list[CountRecord](), list[bytes](), 0
        for record, members in sets:
            records.append(record)
            written.append(portable(members))
            written_bytes += len(written[-1])
            if written_bytes >= BATCH_SET_BYTES or len(records) >= BATCH_RECORDS:
                yield self._set_batch(records, written)
                records, written, written_bytes = [], [], 0
        if records:
            yield self._set_batch(records, written)

    def _set_batch(self, records: list[CountRecord], written: list[bytes]) -> Any:
        return pa.record_batch([*_columns(records, self._sets), pa.array(written, pa.binary())], schema=self._sets)

    def _member_batches(self, groups: Iterable[MemberGroup]) -> Batches:
        schema = self._members
        for group in groups:
            uids = _texts(group.uids)
            for record, places in group.buckets:
                values = record.granularity, record.start_ts * 1_000, record.start_ts
                constants = [pa.scalar(value, schema.field(at).type) for at, value in enumerate(values)]
                for chunk in chunks(places):
                    columns = [pa.repeat(one, len(chunk)) for one in constants]
                    yield pa.record_batch([*columns, uids.take(pa.array(chunk))], schema=schema)
            del uids  # before the next ones are looked for


def _texts(uids: list[bytes]) -> Any:
    return pa.array(uids, pa.string())


def _columns(records: list[CountRecord], schema: Any) -> list[Any]:
    values = {name: [getattr(one, name) for one in records] for name in RECORD_FIELDS}
    values["datetime"] = [one.start_ts * 1_000 for one in records]
    return [pa.array(values[name], schema.field(name).type) for name in RECORD_FIELDS]


def _write(out: Out, schema: Any, batches: Batches) -> int:
    few = [name for name in schema.names if name in _FEW_VALUES]
    writer = parquet.ParquetWriter(out, schema, compression="zstd", use_dictionary=few)
    try:
        number = 0
        for table in _row_groups(schema, batches):
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            number += table.num_rows
    except BaseException:
        out.discard()  # without its end no reader takes it for a whole file
        writer.close()
        raise
    writer.close()
    return number


def _row_groups(schema: Any, batches: Batches) -> Iterator[Any]:
    waiting, rows, size_bytes = list[Any](), 0, 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        size_bytes += batch.nbytes
        if rows >= ROW_GROUP_ROWS or size_bytes >= ROW_GROUP_BYTES:
            yield pa.Table.from_batches(waiting, schema)
            waiting, rows, size_bytes = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting, schema)
