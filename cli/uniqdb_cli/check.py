"""``uniqdb check``: does every invariant of the store hold?"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from uniqdb.errors import StoreCorrupt
from uniqdb_cli.output import is_terminal, printable, say
from uniqdb_cli.reading import open_reader
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import ConfigOption, StoreOption

REPORT_EVERY = 1_000
"""Rows between two updates of the line that shows the progress."""


def check(store: StoreOption = None, config: ConfigOption = None) -> None:
    """Check that a store is sound.

    Checksums, directories, counts, and that coarse buckets are the union of finer ones. Reads everything; readers and
    a writer may go on meanwhile. Exits with 74 and a list if something does not hold.

    \b
      uniqdb check
      uniqdb check --store shop.uniqdb
    """
    settings = load_settings(config, store=store)
    with open_reader(settings.store) as engine, _progress_line() as on_progress:
        report = engine.check(on_progress)
    counts = ", ".join(f"{count:,} {what}" for what, count in report.counts.items())
    if report.problems:
        for problem in report.problems:
            sys.stdout.write(printable(problem) + "\n")
        number = len(report.problems)
        say(
            f"uniqdb: the store {settings.store} is damaged: {number:,} {'problem' if number == 1 else 'problems'}. "
            "Restore it from a backup, or ingest its input into a new store."
        )
        raise typer.Exit(StoreCorrupt.exit_code)
    print(f"The store {printable(settings.store)} is sound: {counts or 'it is empty'}.")


@contextmanager
def _progress_line() -> Iterator[Callable[[str, int], None] | None]:
    """One line on standard error that says how far it is, if somebody is looking."""
    if not is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("checking") as status:

        def show(what: str, count: int) -> None:
            if count % REPORT_EVERY == 0:
                status.update(f"checking {what}: {count:,}")

        yield show
