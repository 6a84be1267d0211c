"""Event time through a whole ingest: what counts, what is refused and what is closed, by an oracle that is slow."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from engines import assert_sound
from event_time_ingest import expected, held_by, ingest_stream, write_stream
from event_time_streams import KINDS, Stream


def cut(stream: Stream, visits: int) -> Stream:
    """The beginning of a stream, or for one that is tampered with in the middle, the middle."""
    first = max((len(stream.times_s) - visits) // 2, 0) if "middle" in stream.name else 0
    part = slice(first, first + visits)
    return Stream(stream.name, stream.times_s[part], stream.honest[part])


def some(visits: int, every: int, seed: int) -> list[Stream]:
    found = [stream for make in KINDS.values() for stream in make(visits, np.random.default_rng(seed))]
    return [cut(stream, visits) for stream in found[seed % every :: every]]


def assert_by_the_rules(tmp_path: Path, stream: Stream, batches: tuple[int, ...]) -> None:
    source = tmp_path / "visits.jsonl"
    write_stream(source, stream)
    truth = expected(stream)
    for number, batch in enumerate(batches):
        store = tmp_path / f"{number}.uniqdb"
        restarts = (batch > 1) * (len(stream.times_s) // (2 * batch) + 1)
        ingest_stream(store, source, stream, batch, lambda block, every=restarts: bool(every) and block == every)
        found = held_by(store)
        assert found.refused == truth.refused, (stream.name, batch)
        assert found.buckets == truth.buckets, (stream.name, batch)
        assert_sound(store)


SOME = some(260, 30, 4)


@pytest.mark.parametrize("stream", SOME, ids=[stream.name for stream in SOME])
def test_counts_statuses_and_quarantine_follow_the_rules_whatever_the_batches(tmp_path: Path, stream: Stream) -> None:
    assert_by_the_rules(tmp_path, stream, (1, 50, 5_000))


@pytest.mark.soak
def test_every_stream_follows_the_rules(tmp_path: Path) -> None:
    for number, stream in enumerate(some(2_000, 1, 9)):
        (tmp_path / str(number)).mkdir()
        assert_by_the_rules(tmp_path / str(number), stream, (1,) * (number % 10 == 0) + (50, 5_000, 50_000))
        shutil.rmtree(tmp_path / str(number))
        print(number, stream.name, flush=True)  # a campaign that is broken off leaves how far it came
