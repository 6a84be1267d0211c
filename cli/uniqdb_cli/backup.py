"""``uniqdb backup``: a copy of the store at one commit, while others write."""

from pathlib import Path
from typing import Annotated

import typer

from uniqdb_cli.output import progress_line, say
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import ConfigOption, StoreOption, no_progress


def backup(
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="Where the copy is to stand; nothing may.")],
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Copy the store while others go on writing.

    The copy is a store itself, as of the newest commit: it can be asked and checked, and `uniqdb restore` puts it in
    place of a lost one. It holds counts, visitors, positions in topics and files, and quarantine as of one and the same
    commit. Every checksum is verified on the way. DEST is there whole and on the disk, or not at all. Until it is done
    the store's file may grow a little more than usual.

    \b
      uniqdb backup /backups/visits-2016-07-11.uniqdb
    """
    from uniqdb.backup import backup as copy_store

    settings = load_settings(config, store=store)
    with progress_line("Copying.") as show:
        done = copy_store(settings.store, destination, on_progress=show or no_progress)
    size = f"{done.size_bytes:,} bytes"
    say(f"Copied {done.visits:,} visits to {destination}, as of commit {done.commit_number:,}: {size}.")
