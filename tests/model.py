"""The oracle: Python sets, and a calendar that shares no code with the engine."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

GRANULARITIES = ("minute", "hour", "day", "week", "month", "year")
Rows = dict[tuple[str, int], tuple[int, int]]


class Model:
    """Every visit ever accepted, as sets per bucket: ``{(granularity, start_s): set of uids}``."""

    def __init__(self, zone: str = "UTC") -> None:
        self.zone = ZoneInfo(zone)
        self.members: dict[tuple[str, int], set[str]] = {}
        self.visits: dict[tuple[str, int], int] = {}

    def add(self, times: Iterable[int], uids: Iterable[str]) -> None:
        for time_s, uid in zip(times, uids, strict=True):
            for granularity in GRANULARITIES:
                bucket = granularity, self.start(granularity, time_s)
                self.members.setdefault(bucket, set()).add(uid)
                self.visits[bucket] = self.visits.get(bucket, 0) + 1

    def rows(self) -> Rows:
        return {bucket: (len(uids), self.visits[bucket]) for bucket, uids in self.members.items()}

    def union(self, start_s: int, end_s: int) -> set[str]:
        """Who was seen in ``[start_s, end_s)``, whole minutes."""
        minutes = (uids for (kind, at), uids in self.members.items() if kind == "minute" and start_s <= at < end_s)
        return set().union(*minutes)

    def midnight(self, day: date) -> int:
        return int(datetime(day.year, day.month, day.day, tzinfo=self.zone).astimezone(UTC).timestamp())

    def day_of(self, time_s: int) -> date:
        """The date whose interval holds the instant (its label may differ after a midnight that came twice)."""
        day = datetime.fromtimestamp(time_s, self.zone).date() + timedelta(1)
        while self.midnight(day) > time_s:
            day -= timedelta(1)
        return day

    def start(self, granularity: str, time_s: int) -> int:
        if granularity == "minute":
            return time_s - time_s % 60
        day = self.day_of(time_s)
        if granularity == "hour":
            at = time_s - time_s % 60
            while at > self.midnight(day) and datetime.fromtimestamp(at, self.zone).minute:
                at -= 60
            return at
        first = {"day": day, "month": day.replace(day=1), "year": day.replace(month=1, day=1)}
        first["week"] = day - timedelta(day.weekday())
        return self.midnight(first[granularity])
