"""``uniqdb serve-stream``: from a Kafka topic into the store, and every count back to Kafka."""

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uniqdb.shard import Shard
from uniqdb_cli.kafka_config import assert_client, emission_rules, kafka_settings
from uniqdb_cli.logs import Log
from uniqdb_cli.output import json_text
from uniqdb_cli.service_manager import ServiceManager
from uniqdb_cli.settings import Settings, load_settings, record_fields
from uniqdb_cli.stopping import StopRequest, stop_on_signals
from uniqdb_cli.watching import metrics_served, watched
from uniqdb_cli.words import (
    ConfigOption,
    LogFormat,
    MetricsAddressOption,
    StoreOption,
    TimezoneOption,
    TsFieldOption,
    TsUnitOption,
    UidFieldOption,
)
from uniqdb_cli.writing import discard, is_untouched, open_options

if TYPE_CHECKING:
    from uniqdb.engine import Engine
    from uniqdb.stream.kafka_settings import KafkaSettings
    from uniqdb.stream.service_options import ServiceOptions, ServiceSummary

BootstrapServersOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="The broker [default: of kafka_config.ini, else localhost:9092]."),
]
KafkaConfigOption = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Settings of the Kafka client [default: ./config/kafka_config.ini]."),
]
InputTopicOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="The topic of visits [default: website_visits].")
]
UntilCaughtUpOption = Annotated[
    bool,
    typer.Option("--until-caught-up", help="End where the topic ends now, with everything published: for cron."),
]
StartOption = Annotated[
    str, typer.Option(metavar="WHERE", help="Where a topic is begun at first: earliest, latest, or a time.")
]
RecreatedOption = Annotated[bool, typer.Option("--accept-recreated-topic", help="Begin a topic that was made anew.")]
LostOption = Annotated[bool, typer.Option("--accept-lost-offsets", help="Go on behind records that Kafka has deleted.")]
OtherOption = Annotated[bool, typer.Option("--accept-other-cluster", help="Begin the topic of another cluster.")]
TakeOverOption = Annotated[
    bool, typer.Option("--take-over", help="Publish into topics that hold records of another origin.")
]
ShardOption = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Count only the I-th of N shares of the partitions, of a topic keyed by uid."),
]
LogFormatOption = Annotated[
    LogFormat | None,
    typer.Option(
        "--log-format", help="How to log: lines for people, or JSON for programs [default: text].", show_default=False
    ),
]


def serve_stream(
    store: StoreOption = None,
    bootstrap_servers: BootstrapServersOption = None,
    input_topic: InputTopicOption = None,
    until_caught_up: UntilCaughtUpOption = False,
    timezone: TimezoneOption = None,
    ts_field: TsFieldOption = None,
    uid_field: UidFieldOption = None,
    ts_unit: TsUnitOption = None,
    start: StartOption = "earliest",
    accept_recreated_topic: RecreatedOption = False,
    accept_lost_offsets: LostOption = False,
    accept_other_cluster: OtherOption = False,
    take_over: TakeOverOption = False,
    shard: ShardOption = None,
    kafka_config: KafkaConfigOption = None,
    metrics_address: MetricsAddressOption = None,
    log_format: LogFormatOption = None,
    config: ConfigOption = None,
) -> None:
    """Count a Kafka topic and publish the counts.

    Creates the store if there is none, and the output topics that are missing; never the input. A position is committed
    together with what was counted, so the service may be killed at any instant and started again: nothing is counted
    twice or left out, and the last record of each key is right in the end. Ctrl-C or SIGTERM: it commits, publishes
    what waits, and ends with 0; a second one ends it at once. Under systemd it says when it is ready, alive, stopping.

    --shard 1/4 counts a quarter of the partitions, into topics of its own (visits_per_day.shard-1-of-4); where records
    are keyed by uid, `uniqdb sum` adds the four. A store keeps its shard, and the topic its number of partitions.

    On a terminal a line says how it goes. --metrics-address serves /metrics for Prometheus, /healthz and /readyz.

    \b
      uniqdb serve-stream
      uniqdb serve-stream --bootstrap-servers kafka:9092 --input-topic clicks --ts-field at --ts-unit ms
      uniqdb serve-stream --until-caught-up
      uniqdb serve-stream --shard 1/4 --store shard1.uniqdb
      uniqdb serve-stream --metrics-address 127.0.0.1:9464 --log-format json
    """
    settings = load_settings(
        config,
        store=store,
        bootstrap_servers=bootstrap_servers,
        input_topic=input_topic,
        timezone=timezone,
        ts_field=ts_field,
        uid_field=uid_field,
        ts_unit=ts_unit,
        kafka_config=kafka_config,
        metrics_address=metrics_address,
        log_format=log_format,
    )
    log = Log(settings.log_format)
    with log.ends_with_errors():
        accepted = accept_recreated_topic, accept_lost_offsets, accept_other_cluster
        assert_client()
        kafka = kafka_settings(settings, start, accepted, None if shard is None else Shard.parse(shard))
        options = _options(settings, kafka.shard, until_caught_up=until_caught_up, take_over=take_over)
        _serve(settings, kafka, options, log)


