"""The rules of event time for one source as `event_time_oracle` has them, fast enough for millions of visits.

It shares no code with the engine, and a test compares it with that oracle. Visits may be forgotten here.
"""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise

DAY_S = 86_400
FIRST_S, LAST_S = 946_684_800, 253_370_764_800
RECENT, LAST, WITNESSES = 1_000, 100, 20


@dataclass(slots=True)
class HeldVisit:
    """What is not decided yet."""

    time_s: int
    uid: str
    offset: int


Released = tuple[str, HeldVisit]
"""A verdict, and whose."""


@dataclass(slots=True)
class Judge:
    """One visit after the other; what is decided by it comes back at once."""

    ahead_limit_s: int = 600
    late_limit_s: int = DAY_S
    number: int = 0
    clock_s: int | None = None
    recent: deque[int] = field(default_factory=deque)
    ordered: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    held: dict[int, HeldVisit] = field(default_factory=dict)
    ahead_s: int = 0
    late_s: int = 0

    def __post_init__(self) -> None:
        self.ahead_s, self.late_s = self.ahead_limit_s, self.late_limit_s

    def copy(self) -> "Judge":
        return Judge(
            *(self.ahead_limit_s, self.late_limit_s, self.number, self.clock_s, self.recent.copy()),
            *(self.ordered.copy(), self.last.copy(), self.held.copy()),
        )._with(self.ahead_s, self.late_s)

    def _with(self, ahead_s: int, late_s: int) -> "Judge":
        self.ahead_s, self.late_s = ahead_s, late_s
        return self

    def visit(self, visit: HeldVisit, reference_s: int) -> list[Released]:
        """What this visit decides, itself included."""
        time_s = visit.time_s
        if not FIRST_S <= time_s < LAST_S or time_s > reference_s + DAY_S:
            return [("implausible", visit)]
        self.number += 1
        self._push(time_s)
        if self.clock_s is None:
            if self.number == WITNESSES:
                self._start()
        else:
            self._move(self.clock_s)
        counts = self._counts(time_s)
        decided: list[Released] = [("accepted", visit)] if counts else []
        for ticket in list(self.held):
            held = self.held[ticket]
            if self._counts(held.time_s):
                decided.append(("accepted", self.held.pop(ticket)))
            elif self.number - ticket >= RECENT:
                decided.append((self._refusal(held.time_s), self.held.pop(ticket)))
        if not counts:
            self.held[self.number] = visit
        return decided

    def end(self) -> list[Released]:
        """More will follow, but nothing stays held."""
        if not self.ordered:
            return []
        if self.clock_s is None:
            self._start()
        times = {ticket: one.time_s for ticket, one in self.held.items()}
        decided = []
        for ticket, time_s in times.items():
            agrees = any(other != ticket and abs(time_s - there) <= self.ahead_s for other, there in times.items())
            verdict = "accepted" if agrees or self._counts(time_s) else self._refusal(time_s)
            decided.append((verdict, self.held.pop(ticket)))
        return decided

    def begin_anew(self) -> list[Released]:
        """The clock was reset by hand."""
        decided = self.end()
        fresh = Judge(self.ahead_limit_s, self.late_limit_s)
        self.number, self.clock_s, self.recent = fresh.number, fresh.clock_s, fresh.recent
        self.ordered, self.last, self.ahead_s, self.late_s = [], [], fresh.ahead_s, fresh.late_s
        return decided

    def forget(self, uids: set[str]) -> int:
        """Held visits of these are no more; how many."""
        gone = [ticket for ticket, one in self.held.items() if one.uid in uids]
        for ticket in gone:
            del self.held[ticket]
        return len(gone)

    def _push(self, time_s: int) -> None:
        self.recent.append(time_s)
        insort(self.ordered, time_s)
        insort(self.last, time_s)
        if len(self.recent) > LAST:
            del self.last[bisect_left(self.last, self.recent[-LAST - 1])]
        if len(self.recent) > RECENT:
            del self.ordered[bisect_left(self.ordered, self.recent.popleft())]

    def _move(self, clock_s: int) -> None:
        if self.number % 100 == 0:
            self._widen()
        behind = bisect_left(self.last, clock_s - self.late_s)
        first_beyond = bisect_right(self.last, clock_s + self.ahead_s)
        if behind > LAST // 2:
            self.clock_s = self.last[(behind - 1) // 2]
        elif len(self.last) - first_beyond > LAST // 2:
            self.clock_s = self.last[first_beyond + (len(self.last) - first_beyond - 1) // 2]
        else:
            near = bisect_right(self.ordered, clock_s + self.ahead_s)
            if near >= WITNESSES:
                self.clock_s = max(clock_s, self.ordered[near - WITNESSES])

    def _start(self) -> None:
        self._widen()
        median = self.ordered[(len(self.ordered) - 1) // 2]
        self.clock_s = next(at for at in self.ordered if abs(at - median) <= self.ahead_s)

    def _widen(self) -> None:
        ordered = self.ordered
        steps = sorted(b - a for a, b in pairwise(ordered))
        wide = 80 * steps[len(steps) // 2] if steps else 0
        if len(ordered) >= LAST:
            spans = sorted(ordered[at + WITNESSES - 1] - ordered[at] for at in range(len(ordered) - WITNESSES + 1))
            wide = max(wide, 4 * spans[len(spans) // 2])
        self.ahead_s, self.late_s = max(self.ahead_limit_s, wide), max(self.late_limit_s, wide)

    def _counts(self, time_s: int) -> bool:
        if self.clock_s is not None and self.clock_s - self.late_s <= time_s <= self.clock_s + self.ahead_s:
            return True
        first = bisect_left(self.ordered, time_s - self.ahead_s)
        return bisect_right(self.ordered, time_s + self.ahead_s) - first >= WITNESSES

    def _refusal(self, time_s: int) -> str:
        assert self.clock_s is not None
        return "ahead" if time_s > self.clock_s + self.ahead_s else "too_late"
