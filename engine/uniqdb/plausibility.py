"""What counts: a verdict for each visit of one source, by the times of the visits around it and nothing else.

A visit is accepted if it lies within the limits of its source's clock or if it has company; else it is held until one
of the two becomes true, or until 1,000 further plausible visits have passed: then it is quarantined.

**One visit, in this order.** (The scalar path below and the oracle of the tests follow it to the letter.)

1. Implausible? Then nothing else happens: it is no witness.
2. It gets the next visit number, and its time enters the last 1,000 (held or not); the oldest leaves.
3. The limits are computed anew if the number is a multiple of 100, or if this visit starts the clock.
4. The clock: it starts with the 20th visit; else it jumps; else it takes an ordinary step.
5. The visit's verdict, by the clock and the limits as they are now: accepted if
   ``clock - late limit <= time <= clock + ahead limit``, or if 20 of the last 1,000 times, its own included, lie within
   the ahead limit of it; else held. (Before the clock has started only company can help.)
6. Every visit that was held before is accepted by the same rule, or quarantined if its number is 1,000 or more below
   this one: as ``ahead`` if its time is beyond clock + ahead limit, else as ``too_late``. Tickets ascending.

Held visits are named by their ticket, which is their visit number. All limits are inclusive. Times are Unix seconds.
"""

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from uniqdb.clock import CLOCK_NOT_STARTED, end_clock_s, first_clock_s, jumped_clock_s, stepped_clock_s
from uniqdb.dense_stretch import Standing, dense_stretch
from uniqdb.held_visits import HeldVisits
from uniqdb.limits import ALLOWED_LATENESS_S, IMPLAUSIBLE_AHEAD_S, LIMITS_EVERY_VISITS, RECENT_VISITS, WITNESSES
from uniqdb.recent_times import EventTimeLimits, RecentTimes, packed_times, unpacked_times
from uniqdb.visit import I64Array, Verdict, plausible

U8Array = npt.NDArray[np.uint8]

ACCEPTED, HELD, AHEAD, TOO_LATE, IMPLAUSIBLE = range(5)
VERDICTS = (Verdict.ACCEPTED, Verdict.HELD, Verdict.AHEAD, Verdict.TOO_LATE, Verdict.IMPLAUSIBLE)
"""The verdict that each code stands for."""

DENSE_VISITS_MIN = 300
"""Fewer visits than this are looked at one by one. This and the next two change speed only."""
PATIENCE_VISITS_MIN = 100
PATIENCE_VISITS_MAX = 12_800
"""How many visits are looked at one by one before the next attempt at a stretch; doubled after each failure."""


class JudgeState(msgspec.Struct, frozen=True, array_like=True):
    """Everything that a judge remembers (persisted with its source; about 8 KiB as MessagePack).

    ``recent`` holds the last 1,000 plausible times as little-endian 64-bit integers in order of arrival, ``held`` pairs
    of ticket and event time, tickets ascending. The limits are those in force, widened or not.
    """

    recent: bytes = b""
    visit_number: int = 0
    clock_s: int | None = None
    ahead_limit_s: int | None = None
    late_limit_s: int | None = None
    held: tuple[tuple[int, int], ...] = ()


class Release(NamedTuple):
    """A held visit that is held no longer: ``verdict`` is ACCEPTED, AHEAD or TOO_LATE.

    ``visit_index`` is that of the input visit at which it happened (0 at the end of a source), ``clock_before_s`` the
    clock just before it.
    """

    ticket: int
    time_s: int
    verdict: int
    visit_index: int
    clock_before_s: int


class JumpBack(NamedTuple):
    """The clock went back at the input visit ``visit_index``. Between two of these it only rises."""

    visit_index: int
    from_s: int
    to_s: int


class Judged(msgspec.Struct):
    """What became of a batch. The arrays run parallel to the input.

    ``clock_before_s`` is the clock just before the visit (CLOCK_NOT_STARTED before there is one), exact unless the
    clock is certain to lie before the end of the visit's UTC minute + the allowed lateness: then it may be less.
    """

    verdicts: U8Array
    clock_before_s: I64Array
    tickets: I64Array
    """Of the visits that became held, in their order: those with the verdict HELD."""
    releases: list[Release] = msgspec.field(default_factory=list)
    jumps_back: list[JumpBack] = msgspec.field(default_factory=list)
    clock_s: int | None = None
    """After the batch; None while the source has no clock."""

    @property
    def clock_s_min(self) -> int | None:
        """The least value to which the clock went back inside the batch; None if it never went back."""
        return min((jump.to_s for jump in self.jumps_back), default=None)


