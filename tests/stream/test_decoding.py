"""Decoding on a second core gives the same in the same order, whatever becomes of the process that does it."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import numpy as np
import pytest
from xxhash import xxh3_64_intdigest

from uniqdb.field_settings import FieldSettings
from uniqdb.stream import decode_program, decoding
from uniqdb.stream.decoding import Decoded, Decoding
from uniqdb.stream.kafka_batch import PartitionBatch
from uniqdb.uid_batch import as_batch

RECORDS = 2_500


def batch(number: int, records: int = RECORDS) -> PartitionBatch:
    """Good records with a bad one here and there, and now and then one without a value."""
    values: list[bytes | None] = [
        b'{"ts": %d, "uid": "v%d-%d"}' % (1_468_195_200 + i, number, i) for i in range(records)
    ]
    if records > 40:
        values[17], values[39] = b'{"uid": 7}', b'{"ts": "x", "uid": "y"}'
    if number % 4 == 3:
        values[5] = None
    return PartitionBatch(number % 3, 0, records, values, np.full(records, -1, np.int64), np.arange(records))


def plain(found: list[Decoded]) -> list[object]:
    return [
        (
            one.batch.values[:1],
            one.visits
            and (
                one.visits.event_times_s.tolist(),
                list(one.visits.uids),
                one.visits.refused,
                one.visits.lines,
                len(one.visits),
            ),
        )
        for one in found
    ]


def at_once(batches: list[list[PartitionBatch]]) -> list[object]:
    here = Decoding(FieldSettings(), print, processes=False)
    return plain([one for some in batches for one in here.add(some)])


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def helped(said: list[str]) -> Iterator[Decoding]:
    """One whose process is up."""
    made = Decoding(FieldSettings(), said.append)
    end_at_s = time.monotonic() + 60
    while not made._is_ready():
        assert time.monotonic() < end_at_s
        time.sleep(0.02)
    yield made
    made.close()


def polls(count: int) -> list[list[PartitionBatch]]:
    return [[batch(number), batch(number + 1, 30)] for number in range(0, count, 2)]


def test_the_same_comes_back_in_the_same_order(helped: Decoding, said: list[str]) -> None:
    wanted = polls(24)
    found: list[Decoded] = []
    for some in wanted:
        done = helped.add(some)
        assert len(done) <= 2
        found += done
    assert len(found) == 22, "the last ones are under way"
    found += helped.rest()
    assert plain(found) == at_once(wanted)
    assert said == []


def test_hashes_come_where_they_are_wanted(helped: Decoding) -> None:
    helped.hash_seed = 2**64 - 9
    wanted = polls(12)
    found = [one for some in wanted for one in helped.add(some)] + helped.rest()
    assert plain(found) == at_once(wanted)
    hashed = 0
    for one in found:
        if one.visits is None:
            continue
        hashes = as_batch(one.visits.uids).hashes
        assert (hashes is None) == bool(one.visits.refused), "of what has bad records there are none"
        if hashes is not None:
            hashed += 1
            assert hashes.tolist() == [xxh3_64_intdigest(uid.encode(), 2**64 - 9) for uid in one.visits.uids]
    assert hashed


def test_few_records_wait_for_those_before_them(helped: Decoding) -> None:
    wanted = [[batch(0)], [batch(1, 3)], [], [batch(2)], []]
    found = [helped.add(some) for some in wanted]
    assert [len(one) for one in found] == [0, 2, 0, 0, 1]
    assert plain([one for some in found for one in some]) == at_once(wanted)


def test_what_does_not_fit_is_decoded_here(helped: Decoding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "SLOT_BYTES", 1_000)
    wanted = polls(6)
    found = [one for some in wanted for one in helped.add(some)]
    assert plain(found) == at_once(wanted)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_hangs_costs_nothing_but_time(
    helped: Decoding, said: list[str], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(decoding, "PATIENCE_S", 0.5)
    monkeypatch.setattr(decode_program, "_END_S", 0.1)
    wanted = polls(20)
    found: list[Decoded] = []
    for at, some in enumerate(wanted):
        if at == 4:
            assert helped.process_id is not None
            os.kill(helped.process_id, number)
        found += helped.add(some)
    found += helped.rest()
    assert plain(found) == at_once(wanted)
    assert len(said) == 1
    assert "decoded in this one from now on" in said[0]
    assert helped.process_id is None


def test_without_a_process_to_be_had_it_goes_without(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    alone = Decoding(FieldSettings(), said.append)
    wanted = polls(4)
    assert plain([one for some in wanted for one in alone.add(some)]) == at_once(wanted)
    assert len(said) == 1
    alone.close()


def test_the_process_ends_when_nobody_listens() -> None:
    """As when this one is killed: the pipe to it closes."""
    alone = Decoding(FieldSettings(), print)
    alone.add([batch(0)])
    assert alone._helper is not None
    process, connection = alone._helper._program._process, alone._helper._connection
    os.close(connection.jobs)
    assert process.wait(10) == 0
    connection.jobs = os.open(os.devnull, os.O_WRONLY)  # to be closed once more
    alone.close()
