"""Who watches a service: the server of metrics, and a line on the terminal that says how it goes."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from uniqdb.errors import UsageError
from uniqdb_cli.address import parse_address
from uniqdb_cli.logs import Log
from uniqdb_cli.output import is_terminal
from uniqdb_cli.settings import Settings

if TYPE_CHECKING:
    from uniqdb.calendar_zone import CalendarZone
    from uniqdb.engine import Engine
    from uniqdb.stream.meter import Measures
    from uniqdb.stream.observer import Observer
    from uniqdb_cli.metrics_server import Health


def assert_metrics_client() -> None:
    """Raise UsageError unless the package is installed that metrics need."""
    import importlib.util

    if importlib.util.find_spec("prometheus_client") is None:
        raise UsageError(
            "the package prometheus-client is not there",
            hint="python -m pip install prometheus-client, or uniqdb[http]",
        )


@contextmanager
def metrics_served(settings: Settings, log: Log) -> "Iterator[Health | None]":
    """Serve metrics until the end of the block, if the settings name an address."""
    if settings.metrics_address is None:
        yield None
        return
    address = parse_address(settings.metrics_address)
    assert_metrics_client()
    from uniqdb_cli.metrics_server import Health, serving

    health = Health()
    with serving(address, health, int(time.time())) as taken:
        log.tell("metrics", f"Metrics at http://{taken.text}/metrics.", address=taken.text)
        yield health


@contextmanager
def watched(engine: "Engine", health: "Health | None", log: Log) -> "Iterator[Observer]":
    """The observer for a service on the store; one that does nothing if nobody looks."""
    from uniqdb.stream.meter import Meter
    from uniqdb.stream.observer import SILENT

    if log.is_json or not is_terminal(sys.stderr):
        if health is None:
            yield SILENT
            return
        health.meter = Meter(engine)
        yield health.meter
        return
    from rich.console import Console
    from rich.markup import escape

    # Lines that are written meanwhile appear above it.
    with Console(stderr=True).status("waiting for Kafka") as status:
        text = StatusText(engine.zone)
        meter = Meter(engine, lambda found: status.update(escape(text.of(found))))
        if health is not None:
            health.meter = meter
        yield meter


class StatusText:
    """How the service goes, in one line."""

    def __init__(self, zone: "CalendarZone") -> None:
        self._zone = zone
        self._before: Measures | None = None

    def of(self, found: "Measures") -> str:
        """What is new since the last call is what the rate is made of."""
        before, self._before = self._before, found
        visits = found.verdicts["accepted"]
        per_s = 0.0
        if before is not None:
            passed_s = found.at.monotonic_s - before.at.monotonic_s
            per_s = (visits - before.verdicts["accepted"]) / max(passed_s, 0.001)
        lag, clock_s = found.lag_records, found.gauges.state.clock_s
        parts = [
            f"{per_s:,.0f} visits/s",
            "Kafka does not answer" if not found.is_kafka_up else f"lag {lag:,}" if lag is not None else "lag unknown",
            "no clock yet" if clock_s is None else f"clock {self._zone.isoformat(clock_s)}",
        ]
        if found.waits_for_room:
            parts.append("waiting for room to write")
        if found.published_at_s is None:
            parts.append("nothing published yet")
        else:
            parts.append(f"last published {max(found.at.wall_s - found.published_at_s, 0)} s ago")
        return ", ".join(parts)
