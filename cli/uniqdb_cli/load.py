"""``uniqdb load``: a dump made a store again."""

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from uniqdb.errors import NotFound
from uniqdb_cli.output import progress_line, say
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import ConfigOption, StoreOption, no_progress

STANDARD_STREAM = "-"


def load(
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="What `uniqdb dump` has written; - is standard input.")
    ] = STANDARD_STREAM,
    timezone: Annotated[
        str | None,
        typer.Option("--timezone", metavar="ZONE", help="Make hours to years anew, in this time zone."),
    ] = None,
    as_new: Annotated[
        bool,
        typer.Option("--as-new", help="Make another store of it, to live beside the old one.", show_default=False),
    ] = False,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a new store of a dump.

    It answers as the dumped store did, and its sources go on where they stood; its epoch is larger, so that what it
    publishes supersedes older records. A dump that is not whole or was changed is refused with exit code 65, and
    nothing is left of it. With --timezone all minutes have to be kept: hours to years are made of them. Two live stores
    of one uuid fence each other's publishing; --as-new gives this one a uuid of its own.

    \b
      uniqdb load visits.tar --store again.uniqdb
      zstd -dc visits.tar.zst | uniqdb load --store tokyo.uniqdb --timezone Asia/Tokyo --as-new
    """
    from uniqdb.loading import Loading
    from uniqdb.loading import load as load_dump

    settings = load_settings(config, store=store)
    how = Loading(int(time.time()), timezone=timezone, as_new=as_new)
    with ExitStack() as stack:
        show = stack.enter_context(progress_line("Loading."))
        try:
            stream = sys.stdin.buffer if file == STANDARD_STREAM else stack.enter_context(Path(file).open("rb"))
        except OSError as error:
            raise NotFound(f"{file} cannot be read: {error.strerror}", hint="name a dump, or - to read one") from None
        done = load_dump(stream, settings.store, how, on_progress=show or no_progress)
    say(f"{settings.store} holds {done.visits:,} visits of {done.uids:,} visitors, time zone {done.timezone}.")
