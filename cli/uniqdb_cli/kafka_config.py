"""How to reach Kafka: the client's own settings from a file, and what the settings say of topics."""

import configparser
import os
from pathlib import Path
from typing import TYPE_CHECKING

from uniqdb.errors import NotFound, UsageError
from uniqdb_cli.settings import Settings

if TYPE_CHECKING:
    from uniqdb.shard import Shard
    from uniqdb.stream.emission import EmissionRules
    from uniqdb.stream.kafka_settings import KafkaSettings, Start

PLACES = ("config/kafka_config.ini", "kafka_config.ini")
SECTION = "kafka"
DEFAULT_SERVERS = "localhost:9092"


def assert_client() -> None:
    """Raise UsageError unless the Kafka client is installed."""
    import importlib.util

    if importlib.util.find_spec("confluent_kafka") is None:
        raise UsageError("the package confluent-kafka is not there", hint="python -m pip install confluent-kafka")


def client_settings(settings: Settings) -> dict[str, str]:
    """librdkafka's settings by name: of the file, else only the broker; the broker of the settings comes first.

    Raises NotFound for a file that was named and cannot be read, UsageError for one that makes no sense.
    """
    place = settings.kafka_config or next((one for one in PLACES if Path(one).is_file()), None)
    found = {} if place is None else _from_file(Path(place))
    if settings.bootstrap_servers is not None:
        found["bootstrap.servers"] = settings.bootstrap_servers
    found.setdefault("bootstrap.servers", DEFAULT_SERVERS)
    return found


def _from_file(place: Path) -> dict[str, str]:
    # Values may hold a % or a #; keys are the client's own, with dots and in their case.
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep keys as they are
    try:
        text = place.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(
            f"the Kafka settings {place} cannot be read: {error}", hint="correct --kafka-config, or leave it out"
        ) from None
    try:
        parser.read_string(text, str(place))
    except configparser.Error as error:
        # Without the line itself: it may hold a secret.
        raise UsageError(
            f"the Kafka settings {place} are no INI file ({type(error).__name__})",
            hint=f"write [{SECTION}] and lines such as bootstrap.servers = localhost:9092",
        ) from None
    others = [name for name in parser.sections() if name != SECTION]
    if others:
        raise UsageError(f"{place} has a section [{others[0]}]", hint=f"put every setting below [{SECTION}]")
    found = dict(parser.items(SECTION)) if parser.has_section(SECTION) else {}
    return {key: _fetched(place, key, value) for key, value in found.items()}


def _fetched(place: Path, key: str, value: str) -> str:
    """The value; with ``file:PATH`` the content of that file, with ``env:NAME`` that of the variable.

    So secrets need not stand in the settings. A line break at the end of the file is left out; a relative path starts
    at the settings. No message shows what was found.
    """
    if value.startswith("env:"):
        found = os.environ.get(value[4:], "")
        if not found:
            raise UsageError(
                f"{place}: {key} is to be taken from the variable {value[4:]}, which is not set", hint="set it"
            )
    elif value.startswith("file:"):
        try:
            found = (place.parent / value[5:]).read_text("utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or "no text"
            raise NotFound(
                f"{place}: {key} is to be read from {value[5:]}: {cause}", hint="correct the path, or its permissions"
            ) from None
        if not found:
            raise UsageError(f"{place}: {key} is to be read from {value[5:]}, which is empty", hint="fill that file")
    else:
        return value
    return found


def start_of(text: str) -> "Start | int":
    """Where a topic is begun: earliest, latest, or a time."""
    import datetime

    from uniqdb.stream.kafka_settings import Start

    if text in tuple(Start):
        return Start(text)
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"a topic cannot be begun at {text!r}", hint="give earliest, latest, or a time such as 2016-07-11T13:00Z"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return int(moment.timestamp() * 1_000)


def kafka_settings(
    settings: Settings, start: str = "earliest", accepted: tuple[bool, ...] = (), shard: "Shard | None" = None
) -> "KafkaSettings":
    """The settings of every client. ``accepted``: the three flags of what is accepted, as in `Accept`."""
    from uniqdb.stream.kafka_settings import Accept, KafkaSettings

    accept = frozenset(one for one, is_given in zip(Accept, accepted, strict=False) if is_given)
    return KafkaSettings(client_settings(settings), start=start_of(start), accept=accept, shard=shard)


def emission_rules(settings: Settings, shard: "Shard | None" = None) -> "EmissionRules":
    """Topics, those of a shard its own, and what is sent before it is final. Raises UsageError."""
    from uniqdb.granularity import Granularity
    from uniqdb.stream.emission import EmissionRules, OutputTopics

    names = ("minute", "hour", "day", "week", "month", "year", "trailing", "quarantine")
    found: list[str] = [getattr(settings, f"topic_{name}") for name in names]
    topics = OutputTopics(*(found if shard is None else map(shard.topic, found)))
    if len({*topics.names(), settings.input_topic}) < len(names) + 1:
        raise UsageError("two of the topics have the same name", hint="give each its own, see `uniqdb config show`")
    words = [word.strip() for word in settings.emit_updates.split(",")]
    updates = frozenset(Granularity.from_word(word) for word in words if word not in ("", "none"))
    return EmissionRules(topics, updates)
