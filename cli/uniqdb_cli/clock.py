"""``uniqdb clock``: up to when each source is complete, and what to do about one that is wrong."""

from typing import TYPE_CHECKING, Annotated

import typer

from uniqdb_cli.output import choose_format, print_tables, refuse_format, say, write_dicts
from uniqdb_cli.reading import open_reader
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import ConfigOption, FormatOption, OutputFormat, StoreOption

if TYPE_CHECKING:
    from uniqdb.calendar_zone import CalendarZone
    from uniqdb.completeness import Completeness

clock_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, add_completion=False)
FORMATS = (OutputFormat.TABLE, OutputFormat.JSON, OutputFormat.JSONL, OutputFormat.CSV)


@clock_app.callback()
def group() -> None:
    """See and reset the clocks of sources.

    A source's clock is how far its visits have come. It decides what is closed.

    \b
      uniqdb clock show
      uniqdb clock reset visits.jsonl --end
    """


@clock_app.command("show")
def show(form: FormatOption = None, store: StoreOption = None, config: ConfigOption = None) -> None:
    """Show the store's clock and that of each source.

    A source is complete up to its clock, but for late visits. The store's clock is the least of its open sources; with
    none open, the largest of the ended ones. What ends before it is closed. Times in seconds are Unix time.
    Formats: table, json, jsonl, csv (one object or line per source).

    \b
      uniqdb clock show
      uniqdb clock show --format jsonl
    """
    refuse_format("clock show", form, FORMATS)
    settings = load_settings(config, store=store, format=form)
    with open_reader(settings.store) as engine, engine.snapshot() as snapshot:
        found, zone = snapshot.completeness(), snapshot.answers.zone
    chosen = choose_format(settings.format, FORMATS)
    if chosen is OutputFormat.TABLE:
        _write_table(found, zone)
        return
    import msgspec

    from uniqdb.completeness import SourceCompleteness

    columns = SourceCompleteness.__struct_fields__
    write_dicts((msgspec.structs.asdict(one) for one in found.sources), columns, chosen)


def _write_table(found: "Completeness", zone: "CalendarZone") -> None:
    def moment(time_s: int | None) -> str:
        return "none yet" if time_s is None else zone.isoformat(time_s)

    columns = ["id", "source", "state", "clock", "held#", "ahead limit (s)#", "late limit (s)#"]
    rows = (
        (
            *(one.id, one.name, one.state, moment(one.clock_s)),
            *(f"{number:,}" for number in (one.held, one.ahead_limit_s, one.late_limit_s)),
        )
        for one in found.sources
    )
    if not print_tables("Sources", columns, rows):
        print("No sources yet.")
    print()
    print(f"The store's clock: {moment(found.clock_s)}.")
    print(f"Closed: every bucket that ends at or before {moment(found.closed_through_s)}.")


@clock_app.command("reset")
def reset(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Its name, or its id as in `clock show`.")],
    end: Annotated[
        bool, typer.Option("--end", help="The source is over: nothing waits for it any longer.", show_default=False)
    ] = False,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Forget the clock of a source, or end the source.

    Without --end its next visits start a clock as those of a new source do: for one whose clock is wrong. With --end it
    no longer keeps the store's buckets open: for a file that was interrupted and is not going to be read on. Either way
    its held visits are counted if they agree with each other, else quarantined. What is closed stays closed. While
    `uniqdb ingest` runs, it does this between two of its commits, also for a file that it reads.

    \b
      uniqdb clock reset visits.jsonl
      uniqdb clock reset visits.jsonl --end
    """
    settings = load_settings(config, store=store)
    from uniqdb.request_handlers import CLOCK_RESET, reset_arguments, reset_name
    from uniqdb_cli.writing import carry_out

    name = reset_name(carry_out(settings, CLOCK_RESET, lambda _: reset_arguments(source, end=end)))
    say(f"{name} is over." if end else f"{name} has no clock now; its next visits start one.")
