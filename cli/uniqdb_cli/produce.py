"""``uniqdb produce``: the records of a file or a pipe into a Kafka topic."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from uniqdb_cli.input_files import STDIN_NAME, assert_readable, lines_of
from uniqdb_cli.kafka_config import assert_client, kafka_settings
from uniqdb_cli.output import is_terminal, say
from uniqdb_cli.serve_stream import BootstrapServersOption, KafkaConfigOption
from uniqdb_cli.settings import Settings, load_settings, record_fields
from uniqdb_cli.stopping import StopRequest, stop_on_signals
from uniqdb_cli.words import ConfigOption, UidFieldOption

if TYPE_CHECKING:
    from uniqdb.stream.record_producer import RecordProducer

FLUSH_S = 90.0
"""How long what was accepted is waited for: longer than the client tries to deliver a record."""
STOP_FLUSH_S = 10.0
"""The same after Ctrl-C."""
RECORD_BYTES_MAX = 1_000_000_000
"""The client takes nothing larger, whatever its settings are."""
PROGRESS_EVERY = 500
STEP_S = 0.1

TopicOption = Annotated[
    str | None, typer.Option("--topic", metavar="NAME", help="The topic [default: input_topic, website_visits].")
]
RateOption = Annotated[
    float | None, typer.Option(metavar="N", help="At most so many records a second [default: as fast as it goes].")
]


def produce(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines, plain, .gz or .zst; - for standard input.")],
    topic: TopicOption = None,
    rate: RateOption = None,
    uid_field: UidFieldOption = None,
    bootstrap_servers: BootstrapServersOption = None,
    kafka_config: KafkaConfigOption = None,
    config: ConfigOption = None,
) -> None:
    """Send a file of visits into a Kafka topic.

    Each line is sent as it is, blank ones aside. Its key is its uid, so that all visits of a visitor go to one
    partition, the same as from a Java client; a record without a readable uid is sent without a key. It ends with 0
    only if every record has arrived. Ctrl-C: what was accepted is delivered, and the number is said.

    \b
      uniqdb produce visits.jsonl
      uniqdb produce visits.jsonl.zst --topic clicks --uid-field who.id --rate 5000
      uniqdb generate --live --rate 100 | uniqdb produce -
    """
    settings = load_settings(
        config, bootstrap_servers=bootstrap_servers, input_topic=topic, uid_field=uid_field, kafka_config=kafka_config
    )
    from uniqdb.errors import UsageError

    if rate is not None and not 0 < rate <= 10**9:
        raise UsageError(f"--rate {rate} is out of range", hint="give more than 0")
    assert_client()
    assert_readable(file)
    from uniqdb.stream.kafka_admin import TopicAdmin
    from uniqdb.stream.record_producer import RecordProducer

    kafka = kafka_settings(settings)
    TopicAdmin(kafka).partition_count(settings.input_topic)
    producer = RecordProducer(kafka, settings.input_topic)
    started_at_s = time.monotonic()
    with stop_on_signals() as stop:
        try:
            without_key = _send_all(producer, file, settings, (rate, stop))
            producer.wait(STOP_FLUSH_S if stop.is_made() else FLUSH_S)
        finally:
            producer.close()
    _tell(producer, without_key, time.monotonic() - started_at_s)
    if (failure := producer.failure()) is not None:
        raise failure
    if stop.is_made():
        say("Stopped before the end.")
        raise typer.Exit(stop.exit_code)


def _send_all(producer: "RecordProducer", file: str, settings: Settings, how: tuple[float | None, StopRequest]) -> int:
    """Send every record until the end or a signal; how many had no key."""
    rate, stop = how
    key_of = _key_reader(settings)
    pace = _Pace(rate, stop)
    without_key = sent_bytes = 0
    with _progress(file) as show:
        for record in lines_of(file, RECORD_BYTES_MAX, stop.is_made):
            sent_bytes += len(record) + 1
            if not record or record.isspace():
                continue
            if not pace.wait():
                break
            key = key_of(record)
            without_key += key is None
            producer.send(record, key)
            if show is not None and producer.sent % PROGRESS_EVERY == 0:
                show(producer.sent, sent_bytes)
    return without_key


def _key_reader(settings: Settings) -> Callable[[bytes], bytes | None]:
    """The function from a record to its uid as bytes; None where it has none. Its time may be what it will."""
    from uniqdb.visit import Reason
    from uniqdb.visit_decoder import VisitDecoder

    decoder = VisitDecoder(record_fields(settings))

    def key_of(record: bytes) -> bytes | None:
        found = decoder.decode_one(record)
        uid = decoder.decodable(record)[1] if isinstance(found, Reason) else found[1]
        return None if uid is None else uid.encode()

    return key_of


class _Pace:
    """Lets through so many records a second; all at once without a rate."""

    def __init__(self, rate: float | None, stop: StopRequest) -> None:
        self._rate, self._stop = rate, stop
        self._number = 0
        self._began_at_s = time.monotonic()

    def wait(self) -> bool:
        """Wait until the next record's time has come; False when it is asked to stop."""
        if self._rate is not None:
            due_at_s = self._began_at_s + self._number / self._rate
            self._number += 1
            while (left_s := due_at_s - time.monotonic()) > 0 and not self._stop.is_made():
                time.sleep(min(left_s, STEP_S))
        return not self._stop.is_made()


@contextmanager
def _progress(file: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error, if somebody is looking: of the bytes of a plain file, else only how many."""
    if not is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("sent", total=_total_bytes(file))

        def show(records: int, sent_bytes: int) -> None:
            progress.update(task, completed=sent_bytes, description=f"{records:,} sent")

        yield show


def _total_bytes(file: str) -> int | None:
    from uniqdb.stream.byte_stream import open_stream

    if file == STDIN_NAME:
        return None
    stream = open_stream(file)
    try:
        return stream.total_bytes
    finally:
        stream.close()


def _tell(producer: "RecordProducer", without_key: int, elapsed_s: float) -> None:
    rate = producer.delivered / max(elapsed_s, 0.001)
    keyless = f", {without_key:,} without a readable uid and so without a key" if without_key else ""
    say(f"Sent {producer.delivered:,} records to {producer.topic} in {elapsed_s:.1f} s ({rate:,.0f}/s){keyless}.")
