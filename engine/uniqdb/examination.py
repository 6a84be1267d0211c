"""Whether a store on disk is sound, asked without ever being ended by what is wrong with it."""

import os
from collections.abc import Callable
from pathlib import Path

from uniqdb.check import CheckReport
from uniqdb.engine import open as open_store
from uniqdb.errors import FormatUnsupported, StoreCorrupt
from uniqdb.manifest import data_directory, is_written_here, no_writer, read_manifest
from uniqdb.page_walk import page_problems


def examine(path: str | os.PathLike[str], on_progress: Callable[[str, int], None] | None = None) -> CheckReport:
    """Every page, as another process sees them, and then every invariant of the newest commit.

    Pages that a writer changes meanwhile are not walked: it has had them walked where that was needed, or has written
    them. Cost: reads the whole store about twice. Raises NotFound, FormatUnsupported; damage is in the report.
    """
    store_path = Path(path).absolute()
    try:
        manifest = read_manifest(store_path)
        with no_writer(store_path) as is_free:
            is_still = is_free or is_written_here(store_path)
        problems = page_problems(data_directory(store_path, manifest)) if is_still else []
        if problems:
            with no_writer(store_path) as is_free:
                if is_free or is_written_here(store_path):
                    return CheckReport(problems, {"pages": 0})
        with open_store(store_path, read_only=True) as engine:
            return engine.check(on_progress)
    except FormatUnsupported:
        raise
    except StoreCorrupt as error:
        return CheckReport([error.message])
