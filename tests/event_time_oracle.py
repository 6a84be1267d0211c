"""The rules of event time for one source, word for word, one visit after the other and slowly: no shortcuts."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

DAY_S = 86_400
FIRST_S, LAST_S = 946_684_800, 253_370_764_800


@dataclass
class Oracle:
    """`verdicts`: one word for each visit, ``held`` as long as it is; `clocks`: before and after each visit."""

    ahead_limit_s: int = 600
    late_limit_s: int = DAY_S
    number: int = 0
    clock: int | None = None
    recent: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    verdicts: list[str] = field(default_factory=list)
    clocks: list[tuple[int | None, int | None]] = field(default_factory=list)
    held: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By ticket: index of the visit, and its time."""
    releases: list[tuple[int, str, int]] = field(default_factory=list)
    """Ticket, verdict, index of the visit at which it happened (-1: at the end)."""

    def __post_init__(self) -> None:
        self.ahead, self.late = self.ahead_limit_s, self.late_limit_s

    def visit(self, time: int, reference: int) -> None:
        before, index = self.clock, len(self.verdicts)
        # 1.
        if not FIRST_S <= time < LAST_S or time > reference + DAY_S:
            self.verdicts.append("implausible")
            self.clocks.append((before, before))
            return
        # 2.
        self.number += 1
        self.recent = np.append(self.recent, time)[-1000:]
        # 3. and 4.
        if self.clock is None:
            if self.number == 20:
                self.start()
        else:
            if self.number % 100 == 0:
                self.widen()
            last = np.sort(self.recent[-100:])
            beyond = last[last > self.clock + self.ahead]
            behind = last[last < self.clock - self.late]
            if len(behind) > 50 or len(beyond) > 50:
                side = behind if len(behind) > 50 else beyond
                self.clock = int(side[(len(side) - 1) // 2])
            else:
                near = np.sort(self.recent[self.recent <= self.clock + self.ahead])
                if len(near) >= 20:
                    self.clock = max(self.clock, int(near[-20]))
        # 5.
        accepted = self.counts(time)
        self.verdicts.append("accepted" if accepted else "held")
        # 6.
        for ticket, (_, at) in list(self.held.items()):
            if self.counts(at):
                self.release(ticket, "accepted", index)
            elif self.number - ticket >= 1000:
                self.release(ticket, self.refusal(at), index)
        if not accepted:
            self.held[self.number] = index, time
        self.clocks.append((before, self.clock))

    def end(self) -> None:
        if not len(self.recent):
            return
        if self.clock is None:
            self.start()
        times = {ticket: at for ticket, (_, at) in self.held.items()}
        for ticket, at in times.items():
            agreeing = any(other != ticket and abs(at - there) <= self.ahead for other, there in times.items())
            self.release(ticket, "accepted" if agreeing or self.counts(at) else self.refusal(at), -1)
        assert self.clock is not None
        self.clock = max([self.clock, *self.recent[self.recent <= self.clock + self.ahead].tolist()])

    def start(self) -> None:
        self.widen()
        ordered = sorted(self.recent.tolist())
        median = ordered[(len(ordered) - 1) // 2]
        self.clock = min(t for t in ordered if abs(t - median) <= self.ahead)

    def widen(self) -> None:
        ordered = sorted(self.recent.tolist())
        steps = sorted(b - a for a, b in pairwise(ordered))
        wide = 80 * steps[len(steps) // 2] if steps else 0
        if len(ordered) >= 100:
            spans = sorted(ordered[i + 19] - ordered[i] for i in range(len(ordered) - 19))
            wide = max(wide, 4 * spans[len(spans) // 2])
        self.ahead, self.late = max(self.ahead_limit_s, wide), max(self.late_limit_s, wide)

    def counts(self, time: int) -> bool:
        if self.clock is not None and self.clock - self.late <= time <= self.clock + self.ahead:
            return True
        return int((abs(self.recent - time) <= self.ahead).sum()) >= 20

    def refusal(self, time: int) -> str:
        assert self.clock is not None
        return "ahead" if time > self.clock + self.ahead else "too_late"

    def release(self, ticket: int, verdict: str, index: int) -> None:
        visit, _ = self.held.pop(ticket)
        self.verdicts[visit] = verdict
        self.releases.append((ticket, verdict, index))
