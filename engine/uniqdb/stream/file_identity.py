"""How a file is known again: by its beginning, together with its path, its inode or its base name.

So it may be renamed in place, compressed under its own name, rotated, or moved under its own name to another disk, and
is still continued where it stopped. The beginning is that of the decoded bytes, up to 64 KiB, as much as was there;
while less was there, it grows with what is read, so that two files with the same first line are not mixed up.
"""

import os
import re
from pathlib import Path

import msgspec
from xxhash import xxh3_128_hexdigest

from uniqdb.errors import InputRefused
from uniqdb.field_settings import FieldSettings
from uniqdb.limits import HEAD_BYTES
from uniqdb.meta import SourceRow, read_sources
from uniqdb.recent_times import EventTimeLimits
from uniqdb.store import ReadView

FILE_KIND, NAMED_KIND = "file", "named"
_ROTATION = re.compile(r"(?:\.\d{1,4}|[-.]\d{4}-?\d{2}-?\d{2}(?:[-_T]?\d{2,6})?)$")
"""What log rotation appends: ``.1``, ``-20160711``, ``-2016-07-11``, ``-2016071113``."""


def printable_name(name: str | os.PathLike[str]) -> str:
    """The name as text that can be stored; bytes that are no UTF-8 are escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def base_name(name: str) -> str:
    """A file's name without its directory and what compression and rotation append."""
    kept = name.rsplit("/", 1)[-1]
    while True:
        shorter = kept.removesuffix(".gz").removesuffix(".zst")
        shorter = _ROTATION.sub("", shorter)
        if not shorter or shorter == kept:
            return kept
        kept = shorter


class FileFacts(msgspec.Struct, frozen=True):
    """What the system says about an open file, and how it begins (decoded)."""

    path: str
    device: int
    inode: int
    head: bytes

    @classmethod
    def of(cls, path: Path, descriptor: int, head: bytes) -> "FileFacts":
        """The facts of an open file."""
        status = os.fstat(descriptor)
        return cls(printable_name(path.resolve()), status.st_dev, status.st_ino, head[:HEAD_BYTES])


def new_row(kind: str, name: str, fields: FieldSettings, limits: EventTimeLimits) -> SourceRow:
    """The row of a source that nothing was read of yet, with the settings that are kept with it."""
    return SourceRow(
        kind=kind,
        name=name,
        ts_field=fields.ts_field,
        uid_field=fields.uid_field,
        ts_unit=fields.ts_unit,
        line_bytes_max=fields.line_bytes_max,
        ahead_limit_s=limits.ahead_limit_s,
        late_limit_s=limits.late_limit_s,
    )


def moved(row: SourceRow, facts: FileFacts) -> SourceRow:
    """The row with where the file is now, and, unless the user gave it one, the name it has there."""
    name = row.name if row.kind == NAMED_KIND else facts.path.rsplit("/", 1)[-1]
    return msgspec.structs.replace(row, name=name, path=facts.path, device=facts.device, inode=facts.inode)


def with_head(row: SourceRow, head: bytes) -> SourceRow:
    """The row with a longer beginning, if this one is longer."""
    if len(head) <= row.head_bytes:
        return row
    return msgspec.structs.replace(row, head_bytes=len(head), head_hash=xxh3_128_hexdigest(head))


def begins_like(row: SourceRow, head: bytes) -> bool:
    """Whether an input with this beginning can be what the row was read from."""
    if not row.head_bytes or len(head) < row.head_bytes:
        return False
    return xxh3_128_hexdigest(head[: row.head_bytes]) == row.head_hash


def find_file(view: ReadView, facts: FileFacts, *, again: bool) -> tuple[bytes, SourceRow] | None:
    """The newest reading of this file, or None. Raises InputRefused for a copy of a file under a wholly new name."""
    found: list[tuple[bytes, SourceRow]] = []
    twin: SourceRow | None = None
    name = base_name(facts.path)
    for key, row in read_sources(view):
        if not begins_like(row, facts.head):
            continue
        here = row.path == facts.path or (row.device, row.inode) == (facts.device, facts.inode)
        if here or (row.kind == FILE_KIND and base_name(row.name) == name):
            found.append((key, row))
        else:
            twin = row
    if not found and twin is not None and not again:
        raise InputRefused(
            f"{facts.path} begins like {twin.path or twin.name}, which was read already",
            hint="give --again to count its visits once more, or --source-name NAME if it is another file",
        )
    return newest_reading(found)


def find_named(view: ReadView, name: str) -> tuple[bytes, SourceRow] | None:
    """The newest reading of the source that the user gave this name, or None."""
    return newest_reading([(key, row) for key, row in read_sources(view) if (row.kind, row.name) == (NAMED_KIND, name)])


def newest_reading(found: list[tuple[bytes, SourceRow]]) -> tuple[bytes, SourceRow] | None:
    """The last of several readings of one input; of equal ones that which is furthest."""
    return max(found, key=lambda one: (one[1].reading, one[1].position_bytes), default=None)


def assert_same_settings(row: SourceRow, wanted: SourceRow) -> None:
    """Raise InputRefused if the source was begun with other settings than the wanted ones."""
    for option in ("ts_field", "uid_field", "ts_unit", "line_bytes_max", "ahead_limit_s", "late_limit_s"):
        stored, given = getattr(row, option), getattr(wanted, option)
        if stored != given:
            flag = "--" + option.replace("_", "-")
            raise InputRefused(
                f"{row.name} was begun with {flag} {stored}, not {given}",
                hint=f"give {flag} {stored}, or --again to read it anew as another source",
            )
