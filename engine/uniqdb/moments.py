"""Points in time and windows in the words of a caller: texts, dates, instants."""

import datetime
import math
import re
from typing import TypeAlias, TypeGuard

import msgspec

from uniqdb.calendar_zone import YEAR_MIN, CalendarZone
from uniqdb.errors import UsageError
from uniqdb.granularity import Granularity
from uniqdb.window import TrailingWindow, parse_edge, parse_window, trailing_interval

Moment: TypeAlias = int | str | datetime.date | datetime.datetime
"""A point in time: Unix seconds, an aware datetime, a date, or period text such as 2016-07-11."""
_SECONDS = re.compile(r"-?[0-9]{1,19}")
"""Other texts have digits, too, of which Python makes no number: "---2016", superscripts, thousands of them."""


class ResolvedWindow(msgspec.Struct, frozen=True):
    """A trailing window at a point in time: ``[start_s, end_s)`` and the date or minute it ends with, as text."""

    window: TrailingWindow
    as_of: str
    start_s: int
    end_s: int


def resolve_window(zone: CalendarZone, text: str, as_of: Moment | None, newest_s: int | None) -> ResolvedWindow:
    """The interval of ``text`` (30d, 24h, 45m) as of a date or instant; by default as of ``newest_s``.

    Days are whole local dates, the as-of date included; a date that a zone skipped counts as one of them.
    """
    window = parse_window(text)
    if isinstance(as_of, str):
        as_of = _date_or_instant(zone, as_of)
    if as_of is None:
        if newest_s is None:
            raise UsageError("there is nothing to be as of", hint="give as_of")
        as_of = newest_s
    if window.unit is not Granularity.DAY:
        instant = zone.day_end(as_of) - 60 if _is_date(as_of) else instant_of(zone, as_of)
        start_s, end_s = trailing_interval(zone, window, instant)
        return ResolvedWindow(window, zone.isoformat(instant // 60 * 60), start_s, end_s)
    day = as_of if _is_date(as_of) else zone.local_date(instant_of(zone, as_of))
    try:
        first = day - datetime.timedelta(days=window.length - 1)
    except OverflowError:
        raise UsageError(f"{text} before {day} is before the calendar", hint="ask for fewer days") from None
    start_s, end_s = zone.day_start(first), zone.day_end(day)
    if start_s >= end_s:
        hint = f"it is before {YEAR_MIN}, or a date that {zone.name} skipped"
        raise UsageError(f"{text} as of {day} holds no time at all", hint=hint)
    return ResolvedWindow(window, day.isoformat(), start_s, end_s)


def is_trailing(text: str) -> bool:
    """Period texts (2016, 2016-W28, 2016-07-11T13) never end with one of these letters."""
    return text[-1:] in ("d", "h", "m")


def _is_date(value: object) -> TypeGuard[datetime.date]:
    return isinstance(value, datetime.date) and not isinstance(value, datetime.datetime)


def instant_of(zone: CalendarZone, value: Moment) -> int:
    """Any second, not only whole minutes; of a date or period its start."""
    if isinstance(value, str):
        value = _date_or_instant(zone, value)
    if isinstance(value, int):
        return value
    if not isinstance(value, datetime.datetime):
        return zone.day_start(value)
    if value.tzinfo is None:
        raise UsageError("a datetime without a zone says no instant", hint="give it a tzinfo")
    return math.floor(value.timestamp())


def _date_or_instant(zone: CalendarZone, text: str) -> datetime.date | int:
    """A date, or the second that a time (without an offset: in the store's zone) or a period's start means."""
    if _SECONDS.fullmatch(text) and len(text) > len("2016"):
        return int(text)
    try:
        if "T" not in text:
            return datetime.date.fromisoformat(text)
        moment = datetime.datetime.fromisoformat(text)
        return math.floor((moment if moment.tzinfo else moment.replace(tzinfo=zone.zone_info)).timestamp())
    except (ValueError, OverflowError):
        return parse_edge(zone, text, is_end=False)
