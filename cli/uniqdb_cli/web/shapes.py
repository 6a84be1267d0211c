"""The shapes of the answers. Counts are always `CountRecord`; times are Unix seconds; no answer holds a uid."""

import msgspec
from msgspec import UNSET, UnsetType

from uniqdb.record import CountRecord
from uniqdb_cli.web.problems import Problem


class Series(msgspec.Struct, frozen=True):
    """The buckets that start in ``[start_ts, end_ts)``, ascending; ``before``: those of the range before, if asked.

    A range that is asked for as ``last`` has no buckets after the clock and the newest visit.
    """

    by: str
    start_ts: int
    end_ts: int
    timezone: str
    commit: int
    records: list[CountRecord]
    before: list[CountRecord] | None = None


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A trailing window and the window of the same length that ends where it starts.

    ``change`` is current / before - 1; None where ``before`` begins before the store's first visit, or nobody came.
    ``refused`` says why there is no count.
    """

    window: str
    current: CountRecord | None
    before: CountRecord | None
    change: float | None
    refused: Problem | None = None


class Trailing(msgspec.Struct, frozen=True):
    """The trailing windows, all from one commit."""

    timezone: str
    commit: int
    windows: list[Compared]


class Existence(msgspec.Struct, frozen=True):
    """Whether the visitor was seen; ``within``: in which window or period, None: in all that is kept."""

    exists: bool
    within: str | None
    commit: int


class Refused(msgspec.Struct, frozen=True):
    """Refused records of one reason."""

    reason: str
    count: int
    discarded: int


class Quarantine(msgspec.Struct, frozen=True):
    """Refused records: how many there are by reason, how many of them are ``kept`` to be looked at."""

    count: int
    kept: int
    commit: int
    reasons: list[Refused]


class SplitBucket(msgspec.Struct, frozen=True):
    """A bucket's visitors: ``new``: not seen in the look-back before it; ``returning``: seen there."""

    datetime: str
    start_ts: int
    end_ts: int
    count: int
    new: int
    returning: int
    status: str


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """New against returning visitors of ``[start_ts, end_ts)``, as a whole and bucket by bucket.

    A visitor is new who was not seen in ``[since_ts, start_ts)``: without ``before`` all the time from the first visit
    in the store, or its oldest year. For a bucket, what counts is the time before that bucket.
    """

    by: str
    start_ts: int
    end_ts: int
    since_ts: int | None
    timezone: str
    commit: int
    count: int
    new: int
    returning: int
    buckets: list[SplitBucket]


class SourceState(msgspec.Struct, frozen=True):
    """One source: up to when it is complete, and what became of its records."""

    name: str
    kind: str
    state: str
    clock_ts: int | None
    accepted: int
    refused: int
    held: int


class StoreState(msgspec.Struct, frozen=True):
    """One of several stores whose counts are added. ``visitors``: everybody in it, none of whom is in another one."""

    name: str
    commit: int
    epoch: int
    visits: int
    visitors: int
    first_visit_ts: int | None
    newest_visit_ts: int | None
    clock_ts: int | None
    closed_through_ts: int | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The store as of its newest commit; of several, what all of them have, and the least of their clocks."""

    version: str
    commit: int
    epoch: int
    timezone: str
    visits: int
    visitors: int
    first_visit_ts: int | None
    newest_visit_ts: int | None
    clock_ts: int | None
    closed_through_ts: int | None
    late: dict[str, int]
    """By granularity: visits that came after their bucket was closed, and amended it."""
    held: int
    expired: int
    quarantined: int
    kept_from_ts: dict[str, int]
    """By granularity: the members of buckets that start earlier are no longer kept."""
    gaps: int
    """Stretches of topics that were never read."""
    lost_spans: int
    """Stretches of time that were lost to damage."""
    sources: list[SourceState]
    stores: list[StoreState] | UnsetType = UNSET
    """Each of several stores. Of one store it is left out."""


class Alive(msgspec.Struct, frozen=True):
    """The server answers, and can read the store."""

    commit: int
