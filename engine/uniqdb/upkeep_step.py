"""A step of upkeep: something that one transaction of its own changes, and what is to be forgotten afterwards."""

from collections.abc import Callable
from typing import TypeAlias

import msgspec
from pyroaring import BitMap

from uniqdb.commit_plan import CommitPlan
from uniqdb.format import BucketRow
from uniqdb.meta import StateRow


class StepOutcome(msgspec.Struct):
    """What a step has put into the change set, for the caches and for whoever counts.

    ``state``: the state after it. ``gone``: keys of buckets without members or without a row. ``rows``: rows that were
    written. ``uids``: what is no longer in the dictionary.
    """

    state: StateRow
    gone: list[bytes] = msgspec.field(default_factory=list)
    rows: dict[bytes, BucketRow] = msgspec.field(default_factory=dict)
    uids: list[str] = msgspec.field(default_factory=list)


Step: TypeAlias = Callable[[CommitPlan, StateRow], StepOutcome | None]
"""Puts changes into a plan, given the state that the plan's commit will write; None: there is nothing to write.

It may be called again with another plan, if somebody else has committed: it must not remember what it planned.
"""


class LiveMarks:
    """The ordinals that must stay in the dictionary while a run drops all others.

    First the members of every kept bucket as of one commit; then the writer adds what it looks up or allocates. Once
    somebody else has written the store, they are no longer ``valid``.
    """

    __slots__ = ("__weakref__", "live", "valid")

    def __init__(self, live: BitMap) -> None:
        self.live, self.valid = live, True
