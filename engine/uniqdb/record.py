"""The one record of a count: topic value, ``--format jsonl``, HTTP and Python all have this shape."""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class CountRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many different visitors an interval had. Times are Unix seconds, ``[start_ts, end_ts)``.

    ``granularity`` is minute, hour, day, week, month or year for a bucket, ``window`` for a trailing window (then
    ``window`` and ``as_of`` are set), ``interval`` for any other interval. ``status`` is provisional, final or amended.
    ``complete`` is false while the interval is open, when it reaches before the store's first visit, or over a gap.
    ``revision`` rises with every commit that changes the bucket; 0 means computed for this answer. Of two records with
    one key the larger (epoch, revision) counts.
    """

    granularity: str
    datetime: str
    count: int
    visits: int
    start_ts: int
    end_ts: int
    timezone: str
    status: str
    complete: bool
    revision: int
    epoch: int
    window: str | UnsetType = UNSET
    as_of: str | UnsetType = UNSET

    def key(self) -> bytes:
        """The key of its message: what it is about, without what was counted."""
        if self.window is UNSET:
            return f"{self.granularity}|{self.timezone}|{self.start_ts}".encode()
        return f"window|{self.timezone}|{self.window}|{self.as_of}".encode()

    def to_json(self) -> bytes:
        """One JSON object without a line break."""
        return msgspec.json.encode(self)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dict; ``window`` and ``as_of`` only where they are set."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not UNSET}
