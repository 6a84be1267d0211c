"""``uniqdb compact``: the store written anew, without what it no longer needs."""

from pathlib import Path
from typing import Annotated

import typer

from uniqdb_cli.output import progress_line, say
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import ConfigOption, StoreOption

READERS_WAIT_S = 10.0


def compact(
    renumber: Annotated[
        bool,
        typer.Option("--renumber", help="Also drop visitors whom no kept bucket has any more.", show_default=False),
    ] = False,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Write the store anew, in as little space as it takes.

    Without free pages, and so without a byte of what was forgotten. Answers stay what they are. With --renumber
    visitors whom no kept bucket has any more are left out, and the others get the numbers 0, 1, 2, ... It needs as much
    free space as the result takes; until that is whole the store stays as it was. Nothing else may write to the store
    meanwhile; readers go on, and turn to the new data within a second of their next question. If one still has the old
    data open after 10 seconds, the exit code is 75; the next command that writes removes it.

    \b
      uniqdb compact
      uniqdb compact --renumber
    """
    from uniqdb.compaction import compact as write_anew
    from uniqdb.errors import StoreBusy

    settings = load_settings(config, store=store)
    with progress_line("Compacting.") as show:
        done = write_anew(
            Path(settings.store), renumber=renumber, readers_wait_s=READERS_WAIT_S, on_progress=show or _ignore
        )
    say(f"The data file has {done.after_bytes:,} bytes; it had {done.before_bytes:,}.")
    if renumber:
        say(f"Numbers of visitors in use: {done.ordinals_after:,}; there were {done.ordinals_before:,}.")
    if done.held:
        raise StoreBusy(
            f"a reader still has the old data open ({', '.join(done.held)}), with all that was in it",
            hint="end that process; the next command that writes to the store then removes it",
        )


def _ignore(_what: str, _count: int) -> None:
    """Nobody wants to know how far it is."""
