"""Buckets whose few members stand in their row: the part of a commit that most buckets of sparse input go through.

A shuffled export, or a site with a visit a second, touches about as many minutes as it has visits. So this loop runs
nearly once per visit and is written out: one read, one checksum each way, no object beside the row's bytes.
"""

from array import array

import numpy as np
from xxhash import xxh3_64_intdigest

from uniqdb.batch import I64Array, Level
from uniqdb.commit_plan import CommitPlan
from uniqdb.format import BUCKET_ROW, CHECKSUM, BucketRow, Database, MembersState, corrupt, key_seed
from uniqdb.limits import INLINE_MEMBERS_MAX

_ROW_AT = CHECKSUM.size
_INLINE_AT = _ROW_AT + BUCKET_ROW.size
NO_ROW = BucketRow(0, 0, 0, 0, members=MembersState.INLINE)
"""What a bucket is before its first visit."""


def put_small_buckets(
    plan: CommitPlan,
    level: Level,
    keys: list[bytes],
    gained: tuple[list[int], list[int], list[int]],
    uncached: list[bool],
) -> tuple[list[tuple[int, BucketRow]], I64Array]:
    """Put the rows of all buckets that are, and stay, small; ``gained``: visits, finer rows and least status of each.

    Returns (position, row before) of the others, and the positions of all that had no row before. Only ``uncached``
    buckets are looked at; the row of a cached one is not read and given back as `NO_ROW`.
    Cost: about 4 us for each bucket.
    """
    visits, finer, statuses = gained
    bounds, members = level.bounds.tolist(), level.members
    rows = plan.view.values(Database.BUCKETS, keys, uncached)
    done: dict[bytes, bytes] = {}
    others: list[tuple[int, BucketRow]] = []
    new: list[int] = []
    pack, unpack_from, inline_state = BUCKET_ROW.pack, BUCKET_ROW.unpack_from, int(MembersState.INLINE)
    for position, (key, value) in enumerate(zip(keys, rows, strict=True)):
        first, end = bounds[position], bounds[position + 1]
        if not uncached[position]:
            others.append((position, NO_ROW))
            continue
        seed = key_seed(Database.BUCKETS, key)
        if value is None:
            new.append(position)
            if end - first > INLINE_MEMBERS_MAX:
                others.append((position, NO_ROW))
                continue
            payload = pack(end - first, visits[position], 1, finer[position], statuses[position], inline_state, 0)
            payload += members[first:end].tobytes()
        else:
            raw = bytes(value)
            before = raw[_ROW_AT:]
            if len(raw) < _INLINE_AT or CHECKSUM.unpack_from(raw)[0] != xxh3_64_intdigest(before, seed):
                raise corrupt(Database.BUCKETS, key, "the checksum of the row does not hold")
            _, seen, revision, rows_below, status, state, _ = unpack_from(before)
            few = None
            if state == inline_state and end - first <= INLINE_MEMBERS_MAX and len(before) % 4 == 0:
                few = _union(raw[_INLINE_AT:], members[first:end].tolist())
            if few is None:
                others.append((position, BucketRow.unpack(key, before)))
                continue
            seen, rows_below = seen + visits[position], rows_below + finer[position]
            status = max(status, statuses[position])
            payload = pack(len(few) // 4, seen, revision + 1, rows_below, status, inline_state, 0) + few
        done[key] = CHECKSUM.pack(xxh3_64_intdigest(payload, seed)) + payload
    plan.changes.put_sealed(Database.BUCKETS, done)
    return others, np.array(new, np.int64)


def _union(inline: bytes, ordinals: list[int]) -> bytes | None:
    """The members of a row and ascending ordinals, as they stand in a row; None: too many for it."""
    held = array("I", inline)
    union = {*held, *ordinals}
    if len(union) == len(held):
        return inline
    return array("I", sorted(union)).tobytes() if len(union) <= INLINE_MEMBERS_MAX else None
