"""How complete the counts of a commit are: what is not in them, and up to when each source is."""

from collections.abc import Iterator

import msgspec

from uniqdb.format import Database
from uniqdb.intake import read_judge_state
from uniqdb.meta import SourceRow, read_sources, read_state
from uniqdb.store import ReadView


class SourceCompleteness(msgspec.Struct, frozen=True):
    """One source. ``clock_s`` (Unix seconds) is the time up to which it is complete, but for late visits; None: it has
    had too few visits. ``state``: ``ended``, or ``open``: the store's clock waits for it. Its records are
    ``accepted`` + ``refused`` + ``held``.
    """

    id: str
    name: str
    kind: str
    state: str
    clock_s: int | None
    accepted: int
    refused: int
    held: int
    ahead_limit_s: int
    late_limit_s: int
    """The limits in force: the configured ones or, for a sparse source, wider ones."""


class Completeness(msgspec.Struct, frozen=True):
    """What became of every record that the store received, as of one commit.

    received = ``accepted`` + ``held`` + ``expired`` + the sum of ``quarantined`` + the sum of ``discarded``.
    """

    accepted: int
    late: dict[str, int]
    """By granularity: accepted visits that came after their bucket was closed, and amended it."""
    held: int
    expired: int
    skipped: dict[str, int]
    """By granularity: accepted visits that were not counted in it, because its bucket is no longer kept."""
    quarantined: dict[str, int]
    discarded: dict[str, int]
    clock_s: int | None
    """The store's clock: the least of its open sources; with none open, the largest of the ended ones."""
    closed_through_s: int | None
    """Every bucket that ends at or before this is closed."""
    sources: list[SourceCompleteness]


def read_completeness(view: ReadView) -> Completeness:
    """As of the view's commit. Cost: one row for each source."""
    state = read_state(view)
    return Completeness(
        accepted=state.visits,
        late=state.late_visits,
        held=held_visits(view),
        expired=state.expired,
        skipped=state.skipped,
        quarantined=state.quarantined,
        discarded=state.discarded,
        clock_s=state.clock_s,
        closed_through_s=state.closed_through_s,
        sources=list(_sources(view)),
    )


def held_visits(view: ReadView) -> int:
    """How many visits are neither counted nor refused yet."""
    return view.stat(Database.HELD)["entries"]


def source_id(key: bytes) -> str:
    """What a user calls a source whose name is not the only one of its kind."""
    return key.hex()[:8]


def _sources(view: ReadView) -> Iterator[SourceCompleteness]:
    for key, row in read_sources(view):
        yield SourceCompleteness(
            source_id(key),
            row.name,
            row.kind,
            "open" if row.is_open else "ended",
            row.clock_s,
            row.visits,
            row.refused,
            row.held,
            *_limits(view, key, row),
        )


def _limits(view: ReadView, key: bytes, row: SourceRow) -> tuple[int, int]:
    state = read_judge_state(view, key)
    if state is None or state.ahead_limit_s is None or state.late_limit_s is None:
        return row.ahead_limit_s, row.late_limit_s
    return state.ahead_limit_s, state.late_limit_s
