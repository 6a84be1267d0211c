"""What plain Python sets say of new and returning visitors, cohorts and stickiness: no code of the engine is in it."""

from datetime import date, timedelta

from model import Model

Edges = tuple[int, int]
NEXT = {
    "day": lambda first: first + timedelta(1),
    "week": lambda first: first + timedelta(7),
    "month": lambda first: (first.replace(day=1) + timedelta(32)).replace(day=1),
}


def days_back(model: Model, start_s: int, days: int) -> int:
    """The midnight so many dates before the date that holds an instant."""
    return model.midnight(model.day_of(start_s) - timedelta(days))


def told_apart(model: Model, edges_s: Edges, since_s: int) -> tuple[set[str], set[str]]:
    """Who is new in an interval, and who returns, by who was seen from ``since_s`` to its start."""
    here, seen = model.union(*edges_s), model.union(since_s, edges_s[0])
    return here - seen, here & seen


def periods(model: Model, by: str, first: date, last: date) -> list[Edges]:
    """The days, weeks or months that start from one date up to another one, without those of length zero."""
    found = []
    day = model.day_of(model.start(by, model.midnight(first)))
    while day <= last:
        after = NEXT[by](day)
        start_s, end_s = model.midnight(day), model.midnight(after)
        if day >= first and start_s < end_s:
            found.append((start_s, end_s))
        day = after
    return found


def triangle(model: Model, asked: list[Edges], since_s: int = 0) -> list[list[int]]:
    """Of those first seen in each period, since a moment, how many came in it, and in each one after it."""
    here = [model.union(*edges_s) for edges_s in asked]
    rows, seen = [], model.union(since_s, asked[0][0]) if asked else set()
    for number, one in enumerate(here):
        cohort = one - seen
        seen = seen | one
        rows.append([len(cohort & later) for later in here[number:]])
    return rows


def sticky(model: Model, day: date) -> tuple[int, int, int]:
    """The different visitors of a date, and of the 7 and the 30 that end with it."""
    end_s = model.midnight(day + timedelta(1))
    one, seven, thirty = (len(model.union(model.midnight(day - timedelta(days - 1)), end_s)) for days in (1, 7, 30))
    return one, seven, thirty
