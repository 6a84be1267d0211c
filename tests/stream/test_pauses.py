"""History at full speed, and with pauses: time that passes while nothing comes changes nothing."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import uniqdb
from event_time_ingest import Held, held_by
from uniqdb.stream.driver import ingest_file
from uniqdb.stream.ingest_options import IngestOptions

T, YEAR_S = 1_468_244_340, 365 * 86_400
IDLE_TIMEOUT_S = 30


def write_history(path: Path, visits: int, length_s: int) -> None:
    """Visits at random over the time: a third 1 to 5 s late, 1 in 500 by hours, 1 in 10,000 with a flipped bit."""
    rng = np.random.default_rng(3)
    times = T + np.sort(rng.integers(0, length_s, visits))
    late = rng.random(visits) < 0.3
    times[late] -= rng.integers(1, 6, int(late.sum()))
    hours_late = rng.random(visits) < 2e-3
    times[hours_late] -= rng.integers(3_600, 72_000, int(hours_late.sum()))
    flipped = rng.random(visits) < 1e-4
    times[flipped] ^= 1 << rng.integers(0, 40, int(flipped.sum()))
    uids = rng.integers(0, max(visits // 10, 50), visits)
    with path.open("w") as file:
        for first in range(0, visits, 100_000):
            part = slice(first, first + 100_000)
            pairs = zip(times[part].tolist(), uids[part].tolist(), strict=True)
            file.write("".join([f'{{"ts":{ts},"uid":"v{uid}"}}\n' for ts, uid in pairs]))


def through_a_pipe(store: Path, source: Path, pauses_s: list[float]) -> Held:
    """Ingest what a writer puts into a pipe in equal parts, with a pause after each."""
    pipe = source.with_suffix(f".{len(pauses_s)}.pipe")
    os.mkfifo(pipe)

    def write() -> None:
        size = source.stat().st_size // (len(pauses_s) + 1) + 1
        with source.open("rb") as read, pipe.open("wb", buffering=0) as file:
            for pause_s in [*pauses_s, 0]:
                part = memoryview(read.read(size))
                while part:
                    part = part[file.write(part) :]
                time.sleep(pause_s)

    writer = threading.Thread(target=write)
    writer.start()
    with uniqdb.open(store) as db:
        ingest_file(db, pipe, IngestOptions(source_name=source.name))
    writer.join()
    return held_by(store)


def assert_pauses_change_nothing(tmp_path: Path, visits: int, length_s: int, pauses: list[list[float]]) -> None:
    source = tmp_path / "visits.jsonl"
    write_history(source, visits, length_s)
    with uniqdb.open(tmp_path / "file.uniqdb") as db:
        summary = ingest_file(db, source)
    truth = held_by(tmp_path / "file.uniqdb")
    per_s = summary.visits / summary.elapsed_s
    print(f"{summary.visits:,} visits, {per_s:,.0f}/s, refused {summary.refused}", flush=True)
    assert len({status for _, _, status in truth.buckets.values()}) == 3
    for number, pauses_s in enumerate(pauses):
        assert through_a_pipe(tmp_path / f"{number}.uniqdb", source, pauses_s) == truth, pauses_s


def test_short_pauses_change_nothing(tmp_path: Path) -> None:
    assert_pauses_change_nothing(tmp_path, 30_000, YEAR_S // 20, [[0.25, 1.1, 0.0]])


@pytest.mark.soak
def test_two_years_with_pauses(tmp_path: Path) -> None:
    longer = IDLE_TIMEOUT_S + 5.0
    assert_pauses_change_nothing(tmp_path, 10_000_000, 2 * YEAR_S, [[0.3, 2.0, 5.0, 0.5, 1.5], [longer, 1.0, longer]])
