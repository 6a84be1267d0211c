"""``uniqdb check``: does every invariant of the store hold?"""

import sys

import typer

from uniqdb.errors import StoreCorrupt
from uniqdb_cli.output import printable, progress_line, reader_may_leave, say
from uniqdb_cli.reading import open_reader
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import ConfigOption, StoreOption


def check(store: StoreOption = None, config: ConfigOption = None) -> None:
    """Check that a store is sound.

    Checksums, directories, counts, and that coarse buckets are the union of finer ones. Reads everything; readers and
    a writer may go on meanwhile. Exits with 74 and a list if something does not hold.

    \b
      uniqdb check
      uniqdb check --store shop.uniqdb
    """
    settings = load_settings(config, store=store)
    with open_reader(settings.store) as engine, progress_line("checking") as on_progress:
        report = engine.check(on_progress)
    counts = ", ".join(f"{count:,} {what}" for what, count in report.counts.items())
    if report.problems:
        with reader_may_leave():
            for problem in report.problems:
                sys.stdout.write(printable(problem) + "\n")
        number = len(report.problems)
        say(
            f"uniqdb: the store {settings.store} is damaged: {number:,} {'problem' if number == 1 else 'problems'}. "
            "Restore it from a backup, or ingest its input into a new store."
        )
        raise typer.Exit(StoreCorrupt.exit_code)
    print(f"The store {printable(settings.store)} is sound: {counts or 'it is empty'}.")
