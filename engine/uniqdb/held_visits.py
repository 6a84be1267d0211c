"""Visits that are held: neither counted nor refused yet, by ticket and by event time."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable

from uniqdb.limits import RECENT_VISITS


class HeldVisits:
    """Event times (seconds) of held visits. A ticket is the number of the visit among the plausible ones, from 1.

    Every operation is a bisection, apart from what it returns.
    """

    def __init__(self, held: Iterable[tuple[int, int]] = ()) -> None:
        self.times_s: dict[int, int] = dict(held)
        """Event time by ticket, tickets ascending."""
        self._ordered = sorted((time_s, ticket) for ticket, time_s in self.times_s.items())

    def __len__(self) -> int:
        return len(self.times_s)

    def add(self, ticket: int, time_s: int) -> None:
        """Hold one more visit; its ticket is the highest so far."""
        self.times_s[ticket] = time_s
        insort(self._ordered, (time_s, ticket))

    def remove(self, ticket: int) -> int:
        """No longer hold this visit; returns its event time."""
        time_s = self.times_s.pop(ticket)
        del self._ordered[bisect_left(self._ordered, (time_s, ticket))]
        return time_s

    def within(self, low_s: int, high_s: int) -> list[int]:
        """Tickets of held visits in ``[low_s, high_s]``, by event time."""
        ordered = self._ordered
        start = bisect_left(ordered, (low_s, 0))
        if start == len(ordered) or ordered[start][0] > high_s:
            return []
        return [ticket for _, ticket in ordered[start : bisect_right(ordered, (high_s + 1, 0))]]

    def first_expiry(self) -> int | None:
        """The visit number with which the oldest held visit has waited for 1,000 further ones."""
        first = next(iter(self.times_s), None)
        return None if first is None else first + RECENT_VISITS

    def agreeing(self, limit_s: int) -> set[int]:
        """Tickets of held visits that have another held one within the limit, inclusive. One pass."""
        found = set()
        for (early_s, early), (late_s, late) in zip(self._ordered, self._ordered[1:], strict=False):
            if late_s - early_s <= limit_s:
                found |= {early, late}
        return found

    def ordered_times_s(self) -> list[int]:
        """The event times, ascending."""
        return [time_s for time_s, _ in self._ordered]
