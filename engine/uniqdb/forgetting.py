"""Forgetting visitors for good, whatever their number."""

from collections.abc import Iterable
from itertools import islice

from msgspec import structs

from uniqdb.audit import ErasureRow
from uniqdb.engine import Engine
from uniqdb.erasure import Erasure
from uniqdb.writer import nothing

UIDS_PER_COMMIT = 10_000
"""What holds so many uids waits in memory for their commit."""


def forget(engine: Engine, uids: Iterable[str], *, keep_counts: bool = False) -> ErasureRow:
    """Forget visitors: nothing in the store names them any more, and they count in no kept bucket.

    Counts of kept buckets fall by exactly their members among these, their revisions rise, closed ones are `amended`,
    and all that is published again; trailing windows with them are due. Visits stay, and so do the counts of buckets
    whose members were dropped. With ``keep_counts`` all counts stay. Held visits and refused records of these uids go,
    and are counted as thrown away. What waits in the handle is committed first. A forgotten uid that returns is new.

    Returns what was found, over all commits: one for each 10,000 uids. Doing it again finds nothing. Freed pages of the
    data file hold the bytes until `uniqdb.compaction.compact`. Cost: a look at each kept bucket that may hold one of
    them, and at each refused record, in each commit; what holds one is written anew. Raises HandleClosed, CommitFailed.
    """
    total = ErasureRow(at_s=engine.now_s(), uids=0, keep_counts=keep_counts)
    left = iter(dict.fromkeys(uids))
    while chunk := frozenset(islice(left, UIDS_PER_COMMIT)):
        erasure = Erasure(chunk, total.at_s, keep_counts)
        engine.write(structs.replace(nothing(), erasure=erasure))
        total = total.plus(
            erasure.outcome or ErasureRow(at_s=total.at_s, uids=0, unknown=len(chunk), keep_counts=keep_counts)
        )
    return total
