"""A store put in place of an older one, or made out of others: what readers of its counts must see as newer.

Consumers of the output topics order the records of a key by (epoch, revision). So a store that begins anew from
something older gets a larger epoch, and everything it holds waits to be published again.
"""

import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from uniqdb.change_set import ChangeSet
from uniqdb.commit_plan import CommitPlan
from uniqdb.format import Database, open_row
from uniqdb.fresh_data import FreshData
from uniqdb.outbox import QUARANTINE_KIND, WindowKey, all_bucket_keys, mark_due, queue
from uniqdb.store import ReadView

COMMITS_PER_EPOCH = 2**20
"""Where nobody can say how many commits a replaced store had, those of the new one are numbered from here times epoch:
in the seconds that lie between two epochs nobody makes more."""
_ROWS = 10_000
_LOOK_S = 60.0


class Standing(msgspec.Struct, frozen=True):
    """How far a store has come: whatever replaces it must number its epochs, commits and layouts above these."""

    epoch: int
    commit_number: int
    layout: int


def standing_of(path: Path) -> Standing | None:
    """The standing of a store that may be damaged; None if it cannot be read.

    A process of its own looks: a data file that was cut off ends whoever maps it.
    """
    command = [sys.executable, "-P", "-m", "uniqdb.standing", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_LOOK_S, check=False)
        return msgspec.json.decode(done.stdout, type=Standing)
    except (OSError, subprocess.TimeoutExpired, msgspec.DecodeError):
        return None


def next_standing(now_s: int, known: list[Standing], *, is_complete: bool) -> Standing:
    """One above all that are known. ``is_complete``: there is no other one that could not be read.

    The epoch is Unix seconds: so it rises from one restoration to the next also where nobody remembers the last one.
    """
    epoch = max(now_s, *(one.epoch + 1 for one in known))
    commit_number = max(one.commit_number for one in known) + 1
    layout = max(one.layout for one in known) + 1
    if not is_complete:
        commit_number, layout = max(commit_number, epoch * COMMITS_PER_EPOCH), max(layout, epoch)
    return Standing(epoch, commit_number, layout)


def queue_everything(view: ReadView, fresh: FreshData, commit_number: int) -> None:
    """Fill ``outbox`` and ``due``: every bucket, every window that was ever worked out, and what waits already.

    Deletions of erased records and refused records wait as they did. Windows are worked out anew: their records say
    the epoch.
    """
    all_keys = all_bucket_keys(view)
    while keys := list(islice(all_keys, _ROWS)):
        changes = ChangeSet()
        queue(CommitPlan(view, commit_number, changes), keys)
        fresh.put_all(changes)
    for key, value in view.raw_rows(Database.OUTBOX, bytes((QUARANTINE_KIND,))):
        open_row(Database.OUTBOX, key, value)
        fresh.put(Database.OUTBOX, key, value)
    changes = ChangeSet()
    windows = {*_windows(view, Database.DUE), *_windows(view, Database.WINDOWS)}
    mark_due(CommitPlan(view, commit_number, changes), sorted(windows))
    fresh.put_all(changes)


def _windows(view: ReadView, database: Database) -> Iterator[WindowKey]:
    for key, _ in view.rows(database, b"", b"\xff"):
        yield WindowKey.unpack(key)
