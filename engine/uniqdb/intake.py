"""The way of one source's visits into commits: judged one after the other, held where doubtful, refused where wrong.

An intake gathers what has become of the visits since the last commit. What it remembers beyond a commit, the state of
its judge and the held visits with their uids, is written in that commit, so that a restart goes on identically.
"""

from collections.abc import Callable, Container
from typing import NamedTuple

import msgspec
import numpy as np

from uniqdb.change_set import ChangeSet
from uniqdb.format import Database, corrupt
from uniqdb.limits import ALLOWED_LATENESS_S
from uniqdb.meta import SOURCE_KEY_BYTES, SourceRow
from uniqdb.plausibility import ACCEPTED, HELD, IMPLAUSIBLE, VERDICTS, Judged, JudgeState, SourceJudge, U8Array
from uniqdb.quarantine import Quarantined
from uniqdb.recent_times import EventTimeLimits
from uniqdb.store import ReadView
from uniqdb.uid_batch import Uids, chosen, joined
from uniqdb.visit import I64Array

_TICKET_BYTES = 8
_NO_CLOCK_S = -(2**62)
"""Stands for the clock of a source that has none: before every end of a bucket, and seconds can be taken from it."""


class Place(NamedTuple):
    """Where a record stands in its source (``position`` in bytes, ``line`` from 1; 0 for calls), and its hash."""

    position: int
    line: int
    record_hash: str


class HeldRow(msgspec.Struct, frozen=True, array_like=True):
    """One row of ``held``: a visit that is neither counted nor refused yet. Its key: the source's, then the ticket."""

    event_time_s: int
    uid: str
    position: int
    line: int
    record_hash: str


class Advance(msgspec.Struct):
    """What the visits of one source did to it: they stand at ``[start, end)`` of their commit's visits.

    ``clocks_before_s`` runs parallel to those: the highest clock that the source had, since the last commit, before
    each was accepted. ``peak_s`` is the highest of all, ``clock_s`` the one that it has now.
    """

    key: bytes
    start: int
    end: int
    clocks_before_s: I64Array
    peak_s: int
    clock_s: int | None
    is_open: bool
    state: JudgeState | None = None
    """To be stored; None for a source that cannot be continued."""
    held: dict[int, HeldRow] = msgspec.field(default_factory=dict)
    """Held from this commit on, by ticket."""
    released: list[int] = msgspec.field(default_factory=list)
    """Held until this commit."""


class Taken(msgspec.Struct):
    """What became of a source's visits since the last commit."""

    event_times_s: I64Array
    uids: Uids
    refused: list[Quarantined]
    advance: Advance


