"""``uniqdb init``: create an empty store."""

from pathlib import Path
from typing import Annotated

import typer

from uniqdb_cli.output import say
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import ConfigOption, StoreOption, TimezoneOption


def init(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="[PATH]", help="Where to create it; the same as --store.", show_default=False),
    ] = None,
    store: StoreOption = None,
    timezone: TimezoneOption = None,
    config: ConfigOption = None,
) -> None:
    """Create an empty store.

    Its time zone decides where days, weeks, months and years begin, and never changes. `uniqdb ingest` creates a store
    by itself; this command is for choosing first.

    \b
      uniqdb init
      uniqdb init shop.uniqdb --timezone Europe/Zurich
    """
    from uniqdb.creation import create
    from uniqdb.errors import UsageError

    if path is not None and store is not None:
        raise UsageError("the store is named twice", hint="give PATH or --store, not both")
    settings = load_settings(config, store=str(path) if path is not None else store, timezone=timezone)
    create(settings.store, timezone=settings.timezone or "UTC")
    say(f"Created the store {settings.store}, time zone {settings.timezone or 'UTC'}.")
