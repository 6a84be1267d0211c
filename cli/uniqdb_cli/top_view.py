"""What `uniqdb top` shows: a store as of its newest commit and, if it is known where to ask, the service on it."""

import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from uniqdb_cli.address import Address
from uniqdb_cli.output import printable

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from uniqdb.engine import Engine
    from uniqdb.gauges import StoreGauges
    from uniqdb.meta import SourceRow
    from uniqdb.record import CountRecord

ANSWER_TIMEOUT_S = 1.0
ANSWER_BYTES_MAX = 4_000_000
SOURCES_SHOWN = 30
_SAMPLE = re.compile(r'^(\w+)(?:\{(?:\w+="([^"]*)")?[^}]*\})? (\S+)$', re.MULTILINE)
Values = dict[tuple[str, str], float]
"""By the name of a metric and the value of its first label."""


def scrape(address: Address) -> Values | None:
    """The metrics that a service serves at the address; None if it does not answer."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    url = f"http://{Address(host, address.port).text}/metrics"
    # What a proxy of the environment would answer is another machine's.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=ANSWER_TIMEOUT_S) as answer:
            text = answer.read(ANSWER_BYTES_MAX).decode("utf-8", "replace")
        return {(name, label or ""): float(value) for name, label, value in _SAMPLE.findall(text)}
    except (OSError, ValueError, urllib.error.URLError):
        return None


@dataclass(slots=True)
class Seen:
    """One look at the store and at the service."""

    gauges: "StoreGauges"
    sources: "list[SourceRow]"
    current: "list[CountRecord]"
    """The newest bucket of each granularity that has visits."""
    service: Values | None = None
    wall_s: float = field(default_factory=time.time)
    monotonic_s: float = field(default_factory=time.monotonic)


def look(engine: "Engine", address: Address | None) -> Seen:
    """As of the newest commit. Cost: a millisecond, and a row for each source."""
    from uniqdb.gauges import read_gauges
    from uniqdb.granularity import Granularity
    from uniqdb.meta import read_sources

    gauges = read_gauges(engine)
    current: list[CountRecord] = []
    with engine.snapshot() as snapshot:
        sources = [row for _, row in read_sources(snapshot.answers.view)]
        newest_s = snapshot.answers.state.clock_s or snapshot.answers.state.event_time_s_max
        if newest_s is not None:
            for granularity in Granularity:
                bucket = engine.zone.bucket_at(granularity, newest_s)
                current += snapshot.series(granularity, bucket.start_s, bucket.end_s)
    return Seen(gauges, sources, current, None if address is None else scrape(address))


class TopView:
    """Makes frames, and remembers the last look: rates are made of two."""

    def __init__(self, engine: "Engine", address: Address | None) -> None:
        self._engine, self._address = engine, address
        self._before: Seen | None = None

    def frame(self) -> "Group":
        """Look again."""
        from rich.console import Group
        from rich.text import Text

        seen = look(self._engine, self._address)
        before, self._before = self._before, seen
        title = f"{self._engine.path}, time zone {self._engine.timezone}"
        parts: list[Text | Table] = [Text(printable(title)), Text(), _facts(list(self._store(seen, before)))]
        if self._address is not None:
            rows = list(_service(seen.service)) if seen.service is not None else []
            answer = _facts(rows) if rows else Text(f"no service answers at {self._address.text}")
            parts += [Text(), answer]
        if seen.current:
            parts += [Text(), self._counts(seen.current)]
        if seen.sources:
            parts += [Text(), self._sources(seen)]
        return Group(*parts)

    def _moment(self, time_s: float | None, now_s: float) -> str:
        if time_s is None:
            return "none yet"
        return f"{self._engine.zone.isoformat(int(time_s))}, {_duration(now_s - time_s)} behind"

    def _store(self, seen: Seen, before: Seen | None) -> Iterator[tuple[str, str]]:
        gauges, state = seen.gauges, seen.gauges.state
        rate = ""
        if before is not None:
            passed_s = max(seen.monotonic_s - before.monotonic_s, 0.001)
            rate = f", {max(state.visits - before.gauges.state.visits, 0) / passed_s:,.0f}/s"
        yield "visits", f"{state.visits:,}{rate}"
        yield "different visitors", f"{gauges.uids:,}"
        yield "commits", f"{state.commit_number:,}"
        yield "clock", self._moment(state.clock_s, seen.wall_s)
        yield "closed through", self._moment(state.closed_through_s, seen.wall_s)
        yield "open buckets", ", ".join(f"{name} {number:,}" for name, number in gauges.open_buckets.items())
        yield "waiting", f"outbox {gauges.outbox_rows:,}, due windows {gauges.due_windows:,}, held {gauges.held:,}"
        refused = ", ".join(f"{name} {number:,}" for name, number in sorted(state.quarantined.items()))
        yield "quarantine", refused or "empty"
        yield "late visits", ", ".join(f"{name} {number:,}" for name, number in state.late_visits.items()) or "none"
        sizes = (gauges.file_bytes, "file"), (gauges.live_bytes, "live"), (gauges.disk_free_bytes, "free on the disk")
        yield "bytes", ", ".join(f"{_bytes(number)} {name}" for number, name in sizes)

    def _counts(self, records: "list[CountRecord]") -> "Table":
        rows = [(one.granularity, one.datetime, f"{one.count:,}", f"{one.visits:,}", one.status) for one in records]
        return _table(["now", "from", "unique visitors#", "visits#", "status"], rows)

    def _sources(self, seen: Seen) -> "Table":
        rows: list[tuple[str, ...]] = []
        for one in seen.sources[:SOURCES_SHOWN]:
            place = f"{one.position_bytes:,}" if one.kafka is None else f"{one.kafka.next_offset:,}"
            number = "" if one.kafka is None else str(one.kafka.partition)
            lag = (seen.service or {}).get(("uniqdb_partition_lag_records", number))
            rows.append(
                (
                    printable(one.name),
                    "over" if not one.is_open else "open" if one.is_waited_for else "idle",
                    f"{one.visits:,}",
                    f"{one.refused:,}",
                    place,
                    "" if lag is None or one.kafka is None else f"{lag:,.0f}",
                    "none yet" if one.closing_clock_s is None else self._engine.zone.isoformat(one.closing_clock_s),
                )
            )
        if len(seen.sources) > SOURCES_SHOWN:
            rows.append((f"and {len(seen.sources) - SOURCES_SHOWN:,} more", *[""] * 6))
        return _table(["source", "state", "visits#", "refused#", "position#", "lag#", "clock"], rows)


def _service(values: Values) -> Iterator[tuple[str, str]]:
    def value(name: str) -> float | None:
        return values.get((name, ""))

    age_s, lag = value("uniqdb_loop_age_seconds"), value("uniqdb_lag_records")
    if age_s is None:
        yield "service", "starting"
        return
    kafka = "Kafka answers" if value("uniqdb_kafka_up") else "Kafka does not answer"
    history = ", reading history" if value("uniqdb_reading_history") else ""
    room = ", waiting for room to write" if value("uniqdb_waits_for_room") else ""
    yield "service", f"{kafka}, the loop turned {age_s:.1f} s ago{history}{room}"
    yield "lag", "not known" if lag is None else f"{lag:,.0f} records"
    for what, name in (("commits took", "uniqdb_commit_seconds"), ("publishing took", "uniqdb_publish_seconds")):
        times, sum_s = value(f"{name}_count") or 0, value(f"{name}_sum") or 0
        yield what, f"{1_000 * sum_s / times:,.1f} ms on average, {times:,.0f} times" if times else "nothing yet"
    published, failures = value("uniqdb_published_records_total") or 0, value("uniqdb_publish_failures_total") or 0
    yield "published", f"{published:,.0f} records, {failures:,.0f} failures"
    memory_bytes = value("process_resident_memory_bytes")
    if memory_bytes is not None:
        yield "memory", _bytes(memory_bytes)


def _facts(rows: list[tuple[str, str]]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(Text(name), Text(printable(value)))
    return table


def _table(columns: list[str], rows: Sequence[tuple[str, ...]]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column.removesuffix("#"), justify="right" if column.endswith("#") else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _duration(seconds: float) -> str:
    """In two units at most."""
    left_s = max(int(seconds), 0)
    units = (86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")
    parts: list[str] = []
    for size_s, name in units:
        if left_s >= size_s or (size_s == 1 and not parts):
            parts.append(f"{left_s // size_s:,} {name}")
            left_s %= size_s
    return " ".join(parts[:2])


def _bytes(number: float) -> str:
    for name in ("bytes", "KB", "MB", "GB"):
        if number < 1_000:
            return f"{number:,.0f} {name}" if name == "bytes" else f"{number:,.1f} {name}"
        number /= 1_000
    return f"{number:,.1f} TB"
