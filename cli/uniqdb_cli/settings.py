"""Settings: flags before ``UNIQDB_*`` variables before the settings file before the defaults.

A key that does not exist is an error wherever it stands: a misspelt ``stroe`` would otherwise write to another store
than its author thinks.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from uniqdb.errors import NotFound, UsageError
from uniqdb.field_settings import FieldSettings
from uniqdb.limits import (
    AHEAD_LIMIT_S,
    ALLOWED_LATENESS_S,
    COMMIT_VISITS,
    COMMIT_VISITS_MAX,
    COUNT_RETENTION_DAYS,
    DAY_RETENTION_DAYS,
    EVENT_LIMIT_S_MAX,
    HOUR_RETENTION_DAYS,
    IDLE_TIMEOUT_S,
    LATE_LIMIT_S,
    LINE_BYTES_LIMIT,
    LINE_BYTES_MAX,
    MINUTE_RETENTION_DAYS,
    MONTH_RETENTION_DAYS,
    QUARANTINE_MAX_ROWS,
    RETENTION_DAYS_MAX,
    WEEK_RETENTION_DAYS,
    YEAR_RETENTION_DAYS,
)
from uniqdb.stream.kafka_settings import is_secret
from uniqdb_cli.words import LogFormat, OutputFormat, TsUnit

PREFIX = "UNIQDB_"
CONFIG_VARIABLE = "UNIQDB_CONFIG"
OTHER_VARIABLES = (CONFIG_VARIABLE, "UNIQDB_CACHE")
"""Variables that are no settings; the second is where fetched packages are kept."""
CONFIG_PLACES = ("config/uniqdb.toml", "uniqdb.toml")


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting there is. A relative ``store`` starts at the current directory, wherever it was set."""

    store: str = "./visits.uniqdb"
    timezone: str | None = None
    """Only for creating a store; None is UTC."""
    ts_field: str = "ts"
    uid_field: str = "uid"
    ts_unit: str = "s"
    line_bytes_max: int = LINE_BYTES_MAX
    ahead_limit_s: int = AHEAD_LIMIT_S
    late_limit_s: int = LATE_LIMIT_S
    allowed_lateness_s: int = ALLOWED_LATENESS_S
    commit_visits: int = COMMIT_VISITS
    quarantine_max_rows: int = QUARANTINE_MAX_ROWS
    bootstrap_servers: str | None = None
    """None: what kafka_config says, else localhost:9092."""
    kafka_config: str | None = None
    """None: ./config/kafka_config.ini or ./kafka_config.ini, where there is one."""
    input_topic: str = "website_visits"
    topic_minute: str = "visits_per_minute"
    topic_hour: str = "visits_per_hour"
    topic_day: str = "visits_per_day"
    topic_week: str = "visits_per_week"
    topic_month: str = "visits_per_month"
    topic_year: str = "visits_per_year"
    topic_trailing: str = "unique_visitors_trailing"
    topic_quarantine: str = "website_visits_quarantine"
    emit_updates: str = "hour,day,week,month,year"
    """Granularities whose provisional counts are published, too."""
    idle_timeout_s: int = IDLE_TIMEOUT_S
    metrics_address: str | None = None
    """None: no metrics are served."""
    http_host: str = "127.0.0.1"
    http_port: int = 8321
    http_token_file: str | None = None
    """None: who asks under a name of this machine needs no token."""
    log_format: str = "text"
    minute_retention_days: int = MINUTE_RETENTION_DAYS
    hour_retention_days: int = HOUR_RETENTION_DAYS
    day_retention_days: int = DAY_RETENTION_DAYS
    week_retention_days: int = WEEK_RETENTION_DAYS
    month_retention_days: int = MONTH_RETENTION_DAYS
    year_retention_days: int = YEAR_RETENTION_DAYS
    count_retention_days: int = COUNT_RETENTION_DAYS
    max_store_bytes: int = 0
    """0: no bound."""
    format: str | None = None
    """None: a table on a terminal, JSON lines otherwise."""


KEYS = tuple(field.name for field in fields(Settings))


