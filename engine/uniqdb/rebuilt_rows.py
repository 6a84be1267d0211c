"""The small rows of a damaged store, brought into line with each other where one of them was lost."""

from collections import Counter

import msgspec

from uniqdb.format import BucketRow, Database, Status, parse_bucket_key
from uniqdb.granularity import Granularity
from uniqdb.intake import read_held, read_judge_state
from uniqdb.meta import StateRow, read_sources
from uniqdb.plausibility import JudgeState
from uniqdb.quarantine import CountedRow, counted_key, read_counted, read_quarantine
from uniqdb.read_view import ReadView

_END = b"\xff" * 64
_LOST = "lost to damage"
"""Stands for the source of refused records of which only the number is left."""
SmallRow = tuple[Database, bytes, msgspec.Struct]


def source_rows(view: ReadView) -> list[SmallRow]:
    """Every source, with the clock and the held visits that are left of it; by database, keys ascending.

    A source without its clock's row remembers its clock and none of its recent times. Rows of no source are left out.
    """
    sources: list[SmallRow] = []
    others: dict[Database, list[SmallRow]] = {Database.CLOCKS: [], Database.HELD: []}
    for key, row in read_sources(view):
        mine, state = dict(read_held(view, key)), read_judge_state(view, key)
        pairs = tuple((ticket, mine[ticket].event_time_s) for ticket in sorted(mine))
        number = max(mine, default=-1) + 1
        if state is None and (pairs or row.clock_s is not None):
            state = JudgeState(visit_number=number, clock_s=row.clock_s)
        if state is not None:
            state = msgspec.structs.replace(state, held=pairs, visit_number=max(number, state.visit_number))
            others[Database.CLOCKS].append((Database.CLOCKS, key, state))
        sources.append((Database.SOURCES, key, msgspec.structs.replace(row, held=len(pairs))))
        for ticket in sorted(mine):
            others[Database.HELD].append((Database.HELD, key + ticket.to_bytes(8, "big"), mine[ticket]))
    return sources + others[Database.CLOCKS] + others[Database.HELD]


def brought_forward(view: ReadView, state: StateRow) -> StateRow:
    """The state of an earlier commit, with what the rows of later ones say."""
    first_s, newest_s, through_s = state.event_time_s_min, state.event_time_s_max, state.closed_through_s
    weeks = years = 0
    for key, payload in view.rows(Database.BUCKETS, b"", _END):
        granularity, start_s = parse_bucket_key(key)
        status = BucketRow.unpack(key, payload).status
        weeks += granularity is Granularity.WEEK
        years += granularity is Granularity.YEAR
        if granularity is Granularity.MINUTE:
            first_s = start_s if first_s is None else min(first_s, start_s)
            newest_s = max(newest_s or 0, start_s + 59)
            if status is not Status.PROVISIONAL:
                through_s = max(through_s or 0, start_s + 60)
    reasons: Counter[str] = Counter()
    following = state.quarantine_next_id
    for number, one in read_quarantine(view):
        reasons[one.reason] += 1
        following = max(following, number + 1)
    for many in read_counted(view):
        reasons[many.reason] += many.count
    return msgspec.structs.replace(
        state,
        event_time_s_min=first_s,
        event_time_s_max=newest_s,
        closed_through_s=through_s,
        weeks=max(weeks, state.weeks),
        years=max(years, state.years),
        quarantined=dict(reasons | Counter(state.quarantined)),
        quarantine_next_id=following,
    )


def quarantine_rows(view: ReadView, state: StateRow) -> tuple[int, list[SmallRow]]:
    """(refused records that are left, all rows): what is lost of what the state counts gets rows that count it."""
    kept: list[SmallRow] = []
    counted: dict[bytes, CountedRow] = {}
    missing = Counter(state.quarantined)
    for number, one in read_quarantine(view):
        missing[one.reason] -= 1
        kept.append((Database.QUARANTINE, number.to_bytes(8, "big"), one))
    for many in read_counted(view):
        missing[many.reason] -= many.count
        counted[counted_key(many.reason, many.origin)] = many
    for reason, count in missing.items():
        if count > 0:
            counted[counted_key(reason, _LOST)] = CountedRow(reason, _LOST, count, 0, 0, 0, 0)
    return len(kept), kept + [(Database.QUARANTINE, key, counted[key]) for key in sorted(counted)]
