"""Forgetting visitors: what one commit does so that nothing in the store names them any more.

Out of the dictionary, with their bytes; out of every kept bucket, whose count falls by exactly its members among them;
held visits and refused records go. Visits stay counted, and so do buckets whose members were dropped. Freed pages of
the data file keep the old bytes until it is compacted.
"""

from collections import Counter
from collections.abc import Iterator

import msgspec
import numpy as np
from pyroaring import BitMap

from uniqdb.audit import NAMELESS_KEY, ErasureRow, nameless_payload, read_nameless, write_audit
from uniqdb.batch import bitmap_of
from uniqdb.bucket_members import encode_members, inline_members, load_fragment
from uniqdb.calendar_zone import CalendarZone
from uniqdb.closing import NOTHING_CLOSED
from uniqdb.commit_plan import CommitPlan
from uniqdb.format import (
    BucketRow,
    Database,
    Directory,
    FragmentEntry,
    MembersState,
    Status,
    bucket_key,
    corrupt,
    fragment_key,
    parse_bucket_key,
)
from uniqdb.fragments import UnitEdit
from uniqdb.granularity import Granularity
from uniqdb.horizons import read_retention, write_retention
from uniqdb.intake import drop_held, read_held
from uniqdb.limits import INLINE_MEMBERS_MAX
from uniqdb.meta import SourceRow, StateRow, read_sources, write_row
from uniqdb.needles import Needles
from uniqdb.outbox import mark_due, queue, queue_deletions
from uniqdb.quarantine import Gone, QuarantineRow, read_quarantine, remove_quarantined
from uniqdb.store import ReadView
from uniqdb.trailing import due_again
from uniqdb.uid_dictionary import UidDictionary
from uniqdb.uid_removal import remove_uids

FORGOTTEN_HELD = "forgotten"
"""The reason under which held visits that are erased count among the refused records that were thrown away."""
_RECORDS_CHUNK = 10_000
_SOME_TIME = 2**62


class Erasure(msgspec.Struct):
    """Visitors to be forgotten. ``keep_counts``: counts stay what they are, though nobody knows of whom.

    ``at_s`` is the wall clock, Unix seconds. ``outcome`` and ``sources`` are set by the commit: what was found (nothing
    at all: None, and nothing is written), and the rows of sources whose held visits went.
    """

    uids: frozenset[str]
    at_s: int
    keep_counts: bool = False
    outcome: ErasureRow | None = None
    sources: dict[bytes, SourceRow] = msgspec.field(default_factory=dict)


def erase(
    plan: CommitPlan, state: StateRow, store: tuple[UidDictionary, CalendarZone, list[int]], wanted: Erasure
) -> StateRow:
    """Add all of it to the commit; returns the new state. ``store``: its dictionary, calendar, lengths of windows.

    Cost: a look at the kept buckets that may hold one of them, coarse ones first, whatever the number of uids; what
    holds one is written anew, and waits in memory for the commit. And a look at each refused record.
    """
    dictionary, zone, window_days = store
    texts = sorted(wanted.uids)
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    hashes = dictionary.hashes_of(encoded)
    found = dictionary.lookup(plan.view, encoded, hashes)
    known = found >= 0
    seen = {text for text, is_known in zip(texts, known.tolist(), strict=True) if is_known}
    ordinals = bitmap_of(np.sort(found[known]).astype(np.uint32))
    touched: list[tuple[bytes, BucketRow]] = []
    if ordinals:
        remove_uids(plan, dictionary, found[known].astype(np.uint32), hashes[known])
        swept = read_retention(plan.view)
        write_retention(plan.changes, msgspec.structs.replace(swept, uids_dropped=swept.uids_dropped + len(ordinals)))
        if wanted.keep_counts:
            nameless = nameless_payload(read_nameless(plan.view) | ordinals)
            plan.changes.put_row(Database.META, NAMELESS_KEY, nameless)
        else:
            touched = list(_Buckets(plan, zone, ordinals).rewrite())
    held, state = _held(plan, state, wanted, seen)
    refused, state = _quarantine(plan, state, wanted, seen)
    wanted.outcome = None
    if seen:
        wanted.outcome = ErasureRow(
            at_s=wanted.at_s,
            uids=len(seen),
            unknown=len(wanted.uids) - len(seen),
            buckets=len(touched),
            held=held,
            refused=len(refused),
            keep_counts=wanted.keep_counts,
        )
        write_audit(plan.changes, plan.number, wanted.outcome)
        if state.publishes:
            queue(plan, [key for key, _ in touched])
            queue_deletions(plan, refused)
            through_s = NOTHING_CLOSED if state.closed_through_s is None else state.closed_through_s
            mark_due(plan, due_again(plan.view, zone, through_s, _closed_days(touched), window_days))
    return state


def _closed_days(touched: list[tuple[bytes, BucketRow]]) -> list[int]:
    days = ((parse_bucket_key(key), row) for key, row in touched if key[0] == Granularity.DAY)
    return [start_s for (_, start_s), row in days if row.status is not Status.PROVISIONAL]


