"""``uniqdb restore``: a backup put in place as the store."""

import time
from pathlib import Path
from typing import Annotated

import typer

from uniqdb_cli.output import progress_line, say
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import ConfigOption, StoreOption, no_progress


def restore(
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="What `uniqdb backup` has written.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Give up the data of a store that is there.", show_default=False)
    ] = False,
    as_new: Annotated[
        bool,
        typer.Option("--as-new", help="Make another store of it, to live beside the old one.", show_default=False),
    ] = False,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Put a backup in place as the store.

    Reading goes on at the offsets and positions where the backup stood, so what came later is counted again. The
    store's epoch rises, and a service publishes everything anew: its records supersede the older ones. Where a store is
    already, --yes replaces its data; it must be the one that the backup was made of, and nobody may write to it
    meanwhile. Until the new data is whole the store stays as it was. Two live stores of one uuid fence each other's
    publishing; --as-new gives the copy a uuid of its own.

    \b
      uniqdb restore /backups/visits-2016-07-11.uniqdb
      uniqdb restore /backups/visits-2016-07-11.uniqdb --yes
      uniqdb restore /backups/visits-2016-07-11.uniqdb --store test.uniqdb --as-new
    """
    from uniqdb.restore import Restoring
    from uniqdb.restore import restore as put_in_place

    settings = load_settings(config, store=store)
    how = Restoring(int(time.time()), as_new=as_new, replace=yes)
    with progress_line("Restoring.") as show:
        done = put_in_place(backup, settings.store, how, on_progress=show or no_progress)
    say(f"{settings.store} holds {done.visits:,} visits, in epoch {done.epoch}.")
    if done.held:
        say(f"A reader still has the old data open ({', '.join(done.held)}); the next command that writes removes it.")
