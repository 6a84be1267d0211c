"""A commit in the making."""

from dataclasses import dataclass

from uniqdb.change_set import ChangeSet
from uniqdb.store import ReadView


@dataclass(frozen=True, slots=True)
class CommitPlan:
    """What a commit is based on, its number (1, 2, 3, ... over the store's life), what it writes."""

    view: ReadView
    number: int
    changes: ChangeSet
