"""A share of a topic's partitions, counted in a store of its own, beside others that count the rest.

Where records are keyed by uid, all of a visitor's records are in one partition, so the stores have no visitor in common
and their counts add. That holds only as long as the topic keeps its number of partitions.
"""

import re
from dataclasses import dataclass

from uniqdb.errors import UsageError

SHARDS_MAX = 1_024


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """The ``number``-th (from 1) of ``count`` shares: partition p belongs to number ``p % count + 1``."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Of ``I/N``, with 1 <= I <= N <= 1,024. Raises UsageError."""
        found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
        number, count = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= count <= SHARDS_MAX:
            raise UsageError(f"{text!r} names no shard", hint="give I/N, such as 2/4: the second of four")
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def owns(self, partition: int) -> bool:
        """Whether the partition is in this share."""
        return partition % self.count == self.number - 1

    def topic(self, name: str) -> str:
        """Where this share of the counts is published that all together would be in the topic ``name``."""
        return f"{name}.shard-{self.number}-of-{self.count}"
