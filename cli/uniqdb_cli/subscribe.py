"""``uniqdb subscribe``: the records of a topic as they come."""

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from uniqdb_cli.kafka_config import assert_client, kafka_settings
from uniqdb_cli.output import is_terminal, printable, say
from uniqdb_cli.serve_stream import BootstrapServersOption, KafkaConfigOption
from uniqdb_cli.settings import load_settings
from uniqdb_cli.stopping import stop_on_signals
from uniqdb_cli.words import ConfigOption

if TYPE_CHECKING:
    from uniqdb.record import CountRecord
    from uniqdb.stream.topic_watcher import SeenRecord

LABEL_WIDTH = 42
HEAD = f"{'from':<{LABEL_WIDTH}}{'unique visitors':>16}{'visits':>14}   {'status':<12}revision"


class WatchFormat(StrEnum):
    """How the records of a topic are shown."""

    PRETTY = "pretty"
    JSONL = "jsonl"


def subscribe(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The topic, such as visits_per_minute.")],
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="With all that the topic has, not only what comes from now on.")
    ] = False,
    max_records: Annotated[
        int | None, typer.Option("--max", metavar="N", min=1, help="End after so many records [default: never].")
    ] = None,
    final: Annotated[bool, typer.Option("--final", help="Leave out counts that are still provisional.")] = False,
    form: Annotated[
        WatchFormat | None,
        typer.Option("--format", help="[default: pretty on a terminal, jsonl otherwise].", show_default=False),
    ] = None,
    bootstrap_servers: BootstrapServersOption = None,
    kafka_config: KafkaConfigOption = None,
    config: ConfigOption = None,
) -> None:
    """Show the records of a topic as they come.

    A count is a line of a table on a terminal; everything else is shown as it is. Records of transactions come once
    these are committed, and no position is kept anywhere. Formats: pretty, jsonl. Ctrl-C ends it (130).

    \b
      uniqdb subscribe visits_per_minute
      uniqdb subscribe visits_per_day --from-beginning --final --max 30
      uniqdb subscribe website_visits --format jsonl | head
    """
    settings = load_settings(config, bootstrap_servers=bootstrap_servers, kafka_config=kafka_config)
    assert_client()
    from uniqdb.stream.kafka_settings import KafkaHooks
    from uniqdb.stream.topic_watcher import TopicWatcher

    is_pretty = form is WatchFormat.PRETTY or (form is None and is_terminal(sys.stdout))
    text_of = _Pretty().text_of if is_pretty else _as_json_line
    watcher = TopicWatcher(kafka_settings(settings), topic, KafkaHooks(say), from_beginning=from_beginning)
    try:
        with stop_on_signals() as stop:
            shown = 0
            for record in watcher.records(stop.is_made):
                if record is None:
                    sys.stdout.flush()
                    continue
                if final and _is_provisional(record):
                    continue
                sys.stdout.write(text_of(record) + "\n")
                shown += 1
                if shown == max_records or stop.is_made():
                    break
            sys.stdout.flush()
    finally:
        watcher.close()
    if stop.is_made():
        raise typer.Exit(stop.exit_code)


def _count_of(record: "SeenRecord") -> "CountRecord | None":
    """The record as a count, if it is one."""
    import msgspec

    from uniqdb.record import CountRecord

    try:
        return None if record.value is None else msgspec.json.decode(record.value, type=CountRecord)
    except (msgspec.DecodeError, RecursionError):
        return None


def _is_provisional(record: "SeenRecord") -> bool:
    count = _count_of(record)
    return count is not None and count.status == "provisional"


def _as_json_line(record: "SeenRecord") -> str:
    """The value as it is, but in one line; ``null`` for a record without a value."""
    if record.value is None:
        return "null"
    text = record.value.decode("utf-8", errors="surrogateescape")
    if "\n" not in text and "\r" not in text and text.isprintable():
        return text
    import msgspec

    try:
        return msgspec.json.format(record.value, indent=-1).decode()
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return printable(text)


class _Pretty:
    """Counts as lines of one table, below a head; other records as they are, escaped for the terminal."""

    def __init__(self) -> None:
        self._has_head = False

    def text_of(self, record: "SeenRecord") -> str:
        count = _count_of(record)
        if count is None:
            key = "" if record.key is None else f"{_text(record.key)}  "
            return f"{record.partition}/{record.offset}  {key}{_text(record.value)}"
        line = _line_of(count)
        if self._has_head:
            return line
        self._has_head = True
        return f"{HEAD}\n{line}"


def _line_of(count: "CountRecord") -> str:
    name = f"{count.granularity} {count.datetime}"
    if count.granularity == "window":
        name = f"{count.window} as of {count.as_of}"
    label = f"{printable(name):<{LABEL_WIDTH}}"
    return f"{label}{count.count:>16,}{count.visits:>14,}   {printable(count.status):<12}{count.revision}"


def _text(content: bytes | None) -> str:
    return "(no value)" if content is None else printable(content.decode("utf-8", errors="surrogateescape"))
