"""A damaged store made sound again: what can be read goes into the next generation, with all that follows from it.

The data that was damaged is kept beside it. What could not be brought back is told, and stands in the new data as lost
spans (`uniqdb.horizons.LostSpan`), so that no answer leaves it out without a word.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from pyroaring import BitMap

from uniqdb.again import Standing, next_standing
from uniqdb.audit import NAMELESS_KEY, nameless_payload, read_nameless
from uniqdb.calendar_zone import CalendarZone
from uniqdb.errors import NotFound, StoreCorrupt
from uniqdb.format import (
    Database,
    DictionaryRow,
    bucket_key,
    open_row,
    seal_row,
)
from uniqdb.fresh_data import FreshData
from uniqdb.generations import manifest_of, next_generation
from uniqdb.granularity import Granularity
from uniqdb.horizons import RETENTION_KEY, LostNames, RetentionRow, read_retention
from uniqdb.lmdb_pages import PageDamage, PageFile
from uniqdb.manifest import DATA_NAME, Manifest, WriterLock, data_directory
from uniqdb.meta import STATE_KEY, STORE_KEY, StateRow, StoreRow, decode_row
from uniqdb.options import DictionarySizes
from uniqdb.outbox import QUARANTINE_KIND
from uniqdb.rebuilt_buckets import BucketRebuild, Rebuilt
from uniqdb.rebuilt_rows import brought_forward, quarantine_rows, source_rows
from uniqdb.rebuilt_uids import UidRebuild
from uniqdb.requests import RequestDesk
from uniqdb.salvage import salvage
from uniqdb.salvaged_view import Salvage, SalvagedView
from uniqdb.uid_dictionary import DICTIONARY_KEY
from uniqdb.uid_lookup import HASH_MAX
from uniqdb.whole_units import bucket_rows


@dataclass(slots=True)
class Repaired:
    """What was done, in words. ``mended``: rows and pages in which one bit was put right. ``derived``: what was made of
    other rows. ``lost``: what could not be brought back. ``kept_at``: the damaged data.
    """

    generation: int = 0
    epoch: int = 0
    mended: list[str] = field(default_factory=list)
    derived: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    kept_at: str = ""


def repair(
    path: str | os.PathLike[str],
    now_s: int,
    sizes: DictionarySizes | None = None,
    *,
    on_progress: Callable[[str, int], None] = lambda _what, _count: None,
) -> Repaired:
    """Write what is left of a damaged store into its next generation, and keep the damaged data as ``g<n>.damaged``.

    The epoch rises (``now_s`` is the wall clock, Unix seconds), and everything waits to be published again. Until the
    new generation is whole and durable the store is what it was. Cost: reads everything about twice, writes what is
    left; up to 3 s for each of 200 damaged places; needs as much free space as the store takes; memory: keys and small
    rows. Raises NotFound, StoreBusy while a process writes, FormatUnsupported, CannotWrite, and StoreCorrupt if what
    the store cannot be without is lost.
    """
    target = Path(path).absolute()
    if not target.is_dir():
        raise NotFound(f"there is no store at {target}", hint="name another with --store")
    with ExitStack() as stack:
        lock = WriterLock(target)
        stack.callback(lock.release)
        present = manifest_of(target, "")
        if not present.generation:
            raise NotFound(f"there is no store at {target}", hint="name another with --store")
        directory = data_directory(target, present)
        file = _open(directory)
        stack.callback(file.close)
        done = Repaired(present.generation + 1)
        work = _Repair(file, done, sizes or DictionarySizes(), on_progress)
        store_row, standing = work.read(now_s)
        done.epoch = standing.epoch
        RequestDesk(target, {})  # what a dead writer has left half done
        manifest = Manifest(store_row.store_uuid, present.generation)
        with next_generation(target, manifest) as building, FreshData(building) as fresh:
            work.write(fresh, store_row, standing)
        kept_at = directory.with_name(f"{directory.name}.damaged")
        directory.rename(kept_at)
        done.kept_at = str(kept_at)
        return done


def _open(directory: Path) -> PageFile:
    try:
        return PageFile(directory / DATA_NAME)
    except OSError as error:
        raise _hopeless(f"{directory / DATA_NAME} cannot be read: {error.strerror or error}") from None


def _hopeless(what: str) -> StoreCorrupt:
    return StoreCorrupt(f"{what}; nothing can be derived without it", hint="restore a backup, or ingest the input anew")


class _Repair:
    """One damaged data file on its way into a fresh one."""

    def __init__(
        self, file: PageFile, done: Repaired, sizes: DictionarySizes, on_progress: Callable[[str, int], None]
    ) -> None:
        self._file, self._done, self._sizes, self._on_progress = file, done, sizes, on_progress
        self._used = BitMap()

    def read(self, now_s: int) -> tuple[StoreRow, Standing]:
        """Everything that can be read. Raises StoreCorrupt if it is not enough."""
        try:
            self._found: Salvage = salvage(self._file, self._on_progress)
        except PageDamage as damage:
            raise _hopeless(str(damage)) from None
        self._view = SalvagedView(self._found, self._file)
        self._done.mended += self._found.mended
        meta = self._found.rows[Database.META]
        for key in (STORE_KEY, STATE_KEY):
            if key not in meta:
                raise _hopeless(f"the row meta/{key.decode()} is lost")
        if RETENTION_KEY not in meta and self._found.lost[Database.META] and not self._found.has_old_meta:
            raise _hopeless("the row meta/retention may be lost")
        row = decode_row(Database.META, STORE_KEY, self._payload(STORE_KEY), StoreRow)
        self._state = decode_row(Database.META, STATE_KEY, self._payload(STATE_KEY), StateRow)
        if self._found.lacks_commit:
            self._done.lost.append("perhaps the newest commit: its visits count again when sources are read on")
        if self._found.has_old_meta:
            self._state = brought_forward(self._view, self._state)
            self._done.lost.append(
                "the newest state: that of an earlier commit, with its numbers of late visits, is taken"
            )
        self._retention = read_retention(self._view)
        self._zone = CalendarZone.from_tzif(row.zone_name, row.zone_tzif)
        self._dictionary = DictionaryRow()
        if DICTIONARY_KEY in meta:
            self._dictionary = DictionaryRow.unpack(self._payload(DICTIONARY_KEY))
        known = Standing(row.epoch, self._state.commit_number, self._dictionary.layout)
        # A commit that is lost with its meta page may have given out numbers.
        standing = next_standing(now_s, [known], is_complete=False)
        return msgspec.structs.replace(row, epoch=standing.epoch), standing

    def _payload(self, key: bytes) -> bytes:
        payload = self._view.row(Database.META, key)
        assert payload is not None
        return payload

    def write(self, fresh: FreshData, store_row: StoreRow, standing: Standing) -> None:
        """Everything that is left, and what follows from it."""
        rebuild = BucketRebuild(
            self._view, self._zone, (self._state, self._retention), self._found.lost[Database.BUCKETS]
        )
        buckets = rebuild.run()
        self._done.derived += buckets.derived
        written = 0
        for granularity in Granularity:
            for start_s, row in sorted(buckets.rows[granularity].items()):
                members = rebuild.members(granularity, start_s)
                self._used |= members or BitMap()
                for sealed in bucket_rows(bucket_key(granularity, start_s), row, members, standing.commit_number):
                    fresh.put(*sealed)
                written += 1
                self._on_progress("buckets", written)
        uids = UidRebuild(self._view, standing.commit_number, self._sizes)
        uids.write(fresh)
        self._refused, refused = quarantine_rows(self._view, self._state)
        for database, key, one in (*source_rows(self._view), *refused):
            fresh.put(database, key, seal_row(database, key, msgspec.msgpack.encode(one)))
        for key, value in self._view.raw_rows(Database.OUTBOX, bytes((QUARANTINE_KIND,))):
            open_row(Database.OUTBOX, key, value)
            fresh.put(Database.OUTBOX, key, value)
        self._meta(fresh, store_row, standing, buckets, uids)
        self._tell_lost(buckets)
        fresh.flush()

    def _meta(
        self, fresh: FreshData, store_row: StoreRow, standing: Standing, buckets: Rebuilt, uids: UidRebuild
    ) -> None:
        """The rows of ``meta``. Everything waits to be published again: a later program puts it into the outbox."""
        years, word = buckets.rows[Granularity.YEAR], Granularity.YEAR.word
        in_years = sum(row.visits for row in years.values()) + self._retention.visits_of_gone_years
        missing, skipped = self._state.visits - in_years, self._state.skipped
        if self._found.has_old_meta:  # which knows of fewer visits
            missing = skipped.get(word, 0)
        state = msgspec.structs.replace(
            self._state,
            commit_number=standing.commit_number,
            visits=in_years + missing,
            weeks=len(buckets.rows[Granularity.WEEK]),
            years=len(years),
            skipped={**skipped, word: missing} if missing else skipped,
            publishes=False,
            quarantine_rows=self._refused,
        )
        nameless = read_nameless(self._view) & self._used
        unnamed = self._used - uids.ordinals - nameless
        numbers = [one.max() + 1 for one in (uids.ordinals, self._used) if one]
        next_ordinal = max(self._dictionary.next_ordinal, *numbers, 0)
        retention = msgspec.structs.replace(
            self._retention,
            uids_dropped=next_ordinal - len(uids.ordinals),
            has_dead_uids=self._retention.has_dead_uids or bool(buckets.lost),
            lost=tuple(buckets.lost),
            lost_names=self._lost_names(uids, len(unnamed)),
        )
        changed = {
            STORE_KEY: msgspec.msgpack.encode(store_row),
            STATE_KEY: msgspec.msgpack.encode(state),
            DICTIONARY_KEY: DictionaryRow(next_ordinal, standing.layout).pack(),
        }
        if retention != RetentionRow():
            changed[RETENTION_KEY] = msgspec.msgpack.encode(retention)
        if nameless or unnamed:
            changed[NAMELESS_KEY] = nameless_payload(nameless | unnamed)
        for key, value in self._view.raw_rows(Database.META):
            if key not in (RETENTION_KEY, NAMELESS_KEY):
                changed.setdefault(key, open_row(Database.META, key, value))
        for key, payload in sorted(changed.items()):
            fresh.put(Database.META, key, seal_row(Database.META, key, payload))

    def _lost_names(self, uids: UidRebuild, unnamed: int) -> LostNames | None:
        """Who of the visitors in the buckets has no name any more; those that were lost before stay lost."""
        before = self._retention.lost_names
        if not unnamed:
            return before
        hashes = uids.lost_hashes(self._found.lost[Database.UIDS]) or ((0, HASH_MAX),)
        self._done.lost.append(f"the names of {unnamed:,} visitors: whoever of them comes back counts once more")
        newest_s = self._state.event_time_s_max or 0
        if before is None:
            return LostNames(unnamed, newest_s, hashes)
        together = tuple(sorted({*before.hashes, *hashes}))
        return LostNames(before.visitors + unnamed, min(before.newest_s, newest_s), together)

    def _tell_lost(self, buckets: Rebuilt) -> None:
        at = self._zone.isoformat
        self._done.lost += [f"{one.granularity}s from {at(one.start_s)} to {at(one.end_s)}" for one in buckets.lost]
        self._done.lost += [what for database, what in _SMALL.items() if self._found.lost[database]]


_SMALL = {
    Database.SOURCES: "how far some sources were read: their visits count again if they are read again",
    Database.CLOCKS: "recent event times of some sources",
    Database.HELD: "some visits that were held",
    Database.QUARANTINE: "some refused records",
}
