"""What the commands share that change an existing store."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from uniqdb_cli.settings import Settings

if TYPE_CHECKING:
    from uniqdb.engine import Engine
    from uniqdb.options import OpenOptions


def open_options(settings: Settings) -> "OpenOptions":
    """How a handle that writes behaves."""
    from uniqdb.options import OpenOptions

    return OpenOptions(quarantine_max_rows=settings.quarantine_max_rows, allowed_lateness_s=settings.allowed_lateness_s)


@contextmanager
def open_writer(settings: Settings) -> Iterator["Engine"]:
    """The store, for writing. Raises NotFound if there is none, StoreBusy while another process writes."""
    from pathlib import Path

    from uniqdb.engine import open as open_store
    from uniqdb.errors import NotFound
    from uniqdb.manifest import is_store

    if not is_store(Path(settings.store)):
        raise NotFound(f"there is no store at {settings.store}", hint="name one with --store, or ingest a file first")
    with open_store(settings.store, options=open_options(settings)) as engine:
        yield engine
