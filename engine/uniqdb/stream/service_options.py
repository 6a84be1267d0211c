"""What the service is told, and what it tells."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from uniqdb.field_settings import DEFAULT_FIELDS, FieldSettings
from uniqdb.limits import COMMIT_VISITS, IDLE_TIMEOUT_S
from uniqdb.recent_times import DEFAULT_LIMITS, EventTimeLimits
from uniqdb.stream.emission import DEFAULT_RULES, EmissionRules
from uniqdb.stream.observer import SILENT, Observer


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """What is read and how it is published. ``fields`` and ``limits`` are stored with each partition."""

    input_topic: str = "website_visits"
    rules: EmissionRules = DEFAULT_RULES
    fields: FieldSettings = DEFAULT_FIELDS
    limits: EventTimeLimits = DEFAULT_LIMITS
    commit_visits: int = COMMIT_VISITS
    until_caught_up: bool = False
    """End where the topic ended at the start, with everything published."""
    take_over: bool = False
    """Publish into topics whose last records are another store's."""
    idle_timeout_s: float = IDLE_TIMEOUT_S
    wall_clock: Callable[[], float] = time.time
    observer: Observer = SILENT


@dataclass(slots=True)
class ServiceSummary:
    """What this run did."""

    records: int = 0
    visits: int = 0
    refused: int = 0
    commits: int = 0
    published: int = 0
    elapsed_s: float = 0.0
