"""A file into a store, in one call: the processes that decode begin before the libraries of this one are loaded."""

import gc
import os
from contextlib import contextmanager

from uniqdb.limits import COMMIT_VISITS
from uniqdb.stream.early_start import start_early

TYPE_CHECKING = False  # of `typing`, which would be loaded before the processes are started
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from uniqdb.field_settings import FieldSettings
    from uniqdb.options import OpenOptions
    from uniqdb.stream.ingest_options import IngestOptions, IngestSummary
    from uniqdb.stream.stretch_jobs import StretchJobs

_BLAS_TIMEOUT = "OPENBLAS_THREAD_TIMEOUT"


def ingest(
    store: str | os.PathLike[str],
    file: "str | Path",
    options: "IngestOptions | None" = None,
    *,
    timezone: str | None = None,
    open_options: "OpenOptions | None" = None,
) -> "IngestSummary":
    """Read a file of JSON lines, plain, gzip or zstd (``-``: standard input), into a store, from where it stopped.

    Opens the store, creating it if there is none, and closes it again; all that was read is durable then. A run that
    dies is simply run again, and a file that was read to its end is not counted twice. ``timezone`` and
    ``open_options``: as for `uniqdb.open`. A program that begins with this call is faster by a fifth of a second than
    one that opens the store first. Raises what `uniqdb.open` does; NotFound (no such file), InputRefused.

    >>> import tempfile, pathlib, uniqdb
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "visits.jsonl").write_text('{"ts": 1468244384, "uid": "ann"}\\n')
    >>> uniqdb.ingest(folder / "visits.uniqdb", folder / "visits.jsonl").visits
    1
    """
    fields, processes, commit_visits = (
        (None, None, COMMIT_VISITS) if options is None else (options.fields, options.processes, options.commit_visits)
    )
    with decoding_early(file, processes, fields, commit_visits) as begun:
        with _loading():
            from dataclasses import replace  # noqa: PLC0415  # whatever is loaded takes long

            from uniqdb.engine import open as open_store  # noqa: PLC0415  # as above
            from uniqdb.stream.driver import ingest_file  # noqa: PLC0415  # as above
            from uniqdb.stream.ingest_options import IngestOptions  # noqa: PLC0415  # as above
        chosen = replace(IngestOptions() if options is None else options, begun=begun)
        with open_store(store, timezone=timezone, options=open_options) as engine:
            return ingest_file(engine, file, chosen)


@contextmanager
def decoding_early(
    file: "str | Path", processes: int | None, fields: "FieldSettings | None", commit_visits: int
) -> "Iterator[StretchJobs | None]":
    """Have other processes decode a large file from its beginning on; None where that is not worth while.

    They are started before anything else is loaded, and end with the context at the latest. ``fields``: None for the
    default ones. The others: as for `IngestOptions`, whose ``begun`` this is for.
    """
    early = start_early(file, processes)
    if early is None:
        yield None
        return
    try:
        from uniqdb.field_settings import DEFAULT_FIELDS  # noqa: PLC0415  # it takes long to load
        from uniqdb.stream.stretch_jobs import StretchJobs  # noqa: PLC0415  # as above

        begun = StretchJobs(early, fields or DEFAULT_FIELDS)
        begun.begin(0, commit_visits)
        yield begun
    finally:
        early.close()


@contextmanager
def _loading() -> "Iterator[None]":
    """For imports that are in a hurry: they make objects and no cycles, so the collector only costs time.

    The threads of numpy's linear algebra would look for work for a tenth of a second, on the core on which records are
    being decoded. That they are told to have no patience changes nothing else; who has set something is left alone.
    """
    is_collecting = gc.isenabled()
    gc.disable()
    has_choice = any(name.startswith("OPENBLAS_") for name in os.environ)
    if not has_choice:
        os.environ[_BLAS_TIMEOUT] = "4"  # the logarithm of processor cycles; the least that is taken
    try:
        yield
    finally:
        if not has_choice:
            del os.environ[_BLAS_TIMEOUT]
        if is_collecting:
            gc.enable()