class Intake:
    """One source between its reader and the commits. Not thread-safe."""

    def __init__(self, key: bytes, name: str, judge: SourceJudge, held: dict[int, HeldRow] | None = None) -> None:
        """``held``: the held visits that are stored. See `open_intake`."""
        self.key, self.name, self._judge = key, name, judge
        self._held: dict[int, HeldRow] = dict(held or {})
        self._stored = set(self._held)
        self._begin()

    def _begin(self) -> None:
        self._times_s: list[I64Array] = []
        self._clocks_s: list[I64Array] = []
        self._uids: list[Uids] = []
        self._refused: list[Quarantined] = []
        self._released: list[int] = []
        self._peak_s = _NO_CLOCK_S if self._judge.clock_s is None else self._judge.clock_s

    @property
    def held(self) -> int:
        """How many visits are held."""
        return len(self._held)

    @property
    def clock_s(self) -> int | None:
        """The source's clock."""
        return self._judge.clock_s

    @property
    def accepted(self) -> int:
        """How many visits were accepted since the last commit."""
        return sum(map(len, self._uids))

    @property
    def refused(self) -> list[Quarantined]:
        """What was refused since the last commit."""
        return self._refused

    def take(
        self, times_s: I64Array, uids: Uids, reference_s: I64Array | int, place_of: Callable[[int], Place]
    ) -> U8Array:
        """Judge further visits, in the order of the source; returns the code of each one's verdict (see `VERDICTS`).

        ``place_of`` tells where the visit of an index stands; it is asked only about held and implausible ones.
        """
        judged = self._judge.step(times_s, reference_s)
        verdicts = judged.verdicts
        clocks_s = np.maximum(judged.clock_before_s, self._peak_s)
        for jump in judged.jumps_back:
            clocks_s[jump.visit_index] = max(clocks_s[jump.visit_index], jump.from_s)
        np.maximum.accumulate(clocks_s, out=clocks_s)
        is_accepted = verdicts == ACCEPTED
        if is_accepted.all():
            self._add(times_s, uids, clocks_s)
        else:
            self._add(times_s[is_accepted], chosen(uids, is_accepted), clocks_s[is_accepted])
            for index in np.flatnonzero(verdicts == IMPLAUSIBLE).tolist():
                row = HeldRow(int(times_s[index]), uids[index], *place_of(index))
                self._refuse(IMPLAUSIBLE, row)
            held = np.flatnonzero(verdicts == HELD).tolist()
            for index, ticket in zip(held, judged.tickets.tolist(), strict=True):
                self._held[ticket] = HeldRow(int(times_s[index]), uids[index], *place_of(index))
        self._release(judged, clocks_s)
        self._rise(judged, clocks_s)
        return verdicts

    def end(self, *, follow: bool = False) -> None:
        """The source is at its end: nothing stays held and, unless more will ``follow``, its clock moves to its newest
        visit within the limit.
        """
        judged = self._judge.end(follow=follow)
        self._release(judged, np.full(1, self._peak_s))
        self._rise(judged, np.empty(0, np.int64))

    def start_anew(self) -> None:
        """Forget the clock and the times of the past: the next visits start a clock as those of a new source do.

        Nothing stays held: as at the source's end, visits that agree are accepted and the others refused.
        """
        self._release(self._judge.end(follow=True), np.full(1, self._peak_s))
        self._judge.forget()

    def cut(self, *, is_open: bool) -> Taken:
        """What there is for a commit. To be followed by `committed` once that has returned."""
        empty = np.empty(0, np.int64)
        times_s = np.concatenate(self._times_s) if self._times_s else empty
        clocks_s = np.concatenate(self._clocks_s) if self._clocks_s else empty
        fresh = {ticket: row for ticket, row in self._held.items() if ticket not in self._stored}
        advance = Advance(
            self.key,
            0,
            len(times_s),
            clocks_s,
            self._peak_s,
            self._judge.clock_s,
            is_open,
            self._judge.state(),
            fresh,
            self._released.copy(),
        )
        return Taken(times_s, joined(self._uids), self._refused, advance)

    def committed(self) -> None:
        """What `cut` gave is in the store."""
        self._stored = set(self._held)
        self._begin()

    def _add(self, times_s: I64Array, uids: Uids, clocks_s: I64Array) -> None:
        self._times_s.append(times_s)
        self._clocks_s.append(clocks_s)
        self._uids.append(uids)

    def _release(self, judged: Judged, clocks_s: I64Array) -> None:
        """Visits that are held no longer: each came, for what is closed, when it was released."""
        times_s: list[int] = []
        at_s: list[int] = []
        uids: list[str] = []
        for release in judged.releases:
            row = self._held.pop(release.ticket)
            if release.ticket in self._stored:
                self._stored.discard(release.ticket)
                self._released.append(release.ticket)
            if release.verdict == ACCEPTED:
                times_s.append(row.event_time_s)
                uids.append(row.uid)
                at_s.append(max(int(clocks_s[release.visit_index]), release.clock_before_s))
            else:
                self._refuse(release.verdict, row)
        if uids:
            self._add(np.array(times_s, np.int64), uids, np.array(at_s, np.int64))

    def _refuse(self, verdict: int, row: HeldRow) -> None:
        self._refused.append(
            Quarantined(
                str(VERDICTS[verdict]),
                self.name,
                b"",
                row.position,
                row.line,
                row.record_hash,
                row.event_time_s,
                row.uid,
            )
        )

    def _rise(self, judged: Judged, clocks_s: I64Array) -> None:
        peaks = [self._peak_s, *clocks_s[-1:].tolist()]
        self._peak_s = max(peaks if judged.clock_s is None else [*peaks, judged.clock_s])


