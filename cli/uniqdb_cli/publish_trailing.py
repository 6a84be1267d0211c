"""``uniqdb publish-trailing``: the trailing windows of a day, published now."""

from typing import TYPE_CHECKING, Annotated

import typer

from uniqdb_cli.kafka_config import assert_client, emission_rules, kafka_settings
from uniqdb_cli.output import say
from uniqdb_cli.reading import open_reader
from uniqdb_cli.serve_stream import BootstrapServersOption, KafkaConfigOption, TakeOverOption
from uniqdb_cli.settings import Settings, load_settings
from uniqdb_cli.words import ConfigOption, StoreOption
from uniqdb_cli.writing import hand_over, open_writer

if TYPE_CHECKING:
    import datetime

    from uniqdb.calendar_zone import CalendarZone
    from uniqdb.engine import Engine

AsOfDayOption = Annotated[
    str | None,
    typer.Option("--as-of", metavar="DATE", help="The day, or `today` [default: the day of the store's clock]."),
]


def publish_trailing(
    as_of: AsOfDayOption = None,
    store: StoreOption = None,
    bootstrap_servers: BootstrapServersOption = None,
    kafka_config: KafkaConfigOption = None,
    take_over: TakeOverOption = False,
    config: ConfigOption = None,
) -> None:
    """Publish the trailing windows of a day.

    Those of 7, 30, 90, 180 and 365 days that end with it, and all that are due: windows of days that have closed, and
    those that late visits amend. While the day is not over its windows are provisional. For cron.

    \b
      uniqdb publish-trailing
      uniqdb publish-trailing --as-of 2016-07-11
    """
    assert_client()
    settings = load_settings(config, store=store, bootstrap_servers=bootstrap_servers, kafka_config=kafka_config)
    say(f"{_carry_out(settings, as_of, take_over=take_over):,} trailing windows published.")


def _carry_out(settings: Settings, as_of: str | None, *, take_over: bool) -> int:
    """Publish, or have the service do it that writes the store; how many."""
    from uniqdb.errors import StoreBusy
    from uniqdb.request_handlers import PUBLISH_TRAILING, TrailingPublished, understood
    from uniqdb.requests import WriterGone

    while True:
        try:
            with open_writer(settings) as engine:
                return _publish(engine, settings, day_of(as_of, engine.zone), take_over=take_over)
        except StoreBusy:
            with open_reader(settings.store) as reader:
                day = day_of(as_of, reader.zone)
        try:
            found = hand_over(settings, PUBLISH_TRAILING, {"as_of": None if day is None else day.isoformat()})
            return understood(found, TrailingPublished).published
        except WriterGone:
            continue  # nobody is in the way any more


def day_of(text: str | None, zone: "CalendarZone") -> "datetime.date | None":
    """The day that the option means. Raises UsageError."""
    import datetime
    import time

    from uniqdb.errors import UsageError

    if text is None:
        return None
    if text == "today":
        return zone.local_date(int(time.time()))
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no date", hint="give a date such as 2016-07-11, or today") from None


def _publish(engine: "Engine", settings: Settings, day: "datetime.date | None", *, take_over: bool) -> int:
    from msgspec import structs

    from uniqdb.stream.kafka_settings import KafkaHooks
    from uniqdb.stream.publisher import Publisher
    from uniqdb.stream.publishing import EVERYTHING, Publishing
    from uniqdb.summing import stored_shard
    from uniqdb.writer import nothing

    with engine.snapshot() as snapshot:
        shard = stored_shard(snapshot.answers.view)
    rules = emission_rules(settings, shard)
    publisher = Publisher(kafka_settings(settings), engine.store_uuid, KafkaHooks(say))
    try:
        publisher.assert_ours([rules.topics.trailing], take_over)
        publisher.ensure_topics([rules.topics.trailing])
        publishing = Publishing(engine, publisher, rules, say, only_windows=True)

        def commit() -> None:
            done = structs.replace(nothing(), published=publishing.acknowledged, is_publishing=True)
            engine.write(done)
            publishing.committed(done)

        commit()
        while windows := publishing.windows(everything=True):
            engine.write(structs.replace(nothing(), windows=windows))
        if windows := publishing.trailing(day):
            engine.write(structs.replace(nothing(), windows=windows))
        publishing.everything(EVERYTHING, commit, until_s=None)
        return publishing.published
    finally:
        publisher.close()
