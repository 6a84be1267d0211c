"""What may stand in a query: one table that refuses what is wrong, and that the OpenAPI document is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from uniqdb.errors import UsageError
from uniqdb_cli.web.limits import UID_BYTES_MAX, WINDOWS_MAX

GRANULARITIES = ("minute", "hour", "day", "week", "month", "year")
TRAILING_WINDOWS = ("1d", "7d", "30d", "90d", "180d", "365d")


class BadQuery(UsageError):
    """The query is no query of this address: an unknown or a missing name, a name twice, a byte that is no text."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One name that a query may have. ``choices``: all values there are. No value is longer than ``bytes_max``."""

    name: str
    meaning: str
    example: str
    choices: tuple[str, ...] = ()
    is_required: bool = False
    is_repeatable: bool = False
    bytes_max: int = 64

    def schema(self) -> dict[str, Any]:
        """Its parameter object of OpenAPI."""
        text: dict[str, Any] = {"type": "string"}
        text |= {"enum": list(self.choices)} if self.choices else {"minLength": 1, "maxLength": self.bytes_max}
        if self.is_repeatable:
            text = {"type": "array", "items": text, "maxItems": WINDOWS_MAX}
        found = {"name": self.name, "in": "query", "description": self.meaning, "required": self.is_required}
        return {**found, "schema": text, "example": [self.example] if self.is_repeatable else self.example}


FORMAT = Parameter("format", "How to answer; without it JSON.", "csv", ("json", "csv"))
WINDOW = Parameter("window", "A trailing window: the last days, hours or minutes.", "30d")
PERIOD = Parameter("period", "A year, month, ISO week, day, hour or minute of the store's calendar.", "2016-07")
FROM = Parameter("from", "Where an interval starts: a period, a time, or Unix seconds.", "2016-07-01")
TO = Parameter("to", "Where it ends: a day, week, month or year is included, a time is not.", "2016-07-31")
AS_OF = Parameter(
    "as_of", "The day that trailing windows end with; without it that of the store's clock.", "2016-07-11"
)
BY = Parameter("by", "The granularity of the buckets.", "day", GRANULARITIES, is_required=True)
LAST = Parameter("last", "The range as a trailing window, in place of from and to.", "30d")
COHORTS_BY = Parameter("by", "The granularity of the cohorts.", "week", ("day", "week", "month"), is_required=True)
BEFORE = Parameter(
    "before", "How far is looked back before each bucket; without it over all that the store keeps.", "365d"
)
WITH = Parameter(
    "with",
    "The other window: a trailing window, a period, or `previous` for the one of the same length before.",
    "previous",
    is_required=True,
)
FILL = Parameter("fill", "yes: also the buckets without visits.", "yes", ("yes", "no"))
COMPARE = Parameter("compare", "yes: also the range of the same length before.", "yes", ("yes", "no"))
WINDOWS = Parameter(
    "window",
    f"A trailing window; may be given {WINDOWS_MAX} times. Without it: {', '.join(TRAILING_WINDOWS)}.",
    "30d",
    is_repeatable=True,
)
UID = Parameter("uid", "The visitor.", "fbfcbfc80d60cb19266", is_required=True, bytes_max=UID_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class Query:
    """What was asked, name by name; only names that the address knows, with values that could be."""

    values: dict[str, list[str]]

    def get(self, name: str) -> str | None:
        """The value, or None where none was given."""
        found = self.values.get(name)
        return None if found is None else found[0]

    def every(self, name: str) -> list[str]:
        """All values of a name that may be repeated."""
        return self.values.get(name, [])

    def is_yes(self, name: str) -> bool:
        """Whether a switch is on."""
        return self.get(name) == "yes"

    @property
    def text(self) -> str:
        """The same for the same question, in whatever order it was asked."""
        return repr(sorted(self.values.items()))


def parse_query(raw: bytes, parameters: Sequence[Parameter]) -> Query:
    """The query of a request. Raises BadQuery, which never repeats a value: it may be a uid."""
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32)
    except (ValueError, UnicodeError):
        raise BadQuery("the query is not text in UTF-8, or has too many parts", hint="percent-encode it") from None
    known = {one.name: one for one in parameters}
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in known:
            raise BadQuery("the query has a name that is not known here", hint=_names(parameters))
        found.setdefault(name, []).append(value)
    for one in parameters:
        values = found.get(one.name, [])
        if one.is_required and not values:
            raise BadQuery(f"{one.name} is missing", hint=f"such as {one.name}={one.example}")
        if len(values) > (WINDOWS_MAX if one.is_repeatable else 1):
            raise BadQuery(f"{one.name} is given {len(values)} times", hint="leave some out")
        for value in values:
            if one.choices and value not in one.choices:
                raise BadQuery(f"{one.name} cannot be that", hint=f"use one of {', '.join(one.choices)}")
            if not 0 < len(value.encode()) <= one.bytes_max:
                raise BadQuery(f"{one.name} is empty or too long", hint=f"1 to {one.bytes_max} bytes")
    return Query(found)


def _names(parameters: Sequence[Parameter]) -> str:
    return f"this address knows {', '.join(one.name for one in parameters)}" if parameters else "it takes none"
