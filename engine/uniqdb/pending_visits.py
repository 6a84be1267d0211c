"""Visits of calls that wait for the commit of their handle."""

from collections.abc import Callable

import numpy as np

from uniqdb.moments import Moment
from uniqdb.quarantine import Quarantined
from uniqdb.reading import Reader
from uniqdb.visit import uid_text
from uniqdb.writer import Commit


class PendingVisits:
    """Accepted and refused visits without a source, in the order of the calls. Not thread-safe."""

    __slots__ = ("_indexed", "_uid_times_s", "refused", "times_s", "uids")

    def __init__(self, times_s: list[int] | None = None, uids: list[str] | None = None) -> None:
        self.times_s, self.uids = times_s or [], uids or []
        self.refused: list[Quarantined] = []
        self._uid_times_s: dict[str, list[int]] = {}
        self._indexed = 0

    def __bool__(self) -> bool:
        return bool(self.uids or self.refused)

    def __len__(self) -> int:
        return len(self.uids) + len(self.refused)

    def commit(self, reference_s: int, most: int | None = None) -> Commit:
        """All of it, or the first so many visits with all that was refused, as a commit."""
        times_s = np.array(self.times_s[:most], np.int64)
        return Commit(times_s, self.uids[:most], self.refused, reference_s=reference_s)

    def after(self, committed: int) -> "PendingVisits":
        """What is left once so many visits, and all that was refused, are in the store."""
        return PendingVisits(self.times_s[committed:], self.uids[committed:])

    def times_of(self, uid: str, takes: Callable[[int], bool]) -> list[int]:
        """Event times of the uid's visits that count somewhere; indexed once per added visit."""
        for at in range(self._indexed, len(self.uids)):
            self._uid_times_s.setdefault(self.uids[at], []).append(self.times_s[at])
        self._indexed = len(self.uids)
        return [time_s for time_s in self._uid_times_s.get(uid, ()) if takes(time_s)]


def seen_or_waits(
    reader: Reader,
    pending: PendingVisits,
    takes: Callable[[int], bool],
    asked: tuple[str | int, str | None, Moment | None],
) -> bool:
    """`Reader.check_if_uid_exists` of what was ``asked`` (uid, window, as_of), with the visits that wait."""
    uid, window, as_of = asked
    text = uid_text(uid)
    if text is None:
        return False
    waiting = pending.times_of(text, takes)
    if window is None:
        return bool(waiting) or reader.check_if_uid_exists(text)
    # What waits here has no source, and moves no clock.
    start_s, end_s = reader.span(window, as_of, newest_s=max(pending.times_s))
    return any(start_s <= at < end_s for at in waiting) or reader.seen_between(text, start_s, end_s)
