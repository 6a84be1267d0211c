"""Counts of several stores that have no visitor in common, added; and the proof that they have none.

Shards of a topic keyed by uid are such stores. That they are is not taken on trust: every dictionary is read, all uids
are hashed anew with one seed, sorted, and compared, byte for byte where two hashes agree.
"""

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from uniqdb.calendar_zone import CalendarZone
from uniqdb.creation import new_hash_seed
from uniqdb.engine import open as open_store
from uniqdb.errors import InputRefused, SharedVisitors, UsageError
from uniqdb.meta import KafkaPlace, read_sources, read_store_row
from uniqdb.moments import Moment
from uniqdb.options import DictionarySizes
from uniqdb.parts import add_up, added_counts, uids_given
from uniqdb.record import CountRecord
from uniqdb.several_stores import assert_one_zone, real_paths
from uniqdb.shard import Shard
from uniqdb.snapshot import Snapshot
from uniqdb.sorted_uids import SortedUids
from uniqdb.store import ReadView
from uniqdb.uid_dictionary import UidDictionary

_ORIGIN = uuid.UUID("6f1f6ad4-5f0e-4a4e-9f0a-6c1d3b0a6f52")
"""Under it the names of sums are made, by which a publisher knows its own records again."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the stores, at one commit."""

    name: str
    store_uuid: str
    hash_seed: int
    snapshot: Snapshot


def stored_shard(view: ReadView) -> Shard | None:
    """Which shard of its topic the store counts; None if it counts a whole one, or none."""
    places = _places(view)
    return Shard.parse(places[0].shard) if places and places[0].shard else None


def _places(view: ReadView) -> list[KafkaPlace]:
    return [row.kafka for _, row in read_sources(view) if row.kafka is not None]


@contextmanager
def open_sum(paths: Sequence[str | os.PathLike[str]]) -> Iterator["StoreSum"]:
    """The sum of the stores, each as of its newest commit now. Writers may go on meanwhile.

    Raises UsageError (fewer than two, one named twice, other time zones), InputRefused for shards of which one is
    missing, or that are not of one topic with one number of partitions; NotFound, StoreCorrupt.
    """
    if len(paths) < 2:
        raise UsageError("there is only one store to add", hint="name two or more; `uniqdb query` asks one")
    real_paths(paths, "its visitors would be counted twice; name each once")
    with ExitStack() as stack:
        parts = [_open(stack, Path(path)) for path in paths]
        _assert_one_calendar(parts)
        _assert_whole(parts)
        add_up([one.snapshot for one in parts], [one.name for one in parts])
        yield StoreSum(parts)


def _open(stack: ExitStack, path: Path) -> _Part:
    engine = stack.enter_context(open_store(path, read_only=True))
    snapshot = stack.enter_context(engine.snapshot())
    row = read_store_row(snapshot.answers.view, engine.store_uuid)
    return _Part(str(path), engine.store_uuid, row.hash_seed, snapshot)


def _assert_one_calendar(parts: Sequence[_Part]) -> None:
    if len({one.store_uuid for one in parts}) < len(parts):
        raise UsageError("two of the stores are copies of one", hint="its visitors would be counted twice")
    zones = [(part.name, part.snapshot.answers.zone) for part in parts]
    assert_one_zone(
        [(name, zone.name, zone.tzif_bytes) for name, zone in zones],
        "other intervals do not add; `uniqdb dump` one, and `uniqdb load --timezone` the other's zone",
    )