class SourceJudge:
    """The judge of one source: a file, a partition, a named call source. Its state can be stored at any point.

    About 0.05 us per visit where visits are dense and honest, 3 us where they have to be looked at one by one.
    """

    def __init__(
        self,
        limits: EventTimeLimits | None = None,
        state: JudgeState | None = None,
        allowed_lateness_s: int = ALLOWED_LATENESS_S,
    ) -> None:
        state = state or JudgeState()
        self._lateness_s = allowed_lateness_s
        self._configured = self._limits = limits or EventTimeLimits()
        if state.ahead_limit_s is not None and state.late_limit_s is not None:
            self._limits = EventTimeLimits(state.ahead_limit_s, state.late_limit_s)
        self._recent = RecentTimes(unpacked_times(state.recent))
        self._number = state.visit_number
        self._clock_s = CLOCK_NOT_STARTED if state.clock_s is None else state.clock_s
        self._held = HeldVisits(state.held)
        self._judged = _nothing()

    @property
    def clock_s(self) -> int | None:
        """The clock; None before the 20th plausible visit."""
        return None if self._clock_s == CLOCK_NOT_STARTED else self._clock_s

    @property
    def limits(self) -> EventTimeLimits:
        """The limits in force: the configured ones or, for a sparse source, wider ones."""
        return self._limits

    def state(self) -> JudgeState:
        """What to store: a judge that is made from it continues in exactly the same way."""
        return JudgeState(
            packed_times(self._recent.array()),
            self._number,
            self.clock_s,
            self._limits.ahead_limit_s,
            self._limits.late_limit_s,
            tuple(self._held.times_s.items()),
        )

    def forget(self) -> None:
        """Begin like the judge of a new source. No visit may be held: see `end`."""
        assert not len(self._held), "held visits would be lost"
        self._recent = RecentTimes(np.empty(0, np.int64))
        self._number, self._clock_s, self._limits = 0, CLOCK_NOT_STARTED, self._configured

    def step(self, times_s: I64Array, references_s: I64Array | int) -> Judged:
        """Judge visits in the order of their source.

        ``references_s`` is what a plausible time may exceed by a day at most: the record timestamp of each visit, or
        one number for all. However the visits of a source are cut into batches, the results are the same.
        """
        believable = plausible(times_s) & (times_s <= references_s + np.int64(IMPLAUSIBLE_AHEAD_S))
        self._judged = judged = Judged(
            np.full(len(times_s), IMPLAUSIBLE, np.uint8),
            np.full(len(times_s), self._clock_s, np.int64),
            np.empty(0, np.int64),
        )
        first_ticket = self._number + 1
        positions = np.flatnonzero(believable)
        self._judge(times_s[positions], positions)
        judged.tickets = first_ticket + np.flatnonzero(judged.verdicts[positions] == HELD)
        judged.clock_s = self.clock_s
        return judged

    def end(self, *, follow: bool = False) -> Judged:
        """The source has ended (for now): every held visit is accepted or quarantined, and the clock moves up.

        In this order: a clock that never started (fewer than 20 visits) starts, with limits computed anew; held visits
        are accepted if they have company, lie within the limits, or agree with another held one within the ahead limit,
        and quarantined else; unless ``follow``, the clock moves to the newest of the last 1,000 visits that is not
        beyond clock + ahead limit.
        """
        self._judged = judged = _nothing()
        self._recent.use_lists()
        if self._recent.ordered_s:
            before_s = self._clock_s
            if before_s == CLOCK_NOT_STARTED:
                self._start_clock()
            agreeing = self._held.agreeing(self._limits.ahead_limit_s)
            for ticket, time_s in list(self._held.times_s.items()):
                accepted = ticket in agreeing or self._counts(time_s)
                self._release(ticket, accepted, (0, before_s))
            if not follow:
                self._clock_s = end_clock_s(self._recent.ordered_s, self._clock_s, self._limits)
        judged.clock_s = self.clock_s
        return judged

    # ------------------------------------------------------------ stretches of visits
    def _judge(self, times_s: I64Array, positions: I64Array) -> None:
        """Judge plausible visits, which stand at these positions of the input."""
        done, patience = 0, PATIENCE_VISITS_MIN
        while done < len(times_s):
            stretch_visits = self._dense(times_s[done:], positions[done:])
            if stretch_visits:
                done, patience = done + stretch_visits, PATIENCE_VISITS_MIN
                continue
            until = done + patience
            self._one_by_one(times_s[done:until], positions[done:until])
            done, patience = until, min(2 * patience, PATIENCE_VISITS_MAX)

    def _dense(self, times_s: I64Array, positions: I64Array) -> int:
        """Judge a stretch that needs no looking at single visits; returns its length, 0 if there is none."""
        if len(times_s) < DENSE_VISITS_MIN or self._number < RECENT_VISITS:
            return 0
        held = self._held
        standing = Standing(
            self._configured, self._limits, self._clock_s, self._number, held.ordered_times_s(), held.first_expiry()
        )
        recent_s = self._recent.array()
        stretch = dense_stretch(recent_s, times_s, standing, self._lateness_s)
        if stretch is None:
            return 0
        visits = len(stretch.clock_before_s)
        self._clock_s, self._limits, self._number = stretch.clock_s, stretch.limits, self._number + visits
        self._recent.replace(np.concatenate([recent_s, times_s[max(visits - RECENT_VISITS, 0) : visits]]))
        self._judged.verdicts[positions[:visits]] = ACCEPTED
        self._judged.clock_before_s[positions[:visits]] = stretch.clock_before_s
        return visits

    # ------------------------------------------------------------ one visit after the other
    def _one_by_one(self, times_s: I64Array, positions: I64Array) -> None:
        judged, recent, held = self._judged, self._recent, self._held
        recent.use_lists()
        verdicts, clocks_s = [], []
        for time_s, index in zip(times_s.tolist(), positions.tolist(), strict=True):
            before_s, limits_before = self._clock_s, self._limits
            self._number += 1
            recent.push(time_s)
            self._move_clock(index)
            clocks_s.append(before_s)
            verdict = ACCEPTED if self._counts(time_s) else HELD
            verdicts.append(verdict)
            if held.times_s:
                everything = before_s == CLOCK_NOT_STARTED or limits_before is not self._limits
                self._look_again(time_s, everything, (index, before_s))
            if verdict == HELD:
                held.add(self._number, time_s)
        judged.verdicts[positions] = verdicts
        judged.clock_before_s[positions] = clocks_s

    def _move_clock(self, index: int) -> None:
        """Points 3 and 4 of the order."""
        recent, clock_s = self._recent, self._clock_s
        if clock_s == CLOCK_NOT_STARTED:
            if len(recent.ordered_s) >= WITNESSES:
                self._start_clock()
            return
        if self._number % LIMITS_EVERY_VISITS == 0:
            self._limits = self._configured.widened(recent.ordered_s)
        jumped_s = jumped_clock_s(recent.last_ordered_s, clock_s, self._limits)
        if jumped_s is None:
            self._clock_s = stepped_clock_s(recent.ordered_s, clock_s, self._limits)
            return
        self._clock_s = jumped_s
        if jumped_s < clock_s:
            self._judged.jumps_back.append(JumpBack(index, clock_s, jumped_s))

    def _start_clock(self) -> None:
        self._limits = self._configured.widened(self._recent.ordered_s)
        self._clock_s = first_clock_s(self._recent.ordered_s, self._limits)

    def _counts(self, time_s: int) -> bool:
        """Whether a visit at this time is accepted as things are: by the clock, or by its company."""
        limits, clock_s = self._limits, self._clock_s
        if clock_s - limits.late_limit_s <= time_s <= clock_s + limits.ahead_limit_s:
            return True
        near_s = limits.ahead_limit_s
        return self._recent.number_within(time_s - near_s, time_s + near_s) >= WITNESSES

    def _look_again(self, time_s: int, everything: bool, moment: tuple[int, int]) -> None:
        """Point 6. Only held visits near the clock or near the new visit can have changed, unless the limits did."""
        held, limits, clock_s = self._held, self._limits, self._clock_s
        if everything:
            touched = [ticket for ticket, held_s in held.times_s.items() if self._counts(held_s)]
        else:
            near_s = limits.ahead_limit_s
            touched = held.within(clock_s - limits.late_limit_s, clock_s + limits.ahead_limit_s)
            for ticket in held.within(time_s - near_s, time_s + near_s):
                if self._counts(held.times_s[ticket]):
                    touched.append(ticket)
        last_expired = self._number - RECENT_VISITS
        expired = _until(held, last_expired) if next(iter(held.times_s)) <= last_expired else []
        if touched or expired:
            accepted = set(touched)
            for ticket in sorted(accepted.union(expired)):
                self._release(ticket, ticket in accepted, moment)

    def _release(self, ticket: int, accepted: bool, moment: tuple[int, int]) -> None:
        time_s = self._held.remove(ticket)
        beyond = AHEAD if time_s > self._clock_s + self._limits.ahead_limit_s else TOO_LATE
        self._judged.releases.append(Release(ticket, time_s, ACCEPTED if accepted else beyond, *moment))


def _until(held: HeldVisits, last_ticket: int) -> list[int]:
    """Tickets up to this one. Cost: one step for each, and one more."""
    found = []
    for ticket in held.times_s:
        if ticket > last_ticket:
            break
        found.append(ticket)
    return found


def _nothing() -> Judged:
    return Judged(np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0, np.int64))