class Origin(StrEnum):
    """Where a value was set, the strongest first."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Sourced:
    """A value and where it was set. ``place`` is the flag, the variable or the file; None of a default."""

    value: object
    origin: Origin
    place: str | None = None


REDACTED = "(hidden)"


def redacted(key: str, value: object) -> object:
    """The value as it may be shown; None stays None: it says that nothing is set. The name of a file is no secret."""
    return REDACTED if value is not None and is_secret(key) and not key.endswith("_file") else value


_NUMBERS = {
    "line_bytes_max": (1, LINE_BYTES_LIMIT, "bytes"),
    "ahead_limit_s": (0, EVENT_LIMIT_S_MAX, "seconds"),
    "late_limit_s": (0, EVENT_LIMIT_S_MAX, "seconds"),
    "allowed_lateness_s": (0, EVENT_LIMIT_S_MAX, "seconds"),
    "commit_visits": (1, COMMIT_VISITS_MAX, "visits"),
    "idle_timeout_s": (0, EVENT_LIMIT_S_MAX, "seconds"),
    "quarantine_max_rows": (0, 10**12, "rows"),
    "http_port": (0, 65_535, "a port"),
    **{
        f"{word}_retention_days": (0, RETENTION_DAYS_MAX, "days")
        for word in ("minute", "hour", "day", "week", "month", "year", "count")
    },
    "max_store_bytes": (0, 2**60, "bytes"),
}
"""The least and the most of each number, and what it counts."""
_CHOICES: dict[str, tuple[str, ...]] = {
    "ts_unit": tuple(TsUnit),
    "format": tuple(OutputFormat),
    "log_format": tuple(LogFormat),
}


def load_settings(config: Path | None = None, **flags: object) -> Settings:
    """The settings in force. ``flags`` are what the command line gave; None is not given.

    Raises UsageError for unknown keys and for values that cannot be, NotFound if a file that was named is not there.
    """
    # Each value was checked to have the type of its field.
    known: dict[str, Any] = {key: one.value for key, one in sourced_settings(config, **flags).items()}
    return Settings(**known)


def sourced_settings(config: Path | None = None, **flags: object) -> dict[str, Sourced]:
    """Every setting with where it was set. Arguments and errors as in `load_settings`."""
    found = {key: Sourced(value, Origin.DEFAULT) for key, value in asdict(Settings()).items()}
    place = _config_place(config)
    if place is not None:
        found |= {key: Sourced(value, Origin.FILE, str(place)) for key, value in _from_file(place).items()}
    for key, value in _from_environment(os.environ).items():
        found[key] = Sourced(value, Origin.ENVIRONMENT, PREFIX + key.upper())
    for key, value in flags.items():
        if value is not None:
            flag = "--" + key.replace("_", "-")
            found[key] = Sourced(_checked(flag, key, value), Origin.FLAG, flag)
    return found


def record_fields(settings: Settings) -> FieldSettings:
    """Where records hold their times and uids. Raises UsageError."""
    return FieldSettings(settings.ts_field, settings.uid_field, settings.ts_unit, settings.line_bytes_max)


def _config_place(config: Path | None) -> Path | None:
    named = str(config) if config is not None else os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    return next((place for name in CONFIG_PLACES if (place := Path(name)).is_file()), None)


def _from_file(place: Path) -> dict[str, object]:
    import tomllib

    try:
        text = place.read_text("utf-8")
    except OSError as error:
        raise NotFound(
            f"the settings file {place} cannot be read: {error.strerror}",
            hint=f"correct --config or {CONFIG_VARIABLE}, or leave it out",
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"the settings file {place} is not UTF-8 text", hint="save it as UTF-8") from None
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"the settings file {place} is not TOML: {error}", hint="correct that line") from None
    found = {}
    for key, value in table.items():
        if key not in KEYS:
            raise UsageError(f"{place}: there is no setting {key!r}", hint=_alternatives(key, KEYS))
        found[key] = _checked(f"{place}: {key}", key, value)
    return found


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    found = {}
    names = {PREFIX + key.upper(): key for key in KEYS}
    for name in sorted(environment):
        # An empty variable is as good as none: scripts cannot always unset.
        if not name.startswith(PREFIX) or name in OTHER_VARIABLES or not environment[name]:
            continue
        if name not in names:
            hint = _alternatives(name, [*names, *OTHER_VARIABLES])
            raise UsageError(f"the environment sets {name}, which is no setting", hint=hint)
        value, key = environment[name], names[name]
        is_number = key in _NUMBERS and value.isascii() and value.isdigit() and len(value) < 20
        found[key] = _checked(name, key, int(value) if is_number else value)
    return found


def _alternatives(key: str, known: Iterable[str]) -> str:
    import difflib

    names = list(known)
    close = difflib.get_close_matches(key, names, n=1)
    return f"did you mean {close[0]}?" if close else f"the settings are {', '.join(names)}"


def _checked(where: str, key: str, value: object) -> object:
    """The value, if it can be one of the key. Raises UsageError, naming where it was set."""
    if key in _NUMBERS:
        least, most, unit = _NUMBERS[key]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise UsageError(f"{where}: {value!r} is no number of {unit}", hint=f"give {least} to {most:,}")
        return value
    if not isinstance(value, str) or not value:
        raise UsageError(f"{where}: {value!r} is not a text", hint='write it as "text", not empty')
    choices = _CHOICES.get(key)
    if choices is not None and value not in choices:
        raise UsageError(f"{where}: {value!r} is not known", hint=f"use one of {', '.join(choices)}")
    return str(value)
