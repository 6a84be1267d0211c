"""What is no sum: one store, copies, other zones, shards that are not all there. And what a sum says of a bucket."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import uniqdb
from engines import assert_sound, options
from uniqdb.backup import backup
from uniqdb.errors import InputRefused, NotFound, UsageError
from uniqdb.meta import KafkaPlace, SourceRow
from uniqdb.options import Retention
from uniqdb.summing import open_sum
from uniqdb.sweeping import sweep
from uniqdb.writer import nothing

T = 1_468_244_340
DAY_S = 86_400


def new(path: Path, uid: str, zone: str = "UTC") -> Path:
    with uniqdb.open(path, timezone=zone) as db:
        db.add_new_data(T, uid)
    assert_sound(path)
    return path


def shard(path: Path, text: str, partitions: int = 4, topic_id: str = "one", uid: str = "") -> Path:
    """A store that counts a shard of a topic, without the topic."""
    place = KafkaPlace(
        topic="visits", partition=0, next_offset=1, topic_id=topic_id, shard=text, topic_partitions=partitions
    )
    row = SourceRow(kind="kafka", name="visits/0", ts_field="ts", uid_field="uid", ts_unit="s", kafka=place)
    with uniqdb.open(path) as db:
        db.add_new_data(T, uid or text)
        db.commit()
        commit = nothing()
        commit.sources[text.encode().ljust(16)] = msgspec.structs.replace(row, finished=False)
        db.write(commit)
    return path


def refusal(*paths: Path) -> str:
    with pytest.raises((UsageError, InputRefused)) as refused, open_sum(paths):
        pass
    return refused.value.message


def test_stores_that_are_not_to_be_added(tmp_path: Path) -> None:
    one, other = new(tmp_path / "one", "ann"), new(tmp_path / "other", "ben", "Europe/Zurich")
    assert "only one store" in refusal(one)
    assert "named twice" in refusal(one, one)
    assert "has the time zone UTC" in refusal(one, other)
    backup(one, tmp_path / "copy")
    assert "copies of one" in refusal(one, tmp_path / "copy")
    with pytest.raises(NotFound), open_sum([one, tmp_path / "nothing"]):
        pass


def test_shards_must_be_all_of_one_topic(tmp_path: Path) -> None:
    parts = [shard(tmp_path / str(number), f"{number}/3") for number in (1, 2, 3)]
    with open_sum(parts) as total:
        assert total.assert_disjoint(tmp_path) == 3
    assert "shard 3/3 is missing" in refusal(*parts[:2])
    assert "some of the stores are no shards" in refusal(*parts, new(tmp_path / "other", "zoe"))
    assert "are both shard 3/3" in refusal(*parts, shard(tmp_path / "again", "3/3"))
    more = shard(tmp_path / "more", "3/3", partitions=6)
    assert "was given more partitions between its shards: [4, 6]" in refusal(*parts[:2], more)
    anew = shard(tmp_path / "anew", "3/3", topic_id="two")
    assert "one that was made anew" in refusal(*parts[:2], anew)
    mixed = shard(tmp_path / "mixed", "1/4")
    assert "is missing" in refusal(*parts, mixed)


def test_status_and_revision_of_a_sum(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with uniqdb.open(one) as db:
        db.add_many([T + 60 * number for number in range(60)], [f"v{number}" for number in range(60)], source="web")
        db.commit()
        db.add_many([T], ["late"], source="web")
    with uniqdb.open(other) as db:
        db.add_many([T + 3_600 + 60 * number for number in range(60)], ["w"] * 60, source="web")
    with uniqdb.open(one, read_only=True) as db:
        alone = next(db.series("minute"))
    with open_sum([one, other]) as total:
        total.assert_disjoint(tmp_path)
        first = next(total.series("minute"))
        # The other store has not a visit there, but its clock is beyond it.
        assert (first.count, first.visits, first.status) == (2, 2, "amended")
        assert first.revision == alone.revision
        assert first.epoch == 2 * alone.epoch
        assert [row.count for row in total.series("day")] == [62]
        assert total.as_of_default_s() < T + 3_600
        origin = total.origin
    assert origin == _origin([other, one])
    assert origin != _origin([one, new(tmp_path / "third", "x")])


def test_a_series_begins_where_all_stores_have_their_counts(tmp_path: Path) -> None:
    stores = [tmp_path / "one", tmp_path / "other"]
    for store in stores:
        with uniqdb.open(store) as db:
            times = [T - DAY_S * number for number in range(40, -1, -1)]
            db.add_many(times, [f"{store.name}{ts}" for ts in times], source="web")
    kept = Retention(minute_days=1, hour_days=1, day_days=2, week_days=14, month_days=40, count_days=5)
    with uniqdb.open(stores[1], options=replace(options(), retention=kept)) as db:
        sweep(db, T + 5 * DAY_S, forced=True)
    with uniqdb.open(stores[1], read_only=True) as db:
        expected = [(row.start_ts, 2) for row in db.series("minute")]
    with open_sum(stores) as total:
        total.assert_disjoint(tmp_path)
        assert [(row.start_ts, row.count) for row in total.series("minute")] == expected
        assert 1 < len(expected) < 40


def _origin(paths: list[Path]) -> str:
    with open_sum(paths) as total:
        return total.origin
