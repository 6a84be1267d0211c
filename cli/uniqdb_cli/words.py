"""The words that options take, and the options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class OutputFormat(StrEnum):
    """How answers are written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    VALUE = "value"


class ExportFormat(StrEnum):
    """The files of an export."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class SetsFormat(StrEnum):
    """The files of an export of sets."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    CLICKHOUSE = "clickhouse"


class TsUnit(StrEnum):
    """The unit of event times in the input."""

    S = "s"
    MS = "ms"
    US = "us"
    NS = "ns"
    ISO8601 = "iso8601"


class LogFormat(StrEnum):
    """How a service logs."""

    TEXT = "text"
    JSON = "json"


class By(StrEnum):
    """The granularities of a series."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


class CohortsBy(StrEnum):
    """The granularities of cohorts."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


FromOption = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Start: a period, a time, seconds.")]
ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="TIME", help="End: a day, week, month or year includes it; a time does not."),
]
StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="PATH", help="The store's directory [default: ./visits.uniqdb].")
]
StoresOption = Annotated[
    list[str] | None,
    typer.Option(
        "--store",
        metavar="PATH",
        help="The store's directory [default: ./visits.uniqdb]. Repeatable: several that share no visitor.",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="The settings file [default: ./config/uniqdb.toml, else ./uniqdb.toml]."
    ),
]
TimezoneOption = Annotated[
    str | None,
    typer.Option(
        "--timezone",
        metavar="ZONE",
        help="The IANA time zone of a new store, such as Europe/Zurich [default: UTC]. An existing one keeps its own.",
    ),
]
TsFieldOption = Annotated[
    str | None,
    typer.Option("--ts-field", metavar="NAME", help="Key of the event time, or a dotted path [default: ts]."),
]
UidFieldOption = Annotated[
    str | None,
    typer.Option("--uid-field", metavar="NAME", help="Key of the visitor's id, or a dotted path [default: uid]."),
]
TsUnitOption = Annotated[
    TsUnit | None, typer.Option("--ts-unit", help="Unit of event times [default: s].", show_default=False)
]
FormatOption = Annotated[
    OutputFormat | None,
    typer.Option("--format", help="How to print [default: table on a terminal, jsonl otherwise].", show_default=False),
]
AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="DATE",
        help="The last day of trailing windows: a date, a time, or `today` [default: the day of the store's clock].",
    ),
]
NewOption = Annotated[
    bool, typer.Option("--new", help="Of these visitors, those who were not seen in the time before: see --before.")
]
ReturningOption = Annotated[
    bool, typer.Option("--returning", help="Of these visitors, those who were seen in the time before, too.")
]
BeforeOption = Annotated[
    str | None,
    typer.Option(
        "--before",
        metavar="SPAN",
        help="With --new or --returning: how far before the start is looked back, 90d or 12h, or `all` that is kept "
        "[default: 365d].",
    ),
]
OverlapOption = Annotated[
    str | None,
    typer.Option(
        "--overlap-with",
        metavar="WINDOW",
        help="How many of these visitors are in another window, too: 30d, 2016-06, or `previous` for the one before.",
    ),
]
MetricsAddressOption = Annotated[
    str | None,
    typer.Option(
        "--metrics-address",
        metavar="HOST:PORT",
        help="Where metrics are served, such as 127.0.0.1:9464 [default: nowhere].",
    ),
]


def no_progress(_what: str, _count: int) -> None:
    """Nobody wants to know how far it is."""
