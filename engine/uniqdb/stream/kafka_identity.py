"""Which topic it is, and whether stored positions still mean what they meant."""

from collections.abc import Mapping
from dataclasses import dataclass

from uniqdb.errors import OtherCluster, PartitionsChanged, TopicRecreated, UsageError
from uniqdb.shard import Shard
from uniqdb.stream.kafka_batch import GapReason
from uniqdb.stream.kafka_settings import Accept


@dataclass(frozen=True, slots=True)
class TopicIdentity:
    """What tells a topic from another one of the same name. Empty where the brokers are too old to tell."""

    cluster_id: str
    topic_id: str


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic as its brokers describe it. ``cleanup_policy`` is None where we may not ask for it."""

    identity: TopicIdentity
    partition_count: int
    cleanup_policy: str | None

    @property
    def is_compacted(self) -> bool:
        """Whether of records with the same key only the last one is sure to stay."""
        return "compact" in (self.cleanup_policy or "")


@dataclass(frozen=True, slots=True)
class StoredPlace:
    """What a store knows of a topic: its next offsets by partition, and which topic it was (None: nobody looked)."""

    positions: Mapping[int, int]
    identity: TopicIdentity | None = None


def accepted_change(topic: str, stored: StoredPlace, now: TopicFacts, accept: frozenset[Accept]) -> GapReason | None:
    """Why the stored positions mean nothing any more, if the user accepts it. None: they hold.

    Raises OtherCluster and TopicRecreated for what was not accepted.
    """
    known = stored.identity
    if known is not None and known.cluster_id and now.identity.cluster_id not in ("", known.cluster_id):
        if Accept.OTHER_CLUSTER not in accept:
            raise OtherCluster(
                f"topic {topic} was read from the Kafka cluster {known.cluster_id}, this is {now.identity.cluster_id}",
                hint=f"name the right broker; {Accept.OTHER_CLUSTER} begins the topic of this one at --start",
            )
        return GapReason.OTHER_CLUSTER
    error = None
    if known is not None and known.topic_id and now.identity.topic_id not in ("", known.topic_id):
        error = recreated(topic, f"its id was {known.topic_id}", now.identity.topic_id)
    elif max(stored.positions, default=0) >= now.partition_count:  # no topic ever loses partitions
        error = recreated(topic, f"it had {max(stored.positions) + 1} partitions", str(now.partition_count))
    if error is None:
        return None
    if Accept.RECREATED_TOPIC not in accept:
        raise error
    return GapReason.RECREATED_TOPIC


def recreated(topic: str, before: str, now: str) -> TopicRecreated:
    """The error for a topic that is another one than before."""
    return TopicRecreated(
        f"topic {topic} was deleted and made anew: {before}, now {now}",
        hint=f"{Accept.RECREATED_TOPIC} begins the new one at --start, and records the gap",
    )


def owned_partitions(topic: str, partition_count: int, shard: Shard | None) -> list[int]:
    """The partitions that are read, ascending. Raises UsageError if there are none."""
    owned = [one for one in range(partition_count) if shard is None or shard.owns(one)]
    if shard is not None and not owned:
        raise UsageError(
            f"topic {topic} has {partition_count} partitions, none of which is in shard {shard}",
            hint=f"a topic of so many can be counted in at most {partition_count} shards",
        )
    return owned


def partitions_changed(topic: str, before: int, now: int) -> PartitionsChanged:
    """The error for a topic that is not divided as it was when its shards were begun."""
    return PartitionsChanged(
        f"topic {topic} had {before} partitions when its shards were begun, and has {now} now: from then on a uid may "
        "be in another shard, and counts of shards do not add any more",
        hint="`uniqdb merge` unites the stores exactly; begin new stores for the topic as it is now",
    )