def _serve(settings: Settings, kafka: "KafkaSettings", options: "ServiceOptions", log: Log) -> None:
    from uniqdb.engine import open as open_store
    from uniqdb.errors import KafkaUnreachable
    from uniqdb.manifest import is_store

    is_new = not is_store(Path(settings.store))
    with (
        stop_on_signals() as stop,
        metrics_served(settings, log) as health,
        open_store(settings.store, timezone=settings.timezone, options=open_options(settings)) as engine,
    ):
        _announce(engine, settings, log)
        try:
            with watched(engine, health, log) as observer:
                summary = _run(engine, kafka, replace(options, observer=observer), stop, log)
        except BaseException as error:
            if is_new and is_untouched(engine):
                discard(engine)
            if not isinstance(error, KafkaUnreachable) or not stop.is_made():
                raise
            log.tell("stopped", "Stopped before Kafka answered.")
            return
    _tell(summary, stop, log)


def _run(
    engine: "Engine", kafka: "KafkaSettings", options: "ServiceOptions", stop: StopRequest, log: Log
) -> "ServiceSummary":
    """Run the service, and tell whoever manages it."""
    from uniqdb.stream.kafka_settings import KafkaHooks
    from uniqdb.stream.service import StreamService

    manager, running = ServiceManager(), list[StreamService]()

    def should_stop() -> bool:
        # The service asks in every turn of its loop.
        is_stopping = stop.is_made()  # once: a signal may come in between
        manager.alive(_status(running[0].summary, options) if running else "", is_stopping=is_stopping)
        return is_stopping

    service = StreamService(engine, kafka, options, KafkaHooks(log.trouble, should_stop))
    running.append(service)
    manager.ready(_status(service.summary, options))
    try:
        return service.run()
    finally:
        service.close()


def _options(settings: Settings, shard: Shard | None, *, until_caught_up: bool, take_over: bool) -> "ServiceOptions":
    from uniqdb.recent_times import EventTimeLimits
    from uniqdb.stream.service_options import ServiceOptions

    return ServiceOptions(
        settings.input_topic,
        emission_rules(settings, shard),
        record_fields(settings),
        EventTimeLimits(settings.ahead_limit_s, settings.late_limit_s),
        settings.commit_visits,
        until_caught_up,
        take_over,
        settings.idle_timeout_s,
        time.time,
    )


def _announce(engine: "Engine", settings: Settings, log: Log) -> None:
    from uniqdb.outbox import TRAILING_DAYS

    log.tell(
        "started",
        f"Counting {settings.input_topic} into {settings.store}, time zone {engine.timezone}.",
        topic=json_text(settings.input_topic),
        store=json_text(settings.store),
        timezone=engine.timezone,
    )
    off = [f"{days}d" for days in TRAILING_DAYS if not engine.retention.keeps_window(days)]
    if off:
        kept = f"days are kept for {engine.retention.day_days:,} days"
        log.tell("windows_off", f"Trailing windows of {', '.join(off)} are switched off: {kept} (day_retention_days).")


def _status(summary: "ServiceSummary", options: "ServiceOptions") -> str:
    """What the service manager shows; without a word of the records."""
    refused = f", {summary.refused:,} refused" if summary.refused else ""
    return f"{options.input_topic}: {summary.visits:,} visits{refused}, {summary.published:,} published"


def _tell(summary: "ServiceSummary", stop: StopRequest, log: Log) -> None:
    rate = summary.records / max(summary.elapsed_s, 0.001)
    refused = f", {summary.refused:,} refused" if summary.refused else ""
    log.tell(
        "summary",
        f"{summary.records:,} records in {summary.elapsed_s:.1f} s ({rate:,.0f}/s): {summary.visits:,} visits"
        f"{refused}, {summary.published:,} published, {summary.commits:,} commits.",
        **asdict(summary),
    )
    if stop.is_made():
        log.tell("stopped", "Stopped; start it again to go on.")
