"""What a store has of the topic that is to be counted on, and that it is the same share of it as before."""

from collections.abc import Iterable

from uniqdb.engine import Engine
from uniqdb.errors import InputRefused
from uniqdb.meta import KafkaPlace, read_sources
from uniqdb.shard import Shard
from uniqdb.stream.file_identity import assert_same_settings, new_row
from uniqdb.stream.kafka_identity import partitions_changed
from uniqdb.stream.service_options import ServiceOptions


def stored_places(engine: Engine, options: ServiceOptions, shard: Shard | None) -> list[KafkaPlace]:
    """Where the partitions of the topic stand. Raises InputRefused if they were begun with other settings."""
    found: list[KafkaPlace] = []
    with engine.snapshot() as snapshot:
        for _, row in read_sources(snapshot.answers.view):
            if row.kafka is None:
                continue
            if row.kafka.topic == options.input_topic and row.is_open:
                assert_same_settings(row, new_row(row.kind, row.name, options.fields, options.limits))
                found.append(row.kafka)
            _assert_same_shard(row.kafka, shard)
    return found


def _assert_same_shard(place: KafkaPlace, shard: Shard | None) -> None:
    wanted = "" if shard is None else str(shard)
    if place.shard != wanted:
        has = f"shard {place.shard} of topic {place.topic}" if place.shard else f"all of topic {place.topic}"
        remedy = f"--shard {place.shard} goes on with it" if place.shard else "leave out --shard to go on with it"
        raise InputRefused(f"this store counts {has}", hint=f"{remedy}; name another store for another shard")


def assert_same_partitions(topic: str, stored: Iterable[KafkaPlace], partition_count: int) -> None:
    """Raise PartitionsChanged if a shard was begun when the topic had another number of partitions."""
    for place in stored:
        if place.topic_partitions not in (0, partition_count):
            raise partitions_changed(topic, place.topic_partitions, partition_count)
