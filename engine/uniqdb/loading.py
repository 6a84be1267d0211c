"""A dump made a store again."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from uniqdb.again import Standing, next_standing
from uniqdb.assembly import Assembly, NewStore
from uniqdb.calendar_zone import CalendarZone
from uniqdb.content import Content
from uniqdb.creation import new_hash_seed
from uniqdb.dump_reading import HINT, DumpContent
from uniqdb.errors import FormatUnsupported, InputRefused, StoreCorrupt, UsageError, WindowNotKept
from uniqdb.granularity import Granularity
from uniqdb.manifest import Manifest
from uniqdb.new_place import new_store, refuse_taken
from uniqdb.options import DictionarySizes


@dataclass(frozen=True, slots=True)
class Loading:
    """How. ``now_s``: the wall clock, Unix seconds, from which the epoch is made.

    ``timezone``: an IANA name; hours to years are then made anew from the minutes. ``as_new``: the store gets a uuid of
    its own, to live beside the one that was dumped.
    """

    now_s: int
    timezone: str | None = None
    as_new: bool = False
    sizes: DictionarySizes = field(default_factory=DictionarySizes)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is there now."""

    store_uuid: str
    epoch: int
    timezone: str
    visits: int
    uids: int


def load(
    stream: BinaryIO,
    path: str | os.PathLike[str],
    how: Loading,
    *,
    on_progress: Callable[[str, int], None] = lambda _what, _count: None,
) -> Loaded:
    """Make a new store of a dump: it goes on where the dumped one stood, in a larger epoch.

    It is there whole and durable, or not at all. Cost: everything once; memory: 12 bytes for each visitor's number, 8
    for each bucket, entries of the dump (4 MiB, or the largest set).
    Raises InputRefused if the dump is not whole or was changed, UsageError (no such time zone), CannotWrite if there is
    something at ``path``, WindowNotKept if ``timezone`` needs minutes that were swept.
    """
    target = Path(path).absolute()
    refuse_taken(target)
    with _refusals():
        content = DumpContent(stream, "the dump")
        own_zone = content.head.zone()
    zone = own_zone if how.timezone is None else CalendarZone.from_name(how.timezone)
    is_rebuilt = (zone.name, zone.tzif_bytes) != (own_zone.name, own_zone.tzif_bytes)
    if is_rebuilt:
        _refuse_skipped(content)
    head = content.head
    known = [Standing(head.epoch, head.state.commit_number, 0)]
    store_uuid = str(uuid.uuid4()) if how.as_new else head.store_uuid
    new = NewStore(store_uuid, zone, new_hash_seed(), next_standing(how.now_s, known, is_complete=True), how.sizes)
    with new_store(target, Manifest(store_uuid)) as fresh:
        assembly = Assembly(fresh, fresh.directory, new, on_progress)
        with _refusals():
            assembly.uids([content])
            step = assembly.rebuild if is_rebuilt else assembly.buckets
            step([content], head.state.closed_through_s)
            assembly.rows((one.part.database, one.key, one.row) for one in content.rows())
            content.finish()
            if assembly.visits != head.state.visits:
                said, found = head.state.visits, assembly.visits
                raise InputRefused(f"the dump speaks of {said:,} visits, and its years have {found:,}", hint=HINT)
        uids = assembly.meta(head.state, {} if is_rebuilt else head.members_from_s)
    return Loaded(store_uuid, new.standing.epoch, zone.name, assembly.visits, uids)


def _refuse_skipped(content: Content) -> None:
    skipped = content.head.state.skipped.get(Granularity.MINUTE.word, 0)
    if skipped:
        raise WindowNotKept(
            f"{skipped:,} visits came after their minute was swept, so days cannot be made of minutes",
            hint="load it without --timezone",
        )


@contextmanager
def _refusals() -> Iterator[None]:
    """What makes no sense in a dump is a refused input; it is not a store that is damaged."""
    try:
        yield
    except FormatUnsupported:
        raise
    except (StoreCorrupt, UsageError) as error:
        raise InputRefused(f"the dump makes no sense: {error.message}", hint=HINT) from None
