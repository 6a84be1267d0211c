"""Visits that are held: neither counted nor refused yet, by ticket and by event time."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from uniqdb.limits import RECENT_VISITS


class HeldVisits:
    """Event times (seconds) of held visits. A ticket is the number of the visit among the plausible ones, from 1.

    Every operation is a bisection, apart from what it returns.
    """

    def __init__(self, held: Iterable[tuple[int, int]] = ()) -> None:
        self.times_s: dict[int, int] = dict(held)
        """Event time by ticket, tickets ascending."""
        ordered = sorted((time_s, ticket) for ticket, time_s in self.times_s.items())
        self._ordered_s = [time_s for time_s, _ in ordered]
        self._tickets = [ticket for _, ticket in ordered]

    def __len__(self) -> int:
        return len(self.times_s)

    def add(self, ticket: int, time_s: int) -> None:
        """Hold one more visit; its ticket is the highest so far."""
        self.times_s[ticket] = time_s
        place = bisect_right(self._ordered_s, time_s)
        self._ordered_s.insert(place, time_s)
        self._tickets.insert(place, ticket)

    def remove(self, ticket: int) -> int:
        """No longer hold this visit; returns its event time."""
        time_s = self.times_s.pop(ticket)
        place = self._tickets.index(ticket, bisect_left(self._ordered_s, time_s))
        del self._ordered_s[place], self._tickets[place]
        return time_s

    def within(self, low_s: int, high_s: int) -> list[int]:
        """Tickets of held visits in ``[low_s, high_s]``, by event time."""
        start = bisect_left(self._ordered_s, low_s)
        return self._tickets[start : bisect_right(self._ordered_s, high_s, start)]

    def first_expiry(self) -> int | None:
        """The visit number with which the oldest held visit has waited for 1,000 further ones."""
        first = next(iter(self.times_s), None)
        return None if first is None else first + RECENT_VISITS

    def agreeing(self, limit_s: int) -> set[int]:
        """Tickets of held visits that have another held one within the limit, inclusive. One pass."""
        found = set()
        for place in range(1, len(self._ordered_s)):
            if self._ordered_s[place] - self._ordered_s[place - 1] <= limit_s:
                found |= {self._tickets[place - 1], self._tickets[place]}
        return found

    def ordered_times_s(self) -> list[int]:
        """The event times, ascending."""
        return self._ordered_s.copy()
