"""``uniqdb export``: counts, members and sets, for other tools."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from uniqdb_cli.export_place import (
    ENDINGS,
    FORMAT,
    MANIFEST,
    STANDARD_STREAM,
    VERSION,
    export_file,
    export_folder,
    file_within,
    format_of,
    set_tables_of,
    tables_of,
)
from uniqdb_cli.output import progress_line, say
from uniqdb_cli.reading import open_reader
from uniqdb_cli.settings import load_settings
from uniqdb_cli.stopping import stop_on_signals
from uniqdb_cli.words import By, ConfigOption, ExportFormat, SetsFormat, StoreOption, no_progress

if TYPE_CHECKING:
    from uniqdb.exporting import Members

ByOption = Annotated[By, typer.Option(help="The granularity: each bucket that had visits.", show_default=False)]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="Start: a period, a time, seconds [default: the first].")
]
ToOption = Annotated[
    str | None,
    typer.Option(
        "--to", metavar="TIME", help="End: a day, week, month or year includes it; a time does not [default: the last]."
    ),
]
FileFormatOption = Annotated[
    ExportFormat | None,
    typer.Option("--format", help="The file's format [default: as its name ends; jsonl for -].", show_default=False),
]
FileOption = Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="A new file; - is standard output.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier export has left there.")]

export_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, add_completion=False)


@export_app.callback()
def export() -> None:
    """Write counts, members or sets for other tools.

    Each export is of one commit; others may write to the store meanwhile. A file or folder is there whole, or not at
    all. Parquet needs the package pyarrow. Exit code 70: a bucket was swept or lost.

    \b
      uniqdb export counts --by day --output days.parquet
      uniqdb export members --by day --from 2016-07-01 --output members.parquet
      uniqdb export sets --by day --format clickhouse --output day-sets
    """


@export_app.command()
def counts(
    by: ByOption,
    start: FromOption = None,
    end: ToOption = None,
    fill: Annotated[bool, typer.Option("--fill", help="Also the buckets without visits.")] = False,
    form: FileFormatOption = None,
    output: FileOption = STANDARD_STREAM,
    overwrite: OverwriteOption = False,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Write the counts of a granularity.

    The records of `uniqdb query --by`; csv and jsonl are the same to the byte. In Parquet columns are typed: `datetime`
    is a time with the store's zone, numbers are 64-bit integers.

    \b
      uniqdb export counts --by day --output days.parquet
      uniqdb export counts --by hour --from 2016-07 --to 2016-08 --format csv > hours.csv
    """
    settings = load_settings(config, store=store)
    chosen = format_of(output, form)
    with stop_on_signals() as stop, open_reader(settings.store) as reader, reader.snapshot() as snapshot:
        tables = tables_of(chosen, reader.timezone)
        if start is None or end is None:
            snapshot.answers.as_of_default_s()  # an empty store has no first or last bucket: NotFound says so
        records = snapshot.series(by, start, end, fill=fill)
        with export_file(output, chosen, settings.store, stop, overwrite=overwrite) as out:
            rows = tables.counts(out, records)
    _say_done(output, _named(rows, by), out.size_bytes)


@export_app.command()
def members(
    by: ByOption,
    start: FromOption = None,
    end: ToOption = None,
    form: FileFormatOption = None,
    output: FileOption = STANDARD_STREAM,
    overwrite: OverwriteOption = False,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Write who was in each bucket of a granularity.

    A row for each visitor of each bucket: `granularity`, `start_ts`, `uid`; in Parquet also `datetime`. Buckets are in
    order, the visitors of a bucket in none. Memory does not grow with the number of rows.

    \b
      uniqdb export members --by day --output members.parquet
      uniqdb export members --by month --from 2016-07 --to 2016-07 --format csv
    """
    from uniqdb.exporting import bucket_sets, member_groups

    settings = load_settings(config, store=store)
    chosen = format_of(output, form)
    with stop_on_signals() as stop, open_reader(settings.store) as reader, reader.snapshot() as snapshot:
        tables = tables_of(chosen, reader.timezone)
        found = bucket_sets(snapshot, by, start, end)
        file = export_file(output, chosen, settings.store, stop, overwrite=overwrite)
        with file as out, progress_line("Exporting.") as show:
            seen = _Passing(found, show or no_progress)
            rows = tables.members(out, member_groups(snapshot, iter(seen)))
    _say_done(output, f"{rows:,} members of {_named(seen.number, by)}", out.size_bytes)


@export_app.command()
def sets(
    by: ByOption,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FOLDER", help="A new folder.")],
    start: FromOption = None,
    end: ToOption = None,
    form: Annotated[SetsFormat, typer.Option("--format", help="The format of the two tables.")] = SetsFormat.JSONL,
    overwrite: OverwriteOption = False,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Write the members of each bucket as a Roaring bitmap.

    A folder with `sets`: each bucket's record and the bitmap of its visitors' numbers; `uids`: who has which number;
    and `manifest.json`. Unions and intersections of the bitmaps count visitors exactly, of any buckets. They are in the
    portable form, which Roaring libraries of all languages read; with clickhouse, as ClickHouse holds them itself.

    \b
      uniqdb export sets --by day --format parquet --output day-sets
      uniqdb export sets --by day --from 2016-07-01 --format clickhouse --output july
    """
    import msgspec

    from uniqdb.exporting import bucket_sets, uid_batches

    settings = load_settings(config, store=store)
    ending = ENDINGS.get(form, str(form))
    with stop_on_signals() as stop, open_reader(settings.store) as reader, reader.snapshot() as snapshot:
        tables = set_tables_of(form, reader.timezone)
        found = bucket_sets(snapshot, by, start, end)
        with export_folder(output, settings.store, overwrite=overwrite) as folder:
            with progress_line("Exporting.") as show, file_within(folder, f"sets.{ending}", stop) as sets_out:
                seen = _Passing(found, show or no_progress)
                tables.sets(sets_out, iter(seen))
            with file_within(folder, f"uids.{ending}", stop) as uids_out:
                uids = tables.uids(uids_out, uid_batches(snapshot, seen.united))
            epoch, generation, _ = snapshot.version
            manifest = {
                "format": FORMAT,
                "version": VERSION,
                "tables": str(form),
                "granularity": str(by),
                "timezone": reader.timezone,
                "store_uuid": reader.store_uuid,
                "epoch": epoch,
                "generation": generation,
                "commit_number": snapshot.commit_number,
                "buckets": seen.number,
                "visitors": len(seen.united),
                "uids": uids,
            }
            with file_within(folder, MANIFEST, stop) as out:
                out.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    what = f"{_named(seen.number, by)} and {uids:,} uids"
    _say_done(output, what, sets_out.size_bytes + uids_out.size_bytes)


class _Passing:
    """Sets on their way to a file: how many there were, and who is in any of them. To be iterated once."""

    def __init__(self, sets: Iterator["Members"], on_progress: Callable[[str, int], None]) -> None:
        from pyroaring import BitMap

        self._sets, self._on_progress = sets, on_progress
        self.number, self.united = 0, BitMap()

    def __iter__(self) -> Iterator["Members"]:
        for record, members in self._sets:
            self.number += 1
            self.united |= members
            self._on_progress(f"{record.granularity}s", self.number)
            yield record, members


def _named(number: int, by: By) -> str:
    return f"{number:,} {by}{'' if number == 1 else 's'}"


def _say_done(output: str, what: str, size_bytes: int) -> None:
    where = "" if output == STANDARD_STREAM else f" to {output}"
    say(f"Exported {what}{where}, {size_bytes:,} bytes.")
