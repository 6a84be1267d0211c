"""Compressed, renamed, rotated, followed and damaged files: each visit counts once, whatever happens to its file."""

import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

try:
    from compression import zstd
except ImportError:
    from backports import zstd

import uniqdb
from engines import assert_sound, options, rows_of
from model import Model
from uniqdb.errors import InputRefused
from uniqdb.quarantine import read_quarantine
from uniqdb.stream.driver import ingest_file
from uniqdb.stream.file_identity import base_name
from uniqdb.stream.follow import Watch, follow_files
from uniqdb.stream.ingest_options import IngestOptions, IngestSummary

T = 1_468_244_340
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def lines_of(model: Model, count: int, seed: int = 1) -> list[bytes]:
    """Visits in disorder, entered into the model."""
    rng = random.Random(seed)
    lines = []
    for number in range(count):
        time_s, uid = T + number * 20 - rng.randrange(300), f"u{rng.randrange(700)}"
        model.add([time_s], [uid])
        lines.append(json.dumps({"page": "p" * rng.randrange(30), "uid": uid, "ts": time_s}).encode() + b"\n")
    return lines


def ingest(db: uniqdb.Engine, path: Path | str, commit_visits: int = 500, **more: object) -> IngestSummary:
    return ingest_file(db, path, IngestOptions(commit_visits=commit_visits, **more))  # type: ignore[arg-type]  # words of the test


def as_gzip(data: bytes) -> bytes:
    return gzip.compress(data, 6)


def members(data: bytes) -> bytes:
    """Several gzip members of odd sizes and the zeros that some tools pad with."""
    return b"".join(gzip.compress(data[at : at + 7_777]) for at in range(0, len(data), 7_777)) + bytes(512)


def frames(data: bytes) -> bytes:
    return b"".join(zstd.compress(data[at : at + 9_999]) for at in range(0, len(data), 9_999))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "visits.jsonl": lambda data: data,
    "visits.jsonl.gz": as_gzip,
    "many.gz": members,
    "visits.jsonl.zst": zstd.compress,
    "many.zst": frames,
    "no-suffix": as_gzip,
}


@pytest.mark.parametrize("name", PACKERS)
def test_a_file_counts_the_same_packed_or_not_and_goes_on_where_it_stopped(
    store_path: Path, tmp_path: Path, name: str
) -> None:
    model = Model()
    path = tmp_path / name
    path.write_bytes(PACKERS[name](b"".join(lines_of(model, 3_000))))
    with uniqdb.open(store_path, options=options()) as db:
        blocks = iter(range(2))
        first = ingest_file(db, path, IngestOptions(commit_visits=230), should_stop=lambda: next(blocks, None) is None)
        assert first.interrupted
        assert 0 < first.visits < 3_000
        second = ingest(db, path)
        assert second.resumed_at_bytes == first.position_bytes
        assert first.visits + second.visits == 3_000
        assert rows_of(db) == model.rows()
        assert ingest(db, path).records == 0


@pytest.mark.parametrize("name", PACKERS)
def test_packed_standard_input(store_path: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    data = PACKERS[name](b"".join(lines_of(model, 500)))
    path = tmp_path / "input"
    path.write_bytes(data)
    with (
        uniqdb.open(store_path, options=options()) as db,
        io.TextIOWrapper(io.BufferedReader(io.FileIO(path))) as stdin,
    ):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert ingest(db, "-").visits == 500
        assert rows_of(db) == model.rows()


def test_a_pipe_that_comes_in_single_bytes_is_unpacked(store_path: Path, tmp_path: Path) -> None:
    model = Model()
    data = as_gzip(b"".join(lines_of(model, 20)))
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)

    def drip() -> None:
        with fifo.open("wb", buffering=0) as pipe:
            for at in range(len(data)):
                pipe.write(data[at : at + 1])

    writer = threading.Thread(target=drip)
    writer.start()
    with uniqdb.open(store_path, options=options()) as db:
        assert ingest(db, fifo).visits == 20
        assert rows_of(db) == model.rows()
    writer.join()


