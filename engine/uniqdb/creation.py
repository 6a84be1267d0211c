"""A new store: empty, with its time zone and its two random numbers."""

import os
import uuid
from pathlib import Path

from uniqdb.calendar_zone import CalendarZone
from uniqdb.change_set import ChangeSet
from uniqdb.errors import UsageError
from uniqdb.format import Database
from uniqdb.fresh_data import create_store
from uniqdb.manifest import is_store
from uniqdb.meta import STATE_KEY, STORE_KEY, StateRow, StoreRow, write_row
from uniqdb.uid_dictionary import first_rows


def create(path: str | os.PathLike[str], *, timezone: str = "UTC") -> None:
    """Create an empty store. Its time zone never changes. Raises UsageError if one is there, CannotWrite."""
    where = Path(path).absolute()
    if is_store(where):
        raise UsageError(f"there is a store at {where} already", hint="open it, or name another path")
    write_new_store(where, timezone)


def write_new_store(where: Path, timezone: str) -> None:
    """An empty store in the time zone of this name."""
    write_empty_store(where, CalendarZone.from_name(timezone), str(uuid.uuid4()), new_hash_seed())


def write_empty_store(where: Path, zone: CalendarZone, store_uuid: str, hash_seed: int) -> None:
    """The store of `create`, with its two random numbers given: the same visits then make the same bytes."""
    row = StoreRow(store_uuid=store_uuid, zone_name=zone.name, zone_tzif=zone.tzif_bytes, hash_seed=hash_seed)
    changes = ChangeSet()
    write_row(changes, Database.META, STORE_KEY, row)
    write_row(changes, Database.META, STATE_KEY, StateRow())
    first_rows(changes)
    create_store(where, row.store_uuid, changes)


def new_hash_seed() -> int:
    """The seed by which a new store hashes uids: 64 bits that nobody can foresee."""
    return int.from_bytes(os.urandom(8))
