"""``uniqdb topics``: create, list, describe and delete the topics of a Kafka."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from uniqdb.errors import InputRefused, UsageError
from uniqdb_cli.kafka_config import assert_client, kafka_settings
from uniqdb_cli.output import choose_format, is_terminal, print_table, refuse_format, say, write_dicts
from uniqdb_cli.serve_stream import BootstrapServersOption, KafkaConfigOption
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import ConfigOption, FormatOption, OutputFormat

if TYPE_CHECKING:
    from pathlib import Path

    from uniqdb.stream.kafka_admin import TopicAdmin

FORMATS = (OutputFormat.TABLE, OutputFormat.JSON, OutputFormat.JSONL, OutputFormat.CSV)
LIST_COLUMNS = ("topic", "partitions", "copies")
PARTITION_COLUMNS = ("topic", "partition", "first_offset", "end_offset", "leader", "copies", "in_sync")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The topic.")]

topics_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, add_completion=False)


@topics_app.callback()
def topics() -> None:
    """Create, list, describe, delete topics.

    \b
      uniqdb topics create website_visits --partitions 4
      uniqdb topics list
    """


@topics_app.command()
def create(
    name: NameArgument,
    partitions: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=100_000, help="How many [default: the brokers' own].")
    ] = None,
    replication: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=100, help="Copies of each partition [default: the brokers' own]."),
    ] = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="Of each key only the newest record is kept, and for ever.")
    ] = False,
    if_missing: Annotated[bool, typer.Option("--if-missing", help="Fine if it is there already.")] = False,
    bootstrap_servers: BootstrapServersOption = None,
    kafka_config: KafkaConfigOption = None,
    config: ConfigOption = None,
) -> None:
    """Create a topic.

    \b
      uniqdb topics create website_visits
      uniqdb topics create website_visits --partitions 4 --replication 3 --if-missing
    """
    admin = _admin(bootstrap_servers, kafka_config, config)
    try:
        admin.create(name, partitions, replication, is_compacted=compact)
    except InputRefused:
        if not if_missing:
            raise
        say(f"The topic {name} is there already.")
        return
    number = admin.partition_count(name)
    say(f"Created the topic {name}, {number} partition{'s' if number > 1 else ''}.")


@topics_app.command("list")
def list_topics(
    form: FormatOption = None,
    bootstrap_servers: BootstrapServersOption = None,
    kafka_config: KafkaConfigOption = None,
    config: ConfigOption = None,
) -> None:
    """List the topics.

    Without those that Kafka keeps for itself. Formats: table, json, jsonl, csv.

    \b
      uniqdb topics list
      uniqdb topics list --format jsonl
    """
    refuse_format("topics list", form, FORMATS)
    found = _admin(bootstrap_servers, kafka_config, config).topics()
    rows = [{"topic": one.name, "partitions": one.partitions, "copies": one.copies} for one in found]
    chosen = choose_format(form, FORMATS)
    if chosen is not OutputFormat.TABLE:
        write_dicts(rows, LIST_COLUMNS, chosen)
    elif rows:
        print_table("Topics", ["topic", "partitions#", "copies#"], [list(map(str, one.values())) for one in rows])
    else:
        print("No topics there.")


@topics_app.command()
def describe(
    name: NameArgument,
    form: FormatOption = None,
    bootstrap_servers: BootstrapServersOption = None,
    kafka_config: KafkaConfigOption = None,
    config: ConfigOption = None,
) -> None:
    """Show the partitions of a topic.

    With the first readable offset of each, and the one behind the last. The table also has the topic's id and what was
    set for it alone. Formats: table, json, jsonl, csv.

    \b
      uniqdb topics describe website_visits
    """
    refuse_format("topics describe", form, FORMATS)
    found = _admin(bootstrap_servers, kafka_config, config).describe(name)
    rows: list[dict[str, object]] = [
        {
            "topic": name,
            "partition": one.partition,
            "first_offset": one.first,
            "end_offset": one.end,
            "leader": one.leader,
            "copies": len(one.copies),
            "in_sync": len(one.in_sync),
        }
        for one in found.partitions
    ]
    chosen = choose_format(form, FORMATS)
    if chosen is not OutputFormat.TABLE:
        write_dicts(rows, PARTITION_COLUMNS, chosen)
        return
    set_there = {None: "not to be seen", True: "nothing"}.get(
        found.config if found.config is None else not found.config
    )
    shown = set_there or ", ".join(f"{key}={value}" for key, value in (found.config or {}).items())
    columns = ["partition#", "first offset#", "end offset#", "leader#", "copies#", "in sync#"]
    cells = [["none" if value is None else f"{value:,}" for value in list(one.values())[1:]] for one in rows]
    print_table(f"{name}, id {found.topic_id}. Set for it alone: {shown}.", columns, cells)


@topics_app.command()
def delete(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    bootstrap_servers: BootstrapServersOption = None,
    kafka_config: KafkaConfigOption = None,
    config: ConfigOption = None,
) -> None:
    """Delete a topic with all its records.

    Asks first on a terminal; elsewhere --yes is needed.

    \b
      uniqdb topics delete website_visits
      uniqdb topics delete website_visits --yes
    """
    admin = _admin(bootstrap_servers, kafka_config, config)
    details = admin.describe(name)
    if not yes:
        records = sum(one.end - one.first for one in details.partitions)
        _ask(f"Delete the topic {name} with up to {records:,} records?")
    admin.delete(name)
    say(f"Deleted the topic {name}.")


def _ask(question: str) -> None:
    """Raise UsageError unless somebody at the terminal says yes."""
    if not is_terminal(sys.stdin):
        raise UsageError("nobody is there to be asked", hint="--yes deletes it without asking")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was deleted", hint="answer y to delete it")


def _admin(servers: str | None, kafka_config: str | None, config: "Path | None") -> "TopicAdmin":
    settings = load_settings(config, bootstrap_servers=servers, kafka_config=kafka_config)
    assert_client()
    from uniqdb.stream.kafka_admin import TopicAdmin

    return TopicAdmin(kafka_settings(settings))
