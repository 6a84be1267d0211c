"""``uniqdb sum``: the counts of stores that share no visitor, added."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uniqdb.errors import UsageError
from uniqdb_cli.kafka_config import assert_client, emission_rules, kafka_settings
from uniqdb_cli.output import choose_format, progress_line, say, write_counts
from uniqdb_cli.reading import Question, counted
from uniqdb_cli.serve_stream import BootstrapServersOption, KafkaConfigOption, TakeOverOption
from uniqdb_cli.settings import Settings, load_settings
from uniqdb_cli.words import AsOfOption, By, ConfigOption, FormatOption, FromOption, ToOption

if TYPE_CHECKING:
    from uniqdb.record import CountRecord
    from uniqdb.summing import StoreSum


def sum_stores(
    stores: Annotated[list[Path], typer.Argument(metavar="STORE...", help="The stores, of one time zone.")],
    window: Annotated[
        list[str] | None, typer.Option(metavar="SPAN", help="The last days, hours or minutes: 30d, 24h. Repeatable.")
    ] = None,
    period: Annotated[
        list[str] | None, typer.Option(metavar="PERIOD", help="2016, 2016-07, 2016-W28, 2016-07-11. Repeatable.")
    ] = None,
    by: Annotated[By | None, typer.Option(help="A series: each bucket that had visits.", show_default=False)] = None,
    start: FromOption = None,
    end: ToOption = None,
    as_of: AsOfOption = None,
    publish: Annotated[
        bool, typer.Option("--publish", help="Publish the records, too, in the topics of the whole.")
    ] = False,
    form: FormatOption = None,
    bootstrap_servers: BootstrapServersOption = None,
    kafka_config: KafkaConfigOption = None,
    take_over: TakeOverOption = False,
    config: ConfigOption = None,
) -> None:
    """Add the counts of stores that have no visitor in common.

    Such are the shards of a topic that is keyed by uid (`serve-stream --shard I/N`). It is proved first, in each call:
    the uids of all stores are sorted and compared, about a microsecond each, in files of a temporary folder. If one
    visitor is in two of them, or a shard is missing, the sum is refused (65); `uniqdb merge` is the exact way then.
    Windows are as of the least of the stores' clocks. Of two sums of the same stores the one with the larger
    (epoch, revision) is the newer.

    \b
      uniqdb sum shard1.uniqdb shard2.uniqdb
      uniqdb sum shard1.uniqdb shard2.uniqdb --by day --format csv
      uniqdb sum shard1.uniqdb shard2.uniqdb --by day --from 2016-07-11 --publish
    """
    question = Question(window or [], period or [], by, start, end, False, as_of)
    settings = load_settings(config, format=form, bootstrap_servers=bootstrap_servers, kafka_config=kafka_config)
    if publish:
        assert_client()
        if by is None and start is not None:
            raise UsageError("there is no topic for an interval", hint="publish windows, periods or a series (--by)")
    from uniqdb.summing import open_sum

    with open_sum(stores) as total:
        _assert_disjoint(total)
        found = counted(question, total, total.zone)
        if not publish:
            write_counts(found, choose_format(settings.format), total.zone.isoformat)
            return
        records = list(found)
        write_counts(records, choose_format(settings.format), total.zone.isoformat)
        say(f"{_publish(records, total, settings, take_over=take_over):,} records published.")


def _assert_disjoint(total: "StoreSum") -> None:
    with progress_line("Comparing visitors.") as show, tempfile.TemporaryDirectory(prefix="uniqdb-sum-") as folder:
        if show is not None:
            show(", ".join(total.names), 0)
        total.assert_disjoint(Path(folder))


def _publish(records: list["CountRecord"], total: "StoreSum", settings: Settings, *, take_over: bool) -> int:
    """Publish them under the name of the sum, which no store has; how many."""
    from msgspec import structs

    from uniqdb.stream.emission import count_message
    from uniqdb.stream.kafka_settings import KafkaHooks
    from uniqdb.stream.publisher import Publisher

    topics = emission_rules(settings).topics
    # A window is worked out anew each time, and has no revision of its own: it is as new as the newest commit.
    numbered = (structs.replace(one, revision=one.revision or total.commits()) for one in records)
    messages = [count_message(topics, record) for record in numbered]
    publisher = Publisher(kafka_settings(settings), total.origin, KafkaHooks(say))
    try:
        names = sorted({message.topic for message in messages})
        publisher.assert_ours(names, take_over)
        publisher.ensure_topics(names)
        for first in range(0, len(messages), _RECORDS_PER_TRANSACTION):
            publisher.publish(messages[first : first + _RECORDS_PER_TRANSACTION])
    finally:
        publisher.close()
    return len(messages)


_RECORDS_PER_TRANSACTION = 20_000
