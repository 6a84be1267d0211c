"""``uniqdb query``: how many different visitors."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from uniqdb.errors import UsageError
from uniqdb_cli.comparing import Comparison
from uniqdb_cli.completeness import write_completeness
from uniqdb_cli.output import choose_format, write_counts
from uniqdb_cli.plot import assert_plotext, write_plot
from uniqdb_cli.reading import Question, counted, open_snapshot
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import (
    AsOfOption,
    BeforeOption,
    By,
    ConfigOption,
    FormatOption,
    FromOption,
    NewOption,
    OutputFormat,
    OverlapOption,
    ReturningOption,
    StoreOption,
    ToOption,
)

if TYPE_CHECKING:
    from uniqdb.calendar_zone import CalendarZone
    from uniqdb.record import CountRecord
    from uniqdb.snapshot import Snapshot


def query(
    window: Annotated[
        list[str] | None,
        typer.Option(metavar="SPAN", help="The last days, hours or minutes: 30d, 24h, 45m. Repeatable."),
    ] = None,
    period: Annotated[
        list[str] | None,
        typer.Option(metavar="PERIOD", help="2016, 2016-07, 2016-W28, 2016-07-11, 2016-07-11T13. Repeatable."),
    ] = None,
    by: Annotated[By | None, typer.Option(help="A series: each bucket that had visits.", show_default=False)] = None,
    start: FromOption = None,
    end: ToOption = None,
    fill: Annotated[bool, typer.Option("--fill", help="With --by: also the buckets without visits.")] = False,
    as_of: AsOfOption = None,
    new: NewOption = False,
    returning: ReturningOption = False,
    before: BeforeOption = None,
    overlap_with: OverlapOption = None,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw it: a series as lines, others as bars. Needs the package plotext.")
    ] = False,
    completeness: Annotated[
        bool,
        typer.Option(
            "--completeness", help="Also, on standard error: what is not in the counts, and up to when each source is."
        ),
    ] = False,
    form: FormatOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Count different visitors.

    Of windows, periods, an interval, or of every bucket of a series. Counts are exact, and all of one answer come from
    one commit. Without an option: the trailing windows of 7, 30, 90, 180 and 365 days. A count is `provisional` until
    the store's clock has passed its end, then `final`, and `amended` once a later visit changed it.

    --new and --returning go with all of these, --overlap-with with all but --by: of each window, which of its visitors
    were not seen, or were, in the time before it, or in another window.

    \b
      uniqdb query --window 30d --window 24h
      uniqdb query --window 30d --as-of 2016-08-31 --format value
      uniqdb query --period 2016-W28
      uniqdb query --by day --from 2016-07-01 --to 2016-07-31 --format csv
      uniqdb query --from 2016-07-11T08:00 --to 2016-07-11T12:00
      uniqdb query --window 30d --new --before 90d
      uniqdb query --period 2016-08 --overlap-with previous
      uniqdb query --by day --plot
      uniqdb query --by day --completeness
    """
    if plot and form not in (None, OutputFormat.TABLE):
        raise UsageError(f"--plot and --format {form} do not go together", hint="leave one of them out")
    settings = load_settings(config, store=store, format=form)
    question = Question(window or [], period or [], by, start, end, fill, as_of)
    comparison = Comparison(new, returning, overlap_with, before)
    comparison.assert_fits(question, plot=plot)
    if plot:
        assert_plotext()
    with open_snapshot(settings.store) as (snapshot, zone):
        found = answers(question, snapshot, zone)
        if plot:
            write_plot(found, is_series=by is not None)
        elif comparison.given is not None:
            compared = comparison.answers(found, snapshot, question)
            comparison.write(compared, choose_format(settings.format), zone.isoformat)
        else:
            write_counts(found, choose_format(settings.format), zone.isoformat)
        if completeness:
            write_completeness(snapshot.completeness(), zone.isoformat)


def answers(question: Question, snapshot: "Snapshot", zone: "CalendarZone") -> Iterator["CountRecord"]:
    """The records that answer the question, as they are computed."""
    if question.by is not None and (question.start is None or question.end is None):
        snapshot.answers.as_of_default_s()  # an empty store has no first or last bucket: NotFound says so
    yield from counted(question, snapshot, zone)
