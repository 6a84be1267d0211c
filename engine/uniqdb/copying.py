"""One commit of a store, copied row by row into a fresh data file; every checksum is verified on the way.

LMDB's own copy takes pages as they are. This one takes rows: what is damaged is found now, not on the day on which the
copy is needed, and no free page comes along, with what was deleted from it.
"""

from collections.abc import Callable, Mapping

from uniqdb.format import (
    UNIT_YOUNG,
    Database,
    Directory,
    FragmentView,
    corrupt,
    fragment_key,
    open_row,
    seal_row,
)
from uniqdb.fresh_data import FreshData
from uniqdb.granularity import Granularity
from uniqdb.store import ReadView

FRAGMENTS = frozenset({Database.UIDS, *map(Database.of, Granularity)})
"""Databases of fragments; all others hold small rows."""


def copy_rows(
    view: ReadView,
    fresh: FreshData,
    *,
    besides: frozenset[Database] = frozenset(),
    changed: Mapping[bytes, bytes] | None = None,
    on_progress: Callable[[str, int], None] = lambda _what, _count: None,
) -> None:
    """Copy all databases but those ``besides``. ``changed``: payloads of rows of ``meta`` that are to be others.

    Call `FreshData.flush` before the view ends. Cost: reads and hashes everything once. Raises StoreCorrupt where a
    checksum does not hold or a fragment is missing, CannotWrite.
    """
    rows = 0
    for database in Database:
        if database in besides:
            continue
        for key, value in view.raw_rows(database):
            rows += 1
            on_progress("rows", rows)
            if database in FRAGMENTS:
                FragmentView(database, key, value, None).whole()
                fresh.put(database, key, value)
                continue
            payload = open_row(database, key, value)
            if database is Database.UNITS:
                _assert_complete(view, key, payload)
            if database is Database.META and changed and key in changed:
                fresh.put(database, key, seal_row(database, key, changed[key]))
            else:
                fresh.put(database, key, value)


def _assert_complete(view: ReadView, key: bytes, payload: bytes) -> None:
    """A key that is lost takes its checksum with it."""
    database = Database.UIDS if key[0] >= UNIT_YOUNG else Database.of(Granularity(key[0]))
    for entry in Directory.unpack(key, payload).fragments:
        name = fragment_key(key, entry.id)
        if view.get(database, name) is None:
            raise corrupt(database, name, "a fragment that its directory lists is missing")
