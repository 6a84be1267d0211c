"""``uniqdb cohorts``: of the visitors first seen in a week, how many came back in the weeks after it."""

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uniqdb_cli.comparing import share, write_records
from uniqdb_cli.output import choose_format, print_table, progress_line
from uniqdb_cli.reading import open_snapshot
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import CohortsBy, ConfigOption, FormatOption, FromOption, OutputFormat, StoreOption, ToOption

if TYPE_CHECKING:
    from uniqdb.cohorts import Cohorts

DATE = len("2016-07-11")
COLUMNS = (
    *("by", "cohort", "cohort_start_ts", "new", "after", "datetime", "start_ts", "end_ts", "count", "share"),
    *("timezone", "status", "complete", "since_ts", "epoch"),
)


def cohorts(
    by: Annotated[CohortsBy, typer.Option(help="The granularity.")] = CohortsBy.WEEK,
    start: FromOption = None,
    end: ToOption = None,
    percent: Annotated[
        bool, typer.Option("--percent", help="In the table: parts of the cohort in place of numbers of visitors.")
    ] = False,
    form: FormatOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Count who comes back, by when first seen.

    Of the visitors first seen in each day, week or month: how many came in the first one after it, the second one, and
    so on. First seen means first in all that the store keeps, so each visitor is in one cohort only. Without --from:
    twelve periods; without --to: up to the store's clock. A table is a triangle; csv, json and jsonl have a row for
    each cohort and each later period (`after` 0 is the cohort's own), value its `count`.

    \b
      uniqdb cohorts --by week
      uniqdb cohorts --by month --from 2016-01 --to 2016-12 --format csv
      uniqdb cohorts --by day --percent
    """
    settings = load_settings(config, store=store, format=form)
    with open_snapshot(settings.store) as (snapshot, zone):
        with progress_line("Comparing"):
            found = snapshot.cohorts(by.value, start, end)
        wanted = choose_format(settings.format)
        if wanted is OutputFormat.TABLE:
            _write_table(found, zone.isoformat, as_percent=percent)
        elif wanted is OutputFormat.VALUE:
            sys.stdout.writelines(f"{row['count']}\n" for row in long_rows(found))
        else:
            write_records(long_rows(found), COLUMNS, wanted)


def long_rows(found: "Cohorts") -> Iterator[dict[str, Any]]:
    """A row for each cohort and each period from its own on."""
    for number, cohort in enumerate(found.periods):
        for after, (count, period) in enumerate(zip(cohort.returned, found.periods[number:], strict=True)):
            yield {
                "by": found.by,
                "cohort": cohort.datetime,
                "cohort_start_ts": cohort.start_ts,
                "new": cohort.new,
                "after": after,
                "datetime": period.datetime,
                "start_ts": period.start_ts,
                "end_ts": period.end_ts,
                "count": count,
                "share": round(count / cohort.new, 6) if cohort.new else None,
                "timezone": found.timezone,
                "status": period.status,
                "complete": cohort.complete and period.complete,
                "since_ts": found.since_ts,
                "epoch": found.epoch,
            }


def _write_table(found: "Cohorts", moment: Callable[[int], str], *, as_percent: bool) -> None:
    if not found.periods:
        print("No visits there.")
        return
    starts = [one.datetime[:DATE] for one in found.periods]
    later = range(1, len(found.periods))
    rows = []
    for start, cohort in zip(starts, found.periods, strict=True):
        cells = [share(count, cohort.new) if as_percent else f"{count:,}" for count in cohort.returned[1:]]
        rows.append([start, f"{cohort.new:,}", *cells, *[""] * (len(later) - len(cells))])
    since = moment(found.since_ts)[:DATE]
    what = f"By the {found.by} in which they were first seen (since {since}): who came back how many {found.by}s later."
    running = found.periods[-1]
    open_from = f" What is of {starts[-1]} is provisional." if running.status == "provisional" else ""
    title = f"Time zone {found.timezone}. {what}{open_from}"
    print_table(title, [found.by, "new#", *(f"{number}#" for number in later)], rows)
