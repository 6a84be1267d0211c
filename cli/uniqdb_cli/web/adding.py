"""Answers of stores that share no visitor, added field by field.

A field without a rule is the same in all of them: what is neither is a fault, and no answer.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from uniqdb.cohorts import CohortPeriod, Cohorts
from uniqdb.parts import added_counts, added_status
from uniqdb.record import CountRecord
from uniqdb.stickiness import Stickiness, StickyDay, averaged, with_parts
from uniqdb.visitor_questions import Overlap
from uniqdb_cli.web import shapes

T = TypeVar("T")
Rule = Callable[[Sequence[Any]], Any]


def added(answers: Sequence[T]) -> T:
    """One answer of those that the stores gave to one question as `uniqdb.parts`."""
    kind = type(answers[0])
    special = _WHOLE.get(kind)
    if special is not None:
        found: T = special(answers)
        return found
    return _fields(answers)


def _fields(answers: Sequence[Any]) -> Any:
    rules = RULES[type(answers[0])]
    values = {
        name: rules.get(name, _same)([getattr(one, name) for one in answers])
        for name in type(answers[0]).__struct_fields__
    }
    return type(answers[0])(**values)


# ---------------------------------------------------------------- rules
def _same(values: Sequence[Any]) -> Any:
    if any(one != values[0] for one in values):
        raise AssertionError(f"the stores do not speak of the same: {values[0]!r} and others")
    return values[0]


def _each(lists: Sequence[list[Any] | None]) -> list[Any] | None:
    """The lists are of the same things in the same order."""
    there = [one for one in lists if one is not None]
    return [added(group) for group in zip(*there, strict=True)] if len(there) == len(lists) else _same(lists)


def _columns(lists: Sequence[list[int]]) -> list[int]:
    return [sum(column) for column in zip(*lists, strict=True)]


def _joined(lists: Sequence[list[Any]]) -> list[Any]:
    return [one for each in lists for one in each]


def _by_word(tables: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in tables:
        total.update(one)
    return dict(total)


def _latest_by_word(tables: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {word: max(one[word] for one in tables if word in one) for each in tables for word in each}


def _latest(times_s: Sequence[int | None]) -> int | None:
    return max((at for at in times_s if at is not None), default=None)


def _by_reason(lists: Sequence[list[shapes.Refused]]) -> list[shapes.Refused]:
    alike: dict[str, list[shapes.Refused]] = {}
    for one in _joined(lists):
        alike.setdefault(one.reason, []).append(one)
    return [_fields(alike[reason]) for reason in sorted(alike)]


def _compared(found: Sequence[shapes.Compared]) -> shapes.Compared:
    refused = next((one for one in found if one.current is None), None)
    if refused is not None:
        return refused
    current = added_counts([one.current for one in found if one.current is not None])
    befores = [one.before for one in found if one.before is not None]
    before = added_counts(befores) if len(befores) == len(found) else None
    # Whether the windows can be compared is the same in all stores, but one in which nobody came says nothing.
    is_comparable = before is not None and any(one.change is not None for one in found)
    change = current.count / before.count - 1 if before is not None and is_comparable else None
    return shapes.Compared(window=found[0].window, current=current, before=before, change=change)


_COUNTED: dict[str, Rule] = {"count": sum, "new": sum, "returning": sum}
RULES: dict[type, dict[str, Rule]] = {
    shapes.Series: {"commit": sum, "records": _each, "before": _each},
    shapes.Trailing: {"commit": sum, "windows": _each},
    shapes.Existence: {"commit": sum, "exists": any},
    shapes.Refused: {"count": sum, "discarded": sum},
    shapes.Quarantine: {"count": sum, "kept": sum, "commit": sum, "reasons": _by_reason},
    shapes.SplitBucket: {**_COUNTED, "status": added_status},
    shapes.Split: {**_COUNTED, "since_ts": _latest, "commit": sum, "buckets": _each},
    Overlap: {
        **dict.fromkeys(("count", "other_count", "both", "either", "epoch"), sum),
        "status": added_status,
        "complete": all,
    },
    CohortPeriod: {"count": sum, "new": sum, "status": added_status, "complete": all, "returned": _columns},
    Cohorts: {"since_ts": _latest, "complete": all, "epoch": sum, "periods": _each},
    StickyDay: {
        **dict.fromkeys(("dau", "wau", "mau"), sum),
        **dict.fromkeys(("dau_wau", "dau_mau"), _latest),
        "status": added_status,
        "complete": all,
    },
    Stickiness: {
        **dict.fromkeys(("dau_wau", "dau_mau", "days_averaged"), _latest),
        "complete": all,
        "epoch": sum,
        "days": _each,
    },
    shapes.Status: {
        **dict.fromkeys(("commit", "epoch", "visits", "visitors", "held", "expired", "quarantined"), sum),
        **dict.fromkeys(("gaps", "lost_spans"), sum),
        "late": _by_word,
        "kept_from_ts": _latest_by_word,
        "sources": _joined,
        "stores": _joined,
    },
    shapes.Alive: {"commit": sum},
}
"""By type and field. Parts of `StickyDay` and means of `Stickiness` are worked out anew."""
_WHOLE: dict[type, Callable[[Sequence[Any]], Any]] = {
    CountRecord: added_counts,
    shapes.Compared: _compared,
    StickyDay: lambda found: with_parts(_fields(found)),
    Stickiness: lambda found: averaged(_fields(found)),
}
