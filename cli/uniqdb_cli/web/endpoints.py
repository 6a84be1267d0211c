"""The addresses of the API: for each what it takes, what it answers, and how that looks as CSV."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from uniqdb.cohorts import Cohorts
from uniqdb.record import CountRecord
from uniqdb.snapshot import Snapshot
from uniqdb.stickiness import Stickiness, StickyDay
from uniqdb.visitor_questions import Overlap
from uniqdb_cli.cohorts import COLUMNS as COHORT_COLUMNS
from uniqdb_cli.cohorts import long_rows
from uniqdb_cli.web import comparisons, questions, shapes
from uniqdb_cli.web import parameters as p

Rows = Iterator[Iterable[object]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address. ``rows``: the lines of its CSV, header first; None: it answers JSON only.

    ``is_private``: the question is about one visitor, and is remembered nowhere.
    """

    path: str
    summary: str
    ask: Callable[[Snapshot, p.Query, questions.Patience], Any]
    answer: type
    parameters: tuple[p.Parameter, ...] = ()
    rows: Callable[[Any], Rows] | None = None
    is_private: bool = False


def _table(kind: type[Any], found: Iterable[Any]) -> Rows:
    names: tuple[str, ...] = kind.__struct_fields__
    yield names
    for one in found:
        yield [_cell(getattr(one, name)) for name in names]


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is UNSET else value


def _windows(found: shapes.Trailing) -> Rows:
    return _table(
        CountRecord, (one for window in found.windows for one in (window.before, window.current) if one is not None)
    )


def _triangle(found: Cohorts) -> Rows:
    yield COHORT_COLUMNS
    for row in long_rows(found):
        yield [_cell(row[name]) for name in COHORT_COLUMNS]


def csv_of(rows: Rows) -> bytes:
    """Comma-separated values with a header line, in UTF-8."""
    written = io.StringIO()
    csv.writer(written, lineterminator="\r\n").writerows(rows)
    return written.getvalue().encode()


ENDPOINTS = (
    Endpoint(
        "/api/count",
        "Different visitors of a trailing window, a period, or an interval; without any, of everything.",
        questions.count,
        CountRecord,
        (p.WINDOW, p.AS_OF, p.PERIOD, p.FROM, p.TO, p.FORMAT),
        lambda found: _table(CountRecord, [found]),
    ),
    Endpoint(
        "/api/series",
        "Each bucket of a range, and of the range before, from which the CSV then begins.",
        questions.series,
        shapes.Series,
        (p.BY, p.LAST, p.AS_OF, p.FROM, p.TO, p.FILL, p.COMPARE, p.FORMAT),
        lambda found: _table(CountRecord, [*(found.before or []), *found.records]),
    ),
    Endpoint(
        "/api/trailing",
        "Trailing windows, each with the window before it and the change.",
        questions.trailing,
        shapes.Trailing,
        (p.WINDOWS, p.AS_OF, p.FORMAT),
        _windows,
    ),
    Endpoint(
        "/api/returning",
        "New against returning visitors of a range, bucket by bucket.",
        comparisons.split,
        shapes.Split,
        (p.BY, p.LAST, p.AS_OF, p.FROM, p.TO, p.BEFORE, p.FILL, p.FORMAT),
        lambda found: _table(shapes.SplitBucket, found.buckets),
    ),
    Endpoint(
        "/api/overlap",
        "How many visitors of a window, a period, or an interval are also in another window.",
        comparisons.overlap,
        Overlap,
        (p.WITH, p.WINDOW, p.AS_OF, p.PERIOD, p.FROM, p.TO, p.FORMAT),
        lambda found: _table(Overlap, [found]),
    ),
    Endpoint(
        "/api/cohorts",
        "Of the visitors first seen in each day, week or month, how many came back in those after it.",
        comparisons.cohorts,
        Cohorts,
        (p.COHORTS_BY, p.FROM, p.TO, p.FORMAT),
        _triangle,
    ),
    Endpoint(
        "/api/stickiness",
        "Each day's visitors as a part of those of the 7 and the 30 days that end with it, and the average.",
        comparisons.stickiness,
        Stickiness,
        (p.LAST, p.AS_OF, p.FROM, p.TO, p.FORMAT),
        lambda found: _table(StickyDay, found.days),
    ),
    Endpoint(
        "/api/exists",
        "Whether a visitor was seen. The question is neither logged nor kept.",
        questions.exists,
        shapes.Existence,
        (p.UID, p.WINDOW, p.AS_OF, p.PERIOD),
        is_private=True,
    ),
    Endpoint(
        "/api/quarantine",
        "How many records were refused, by reason.",
        questions.quarantine,
        shapes.Quarantine,
        (p.FORMAT,),
        lambda found: _table(shapes.Refused, found.reasons),
    ),
    Endpoint(
        "/api/status",
        "The store as of its newest commit: clock, totals, late visits, sources.",
        questions.status,
        shapes.Status,
    ),
    Endpoint("/healthz", "Whether the server answers and the store can be read.", questions.alive, shapes.Alive),
)
