"""``uniqdb stickiness``: which part of a week's and a month's visitors comes on a day."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uniqdb_cli.cohorts import DATE
from uniqdb_cli.comparing import write_records
from uniqdb_cli.output import choose_format, print_tables, progress_line
from uniqdb_cli.reading import open_snapshot
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import ConfigOption, FormatOption, FromOption, OutputFormat, StoreOption, ToOption

if TYPE_CHECKING:
    from uniqdb.stickiness import Stickiness

DAY_COLUMNS = (
    *("datetime", "start_ts", "end_ts", "dau", "wau", "mau", "dau_wau", "dau_mau", "status", "complete"),
    *("timezone", "epoch"),
)
MEAN_COLUMNS = ("start_ts", "end_ts", "dau_wau", "dau_mau", "days_averaged", "complete", "timezone", "epoch")


def stickiness(
    start: FromOption = None,
    end: ToOption = None,
    average: Annotated[bool, typer.Option("--average", help="Only the average of the days, as one record.")] = False,
    form: FormatOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Say which part of a month's visitors comes on a day.

    Of each day: its different visitors (DAU), those of the 7 days (WAU) and the 30 days (MAU) that end with it, and the
    parts DAU/WAU and DAU/MAU. Without --from: 30 days; without --to: up to the store's clock. The average is over the
    days that are complete, each with the same weight; where none is, over all. The value is DAU/MAU.

    \b
      uniqdb stickiness
      uniqdb stickiness --from 2016-07-01 --to 2016-07-31 --format csv
      uniqdb stickiness --average --format value
    """
    settings = load_settings(config, store=store, format=form)
    with open_snapshot(settings.store) as (snapshot, _zone), progress_line("Counting"):
        found = snapshot.stickiness(start, end)
    wanted = choose_format(settings.format)
    if wanted is OutputFormat.TABLE:
        _write_table(found, only_average=average)
        return
    from msgspec import structs

    whole = {"timezone": found.timezone, "epoch": found.epoch}
    rows = [_mean_row(found)] if average else [{**structs.asdict(one), **whole} for one in found.days]
    if wanted is OutputFormat.VALUE:
        sys.stdout.writelines("\n" if row["dau_mau"] is None else f"{row['dau_mau']}\n" for row in rows)
    else:
        write_records(rows, MEAN_COLUMNS if average else DAY_COLUMNS, wanted)


def _mean_row(found: "Stickiness") -> dict[str, Any]:
    return {name: getattr(found, name) for name in MEAN_COLUMNS}


def _write_table(found: "Stickiness", *, only_average: bool) -> None:
    rows = [
        [
            *(
                one.datetime[:DATE],
                f"{one.dau:,}",
                f"{one.wau:,}",
                f"{one.mau:,}",
                _percent(one.dau_wau),
                _percent(one.dau_mau),
            ),
            *(one.status, "yes" if one.complete else "no"),
        ]
        for one in found.days
    ]
    if not rows:
        print("No visits there.")
        return
    if not only_average:
        columns = ["day", "visitors#", "of 7 days#", "of 30 days#", "day/7d#", "day/30d#", "status", "complete"]
        print_tables(f"Time zone {found.timezone}. 7 and 30 days end with the day.", columns, rows)
        print()
    days = f"{found.days_averaged} day{'' if found.days_averaged == 1 else 's'}"
    kind = "complete" if any(one.complete and one.mau for one in found.days) else "incomplete"
    parts = f"{_percent(found.dau_wau)} of the visitors of 7 days, {_percent(found.dau_mau)} of those of 30 days"
    print(f"On average over {days} ({kind}): {parts}.")


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{part:.1%}"
