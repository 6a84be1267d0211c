"""Shares of a topic's partitions."""

import pytest

from uniqdb import UsageError
from uniqdb.shard import Shard
from uniqdb.stream.kafka_identity import owned_partitions


@pytest.mark.parametrize("partitions", [1, 2, 4, 7, 100])
@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_each_partition_is_in_one_shard(partitions: int, count: int) -> None:
    if count > partitions:
        with pytest.raises(UsageError, match="none of which is in shard"):
            owned_partitions("visits", partitions, Shard(count, count))
        return
    shards = [Shard(number + 1, count) for number in range(count)]
    owned = [owned_partitions("visits", partitions, shard) for shard in shards]
    assert sorted(one for some in owned for one in some) == list(range(partitions))
    for shard, some in zip(shards, owned, strict=True):
        assert all(shard.owns(one) for one in some)
    assert list(owned_partitions("visits", partitions, None)) == list(range(partitions))


def test_texts_of_shards() -> None:
    assert Shard.parse("2/4") == Shard(2, 4)
    assert str(Shard(2, 4)) == "2/4"
    assert Shard(2, 4).topic("visits_per_day") == "visits_per_day.shard-2-of-4"
    for text in ("", "2", "0/4", "5/4", "1/0", "-1/4", "1/4/4", "a/b", "1/1025", "1 / 4", "\u0661/4"):
        with pytest.raises(UsageError, match="names no shard"):
            Shard.parse(text)
