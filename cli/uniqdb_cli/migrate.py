"""``uniqdb migrate``: a store of an older format written anew in the newest."""

from pathlib import Path
from typing import Annotated

import typer

from uniqdb_cli.output import progress_line, say
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import ConfigOption, StoreOption

READERS_WAIT_S = 10.0


def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what there is to do.", show_default=False)] = False,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Write a store of an older format anew in the newest.

    Answers stay what they are. The new data is written beside the old and takes its place when it is whole; until then
    the store stays as it was, whatever happens. It needs as much free space as the result takes. Nothing else may write
    to the store meanwhile (75); readers go on, and turn to the new data within a second of their next question. A store
    in the newest format is left as it is; one in a newer format than this uniqdb knows is refused (74).

    \b
      uniqdb migrate --dry-run
      uniqdb migrate
    """
    from uniqdb.migration import migrate as write_anew

    settings = load_settings(config, store=store)
    with progress_line("Migrating.") as show:
        done = write_anew(
            Path(settings.store), dry_run=dry_run, readers_wait_s=READERS_WAIT_S, on_progress=show or _ignore
        )
    if not done.is_needed:
        say(f"The store has format {done.from_version}, which is the newest: there is nothing to do.")
    elif done.after_bytes is None:
        say(
            f"The store has format {done.from_version} and would be written anew in format {done.to_version}; "
            f"its data file has {done.before_bytes:,} bytes."
        )
    else:
        say(
            f"The store has format {done.to_version} now; it had {done.from_version}. Its data file has "
            f"{done.after_bytes:,} bytes; it had {done.before_bytes:,}."
        )
    if done.held:
        say(
            f"A reader still has the old data open ({', '.join(done.held)}): the next command that writes to the store "
            "removes it."
        )


def _ignore(_what: str, _count: int) -> None:
    """Nobody wants to know how far it is."""
