"""``uniqdb merge``: several stores made into a new one."""

import time
from pathlib import Path
from typing import Annotated

import typer

from uniqdb.errors import UsageError
from uniqdb_cli.output import progress_line, say
from uniqdb_cli.words import no_progress


def merge(
    stores: Annotated[list[Path], typer.Argument(metavar="STORE...", help="The stores, of one time zone.")],
    into: Annotated[Path, typer.Option("--into", metavar="PATH", help="Where the new store is to stand.")],
    drop_sources: Annotated[
        bool,
        typer.Option(
            "--drop-sources", help="Forget how far topics and files were read in any of them.", show_default=False
        ),
    ] = False,
) -> None:
    """Make one new store of several.

    A visitor who is in two of them counts once; visits are added. Sources go on in the new store where they stood; one
    that is in two stores is refused, unless --drop-sources forgets them all. Quarantine is joined. A bucket is final or
    amended if its end has passed in every store that still waits for a source. The stores stay as they are, and others
    may write to them meanwhile. The new one has a uuid of its own.

    \b
      uniqdb merge zurich.uniqdb geneva.uniqdb --into all.uniqdb
    """
    from uniqdb.merging import Merging, merge_stores

    if len(stores) < 2:
        raise UsageError("there is only one store to merge", hint="name two or more; `uniqdb backup` copies one")
    with progress_line("Merging.") as show:
        how = Merging(int(time.time()), drop_sources=drop_sources)
        done = merge_stores(stores, into, how, on_progress=show or no_progress)
    said = f"{into} holds {done.visits:,} visits of {done.uids:,} visitors"
    say(f"{said}; in the {len(stores)} stores they were {done.memberships:,}.")
