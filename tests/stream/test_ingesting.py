"""`uniqdb.ingest`: a file into a store in one call, by processes that begin before anything else is loaded."""

import gc
import gzip
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import uniqdb
from engines import rows_of
from model import Model
from uniqdb.stream import early_start, file_stretches, ingesting, stretch_jobs
from uniqdb.stream.early_start import EarlyStart

T = 1_468_195_200


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[EarlyStart]:
    """Small files are worth processes, two of them on any machine. What was started early."""
    monkeypatch.setattr(early_start, "WORTH_BYTES", 1)
    monkeypatch.setattr(early_start, "_usable_cores", lambda: 2)
    monkeypatch.setattr(stretch_jobs, "_STRETCH_BYTES_MIN", 1_000)
    monkeypatch.setattr(stretch_jobs, "_STRETCH_BYTES_MAX", 10_000)
    found: list[EarlyStart] = []
    start = ingesting.start_early

    def note(path: Path, processes: int | None) -> EarlyStart | None:
        early = start(path, processes)
        if early is not None:
            found.append(early)
        return early

    monkeypatch.setattr(ingesting, "start_early", note)
    return found


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lines of each block that other processes have decoded."""
    taken: list[int] = []
    made = file_stretches.FileStretches._block

    def count(self: file_stretches.FileStretches, parts: list[object], line: int) -> object:
        block = made(self, parts, line)  # type: ignore[arg-type]
        taken.append(block.lines)
        return block

    monkeypatch.setattr(file_stretches.FileStretches, "_block", count)
    return taken


def lines_of(model: Model, count: int = 3_000, seed: int = 1) -> bytes:
    rng = random.Random(seed)
    found = []
    for number in range(count):
        uid = f"u{rng.randrange(200)}"
        model.add([T + number], [uid])
        found.append(b'{"ts": %d, "uid": "%s"}\n' % (T + number, uid.encode()))
    return b"".join(found)


def counted(store: Path) -> object:
    with uniqdb.open(store, read_only=True) as db:
        return rows_of(db)


def assert_ended(started: list[EarlyStart]) -> None:
    assert started
    assert all(one.descriptor < 0 and one.program.has_ended() for one in started)


def test_a_file_is_counted_once(
    tmp_path: Path, store_path: Path, started: list[EarlyStart], decoded: list[int]
) -> None:
    path, model = tmp_path / "visits.jsonl", Model()
    path.write_bytes(lines_of(model))
    summary = uniqdb.ingest(store_path, path)
    assert (summary.visits, summary.refused, summary.finished_before) == (3_000, {}, False)
    assert counted(store_path) == model.rows()
    assert sum(decoded) > 2_000, "they decode from the first line on"
    assert_ended(started)

    decoded.clear()
    began_at_s = time.monotonic()
    again = uniqdb.ingest(store_path, str(path))
    assert (again.visits, again.finished_before) == (0, True)
    assert time.monotonic() - began_at_s < 4, "nobody waits for what was begun in vain"
    assert not decoded

    with path.open("ab") as file:
        file.write(lines_of(model, 500, seed=2))
    assert uniqdb.ingest(store_path, path).visits == 500
    assert counted(store_path) == model.rows()
    assert_ended(started)


def test_settings_are_those_of_the_options(tmp_path: Path, store_path: Path, started: list[EarlyStart]) -> None:
    path = tmp_path / "visits.jsonl"
    path.write_bytes(b"".join(b'{"at": %d, "who": %d}\n' % ((T + number) * 1_000, number) for number in range(2_000)))
    fields = uniqdb.FieldSettings("at", "who", "ms")
    how = uniqdb.IngestOptions(fields, commit_visits=700, processes=1, wall_clock=lambda: T + 86_400.0)
    summary = uniqdb.ingest(store_path, path, how, timezone="Asia/Tokyo")
    assert (summary.visits, summary.commits) == (2_000, 3)
    assert_ended(started)
    with uniqdb.open(store_path, read_only=True) as db:
        assert db.timezone == "Asia/Tokyo"
        assert db.count("2016-07-11").count == 2_000


@pytest.mark.parametrize("content", ["plain", "bad records", "a last line without its end", "gzip", "blank first"])
def test_whatever_the_file_holds_the_counts_are_right(tmp_path: Path, store_path: Path, content: str) -> None:
    path, model = tmp_path / "visits.jsonl", Model()
    data = lines_of(model)
    if content == "bad records":
        middle = data.index(b"\n", len(data) // 2) + 1
        data = data[:middle] + b"{bad\n" + data[middle:] + b"\n"
    elif content == "a last line without its end":
        data = data[:-1]
    elif content == "gzip":
        path, data = path.with_suffix(".jsonl.gz"), gzip.compress(data)
    elif content == "blank first":
        data = b"\n" + data
    path.write_bytes(data)
    summary = uniqdb.ingest(store_path, path)
    assert summary.refused == ({"malformed": 1} if content == "bad records" else {})
    assert counted(store_path) == model.rows()


def test_another_file_of_the_same_name_is_read_as_it_is(
    tmp_path: Path, store_path: Path, started: list[EarlyStart], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = tmp_path / "visits.jsonl", Model()
    path.write_bytes(lines_of(Model(), seed=3))
    (tmp_path / "new").write_bytes(lines_of(model, seed=4))
    note = ingesting.start_early

    def replaced(*how: object) -> EarlyStart | None:
        early = note(*how)  # type: ignore[arg-type]
        (tmp_path / "new").rename(path)
        return early

    monkeypatch.setattr(ingesting, "start_early", replaced)
    uniqdb.ingest(store_path, path)
    assert counted(store_path) == model.rows()
    assert_ended(started)


def test_nothing_is_left_running_by_a_refusal(tmp_path: Path, store_path: Path, started: list[EarlyStart]) -> None:
    path = tmp_path / "visits.jsonl"
    path.write_bytes(lines_of(Model()))
    with uniqdb.open(store_path), pytest.raises(uniqdb.StoreBusy):
        uniqdb.ingest(store_path, path)
    assert_ended(started)
    with pytest.raises(uniqdb.UsageError):
        uniqdb.ingest(store_path, path, timezone="Asia/Tokyo")
    assert_ended(started)
    (tmp_path / "named.gz").write_bytes(lines_of(Model()))
    with pytest.raises(uniqdb.InputRefused):
        uniqdb.ingest(store_path, tmp_path / "named.gz")
    assert_ended(started)
    with pytest.raises(uniqdb.InputRefused):
        uniqdb.ingest(store_path, path, uniqdb.IngestOptions(commit_visits=0))
    assert_ended(started)
    with pytest.raises(uniqdb.NotFound):
        uniqdb.ingest(store_path, tmp_path / "nowhere")


def test_a_pipe_is_not_looked_into(tmp_path: Path, store_path: Path, started: list[EarlyStart]) -> None:
    path, model = tmp_path / "pipe", Model()
    os.mkfifo(path)
    (tmp_path / "visits.jsonl").write_bytes(lines_of(model))
    with subprocess.Popen(["/bin/sh", "-c", 'cat "$0" > "$1"', tmp_path / "visits.jsonl", path]):
        assert uniqdb.ingest(store_path, path).visits == 3_000
    assert not started
    assert counted(store_path) == model.rows()


def test_the_caller_keeps_its_settings(tmp_path: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "visits.jsonl"
    path.write_bytes(lines_of(Model()))
    before, was_collecting = dict(os.environ), gc.isenabled()
    try:
        for is_collecting in (True, False):
            (gc.enable if is_collecting else gc.disable)()
            uniqdb.ingest(store_path, path)
            assert gc.isenabled() is is_collecting
            assert dict(os.environ) == before
    finally:
        (gc.enable if was_collecting else gc.disable)()
    monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", "20")
    uniqdb.ingest(store_path, path)
    assert os.environ["OPENBLAS_THREAD_TIMEOUT"] == "20"


def test_nothing_that_takes_long_is_loaded_before_the_processes_are_started() -> None:
    program = (
        "import sys, uniqdb; uniqdb.ingest\n"
        "print(sorted({'numpy', 'msgspec', 'lmdb', 'typing', 'dataclasses', 'pathlib'} & sys.modules.keys()))"
    )
    # -I: without what an environment loads by itself, such as coverage.
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
