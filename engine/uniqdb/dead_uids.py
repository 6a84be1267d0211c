"""Dropping dead uids: those that are members of no kept bucket leave the dictionary, in bounded steps.

First the young unit, then the partitions in the order of their hashes. In that order a uid is never found in the young
unit after its partition has dropped it: an entry of the young unit may be a copy of one that has drained already. What
comes into either meanwhile is not dead, because the writer marks every ordinal that it looks up or allocates.
"""

import msgspec
import numpy as np

from uniqdb.batch import bitmap_of
from uniqdb.commit_plan import CommitPlan
from uniqdb.format import YOUNG_KEY, Database, FragmentEntry, FragmentId, partition_key
from uniqdb.fragments import UnitEdit
from uniqdb.limits import DROP_STEP_BYTES
from uniqdb.uid_dictionary import DICTIONARY_KEY, UidDictionary
from uniqdb.uid_fragment import I64Array, UidColumns
from uniqdb.uid_lookup import HASH_MAX, directory_of
from uniqdb.upkeep_step import LiveMarks


class DropPlace(msgspec.Struct, frozen=True):
    """How far a passage is. ``looked_at``: young fragments without dead uids; ``next_hash`` None: it is over."""

    looked_at: frozenset[FragmentId] = frozenset()
    is_young_done: bool = False
    next_hash: int | None = 0


class Dropped(msgspec.Struct):
    """What one step finds dead and takes out. ``place``: where the next one begins, once this is committed."""

    place: DropPlace
    uids: list[str] = msgspec.field(default_factory=list)
    has_written: bool = False


def drop_step(
    plan: CommitPlan, dictionary: UidDictionary, marks: LiveMarks, place: DropPlace, step_bytes: int = DROP_STEP_BYTES
) -> Dropped:
    """Take the dead uids of the next fragments out of the dictionary, in the plan.

    Cost: reads at least ``step_bytes`` of fragments, up to a fragment or partition more, and writes those that hold
    dead uids anew without them.
    """
    if not place.is_young_done:
        return _young_step(plan, dictionary, marks, (place, step_bytes))
    return _partitions_step(plan, dictionary, marks, (place, step_bytes))


def _young_step(plan: CommitPlan, dictionary: UidDictionary, marks: LiveMarks, how: tuple[DropPlace, int]) -> Dropped:
    place, step_bytes = how
    row = dictionary.row(plan.view)
    edit = UnitEdit(plan, Database.UIDS, YOUNG_KEY, directory_of(plan.view, YOUNG_KEY))
    looked_at = set(place.looked_at)
    waiting = [fragment for fragment in edit.fragments if fragment.id not in looked_at]
    done = Dropped(place)
    for fragment in waiting:
        if step_bytes <= 0:
            break
        step_bytes -= fragment.payload_bytes
        columns = UidColumns.parse(edit.payload(fragment))
        keep, dead = _split(columns, marks)
        if not len(dead):
            looked_at.add(fragment.id)
            continue
        if fragment.id.commit_number <= row.drain_through:
            # What has drained already is in its partition, too, and is dropped there. And this becomes a fragment that
            # drains later: nothing must do so twice.
            cursor = np.uint64(row.drain_cursor)
            keep, dead = (which[columns.hashes[which] >= cursor] for which in (keep, dead))
        done.uids += _texts(columns, dead)
        _rewrite(edit, fragment, columns, keep)
        if len(keep):
            looked_at.add(edit.fragments[-1].id)
    is_done = all(fragment.id in looked_at for fragment in edit.fragments)
    if edit.changed:
        edit.write()
        done.has_written = True
        if row.drain_through and all(one.id.commit_number > row.drain_through for one in edit.fragments):
            row = row._replace(drain_through=0, drain_cursor=0)
            plan.changes.put_row(Database.META, DICTIONARY_KEY, row.pack())
    done.place = DropPlace(frozenset(looked_at), is_young_done=is_done)
    return done


def _partitions_step(
    plan: CommitPlan, dictionary: UidDictionary, marks: LiveMarks, how: tuple[DropPlace, int]
) -> Dropped:
    place, step_bytes = how
    layout = dictionary.layout(plan.view)
    done = Dropped(place)
    next_hash = place.next_hash
    while next_hash is not None and step_bytes > 0:
        first, last = layout.partition_of(next_hash)
        key = partition_key(first)
        edit = UnitEdit(plan, Database.UIDS, key, directory_of(plan.view, key))
        for fragment in list(edit.fragments):
            step_bytes -= fragment.payload_bytes
            columns = UidColumns.parse(edit.payload(fragment))
            keep, dead = _split(columns, marks)
            if len(dead):
                done.uids += _texts(columns, dead)
                _rewrite(edit, fragment, columns, keep)
        if edit.changed:
            edit.write()
            done.has_written = True
        next_hash = None if last == HASH_MAX else last + 1
    done.place = DropPlace(is_young_done=True, next_hash=next_hash)
    return done


def _split(columns: UidColumns, marks: LiveMarks) -> tuple[I64Array, I64Array]:
    """Positions of the entries that stay, and of the dead ones."""
    dead = bitmap_of(np.sort(columns.ordinals)) - marks.live
    if not dead:
        return np.arange(len(columns)), np.empty(0, np.int64)
    is_dead = np.isin(columns.ordinals, np.frombuffer(dead.to_array(), np.uint32))
    return np.flatnonzero(~is_dead), np.flatnonzero(is_dead)


def _rewrite(edit: UnitEdit, fragment: FragmentEntry, columns: UidColumns, keep: I64Array) -> None:
    edit.remove([fragment])
    if len(keep):
        edit.append(len(keep), columns.only(keep).pack())


def _texts(columns: UidColumns, which: I64Array) -> list[str]:
    return [uid.decode() for uid in columns.uids(which)]