class _Buckets:
    """The kept buckets that have some of the ordinals."""

    def __init__(self, plan: CommitPlan, zone: CalendarZone, ordinals: BitMap) -> None:
        self._plan, self._view, self._zone, self._ordinals = plan, plan.view, zone, ordinals

    def rewrite(self) -> Iterator[tuple[bytes, BucketRow]]:
        """Write each of them without these; (key, new row).

        Under a kept bucket that has none of them no finer one has any; under one whose members were dropped it may.
        With lost spans every bucket is looked at: what is finer may be more, or hang under nothing.
        """
        has_lost = bool(read_retention(self._view).lost)
        below: dict[Granularity, list[tuple[int, int]]] = {}
        for granularity in reversed(Granularity):
            parents = granularity.coarser
            spans = below[parents[-1]] if parents and not has_lost else [(0, _SOME_TIME)]
            below[granularity] = []
            for key, row in self._rows(granularity, spans):
                changed = None
                if row.members is not MembersState.SWEPT:
                    changed = self._without(key, row)
                    if changed is None:
                        continue
                bucket = self._zone.bucket_at(granularity, parse_bucket_key(key)[1])
                below[granularity].append((bucket.start_s, bucket.end_s))
                if changed is not None:
                    self._plan.changes.put_row(Database.BUCKETS, key, changed.pack())
                    yield key, changed

    def _rows(self, granularity: Granularity, spans: list[tuple[int, int]]) -> Iterator[tuple[bytes, BucketRow]]:
        for start_s, end_s in spans:
            first, end = bucket_key(granularity, start_s), bucket_key(granularity, end_s)
            for key, payload in self._view.rows(Database.BUCKETS, first, end):
                yield key, BucketRow.unpack(key, payload)

    def _without(self, key: bytes, row: BucketRow) -> BucketRow | None:
        """The row after it lost its members among the ordinals; None if it has none of them."""
        if row.members is MembersState.INLINE:
            members = inline_members(key, row)
            left = members - self._ordinals
            return None if len(left) == len(members) else _changed(row, left)
        database = Database.of(Granularity(key[0]))
        parts = self._parts(key, database)
        gone = sum(part.intersection_cardinality(self._ordinals) for _, part in parts)
        if not gone:
            return None
        left_count = row.unique_count - gone
        if left_count <= INLINE_MEMBERS_MAX:
            for entry, _ in parts:
                self._plan.changes.delete(database, fragment_key(key, entry.id))
            self._plan.changes.delete(Database.UNITS, key)
            return _changed(row, BitMap.union(BitMap(), *(part for _, part in parts)) - self._ordinals)
        edit = UnitEdit(self._plan, database, key, Directory(tuple(entry for entry, _ in parts)))
        for entry, part in parts:
            if part.intersect(self._ordinals):
                left = part - self._ordinals
                edit.remove([entry])
                if left:
                    edit.append(len(left), encode_members(left))
        edit.write()
        return _changed(row, None)._replace(unique_count=left_count)

    def _parts(self, key: bytes, database: Database) -> list[tuple[FragmentEntry, BitMap]]:
        directory = self._view.directory(key)
        if directory is None:
            raise corrupt(Database.UNITS, key, "the directory of a bucket with members is missing")
        return [(entry, load_fragment(self._view, database, key, entry)) for entry in directory.fragments]


def _changed(row: BucketRow, inline: BitMap | None) -> BucketRow:
    """The row with its next revision; a closed one is amended. ``inline``: its members, where they stand in it."""
    row = row._replace(revision=row.revision + 1, status=_AFTERWARDS[row.status])
    if inline is None:
        return row
    payload = inline.to_array().tobytes()
    return row._replace(unique_count=len(inline), members=MembersState.INLINE, inline=payload)


_AFTERWARDS = {
    Status.PROVISIONAL: Status.PROVISIONAL,
    Status.FINAL: Status.AMENDED,
    Status.AMENDED: Status.AMENDED,
}
"""The status of a bucket whose count an erasure has changed."""


def _held(plan: CommitPlan, state: StateRow, wanted: Erasure, seen: set[str]) -> tuple[int, StateRow]:
    """Drop their held visits; how many. They count as refused and thrown away."""
    total = 0
    for key, row in read_sources(plan.view):
        if not row.held:
            continue
        tickets = {ticket: one.uid for ticket, one in read_held(plan.view, key) if one.uid in wanted.uids}
        if not tickets:
            continue
        drop_held(plan.view, plan.changes, key, tickets)
        changed = msgspec.structs.replace(row, held=row.held - len(tickets), refused=row.refused + len(tickets))
        write_row(plan.changes, Database.SOURCES, key, changed)
        wanted.sources[key] = changed
        seen |= set(tickets.values())
        total += len(tickets)
    if total:
        discarded = dict(Counter(state.discarded) + Counter({FORGOTTEN_HELD: total}))
        state = msgspec.structs.replace(state, discarded=discarded)
    return total, state


def _quarantine(plan: CommitPlan, state: StateRow, wanted: Erasure, seen: set[str]) -> tuple[list[int], StateRow]:
    """Drop the refused records that name one of them, or in whose bytes one stands; their ids."""
    gone: dict[int, str] = {}
    needles = Needles(wanted.uids)
    for rows in _chunks(plan.view):
        found = needles.find([row.record for _, row in rows])
        for (number, row), names in zip(rows, found, strict=True):
            if row.uid in wanted.uids:
                names.add(row.uid)
            if names:
                gone[number] = row.reason
                seen |= names
    if gone:
        state = remove_quarantined(plan, state, Gone(gone, [], discarded=True))
    return list(gone), state


def _chunks(view: ReadView) -> Iterator[list[tuple[int, QuarantineRow]]]:
    chunk: list[tuple[int, QuarantineRow]] = []
    for one in read_quarantine(view):
        chunk.append(one)
        if len(chunk) == _RECORDS_CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
