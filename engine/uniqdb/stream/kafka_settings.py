"""How uniqdb talks to Kafka: the client's settings, ours and the user's, and the words that several modules share.

Settings of the user are passed through to the client, librdkafka, under its own names. Those on which exactness rests
are fixed, and naming them is an error; the others are defaults.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from uniqdb.errors import UsageError
from uniqdb.shard import Shard

START_TIMEOUT_S = 30.0
"""How long the first contact with Kafka may take; later outages are waited out."""
LOG_INTERVAL_S = 10.0
"""The same trouble is told at most so often."""
DELIVERY_TIMEOUT_MS = 60_000
"""How long a record that is sent without a transaction may be under way before it is given up."""
STORE_HEADER = "uniqdb-store"
"""Header of every published message: the uuid of the store it came from."""

SECRET_WORDS = (
    "password",
    "passphrase",
    "secret",
    "token",
    "credential",
    "private",
    "jaas",
    ".pem",
    "oauthbearer.config",
)
"""A setting with one of them in its name is never shown."""


def is_secret(key: str) -> bool:
    """Whether a setting of this name is never shown."""
    return any(word in key.lower() for word in SECRET_WORDS)


CLIENT_LOG = logging.getLogger("uniqdb.kafka")
"""Gets what the client would print to standard error, which belongs to the program."""
CLIENT_LOG.addHandler(logging.NullHandler())

Value = str | int | float | bool
Log = Callable[[str], None]

_ALL_CLIENTS: dict[str, Value] = {
    # What matters of the client's own log comes to us as errors, too.
    "log_level": 2,
    "socket.keepalive.enable": True,
    # An outage lasts as long as it lasts, and not up to ten seconds more.
    "reconnect.backoff.max.ms": 1_000,
}
_CONSUMER: dict[str, Value] = {
    # A partition that was full is asked again after so long. The client's own default of a second is what limits it.
    "fetch.queue.backoff.ms": 10,
    "queued.max.messages.kbytes": 16_384,
    # Four times the client's own default: fewer and larger answers make a service that reads history 8 % faster.
    "max.partition.fetch.bytes": 4 * 2**20,
    # So long a broker waits for new records before it says that there are none: how soon the end is noticed.
    "fetch.wait.max.ms": 100,
    "check.crcs": True,
}
_CONSUMER_FIXED: dict[str, Value] = {
    # The position is committed with what was counted, in the store; never by the client.
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # Anything else skips records in silence when an offset is gone.
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    # Tells how far a partition was read when its last offsets hold no record.
    "enable.partition.eof": True,
    "allow.auto.create.topics": False,
}
_PRODUCER: dict[str, Value] = {
    "linger.ms": 20,
    "compression.type": "lz4",
    # The same key goes to the same partition as from a Java client.
    "partitioner": "murmur2_random",
    "transaction.timeout.ms": 60_000,
}
_PRODUCER_FIXED: dict[str, Value] = {"enable.idempotence": True, "acks": "all"}
_OWN_NAMES = ("transactional.id", *_CONSUMER_FIXED, *_PRODUCER_FIXED)


class Accept(StrEnum):
    """What a user accepts by a flag of this name, so that reading goes on where it would be refused."""

    RECREATED_TOPIC = "--accept-recreated-topic"
    LOST_OFFSETS = "--accept-lost-offsets"
    OTHER_CLUSTER = "--accept-other-cluster"


class Start(StrEnum):
    """Where a topic is begun that was never read."""

    EARLIEST = "earliest"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach Kafka and what to accept. Its text never shows the client's settings: they hold secrets."""

    client: Mapping[str, Value] = field(repr=False)
    """librdkafka's settings by name, ``bootstrap.servers`` among them."""
    start: Start | int = Start.EARLIEST
    """Or a Unix time in milliseconds: the first record with that timestamp or a later one."""
    accept: frozenset[Accept] = frozenset()
    start_timeout_s: float = START_TIMEOUT_S
    shard: Shard | None = None
    """Which share of a topic's partitions is read; None: all of them."""

    def __post_init__(self) -> None:
        if not str(self.client.get("bootstrap.servers") or self.client.get("metadata.broker.list") or "").strip():
            raise UsageError("no Kafka broker is named", hint="set bootstrap.servers, such as localhost:9092")
        if own := sorted(key for key in self.client if key in _OWN_NAMES):
            raise UsageError(f"{own[0]} is not for the user to set: exact counts rest on it", hint="remove the line")

    def for_admin(self) -> dict[str, Value]:
        """Settings of a client that only asks about topics."""
        return _ALL_CLIENTS | dict(self.client)

    def for_consumer(self, group: str) -> dict[str, Value]:
        """Settings of a consumer. ``group`` names the reader to lag monitors, unless the user named it."""
        return _ALL_CLIENTS | _CONSUMER | {"group.id": group} | dict(self.client) | _CONSUMER_FIXED

    def for_producer(self, transactional_id: str) -> dict[str, Value]:
        """Settings of a producer; of those with the same id, only the youngest may write."""
        own = {**_PRODUCER_FIXED, "transactional.id": transactional_id}
        return _ALL_CLIENTS | _PRODUCER | dict(self.client) | own

    def for_plain_producer(self) -> dict[str, Value]:
        """Settings of a producer without transactions."""
        plain = {key: value for key, value in _PRODUCER.items() if key != "transaction.timeout.ms"}
        return _ALL_CLIENTS | plain | {"message.timeout.ms": DELIVERY_TIMEOUT_MS} | dict(self.client) | _PRODUCER_FIXED

    def for_watcher(self, group: str) -> dict[str, Value]:
        """Settings of a consumer that only looks: what is gone it need not see, so it goes on at what is left."""
        return self.for_consumer(group) | {"auto.offset.reset": "earliest"}

    @property
    def transaction_timeout_s(self) -> float:
        """How long brokers leave a transaction open before they undo it, and refuse its producer from then on."""
        return float(self.client.get("transaction.timeout.ms", _PRODUCER["transaction.timeout.ms"])) / 1_000

    def without_secrets(self, text: str) -> str:
        """The text with every secret of these settings hidden: the client repeats values it does not like."""
        for key, value in self.client.items():
            if str(value) and is_secret(key):
                text = text.replace(str(value), "(hidden)")
        return text


def _ignore(line: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class KafkaHooks:
    """What whoever drives a client wants to be told and asked. ``should_stop`` ends waiting for a broker."""

    on_log: Log = _ignore
    should_stop: Callable[[], bool] = lambda: False


class RareLog:
    """Passes on lines, those of one kind at most once in `LOG_INTERVAL_S`, with the number of those held back."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._said_at_s: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def say(self, kind: str, line: str) -> None:
        """Pass the line on, or count it."""
        now_s = time.monotonic()
        if now_s - self._said_at_s.get(kind, -LOG_INTERVAL_S) < LOG_INTERVAL_S:
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return
        self._said_at_s[kind] = now_s
        more = self._held_back.pop(kind, 0)
        self._log(f"{line} (and {more:,} times before)" if more else line)
