"""``uniqdb sweep``: remove what is no longer kept."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uniqdb_cli.output import say
from uniqdb_cli.reading import open_reader
from uniqdb_cli.settings import Settings, load_settings
from uniqdb_cli.words import ConfigOption, StoreOption
from uniqdb_cli.writing import hand_over, open_options, open_writer

if TYPE_CHECKING:
    from uniqdb.sweeping import SweepReport

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what a run would remove now.")]
ForceOption = Annotated[bool, typer.Option("--force", help="All that is due, not a tenth. Needs --yes.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Yes, remove it all.")]


def sweep(
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    yes: YesOption = False,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Remove the members of buckets that are no longer kept.

    The settings minute_retention_days to year_retention_days say how long they are; counts stay, unless
    count_retention_days says otherwise. A bucket goes only when the store's clock and the wall clock have both passed
    its time. Then the uids go that no kept bucket has. A run removes a tenth of a granularity's buckets at most, and at
    least one. While `uniqdb serve-stream` or `ingest` runs, that process does it between its commits, by its settings.

    \b
      uniqdb sweep --dry-run
      uniqdb sweep
      uniqdb sweep --force --yes
    """
    from uniqdb.errors import UsageError

    if force and not (yes or dry_run):
        raise UsageError(
            "--force removes all that is due at once, for good", hint="see it with --dry-run; then add --yes"
        )
    settings = load_settings(config, store=store)
    _tell(_preview(settings, forced=force) if dry_run else _carry_out(settings, forced=force), dry_run=dry_run)


def _preview(settings: Settings, *, forced: bool) -> "SweepReport":
    from uniqdb.sweeping import preview

    with open_reader(settings.store, open_options(settings)) as engine:
        return preview(engine, int(time.time()), forced=forced)


def _carry_out(settings: Settings, *, forced: bool) -> "SweepReport":
    """A run of our own, or one by the process that writes the store, which does about a second of it at a time."""
    from uniqdb.errors import StoreBusy
    from uniqdb.manifest import is_written_here
    from uniqdb.request_handlers import SweepTurn, understood
    from uniqdb.requests import WriterGone
    from uniqdb.sweeping import SWEEP, SweepRun

    run = ""
    while True:
        try:
            with open_writer(settings) as engine:
                return SweepRun(engine, int(time.time()), forced=forced).to_the_end()
        except StoreBusy:
            if is_written_here(Path(settings.store)):
                raise
        try:
            while True:
                turn = understood(hand_over(settings, SWEEP, {"forced": forced, "run": run}), SweepTurn)
                if turn.report.is_over:
                    return turn.report
                run = turn.run
        except WriterGone:
            continue  # nobody is in the way any more


def _tell(report: "SweepReport", *, dry_run: bool) -> None:
    if not report.has_clock:
        say("No source of this store has a clock yet, so nothing in it is old.")
        return
    removed = ", ".join(f"{word} {count:,}" for word, count in report.removed().items())
    say(f"{'Would be removed' if dry_run else 'Removed'}: {removed or 'nothing'}.")
    due = {**report.due, **{f"{word} rows": count for word, count in report.rows_due.items()}}
    if due:
        left = ", ".join(f"{word} {count:,}" for word, count in due.items())
        say(f"Due beyond that, for further runs or --force: {left}.")