# ---------------------------------------------------------------- rows
def open_intake(
    view: ReadView | None, key: bytes, row: SourceRow, allowed_lateness_s: int = ALLOWED_LATENESS_S
) -> Intake:
    """The intake of a source as the view's commit left it; ``view`` None: of one that nothing was read of.

    Raises StoreCorrupt if the state of its judge and its held visits do not agree.
    """
    state, held = (None, {}) if view is None else (read_judge_state(view, key), dict(read_held(view, key)))
    expected = {} if state is None else dict(state.held)
    if expected != {ticket: one.event_time_s for ticket, one in held.items()}:
        raise corrupt(Database.HELD, key, "the held visits are not those of the source's clock")
    limits = EventTimeLimits(row.ahead_limit_s, row.late_limit_s)
    return Intake(key, row.name, SourceJudge(limits, state, allowed_lateness_s), held)


def read_judge_state(view: ReadView, key: bytes) -> JudgeState | None:
    """What the judge of a source remembers, or None. Raises StoreCorrupt."""
    payload = view.row(Database.CLOCKS, key)
    try:
        return None if payload is None else msgspec.msgpack.decode(payload, type=JudgeState)
    except (ValueError, RecursionError) as error:
        raise corrupt(Database.CLOCKS, key, str(error)) from None


def read_held(view: ReadView, key: bytes) -> list[tuple[int, HeldRow]]:
    """(ticket, visit) of every held visit of a source, tickets ascending; with an empty key of all sources.

    Raises StoreCorrupt.
    """
    found: list[tuple[int, HeldRow]] = []
    for name, payload in view.rows(Database.HELD, key, key.ljust(SOURCE_KEY_BYTES, b"\xff") + b"\xff" * _TICKET_BYTES):
        try:
            row = msgspec.msgpack.decode(payload, type=HeldRow)
        except (ValueError, RecursionError) as error:
            raise corrupt(Database.HELD, name, str(error)) from None
        found.append((int.from_bytes(name[-_TICKET_BYTES:], "big"), row))
    return found


def write_advance(changes: ChangeSet, advance: Advance) -> None:
    """Add what a source remembers to a commit."""
    if advance.state is None:
        return
    changes.put_row(Database.CLOCKS, advance.key, msgspec.msgpack.encode(advance.state))
    for ticket, row in advance.held.items():
        changes.put_row(Database.HELD, _held_key(advance.key, ticket), msgspec.msgpack.encode(row))
    for ticket in advance.released:
        changes.delete(Database.HELD, _held_key(advance.key, ticket))


def drop_held(view: ReadView, changes: ChangeSet, key: bytes, tickets: Container[int]) -> None:
    """Add to a commit that these visits of a source are no longer held: neither counted nor refused, they are gone.

    Their times stay among the last ones, and judge other visits as before. Raises StoreCorrupt.
    """
    state = read_judge_state(view, key) or JudgeState()
    left = tuple(one for one in state.held if one[0] not in tickets)
    changes.put_row(Database.CLOCKS, key, msgspec.msgpack.encode(msgspec.structs.replace(state, held=left)))
    for ticket, _ in state.held:
        if ticket in tickets:
            changes.delete(Database.HELD, _held_key(key, ticket))


def _held_key(key: bytes, ticket: int) -> bytes:
    return key + ticket.to_bytes(_TICKET_BYTES, "big")
