"""The metrics of a running service, under the names that Prometheus knows them by."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from uniqdb.gauges import ORDINALS_MAX
from uniqdb.stream.meter import Latencies, Measures

Sample = tuple[tuple[str, ...], float]
"""Values of the labels, and the value."""


class Metric(NamedTuple):
    """One metric. ``kind``: counter, gauge or histogram; counters begin at 0 with each start of the service."""

    name: str
    kind: str
    meaning: str
    read: Callable[[Measures], Iterable[Sample]] | None = None
    labels: tuple[str, ...] = ()
    latencies: Callable[[Measures], Latencies] | None = None


def _one(value: float | None) -> Iterator[Sample]:
    """A metric without labels; what is not known has no sample."""
    if value is not None:
        yield (), value


def _each(values: Mapping[str, float]) -> Iterator[Sample]:
    for label, value in values.items():
        yield (label,), value


def _lags(found: Measures) -> Iterator[Sample]:
    return ((((str(one.number),), one.lag_records)) for one in found.partitions if one.lag_records is not None)


def _clocks(found: Measures) -> Iterator[Sample]:
    return (((str(one.number),), one.clock_s) for one in found.partitions if one.clock_s is not None)


def _idle(found: Measures) -> Iterator[Sample]:
    return (((str(one.number),), float(one.is_idle)) for one in found.partitions)


_PARTITION, _GRANULARITY = ("partition",), ("granularity",)
CATALOGUE: tuple[Metric, ...] = (
    # What came in.
    Metric("uniqdb_records_read_total", "counter", "Records read from the topic", lambda m: _one(m.records)),
    Metric(
        "uniqdb_records_total",
        "counter",
        "Committed records by what became of them: accepted, expired, or why it was refused",
        lambda m: _each(m.verdicts),
        ("verdict",),
    ),
    Metric(
        "uniqdb_visits_late_total",
        "counter",
        "Accepted visits that came after their bucket was closed, and amended it",
        lambda m: _each(m.late),
        _GRANULARITY,
    ),
    Metric(
        "uniqdb_visits_skipped_total",
        "counter",
        "Accepted visits not counted in a bucket whose members are no longer kept",
        lambda m: _each(m.skipped),
        _GRANULARITY,
    ),
    Metric("uniqdb_held_visits", "gauge", "Visits neither counted nor refused yet", lambda m: _one(m.gauges.held)),
    # How far it is.
    Metric("uniqdb_kafka_up", "gauge", "1 if Kafka answered when last asked", lambda m: _one(m.is_kafka_up)),
    Metric("uniqdb_lag_records", "gauge", "Records of all partitions not committed yet", lambda m: _one(m.lag_records)),
    Metric("uniqdb_partition_lag_records", "gauge", "Records of a partition not committed yet", _lags, _PARTITION),
    Metric(
        "uniqdb_lag_seconds",
        "gauge",
        "How far event time is behind the wall clock, in the slowest partition that is not idle",
        lambda m: _one(m.lag_s),
    ),
    Metric(
        "uniqdb_clock_timestamp_seconds",
        "gauge",
        "The store's clock, by which buckets close, as of the last commit",
        lambda m: _one(m.gauges.state.clock_s),
    ),
    Metric(
        "uniqdb_partition_clock_timestamp_seconds", "gauge", "The closing clock of a partition", _clocks, _PARTITION
    ),
    Metric("uniqdb_partition_idle", "gauge", "1 if nothing waits for the partition", _idle, _PARTITION),
    Metric("uniqdb_reading_history", "gauge", "1 while history is read", lambda m: _one(m.is_history)),
    Metric(
        "uniqdb_last_final_end_timestamp_seconds",
        "gauge",
        "Where the last closed bucket ends",
        lambda m: _each(m.gauges.final_end_s),
        _GRANULARITY,
    ),
    Metric(
        "uniqdb_open_buckets",
        "gauge",
        "Buckets with visits that are not closed, counted up to 10,000",
        lambda m: _each(m.gauges.open_buckets),
        _GRANULARITY,
    ),
    # What it writes.
    Metric("uniqdb_commit_seconds", "histogram", "How long commits of the service took", latencies=lambda m: m.commits),
    Metric(
        "uniqdb_store_commits",
        "gauge",
        "The number of the store's newest commit, since its creation",
        lambda m: _one(m.gauges.state.commit_number),
    ),
    Metric("uniqdb_store_visits", "gauge", "Visits in the store", lambda m: _one(m.gauges.state.visits)),
    Metric("uniqdb_store_uids", "gauge", "Different visitors ever seen", lambda m: _one(m.gauges.uids)),
    Metric(
        "uniqdb_store_ordinals_used_ratio",
        "gauge",
        "The part of the 2^32 ordinals of visitors that is used up",
        lambda m: _one(m.gauges.uids / ORDINALS_MAX),
    ),
    Metric(
        "uniqdb_store_file_bytes",
        "gauge",
        "The data file up to its last used page",
        lambda m: _one(m.gauges.file_bytes),
    ),
    Metric("uniqdb_store_live_bytes", "gauge", "Pages of it that hold data", lambda m: _one(m.gauges.live_bytes)),
    Metric(
        "uniqdb_store_disk_free_bytes",
        "gauge",
        "What is left on the file system of the store",
        lambda m: _one(m.gauges.disk_free_bytes),
    ),
    Metric(
        "uniqdb_waits_for_room",
        "gauge",
        "1 while a commit finds no room and nothing is read",
        lambda m: _one(m.waits_for_room),
    ),
    Metric(
        "uniqdb_quarantine_rows",
        "gauge",
        "Refused records that quarantine keeps now",
        lambda m: _one(m.gauges.state.quarantine_kept),
    ),
    Metric("uniqdb_gaps", "gauge", "Gaps in the topic, given up by consent", lambda m: _one(len(m.gauges.state.gaps))),
    # What goes out.
    Metric(
        "uniqdb_publish_seconds",
        "histogram",
        "How long transactions took that brought records to Kafka",
        latencies=lambda m: m.publishing,
    ),
    Metric("uniqdb_published_records_total", "counter", "Records published", lambda m: _one(m.published)),
    Metric(
        "uniqdb_publish_failures_total",
        "counter",
        "Transactions that were undone or could not begin; they are repeated",
        lambda m: _one(m.publish_failures),
    ),
    Metric(
        "uniqdb_published_timestamp_seconds",
        "gauge",
        "When a transaction last came through",
        lambda m: _one(m.published_at_s),
    ),
    Metric("uniqdb_outbox_rows", "gauge", "Counts that wait in the outbox", lambda m: _one(m.gauges.outbox_rows)),
    Metric(
        "uniqdb_outbox_age_seconds",
        "gauge",
        "How long the oldest final count, window or refused record waits to be published, at most since the start",
        lambda m: _one(m.outbox_age_s),
    ),
    Metric("uniqdb_due_windows", "gauge", "Trailing windows to be worked out", lambda m: _one(m.gauges.due_windows)),
)
"""Those of a service whose loop has turned; see `ALWAYS` for the rest."""
ALWAYS: tuple[Metric, ...] = (
    Metric("uniqdb_build_info", "gauge", "1; its label is the version of uniqdb", labels=("version",)),
    Metric("uniqdb_start_timestamp_seconds", "gauge", "When the service was started"),
    Metric("uniqdb_loop_age_seconds", "gauge", "How long ago the service's loop turned last"),
)