def test_a_named_pipe_has_a_position(store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    lines = lines_of(model, 900)
    path = tmp_path / "input"

    def feed(db: uniqdb.Engine, data: bytes, **more: object) -> IngestSummary:
        path.write_bytes(data)
        with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
            assert cat.stdout is not None
            with io.TextIOWrapper(io.BufferedReader(cat.stdout)) as stdin:  # type: ignore[arg-type]  # a raw pipe end
                monkeypatch.setattr(sys, "stdin", stdin)
                return ingest(db, "-", source_name="clicks", **more)

    with uniqdb.open(store_path, options=options()) as db:
        assert feed(db, b"".join(lines[:600])).visits == 600
        assert feed(db, b"".join(lines[:600])).records == 0
        assert feed(db, as_gzip(b"".join(lines))).visits == 300
        assert rows_of(db) == model.rows()
        with pytest.raises(InputRefused, match="begins otherwise"):
            feed(db, b"".join(reversed(lines)))
        with pytest.raises(InputRefused, match="truncated"):
            feed(db, b"".join(lines[:700]))
        assert feed(db, b"".join(reversed(lines)), again=True).visits == 900
        assert db.count().count == len(model.union(0, 2**40))


def test_the_same_file_under_another_name_changes_nothing(store_path: Path, tmp_path: Path) -> None:
    model = Model()
    data = b"".join(lines_of(model, 3_000))
    path = tmp_path / "visits.jsonl"
    path.write_bytes(data)
    with uniqdb.open(store_path, options=options()) as db:
        ingest(db, path)
        commits = db.info().commits

        def is_known(where: Path) -> None:
            again = ingest(db, where)
            assert (again.finished_before, again.records, again.commits) == (True, 0, 0), where

        is_known(path)
        is_known(path.rename(tmp_path / "renamed in place"))
        (tmp_path / "renamed in place").unlink()
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        for name in (
            *("visits.jsonl", "visits.jsonl.1", "visits.jsonl-20160711", "visits.jsonl-2016071113"),
            *("visits.jsonl.2016-07-11", "visits.jsonl.10"),
        ):
            (elsewhere / name).write_bytes(data)
            is_known(elsewhere / name)
            (elsewhere / f"{name}.gz").write_bytes(as_gzip(data))
            is_known(elsewhere / f"{name}.gz")
        (elsewhere / "visits.jsonl.zst").write_bytes(zstd.compress(data))
        is_known(elsewhere / "visits.jsonl.zst")
        if Path("/dev/shm").is_dir():  # another file system, where there is one
            other = Path("/dev/shm") / f"uniqdb-test-{os.getpid()}"
            other.mkdir()
            try:
                shutil.copy(elsewhere / "visits.jsonl", other / "visits.jsonl")
                is_known(other / "visits.jsonl")
            finally:
                shutil.rmtree(other)
        assert db.info().commits == commits
        assert rows_of(db) == model.rows()
        assert ingest(db, elsewhere / "visits.jsonl.gz", again=True).visits == 3_000
        assert rows_of(db) == {bucket: (count, 2 * seen) for bucket, (count, seen) in model.rows().items()}


def test_base_names() -> None:
    for name in ("a.jsonl", "a.jsonl.gz", "x/a.jsonl.1", "a.jsonl.2.gz", "a.jsonl-20160711.zst", "a.jsonl.2016-07-11"):
        assert base_name(name) == "a.jsonl"
    for name in ("visits-2016.jsonl", ".gz", "20160711.jsonl", "log.12345"):
        assert base_name(name) == name


def test_an_interrupted_reading_anew_is_continued_by_the_same_command(store_path: Path, tmp_path: Path) -> None:
    model = Model()
    path = tmp_path / "visits.jsonl"
    path.write_bytes(b"".join(lines_of(model, 1_000)))
    with uniqdb.open(store_path, options=options()) as db:
        ingest(db, path)
        again = IngestOptions(commit_visits=100, again=True)
        assert ingest_file(db, path, again, should_stop=lambda: True).interrupted
        assert ingest_file(db, path, again).resumed_at_bytes > 0
        assert rows_of(db) == {bucket: (count, 2 * seen) for bucket, (count, seen) in model.rows().items()}
        assert ingest(db, path).finished_before


def test_files_that_begin_alike_while_small_are_not_mixed_up(store_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    first, second = Model(), Model()
    shared_line = json.dumps({"ts": T, "uid": "header"}).encode() + b"\n"
    path.write_bytes(shared_line)
    with uniqdb.open(store_path, options=options()) as db:
        ingest(db, path)
        path.write_bytes(shared_line + b"".join(lines_of(first, 300, 1)))
        assert ingest(db, path).visits == 300
        path.rename(tmp_path / "visits.jsonl.1")
        path.write_bytes(shared_line + b"".join(lines_of(second, 900, 2)))
        assert ingest(db, path).visits == 901
        assert ingest(db, tmp_path / "visits.jsonl.1").records == 0


# ---------------------------------------------------------------- damage
@pytest.mark.parametrize("pack", [as_gzip, members, zstd.compress, frames], ids=["gzip", "members", "zstd", "frames"])
@pytest.mark.parametrize("harm", ["cut", "flip"])
def test_what_comes_before_a_damage_counts(
    store_path: Path, tmp_path: Path, pack: Callable[[bytes], bytes], harm: str
) -> None:
    model = Model()
    lines = lines_of(model, 20_000)
    whole = pack(b"".join(lines))
    path = tmp_path / "visits.jsonl.packed"
    at = len(whole) * 2 // 3
    broken = (
        whole[:at]
        if harm == "cut"
        else whole[:at] + bytes(byte ^ 0xFF for byte in whole[at : at + 40]) + whole[at + 40 :]
    )
    path.write_bytes(broken)
    with uniqdb.open(store_path, options=options()) as db:
        summary = ingest(db, path, 5_000)
        assert summary.refusal is not None
        assert summary.refusal.exit_code == 65
        assert f"beyond byte {summary.position_bytes:,}" in summary.refusal.message
        # All but what one block of the format takes along; bytes beside the damage may decode to something else.
        assert 9_000 < summary.visits < 14_000
        with db.snapshot() as snapshot:
            rows = [row for _, row in read_quarantine(snapshot.answers.view) if row.reason == "damaged"]
        assert [(row.origin, row.position) for row in rows] == [(path.name, summary.position_bytes)]
        again = ingest(db, path, 5_000)
        assert (again.records, again.commits) == (0, 0)
        assert again.refusal is not None
        if harm == "cut":
            path.write_bytes(whole)
            assert summary.visits + ingest(db, path).visits == 20_000
            assert rows_of(db) == model.rows()


def test_a_name_that_promises_too_much(store_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl.gz"
    path.write_bytes(b"".join(lines_of(Model(), 5)))
    with uniqdb.open(store_path, options=options()) as db:
        with pytest.raises(InputRefused, match="named like a gzip file but is none"):
            ingest(db, path)
        assert db.info().commits == 0
        path.write_bytes(b"")
        assert ingest(db, path).records == 0


# ---------------------------------------------------------------- following
def grow(path: Path, lines: list[bytes], rng: random.Random) -> None:
    """Append in pieces that end anywhere; now and then rotate, or copy and truncate."""
    data, number = b"".join(lines), 0
    at = 0
    while at < len(data):
        size = rng.randrange(1, 9_000)
        with path.open("ab") as file:
            file.write(data[at : at + size])
        at += size
        time.sleep(0.002)
        if rng.random() < 0.04 and at < len(data):
            end = data.index(b"\n", at) + 1  # a program ends its line before it turns to another file
            with path.open("ab") as file:
                file.write(data[at:end])
            at, number = end, number + 1
            path.rename(path.with_name(f"{path.name}.{number}"))
            time.sleep(rng.choice([0, 0.3]))
            path.touch()


def test_a_followed_file_is_counted_through_rotation(store_path: Path, tmp_path: Path) -> None:
    model = Model()
    lines = lines_of(model, 12_000)
    path = tmp_path / "visits.jsonl"
    path.touch()
    writer = threading.Thread(target=grow, args=(path, lines, random.Random(4)))
    ended: list[IngestSummary] = []
    with uniqdb.open(store_path, options=options()) as db:
        writer.start()
        patience_s = time.monotonic() + 60

        def should_stop() -> bool:
            done = not writer.is_alive() and db.info().visits == 12_000
            return done or time.monotonic() > patience_s

        follow_files(db, [path], Watch(should_stop, ended.append), IngestOptions(commit_visits=700))
        writer.join()
        assert rows_of(db) == model.rows()
        assert len(ended) > 2


def test_what_was_rotated_while_nobody_looked_is_read_first(store_path: Path, tmp_path: Path) -> None:
    model = Model()
    lines = lines_of(model, 900)
    path = tmp_path / "visits.jsonl"
    path.write_bytes(b"".join(lines[:300]) + lines[300][:10])
    with uniqdb.open(store_path, options=options()) as db:
        rounds = iter(range(4))
        (summary,) = follow_files(db, [path], Watch(lambda: next(rounds, None) is None))
        assert (summary.visits, summary.interrupted) == (300, True)
        with path.open("ab") as file:
            file.write(lines[300][10:] + b"".join(lines[301:500]))
        path.rename(tmp_path / "visits.jsonl.1")
        path.write_bytes(b"".join(lines[500:]))
        (tmp_path / "visits.jsonl.9").write_bytes(b"".join(lines_of(Model(), 5, 9)))  # nobody asked for this one
        rounds, ended = iter(range(4)), []
        follow_files(db, [path], Watch(lambda: next(rounds, None) is None, ended.append))
        assert [(one.source, one.visits) for one in ended] == [("visits.jsonl.1", 200)]
        assert rows_of(db) == model.rows()


def test_a_followed_file_that_is_truncated_in_place_begins_anew(store_path: Path, tmp_path: Path) -> None:
    model = Model()
    lines = lines_of(model, 600)
    path = tmp_path / "visits.jsonl"
    path.write_bytes(b"".join(lines[:400]))
    with uniqdb.open(store_path, options=options()) as db:
        rounds = 0

        def should_stop() -> bool:
            nonlocal rounds
            rounds += 1
            if rounds == 4:
                path.write_bytes(b"".join(lines[400:]))
            return rounds > 12

        ended: list[IngestSummary] = []
        follow_files(db, [path], Watch(should_stop, ended.append))
        assert [one.visits for one in ended] == [400]
        assert rows_of(db) == model.rows()


def test_several_files_are_followed_at_once(store_path: Path, tmp_path: Path) -> None:
    model = Model()
    lines = lines_of(model, 600)
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, part in zip(paths, (lines[:200], lines[200:400]), strict=True):
        path.write_bytes(b"".join(part))
    with uniqdb.open(store_path, options=options()) as db:
        rounds = 0

        def should_stop() -> bool:
            nonlocal rounds
            rounds += 1
            if rounds == 3:
                with paths[0].open("ab") as file:
                    file.write(b"".join(lines[400:]))
            return rounds > 8

        assert [one.visits for one in follow_files(db, paths, Watch(should_stop))] == [400, 200]
        assert rows_of(db) == model.rows()


# ---------------------------------------------------------------- the real records
@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded visits are not beside the project")
@pytest.mark.parametrize("name", ["visits_day", "visits_2kb"])
@pytest.mark.parametrize("way", ["gzip", "zstd", "follow"])
def test_the_recorded_visits(tmp_path: Path, name: str, way: str) -> None:
    packed = SHARED / f"{name}.jsonl.gz"
    plain = gzip.decompress(packed.read_bytes())
    truth = [json.loads(line) for line in (SHARED / f"{name}.truth.jsonl").read_text().splitlines()]
    store = tmp_path / "store"
    with uniqdb.open(store) as db:
        if way == "gzip":
            ingest_file(db, packed)
        elif way == "zstd":
            path = tmp_path / f"{name}.jsonl.zst"
            path.write_bytes(zstd.compress(plain))
            ingest_file(db, path)
        else:
            path = tmp_path / f"{name}.jsonl"
            lines = plain.splitlines(keepends=True)
            path.write_bytes(b"".join(lines[: len(lines) // 2]))
            rotated = False

            def should_stop() -> bool:
                nonlocal rotated
                if not rotated and db.info().visits:
                    path.rename(tmp_path / f"{name}.jsonl.1")
                    path.write_bytes(b"".join(lines[len(lines) // 2 :]))
                    rotated = True
                return db.info().visits == len(lines)

            follow_files(db, [path], Watch(should_stop))
        found = rows_of(db)
    buckets = truth[1:]
    assert found == {(one["granularity"], one["start_ts"]): (one["count"], one["visits"]) for one in buckets}
    assert_sound(store)
