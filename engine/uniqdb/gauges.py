"""What a monitor asks again and again of a store: the few figures that are cheap, however large the store is."""

import shutil
from collections.abc import Iterator
from itertools import islice

import msgspec

from uniqdb.engine import Engine
from uniqdb.format import Database, bucket_key
from uniqdb.granularity import Granularity
from uniqdb.meta import StateRow
from uniqdb.outbox import QUARANTINE_KIND, WINDOW_KIND, read_outbox
from uniqdb.snapshot import Snapshot

ORDINALS_MAX = 2**32
"""So many different visitors a store can tell apart."""
OPEN_BUCKETS_MAX = 10_000
"""Open buckets of one granularity are counted up to here."""
OLDEST_AMONG_ROWS = 500
"""The oldest row of the outbox is looked for among the first ones of each kind: keys ascend by time."""


class StoreGauges(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a store as of one commit. Times are Unix seconds; sizes are bytes."""

    state: StateRow
    held: int
    """Visits that are neither counted nor refused yet."""
    uids: int
    """Different visitors ever seen, and so the ordinals in use, of at most `ORDINALS_MAX`."""
    open_buckets: dict[str, int]
    """By granularity: buckets with visits that are not closed yet; `OPEN_BUCKETS_MAX` stands for that many or more."""
    final_end_s: dict[str, int]
    """By granularity: where the last closed bucket ends, whether or not it had visits. Empty until one was closed."""
    outbox_rows: int
    outbox_oldest_commit: int | None
    """The least number of a commit whose final counts, windows or refused records still wait to be published."""
    due_windows: int
    """Trailing windows that are still to be worked out."""
    file_bytes: int
    live_bytes: int
    disk_free_bytes: int
    """What is left on the file system of the store for its user."""


def read_gauges(engine: Engine) -> StoreGauges:
    """The figures as of the newest commit. A writing handle commits what waits first.

    Cost: half a millisecond; up to 20 ms while thousands of buckets are open or wait. Raises StoreCorrupt.
    """
    with engine.snapshot() as snapshot:
        return _of(snapshot, shutil.disk_usage(engine.path).free)


def _of(snapshot: Snapshot, disk_free_bytes: int) -> StoreGauges:
    answers = snapshot.answers
    view, state, zone = answers.view, answers.state, answers.zone
    through_s = state.closed_through_s
    edges = {} if through_s is None else {one: zone.bucket_at(one, through_s).start_s for one in Granularity}
    file_bytes, live_bytes = view.sizes()
    return StoreGauges(
        state=state,
        held=view.stat(Database.HELD)["entries"],
        uids=answers.facts.dictionary.row(view).next_ordinal,
        open_buckets={one.word: _open_buckets(snapshot, one, edges.get(one)) for one in Granularity},
        final_end_s={one.word: edge_s for one, edge_s in edges.items()},
        outbox_rows=view.stat(Database.OUTBOX)["entries"],
        outbox_oldest_commit=min(_waiting_commits(snapshot, edges), default=None),
        due_windows=view.stat(Database.DUE)["entries"],
        file_bytes=file_bytes,
        live_bytes=live_bytes,
        disk_free_bytes=disk_free_bytes,
    )


def _open_buckets(snapshot: Snapshot, granularity: Granularity, edge_s: int | None) -> int:
    first = bytes((granularity,)) if edge_s is None else bucket_key(granularity, edge_s)
    rows = snapshot.answers.view.raw_rows(Database.BUCKETS, first, bytes((granularity + 1,)))
    return sum(1 for _ in islice(rows, OPEN_BUCKETS_MAX))


def _waiting_commits(snapshot: Snapshot, edges: dict[Granularity, int]) -> Iterator[int]:
    """Numbers of commits of what may be sent at once. Buckets that are open wait for their close, not for Kafka."""
    view = snapshot.answers.view
    ranges = [(bytes((one,)), bucket_key(one, edge_s)) for one, edge_s in edges.items()]
    ranges += [(bytes((kind,)), bytes((kind + 1,))) for kind in (WINDOW_KIND, QUARANTINE_KIND)]
    for first, end in ranges:
        for row in read_outbox(view, first, end, OLDEST_AMONG_ROWS):
            yield row.commit_number
