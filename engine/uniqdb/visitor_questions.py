"""Who is new in a window, who came back, and who is in two windows: differences and intersections of exact sets.

New is who is in the window and was not seen in the time before it: the *look-back*, such as 365 days, or all that the
store keeps. Everybody else in the window is returning. All of it from one view, so the parts always add up.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress

import msgspec
from msgspec import UNSET, UnsetType
from pyroaring import BitMap

from uniqdb.answers import Answers
from uniqdb.errors import WindowNotKept
from uniqdb.granularity import Granularity
from uniqdb.look_back import look_back_start
from uniqdb.record import CountRecord
from uniqdb.window import TrailingWindow

BEFORE = "365d"
"""How far is looked back unless somebody says otherwise."""


class NewAndReturning(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The ``count`` visitors of ``[start_ts, end_ts)``, told apart: ``new`` and ``returning`` ones add up to it.

    Returning is who was also seen in ``[since_ts, start_ts)``, which is ``before`` long; without ``before`` that is all
    that the store keeps. ``complete``: the window is, and no visit of the look-back can be missing either: a look-back
    that begins before the store's first visit finds too many new visitors.
    """

    granularity: str
    datetime: str
    count: int
    new: int
    returning: int
    start_ts: int
    end_ts: int
    since_ts: int
    timezone: str
    status: str
    complete: bool
    epoch: int
    before: str | UnsetType = UNSET
    window: str | UnsetType = UNSET
    as_of: str | UnsetType = UNSET


class Overlap(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Two windows, ``[start_ts, end_ts)`` and the other one, ``[other_start_ts, other_end_ts)``, and who was in both.

    ``count`` and ``other_count`` are their different visitors, ``both`` those of both, ``either`` those of at least
    one: ``count + other_count - both``. ``complete`` if both windows are; ``status`` is that of the first.
    """

    granularity: str
    datetime: str
    count: int
    other_count: int
    both: int
    either: int
    start_ts: int
    end_ts: int
    other_start_ts: int
    other_end_ts: int
    timezone: str
    status: str
    complete: bool
    epoch: int
    other: str | UnsetType = UNSET
    window: str | UnsetType = UNSET
    as_of: str | UnsetType = UNSET


# ---------------------------------------------------------------- looking back
def since_s(answers: Answers, start_s: int, before: TrailingWindow | None) -> int:
    """Where the look-back of a window that starts at ``start_s`` begins: at ``start_s`` if there is none.

    Without ``before``: with the first visit, or the oldest year that is kept.
    """
    if before is not None:
        return look_back_start(answers.zone, before, start_s)
    first_s = answers.state.event_time_s_min
    return start_s if first_s is None else min(start_s, max(first_s, answers.retention.kept_from_s(Granularity.YEAR)))


def seen_sets(answers: Answers, start_s: int, before: TrailingWindow | None) -> list[BitMap]:
    """Sets whose union is everybody who was seen in the look-back. Shared, not to be changed. Raises WindowNotKept."""
    first_s = answers.state.event_time_s_min
    if first_s is None or start_s <= first_s:
        return []
    from_s = since_s(answers, start_s, before)
    if from_s > first_s:
        return answers.sets(from_s, start_s) if from_s < start_s else []
    # Nobody came before the first visit, so that the look-back may begin with whichever bucket that holds it is kept.
    for granularity in reversed(Granularity):
        with suppress(WindowNotKept):
            return answers.sets(answers.zone.bucket_at(granularity, first_s).start_s, start_s)
    return answers.sets(first_s // 60 * 60, start_s)  # which says what is not kept


def is_whole_before(answers: Answers, start_s: int, before: TrailingWindow | None) -> bool:
    """Whether no visit of the look-back can be missing, or there is none."""
    from_s = since_s(answers, start_s, before)
    if before is None:  # it begins with the first visit that there is
        return from_s >= start_s or not answers.lacks("interval", from_s, start_s)
    return from_s >= start_s or answers.is_whole("interval", from_s, start_s)


def new_ordinals(answers: Answers, edges_s: tuple[int, int], before: TrailingWindow | None) -> BitMap:
    """Who is new in ``[start, end)``. Cost: the window's union, and a difference for each bucket of the look-back."""
    found = BitMap.union(BitMap(), *answers.sets(*edges_s))
    for seen in seen_sets(answers, edges_s[0], before):
        found -= seen
    return found


# ---------------------------------------------------------------- new and returning
def split(answers: Answers, record: CountRecord, before: TrailingWindow | None) -> NewAndReturning:
    """The visitors of a window or bucket that was counted, told apart. Cost: `new_ordinals`. Raises WindowNotKept."""
    return _told(answers, record, len(new_ordinals(answers, (record.start_ts, record.end_ts), before)), before)


def split_each(
    answers: Answers, records: Iterable[CountRecord], before: TrailingWindow | None
) -> Iterator[NewAndReturning]:
    """Each bucket of a series told apart, by what was seen before that bucket.

    The records ascend, and leave out only buckets without visits. Cost: for each, its set, and with ``before`` a
    difference for each bucket of its look-back; without, one union of all that was before the first.
    """
    if before is not None:
        for record in records:
            yield split(answers, record, before)
        return
    seen: BitMap | None = None
    for record in records:
        if seen is None:
            seen = BitMap.union(BitMap(), *seen_sets(answers, record.start_ts, None))
        known = len(seen)
        for one in answers.sets(record.start_ts, record.end_ts):
            seen |= one
        yield _told(answers, record, len(seen) - known, None)


def _told(answers: Answers, record: CountRecord, new: int, before: TrailingWindow | None) -> NewAndReturning:
    return NewAndReturning(
        granularity=record.granularity,
        datetime=record.datetime,
        count=record.count,
        new=new,
        returning=record.count - new,
        start_ts=record.start_ts,
        end_ts=record.end_ts,
        since_ts=since_s(answers, record.start_ts, before),
        timezone=record.timezone,
        status=record.status,
        complete=record.complete and is_whole_before(answers, record.start_ts, before),
        epoch=record.epoch,
        before=UNSET if before is None else before.text,
        window=record.window,
        as_of=record.as_of,
    )


# ---------------------------------------------------------------- two windows
def overlap(answers: Answers, record: CountRecord, other: CountRecord, text: str | None = None) -> Overlap:
    """Who was in both of two windows that were counted; ``text`` names the other one. Cost: their unions."""
    mine, others = (BitMap.union(BitMap(), *answers.sets(one.start_ts, one.end_ts)) for one in (record, other))
    both = mine.intersection_cardinality(others)
    return Overlap(
        granularity=record.granularity,
        datetime=record.datetime,
        count=len(mine),
        other_count=len(others),
        both=both,
        either=len(mine) + len(others) - both,
        start_ts=record.start_ts,
        end_ts=record.end_ts,
        other_start_ts=other.start_ts,
        other_end_ts=other.end_ts,
        timezone=record.timezone,
        status=record.status,
        complete=record.complete and other.complete,
        epoch=record.epoch,
        other=UNSET if text is None else text,
        window=record.window,
        as_of=record.as_of,
    )
