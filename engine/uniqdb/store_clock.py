"""The store's clock: how far a commit closes the store, by the clocks of the sources that are open."""

from collections.abc import Iterable

import msgspec
import numpy as np
from msgspec import structs

from uniqdb.batch import I64Array
from uniqdb.clock import store_clock_s
from uniqdb.closing import NOTHING_CLOSED
from uniqdb.intake import Advance
from uniqdb.meta import SourceRow, StateRow, read_sources
from uniqdb.store import ReadView

_NOBODY_S = 2**62
"""The least clock of no sources: later than every time."""


class OpenSources:
    """The clocks of the open sources (None: it has none yet). In memory; the rows of ``sources`` are what is durable.

    Two kinds have no row: pipes without a name, while they are read, and files that this process is going to read.
    """

    def __init__(self, clocks_s: dict[bytes, int | None], awaited: set[bytes]) -> None:
        self._clocks_s, self._awaited = clocks_s, awaited

    @classmethod
    def read(cls, view: ReadView) -> "OpenSources":
        """As of the view's commit."""
        return cls({key: row.closing_clock_s for key, row in read_sources(view) if row.is_waited_for}, set())

    def copy(self) -> "OpenSources":
        """One that a commit in the making may change."""
        return OpenSources(dict(self._clocks_s), set(self._awaited))

    def wait_for(self, key: bytes) -> None:
        """Nothing is closed until this source has a clock, or is left."""
        self._awaited.add(key)

    def leave(self, key: bytes, *, is_stored: bool) -> None:
        """Do not wait for this source any longer, unless it has a row that says so."""
        self._awaited.discard(key)
        if not is_stored:
            self._clocks_s.pop(key, None)

    def put(self, key: bytes, clock_s: int | None, *, is_open: bool) -> None:
        """The source is open and has this clock, or it is over."""
        self._awaited.discard(key)
        self._clocks_s.pop(key, None)
        if is_open:
            self._clocks_s[key] = clock_s

    def least_s(self, besides: bytes | None = None) -> int:
        """The least clock; `NOTHING_CLOSED` if one has none yet, the end of time if there is no (other) open source."""
        clocks_s = [clock_s for key, clock_s in self._clocks_s.items() if key != besides]
        if None in clocks_s or self._awaited - {besides} - self._clocks_s.keys():
            return NOTHING_CLOSED
        return min((clock_s for clock_s in clocks_s if clock_s is not None), default=_NOBODY_S)

    def clock_s(self, ended_s: int | None) -> int | None:
        """What counts as now: the least clock of those that have one; with none open the largest of the ended ones."""
        started_s = [clock_s for clock_s in self._clocks_s.values() if clock_s is not None]
        return store_clock_s(started_s, [] if ended_s is None else [ended_s])


class Passage(msgspec.Struct, frozen=True):
    """How far the store is closed before a commit, before each of its visits, and after it."""

    before_s: int
    visits_s: I64Array
    through_s: int
    state: StateRow

    def at_least(self, through_s: int) -> "Passage":
        """With the store closed so far after the commit."""
        if through_s <= self.through_s:
            return self
        state = msgspec.structs.replace(self.state, closed_through_s=through_s)
        return structs.replace(self, through_s=through_s, state=state)


def pass_time(
    state: StateRow,
    visits: int,
    advances: Iterable[Advance],
    rows: dict[bytes, SourceRow],
    clocks: tuple[OpenSources, int],
) -> Passage:
    """What a commit of so many visits does to the store's clock. ``clocks``: of its open sources, which this changes,
    and the allowed lateness in seconds.

    Sources advance one after the other. While one does, the others stand still.
    """
    sources, lateness_s = clocks
    before_s = through_s = NOTHING_CLOSED if state.closed_through_s is None else state.closed_through_s
    visits_s = np.full(visits, before_s, np.int64)
    ended = [] if state.ended_clock_s is None else [state.ended_clock_s]
    for one in advances:
        others_s = sources.least_s(one.key)
        reached_s = np.minimum(one.clocks_before_s, others_s) - lateness_s
        visits_s[one.start : one.end] = np.maximum(reached_s, through_s)
        through_s = max(through_s, min(one.peak_s, others_s) - lateness_s)
        sources.put(one.key, one.clock_s, is_open=one.is_open)
        if not one.is_open and one.clock_s is not None:
            ended.append(one.clock_s)
    for key, row in rows.items():
        sources.put(key, row.closing_clock_s, is_open=row.is_waited_for)
        if not row.is_open and row.clock_s is not None:
            ended.append(row.clock_s)
    ended_s = max(ended, default=None)
    least_s = sources.least_s()
    if least_s == _NOBODY_S:
        least_s = NOTHING_CLOSED if ended_s is None else ended_s
    through_s = max(through_s, least_s - lateness_s)
    state = msgspec.structs.replace(
        state,
        clock_s=sources.clock_s(ended_s),
        ended_clock_s=ended_s,
        closed_through_s=through_s if through_s > NOTHING_CLOSED else None,
    )
    return Passage(before_s, visits_s, through_s, state)
