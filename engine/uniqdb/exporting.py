"""Who was in each bucket of a granularity, bucket by bucket, from one snapshot: what exports are made of.

From ordinals to uids there is no index, only a scan of the dictionary. So buckets are taken together, as many as have
about so many different members as may be held in memory, and one scan serves all of them.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
from pyroaring import BitMap

from uniqdb.answers import Answers
from uniqdb.bucket_members import load_members
from uniqdb.errors import WindowNotKept
from uniqdb.format import Database, bucket_key, corrupt
from uniqdb.granularity import Bucket, Granularity
from uniqdb.limits import EXPORT_BUCKETS_MAX, EXPORT_MEMBERS_MAX, EXPORT_UIDS_BYTES
from uniqdb.lost_names import assert_named
from uniqdb.lost_times import LostTimes, lost_to_damage
from uniqdb.moments import Moment
from uniqdb.record import CountRecord
from uniqdb.snapshot import Snapshot
from uniqdb.uid_fragment import I64Array, U32Array

Members: TypeAlias = tuple[CountRecord, BitMap]
"""A bucket with its members, by ordinal."""
_UID_OBJECT_BYTES = 130
"""Memory of a uid beside its bytes, which are held twice: as they are, and as they are written (measured)."""


class MemberGroup(NamedTuple):
    """Buckets, or a part of one, with the uids of their members. Both are gone when the next group is asked for.

    ``buckets``: the record of each, and where in ``uids`` its members stand, ascending. To be iterated once.
    """

    uids: list[bytes]
    buckets: Iterator[tuple[CountRecord, I64Array]]


def bucket_sets(
    snapshot: Snapshot, granularity: str | Granularity, start: Moment | None = None, end: Moment | None = None
) -> Iterator[Members]:
    """Every bucket with visits that starts in ``[start, end)``, ascending, and its members; edges as of a series.

    The sets are the caller's own. Cost: one row and one set per bucket, of which one is held at a time. Raises
    NotFound without visits, and, before anything is returned, WindowNotKept if a bucket there was swept or lost.
    """
    kind = granularity if isinstance(granularity, Granularity) else Granularity.from_word(granularity)
    answers = snapshot.answers
    lock = answers.facts.lock
    with lock:
        if start is None or end is None:
            answers.as_of_default_s()  # an empty store has no first or last bucket
        edges_s = snapshot.series_edges(kind, start, end)
        _assert_kept(answers, kind, *edges_s)
    return _sets(snapshot, kind, edges_s)


def _sets(snapshot: Snapshot, kind: Granularity, edges_s: tuple[int, int]) -> Iterator[Members]:
    answers = snapshot.answers
    for record in snapshot.series(kind, *edges_s):
        with answers.facts.lock:
            key = bucket_key(kind, record.start_ts)
            row = answers.row(Bucket(kind, record.start_ts, record.end_ts))
            if row is None:
                raise corrupt(Database.BUCKETS, key, "the row went away")
            members = load_members(answers.view, key, row)
        yield record, members


def _assert_kept(answers: Answers, kind: Granularity, start_s: int, end_s: int) -> None:
    """Raise WindowNotKept if a bucket that starts in the interval was swept or lost, or may have been."""
    if start_s >= end_s:
        return
    zone, from_s = answers.zone, answers.retention.kept_from_s(kind)
    if start_s < from_s:
        raise WindowNotKept(
            f"the members of {kind.word}s before {zone.isoformat(from_s)} are no longer kept",
            hint=f"begin there (--from {from_s}), or take a coarser granularity",
        )
    span = LostTimes(answers.retention).first(start_s, end_s, kind.word)
    if span is not None:
        edges = f"{zone.isoformat(start_s)} to {zone.isoformat(end_s)}"
        raise lost_to_damage(zone, f"who came in the {kind.word}s from {edges}", span)


def uid_batches(snapshot: Snapshot, ordinals: BitMap) -> Iterator[tuple[U32Array, list[bytes]]]:
    """Ordinals and uids of a set's members, in no order, in batches of bounded size. Cost: a scan of the dictionary.

    An ordinal whose uid was forgotten is left out. Raises WindowNotKept if somebody's uid was lost to damage.
    """
    answers = snapshot.answers
    with answers.facts.lock:
        assert_named(answers.view, answers.retention, ordinals)
        batches = answers.facts.dictionary.batches_of(answers.view, ordinals)
    while True:
        with answers.facts.lock:
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def member_groups(
    snapshot: Snapshot, sets: Iterator[Members], *, held_bytes: int = EXPORT_UIDS_BYTES
) -> Iterator[MemberGroup]:
    """The buckets with the uids of their members, in their order. ``sets``: what `bucket_sets` returned.

    Cost: a scan of the dictionary per group, less than a microsecond per member. Memory: about ``held_bytes``, and as
    much as the sets of a group take, whatever there is to export. Raises as `uid_batches`.
    """
    answers = snapshot.answers
    with answers.facts.lock:
        uid_bytes = 2 * answers.facts.dictionary.uid_bytes_mean(answers.view) + _UID_OBJECT_BYTES
    uids_max = max(int(held_bytes / uid_bytes), 1)
    for group in _grouped(sets, uids_max):
        if len(group) == 1 and len(group[0][1]) > uids_max:
            record, members = group[0]
            for ordinals, uids in uid_batches(snapshot, members):
                yield MemberGroup(uids, iter([(record, np.arange(len(ordinals)))]))
        else:
            named = _named(snapshot, group)
            yield named
            named.uids.clear()  # before the next ones are looked for
        group.clear()


def _grouped(sets: Iterator[Members], uids_max: int) -> Iterator[list[Members]]:
    """Runs of buckets that together have at most so many different members, or are a single one."""
    group, united, members = list[Members](), BitMap(), 0
    for one in sets:
        is_full = len(group) >= EXPORT_BUCKETS_MAX or members + len(one[1]) > EXPORT_MEMBERS_MAX
        if group and (is_full or united.union_cardinality(one[1]) > uids_max):
            yield group
            group, united, members = [], BitMap(), 0
        group.append(one)
        united |= one[1]
        members += len(one[1])
    if group:
        yield group


def _named(snapshot: Snapshot, group: list[Members]) -> MemberGroup:
    united = BitMap.union(BitMap(), *(members for _, members in group))
    ordinals, uids = list[U32Array](), list[bytes]()
    for some, names in uid_batches(snapshot, united):
        ordinals.append(some)
        uids += names
    known = np.concatenate(ordinals) if ordinals else np.empty(0, np.uint32)
    # In the order of ordinals, in which buckets go through them: what is made of them then lies in this order, too.
    order = np.argsort(known)
    return MemberGroup([uids[at] for at in order.tolist()], _placed(group, known[order]))


def _placed(group: list[Members], known: U32Array) -> Iterator[tuple[CountRecord, I64Array]]:
    """Where the members of each bucket stand. ``known``: ordinals, ascending."""
    for record, members in group:
        own: U32Array = np.frombuffer(members.to_array(), np.uint32)
        places = np.searchsorted(known, own)
        places[places == len(known)] = 0
        yield record, places[known[places] == own] if len(known) else places[:0]
