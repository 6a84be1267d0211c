"""Whether LMDB may be trusted with a data file: it is walked page by page first, unless it is as a writer has left it.

LMDB follows damaged pages until the process dies of a signal. So a writer that closes a store leaves a *stamp*, the
size and the time of the file, and takes it away when it opens the store. Where the stamp is missing or does not fit
(the writer was killed, somebody else wrote to the file, it was copied) a process of its own reads all pages
(`uniqdb.lmdb_pages`), and only if they are sound the file is opened.

What changes below the file system, without a new time of the file, is not seen here; `uniqdb check` always walks.
"""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from uniqdb import lmdb_pages
from uniqdb.errors import StoreCorrupt
from uniqdb.manifest import DATA_NAME, Manifest, data_directory, no_writer

STAMP_NAME = "closed"
_SHOWN = 3
_LOOKS = 5
"""So often a reader looks again when a writer may have come or gone meanwhile."""


def write_stamp(directory: Path) -> None:
    """Say that the data file in this directory is as its writer has left it. It need not be durable."""
    with contextlib.suppress(OSError):  # without it the file is walked, and that is all
        descriptor = os.open(directory / STAMP_NAME, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, _stamp_of(directory).encode())
        finally:
            os.close(descriptor)


def remove_stamp(directory: Path) -> None:
    """Say that the file is being written."""
    with contextlib.suppress(OSError):
        (directory / STAMP_NAME).unlink(missing_ok=True)


def _stamp_of(directory: Path) -> str:
    status = (directory / DATA_NAME).stat()
    return f"{status.st_size} {status.st_mtime_ns}\n"


def _is_stamped(directory: Path) -> bool:
    try:
        return (directory / STAMP_NAME).read_text() == _stamp_of(directory)
    except (OSError, ValueError):
        return False


def assert_pages(store_path: Path, manifest: Manifest, *, is_writer: bool) -> None:
    """Raise StoreCorrupt if the store's pages were walked and are damaged.

    A writer has the WRITER lock. To a reader a file that somebody writes in this moment is as good as a stamped one.
    Cost: two small files are read; 0.1 s and about 30 us for each page of keys where it has to be walked.
    """
    directory = data_directory(store_path, manifest)
    for _ in range(_LOOKS):
        if _is_stamped(directory) or not (is_writer or _is_free(store_path)):
            return
        if _is_stamped(directory):  # its writer has just closed it
            return
        problems = page_problems(directory)
        if not problems:
            return
        if is_writer or (_is_free(store_path) and not _is_stamped(directory)):
            raise _damaged(directory, problems)


def _is_free(store_path: Path) -> bool:
    with no_writer(store_path) as is_free:
        return is_free


def _damaged(directory: Path, problems: list[str]) -> StoreCorrupt:
    shown = "; ".join(problems[:_SHOWN])
    more = len(problems) - _SHOWN
    return StoreCorrupt(
        f"damaged pages in {directory / DATA_NAME}: {shown}{f'; and {more:,} more' if more > 0 else ''}",
        hint="`uniqdb check --repair` brings back what it can; or restore a backup",
    )


def page_problems(directory: Path) -> list[str]:
    """What is wrong with the pages of the data file in a directory that nobody writes, as a process of its own sees it.

    Of its own: a descriptor of LMDB's files that this process closed would drop the locks of a handle that is open.
    """
    # By its path: it needs nothing but Python's library, and no settings of this process reach it.
    command = [sys.executable, "-I", "-S", lmdb_pages.__file__, str(directory / DATA_NAME)]
    try:
        done = subprocess.run(command, capture_output=True, check=True)
        return [str(problem) for problem in json.loads(done.stdout)]
    except (OSError, subprocess.SubprocessError, ValueError):
        return _problems_here(directory)


def _problems_here(directory: Path) -> list[str]:
    """Where no process can be started. No signal can come of it either: nothing is mapped."""
    try:
        return lmdb_pages.problems_of(directory / DATA_NAME)
    except OSError as error:
        return [str(error)]
