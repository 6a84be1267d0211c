"""A commit in the making."""

import msgspec

from uniqdb.change_set import ChangeSet
from uniqdb.store import ReadView


class CommitPlan(msgspec.Struct, frozen=True):
    """What a commit is based on, its number (1, 2, 3, ... over the store's life), what it writes."""

    view: ReadView
    number: int
    changes: ChangeSet
