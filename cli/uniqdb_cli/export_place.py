"""Where an export goes: standard output, a file or a folder, there whole or not at all."""

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from uniqdb.errors import CannotWrite, UsageError
from uniqdb_cli.export_out import Out
from uniqdb_cli.output import is_terminal
from uniqdb_cli.stopping import StopRequest
from uniqdb_cli.words import ExportFormat, SetsFormat

if TYPE_CHECKING:
    from uniqdb_cli.export_formats import SetTables, Tables

STANDARD_STREAM = "-"
FORMAT, VERSION, MANIFEST = "uniqdb-sets", 1, "manifest.json"
BUFFER_BYTES = 1024 * 1024
ENDINGS = {SetsFormat.CLICKHOUSE: "rowbinary"}
"""The endings of files in a folder, where they are not the format's name."""


def format_of(output: str, wanted: ExportFormat | None) -> ExportFormat:
    """The wanted format, else the one that the file's name ends with; JSON lines on standard output."""
    if wanted is not None:
        return wanted
    if output == STANDARD_STREAM:
        return ExportFormat.JSONL
    ending = Path(output).suffix.lower().removeprefix(".")
    if ending not in tuple(ExportFormat):
        raise UsageError(
            f"the name {output} does not say which format the export is to have",
            hint=f"let it end with one of .{', .'.join(ExportFormat)}, or give --format",
        )
    return ExportFormat(ending)


def tables_of(form: ExportFormat, zone_name: str) -> "Tables":
    """What writes the format. Raises UsageError if a library is missing."""
    from uniqdb_cli.export_formats import CsvTables, JsonTables

    if form is not ExportFormat.PARQUET:
        return CsvTables() if form is ExportFormat.CSV else JsonTables()
    try:
        from uniqdb_cli.export_parquet import ParquetTables
    except (ImportError, OSError):
        raise UsageError(
            "Parquet needs the package pyarrow, which is not installed",
            hint=f"install it beside uniqdb: {sys.executable} -m pip install pyarrow",
        ) from None
    return ParquetTables(zone_name)


def set_tables_of(form: SetsFormat, zone_name: str) -> "SetTables":
    """What writes the format of an export of sets. Raises as `tables_of`."""
    if form is not SetsFormat.CLICKHOUSE:
        return tables_of(ExportFormat(form), zone_name)
    from uniqdb_cli.export_clickhouse import RowBinaryTables

    return RowBinaryTables(zone_name)


@contextmanager
def export_file(output: str, form: ExportFormat, store: str, stop: StopRequest, *, overwrite: bool) -> Iterator[Out]:
    """What is written is at its place when the block ends without an error.

    Raises UsageError for Parquet on a terminal and a place in the store, CannotWrite if the place is taken.
    """
    if output == STANDARD_STREAM:
        if form is ExportFormat.PARQUET and is_terminal(sys.stdout):
            raise UsageError("a Parquet file is nothing to look at", hint="name a file with --output")
        yield Out(sys.stdout.buffer, stop)
        return
    from uniqdb.new_place import new_file

    place = _free_place(output, store, overwrite=overwrite)
    if place.is_dir():
        raise CannotWrite(f"{place} is a directory", hint="name a file")
    with new_file(place) as descriptor:
        with os.fdopen(descriptor, "wb", BUFFER_BYTES, closefd=False) as file:
            yield Out(file, stop)
        _free_place(output, store, overwrite=overwrite)  # somebody may have been faster


@contextmanager
def export_folder(output: str, store: str, *, overwrite: bool) -> Iterator[Path]:
    """An empty folder, which is at its place when the block ends without an error. Files in it: `file_within`.

    An older export of sets is replaced if it may be, anything else never. Raises as `export_file`.
    """
    from uniqdb.manifest import cannot_write, sync_directory
    from uniqdb.new_place import new_directory

    if output == STANDARD_STREAM:
        raise UsageError("sets are a folder of files, which do not go to standard output", hint="name a folder")
    place = _free_place(output, store, overwrite=overwrite)
    if not os.path.lexists(place):
        with new_directory(place) as folder:
            yield folder
        return
    _assert_sets(place)
    fresh, aside = (place.with_name(f".{place.name}.{what}-{secrets.token_hex(8)}") for what in ("fresh", "replaced"))
    try:
        with new_directory(fresh) as folder:
            yield folder
        place.rename(aside)
        try:
            fresh.rename(place)
        except BaseException:
            aside.rename(place)
            raise
        sync_directory(place.parent)
        shutil.rmtree(aside)
    except OSError as error:
        raise cannot_write(place, error) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def file_within(folder: Path, name: str, stop: StopRequest) -> Iterator[Out]:
    """A file in a folder that is being built, on the disk when the block ends."""
    with open(folder / name, "xb", BUFFER_BYTES, opener=_private) as file:
        yield Out(file, stop)
        file.flush()
        os.fsync(file.fileno())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _free_place(output: str, store: str, *, overwrite: bool) -> Path:
    from uniqdb.new_place import refuse_within

    place = Path(output).absolute()
    refuse_within(place, Path(store))
    if os.path.lexists(place) and not overwrite:
        raise CannotWrite(f"{output} is there already", hint="name another place, or give --overwrite")
    return place


def _assert_sets(place: Path) -> None:
    """Raise CannotWrite unless an earlier export of sets stands there."""
    import msgspec

    try:
        found = msgspec.json.decode((place / MANIFEST).read_bytes())
        is_sets = found["format"] == FORMAT
    except (OSError, ValueError, TypeError, KeyError):
        is_sets = False
    if not is_sets:
        raise CannotWrite(f"{place} is no export of sets and is not replaced", hint="name another place")