def _assert_whole(parts: Sequence[_Part]) -> None:
    """Of stores that are shards: that each is there once, and all of one topic that never changed."""
    found: dict[Shard, str] = {}
    topics: set[tuple[str, str, str]] = set()
    counts: set[int] = set()
    for part in parts:
        places = [place for place in _places(part.snapshot.answers.view) if place.shard]
        topics |= {(place.cluster_id, place.topic, place.topic_id) for place in places}
        counts |= {place.topic_partitions for place in places}
        for shard in {Shard.parse(place.shard) for place in places}:
            if shard in found:
                raise InputRefused(f"{found[shard]} and {part.name} are both shard {shard}", hint="leave one out")
            found[shard] = part.name
    if not found:
        return
    if len(topics) > 1:
        named = ", ".join(sorted({topic for _, topic, _ in topics}))
        raise InputRefused(
            f"the stores are shards of different topics, or of one that was made anew: {named}", hint=_MERGE
        )
    if len(counts) > 1:
        raise InputRefused(
            f"the topic was given more partitions between its shards: {sorted(counts)}; a uid may be in two of them",
            hint=_MERGE,
        )
    shares = max(shard.count for shard in found)
    missing = [str(one) for number in range(shares) if (one := Shard(number + 1, shares)) not in found]
    if missing or len(found) < len(parts):
        what = f"shard {missing[0]} is missing" if missing else "some of the stores are no shards"
        raise InputRefused(
            f"the sum would not be that of the topic: {what}", hint=f"name all {shares} shards, no other"
        )


_MERGE = "`uniqdb merge` unites stores exactly, whoever is in which"


def origin_of(store_uuids: Sequence[str]) -> str:
    """The uuid that stands for the sum of these stores, in whatever order."""
    return str(uuid.uuid5(_ORIGIN, "+".join(sorted(store_uuids))))


@dataclass(slots=True)
class StoreSum:
    """Counts added. Nothing here is right before `assert_disjoint` has returned; see `open_sum`."""

    parts: list[_Part]
    sizes: DictionarySizes = field(default_factory=DictionarySizes)

    @property
    def zone(self) -> CalendarZone:
        """The calendar of all of them."""
        return self.parts[0].snapshot.answers.zone

    @property
    def origin(self) -> str:
        """The uuid that stands for the sum of these stores, in whatever order."""
        return origin_of([one.store_uuid for one in self.parts])

    @property
    def names(self) -> list[str]:
        """What the stores are called in messages."""
        return [one.name for one in self.parts]

    def assert_disjoint(self, folder: Path) -> int:
        """Prove that no uid is in two of the stores; returns how many there are in all.

        Cost: every dictionary is read once, about a microsecond for each uid; twice the bytes of all uids in files in
        ``folder``; memory: some 100 MB. Raises SharedVisitors, with a number but no uid in its message.
        """
        runs = SortedUids(folder, new_hash_seed(), self.sizes)
        total = 0
        for part in self.parts:
            view, dictionary = part.snapshot.answers.view, UidDictionary(part.hash_seed)
            runs.add(dictionary.all_uids(view), dictionary.row(view).next_ordinal)
            total += dictionary.entries(view)
        shared, where = 0, set[int]()
        for _, contents in runs.repeated():
            shared += 1
            where |= set(contents)
        if shared:
            who = "visitor is" if shared == 1 else "visitors are"
            names = " and ".join(self.parts[one].name for one in sorted(where))
            raise SharedVisitors(
                f"{shared:,} {who} in more than one of {names}: their counts cannot be added", hint=_MERGE
            )
        return total

    def uids_given(self) -> list[int]:
        """How many uids each store ever had."""
        return [uids_given(one.snapshot.answers) for one in self.parts]

    # ------------------------------------------------------------ counts
    def as_of_default_s(self) -> int:
        """The least of the stores' clocks: up to it all of them have counted. Raises NotFound if none has a visit."""
        return self.parts[0].snapshot.answers.as_of_default_s()

    def count(self, window: str, *, as_of: Moment | None = None) -> CountRecord:
        """As `Reader.count`; a trailing window is by default as of the least of the stores' clocks."""
        return added_counts([one.snapshot.count(window, as_of=as_of) for one in self.parts])

    def count_between(self, start: Moment, end: Moment) -> CountRecord:
        """As `Reader.count_between`."""
        return added_counts([one.snapshot.count_between(start, end) for one in self.parts])

    def series(
        self, granularity: str, start: Moment | None = None, end: Moment | None = None, *, fill: bool = False
    ) -> Iterator[CountRecord]:
        """The buckets that have visits in any of the stores, as `Reader.series`."""
        rows = [one.snapshot.series(granularity, start, end, fill=fill) for one in self.parts]
        return map(added_counts, zip(*rows, strict=True))

    def commits(self) -> int:
        """A number that rises with every commit of any of the stores."""
        return sum(one.snapshot.commit_number for one in self.parts)
