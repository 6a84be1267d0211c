"""What a running service tells whoever watches it: that it turned, where the topic ends, what it wrote and published.

An observer is called by the service's own thread, a few times a second and once per commit; never per visit. What it
keeps for other threads it puts down as a whole. What it raises ends the service.
"""

from collections.abc import Mapping
from typing import Protocol

from uniqdb.meta import StateRow
from uniqdb.stream.partition import Moment, Partition


class Observer(Protocol):
    """Watches one service. Durations are seconds."""

    def turned(self, now: Moment, records: int) -> None:
        """The loop went round; so many records of the topic were read in this run."""

    def waits_for_room(self, now: Moment, records: int) -> None:
        """A commit found no room and is tried again; told a few times a second until it is in the store."""

    def looked(self, ends: Mapping[int, int] | None, partitions: Mapping[int, Partition], *, history: bool) -> None:
        """It was asked where the partitions end: the offsets behind their last records; None: Kafka did not answer.

        ``partitions`` are the service's own, to be read within the call; ``history``: it reads history.
        """

    def committed(self, before: StateRow, after: StateRow, took_s: float) -> None:
        """A commit is in the store: the totals of the store before and after it."""

    def published(self, records: int, took_s: float) -> None:
        """A transaction with so many records is in Kafka."""

    def publishing_failed(self) -> None:
        """A transaction was undone, or could not begin; its records are published again."""


class Silent:
    """Watches nothing."""

    def turned(self, now: Moment, records: int) -> None:
        """Nothing."""

    def waits_for_room(self, now: Moment, records: int) -> None:
        """Nothing."""

    def looked(self, ends: Mapping[int, int] | None, partitions: Mapping[int, Partition], *, history: bool) -> None:
        """Nothing."""

    def committed(self, before: StateRow, after: StateRow, took_s: float) -> None:
        """Nothing."""

    def published(self, records: int, took_s: float) -> None:
        """Nothing."""

    def publishing_failed(self) -> None:
        """Nothing."""


SILENT = Silent()
