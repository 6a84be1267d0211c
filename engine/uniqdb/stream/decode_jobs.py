"""What a process that decodes is asked for.

Parent and worker share memory that is divided into slots. The parent puts blocks into a slot, or names a stretch of the
file, and writes one line to the pipe; the worker puts what it found into the slot and answers with a line.
"""

import msgspec


class Section(msgspec.Struct, frozen=True, array_like=True):
    """A block in a slot: its bytes ``[start, end)`` are so many records, a line each."""

    start: int
    end: int
    records: int


class Job(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The blocks in a slot. ``hash_seed``: of the store, where hashes of the uids are wanted."""

    slot: int
    sections: list[Section]
    hash_seed: int | None = None


class FileJob(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The lines that begin in ``[start, end)`` of the file, all of which were there when the job was made.

    ``hash_seed``: as in `Job`.
    """

    slot: int
    start: int
    end: int
    hash_seed: int | None = None
