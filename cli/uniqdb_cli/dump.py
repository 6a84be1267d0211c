"""``uniqdb dump``: the store in a form that other programs can read."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from uniqdb.errors import UsageError
from uniqdb_cli.output import is_terminal, progress_line, say
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import ConfigOption, StoreOption, no_progress

STANDARD_STREAM = "-"


def dump(
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="A new file; - is standard output.", show_default=False)
    ] = STANDARD_STREAM,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Write the store in a portable form.

    One tar archive with JSON lines, Roaring sets in their portable serialisation, and SHA-256 sums: visitors, every
    bucket with its members, sources with their positions, quarantine. `uniqdb load` makes a store of it again, also one
    of another version of uniqdb, or in another time zone. Others may write to the store meanwhile.

    \b
      uniqdb dump visits.tar
      uniqdb dump | zstd > visits.tar.zst
    """
    from uniqdb.dump import dump as write_dump

    settings = load_settings(config, store=store)
    if file == STANDARD_STREAM and is_terminal(sys.stdout):
        raise UsageError("a dump is nothing to look at", hint="name a file, or redirect the output")
    with progress_line("Dumping.") as show:
        out = sys.stdout.buffer if file == STANDARD_STREAM else Path(file)
        done = write_dump(settings.store, out, on_progress=show or no_progress)
    say(f"Dumped {done.visits:,} visits of {done.uids:,} visitors, {done.size_bytes:,} bytes.")
