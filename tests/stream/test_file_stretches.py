"""A large file decoded by other processes gives what reading it here gives, whatever becomes of them."""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

import uniqdb
from engines import digest, options, rows_of
from model import Model
from uniqdb.field_settings import FieldSettings
from uniqdb.options import CacheSizes
from uniqdb.quarantine import read_quarantine
from uniqdb.stream import byte_stream, decode_program, early_start, stretch_jobs
from uniqdb.stream.decode_process import FileReader, Stretch
from uniqdb.stream.driver import ingest_file
from uniqdb.stream.early_start import start_early
from uniqdb.stream.file_stretches import FileStretches
from uniqdb.stream.ingest_options import IngestOptions, IngestSummary
from uniqdb.stream.stretch_jobs import StretchJobs
from uniqdb.uid_batch import UidBatch, Uids, as_batch
from uniqdb.uid_dictionary import UidDictionary
from uniqdb.visit_decoder import VisitDecoder

T = 1_468_195_200
LINE_BYTES_MAX = 60
SEED = 2**63 + 11


# ---------------------------------------------------------------- what one process does
pieces = st.sampled_from(
    [
        b'{"ts":1468195200,"uid":"a"}\n',
        b'{"ts":1468195260,"uid":"\xc3\xa9\xc3\xa9"}\n',
        b'{"uid":7,"ts":1468195261}\n',
        b'{"ts":1468195200}\n',
        b"\n",
        b"{bad\n",
        b"{}{}\n",
        b"\r\n",
        b"x" * (LINE_BYTES_MAX - 1) + b"\n",
    ]
)


@given(
    st.lists(pieces, max_size=40),
    st.integers(1, 200),
    st.sampled_from([b"", b"{", b'{"ts":1468195200,"uid":"z"}']),
    st.sampled_from([1, 7, 64, 2**20]),
)
def test_stretches_hold_every_line_once(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], size: int, rest: bytes, piece_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("file") / "visits.jsonl"
    data = b"".join(lines) + rest
    path.write_bytes(data)
    decoder = VisitDecoder(FieldSettings(line_bytes_max=LINE_BYTES_MAX))
    with path.open("rb") as file:
        reader = FileReader(file.fileno(), decoder, piece_bytes)
        found = [reader.stretch(start, start + size, SEED) for start in range(0, len(data) - size + 1, size)]
        assert reader.stretch(max(len(data), 1), len(data) + size) is None, "there is nothing there"
    position = 0
    for number, one in enumerate(found):
        if one is None:  # only the last line of all has no end
            assert b"\n" not in data[(number + 1) * size - 1 :]
            continue
        if one.first == one.end:
            continue
        assert one.first == position
        assert one.first < (number + 1) * size <= one.end or data[one.end : (number + 1) * size].count(b"\n") == 0
        block = data[one.first : one.end]
        assert block.endswith(b"\n")
        assert block.count(b"\n") == one.lines
        if one.is_plain:
            wanted, visits = decoder.decode(block), one.visits()
            assert visits.event_times_s.tolist() == wanted.event_times_s.tolist()
            assert list(visits.uids) == list(wanted.uids)
            hashes = as_batch(visits.uids).hashes
            assert hashes is not None
            assert hashes.tolist() == [xxh3_64_intdigest(uid.encode(), SEED) for uid in wanted.uids]
            assert not wanted.refused
        position = one.end
    if found and None not in found:
        assert data[position:].count(b"\n") == 0 or position >= len(found) * size


def test_a_line_that_is_too_long_is_left_to_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    path.write_bytes(b'{"ts":1468195200,"uid":"a"}\n' + b"x" * 200_000 + b"\n")
    with path.open("rb") as file:
        reader = FileReader(file.fileno(), VisitDecoder(FieldSettings(line_bytes_max=LINE_BYTES_MAX)))
        assert reader.stretch(0, 100) is None
        assert reader.stretch(28, 100) is None
        assert reader.stretch(0, 28) == Stretch(0, 28, 1, True, *_columns(T, b"a"))


def _columns(time_s: int, uid: bytes) -> tuple[bytes, bytes, bytes]:
    """Without hashes."""
    return time_s.to_bytes(8, "little"), uid, len(uid).to_bytes(2, "little")


# ---------------------------------------------------------------- the whole way
@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files count as large, are read in small pieces, and wait for the processes to come up."""
    monkeypatch.setattr(early_start, "WORTH_BYTES", 1)
    monkeypatch.setattr(byte_stream, "READ_BLOCK_BYTES", 4_096)
    monkeypatch.setattr(stretch_jobs, "_STRETCH_BYTES_MIN", 1_000)
    monkeypatch.setattr(stretch_jobs, "_STRETCH_BYTES_MAX", 10_000)
    ready = FileStretches.is_ready

    def wait(self: FileStretches) -> bool:
        until(lambda: ready(self))
        return True

    monkeypatch.setattr(FileStretches, "is_ready", wait)


def until(is_so: Callable[[], bool]) -> None:
    end_at_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end_at_s
        time.sleep(0.02)


def write_visits(path: Path, *, is_clean: bool, count: int = 4_000) -> Model:
    """Visits in some disorder; bad records, odd line ends, implausible times and long lines among them."""
    rng, model = random.Random(7), Model()
    with path.open("wb") as file:
        for number in range(count):
            time_s, uid = T + number * 3 - rng.randrange(60), f"u{rng.randrange(900)}{'é' * rng.randrange(2)}"
            record = b'{"ts": %d, "uid": "%s", "k": "%s"}' % (time_s, uid.encode(), b"v" * rng.randrange(300))
            model.add([time_s], [uid])
            file.write(record + b"\n")
            if is_clean or not 500 < number < 3_000:
                continue
            if rng.random() < 0.005:
                odd = [b"{bad\n", b"\n", b" \r\n", b'{"ts": 1e99, "uid": "x"}\n', b"x" * 30_000 + b"\n"]
                file.write(rng.choice(odd))
            if rng.random() < 0.002:
                file.write(b'{"ts": %d, "uid": "far"}\n' % (T + 86_400 * 900))
    return model


def ingest(
    store: Path, path: Path, processes: int, *, early: bool = False, **more: object
) -> tuple[IngestSummary, object]:
    """``early``: the processes decode from the beginning of the file before the store is open."""
    fields = FieldSettings(line_bytes_max=20_000)
    begun = None
    if early and (started := start_early(path, processes)) is not None:
        begun = StretchJobs(started, fields)
        begun.begin(0, 900)
        until(begun.is_ready)
    how = IngestOptions(fields, 900, processes=processes, wall_clock=lambda: T + 86_400.0, begun=begun)
    with uniqdb.open(store, options=options()) as db:
        summary = ingest_file(db, path, how, **more)  # type: ignore[arg-type]
        with db.snapshot() as snapshot:
            rows = [row for _, row in read_quarantine(snapshot.answers.view)]
        refused = sorted(rows, key=lambda row: row.position)  # in which commit each stands is of no matter
        return summary, (digest(db), rows_of(db), refused, summary.position_bytes, summary.refused)


@pytest.fixture(params=[True, False], ids=["clean", "with bad records"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Model]:
    path = tmp_path / "visits.jsonl"
    return path, write_visits(path, is_clean=request.param)


EARLY = pytest.mark.parametrize("early", [False, True], ids=["", "early"])


@EARLY
def test_the_same_is_found_with_and_without_other_processes(
    tmp_path: Path, store_path: Path, written: tuple[Path, Model], monkeypatch: pytest.MonkeyPatch, *, early: bool
) -> None:
    taken = count_blocks(monkeypatch)
    path, model = written
    _, expected = ingest(tmp_path / "here", path, 0)
    assert not taken
    _, found = ingest(store_path, path, 2, early=early)
    assert found == expected
    assert found[1] == model.rows()  # type: ignore[index]  # the second is the counts
    assert taken, "the other processes were not used"


def test_strangers_come_with_their_hashes_and_in_larger_commits(
    tmp_path: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model, rng = tmp_path / "visits.jsonl", Model(), random.Random(2)
    with path.open("wb") as file:
        for number in range(20_000):
            uid: str | int = rng.choice([number, f"v{number}", f"v{rng.randrange(number + 1)}", f"é{number}"])
            model.add([T + number], [str(uid)])
            text = f'"{uid}"' if isinstance(uid, str) else str(uid)
            file.write(f'{{"ts": {T + number}, "uid": {text}}}\n'.encode())
    resolved: list[tuple[int, bool]] = []
    resolve = UidDictionary.resolve

    def note(self: UidDictionary, view: object, uids: Uids) -> object:
        resolved.append((len(uids), isinstance(uids, UidBatch) and uids.hashes is not None))
        return resolve(self, view, uids)  # type: ignore[arg-type]

    monkeypatch.setattr(UidDictionary, "resolve", note)
    small = replace(options(), caches=CacheSizes(uid_entries=1_000, members_bytes=2_000))
    how = IngestOptions(commit_visits=200, processes=2, wall_clock=lambda: T + 86_400.0)
    with uniqdb.open(store_path, options=small) as db:
        summary = ingest_file(db, path, how)
        assert rows_of(db) == model.rows()
    assert summary.visits == 20_000
    assert any(is_hashed for _, is_hashed in resolved)
    assert not resolved[0][1], "nobody knows yet who comes"
    assert max(visits for visits, _ in resolved) >= 800
    assert resolved[0][0] < 800


def count_blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lines of each block that other processes decode from now on."""
    taken: list[int] = []
    made = FileStretches._block

    def count(self: FileStretches, parts: list[Stretch], line: int) -> object:
        taken.append(sum(one.lines for one in parts))
        return made(self, parts, line)

    monkeypatch.setattr(FileStretches, "_block", count)
    return taken


@pytest.mark.parametrize("blow", [(signal.SIGKILL, False), (signal.SIGSTOP, False), (signal.SIGSTOP, True)])
def test_a_process_that_dies_or_hangs_costs_nothing_but_time(
    tmp_path: Path,
    store_path: Path,
    written: tuple[Path, Model],
    monkeypatch: pytest.MonkeyPatch,
    blow: tuple[signal.Signals, bool],
) -> None:
    number, early = blow
    monkeypatch.setattr(stretch_jobs, "PATIENCE_S", 0.5)
    monkeypatch.setattr(decode_program, "_END_S", 0.1)
    path, _ = written
    _, expected = ingest(tmp_path / "here", path, 0)
    started: list[FileStretches] = []
    begin = FileStretches.blocks

    def note(self: FileStretches, *how: object) -> object:
        started.append(self)
        return begin(self, *how)  # type: ignore[arg-type]

    monkeypatch.setattr(FileStretches, "blocks", note)

    def strike(_: object) -> None:
        if started and (helpers := started.pop()._jobs._helpers):
            os.kill(helpers[-1].process_id, number)

    _, found = ingest(store_path, path, 2, early=early, on_progress=strike)
    assert found == expected


def test_a_run_that_was_stopped_goes_on_where_it_was(
    tmp_path: Path, store_path: Path, written: tuple[Path, Model]
) -> None:
    """Later runs find that what was begun early is of no use: it begins where the file begins."""
    path, _ = written
    _, expected = ingest(tmp_path / "here", path, 0)
    stops = 0
    while True:
        summary, found = ingest(store_path, path, 2, early=True, should_stop=after(1))
        if not summary.interrupted:
            break
        stops += 1
    assert stops > 1
    assert found[:3] == expected[:3]  # type: ignore[index]  # the last two are of one run


def after(blocks: int) -> Callable[[], bool]:
    left = iter(range(blocks))
    return lambda: next(left, None) is None


@EARLY
def test_without_a_process_to_be_had_it_goes_without(
    tmp_path: Path, store_path: Path, written: tuple[Path, Model], monkeypatch: pytest.MonkeyPatch, *, early: bool
) -> None:
    path, _ = written
    _, expected = ingest(tmp_path / "here", path, 0)

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(decode_program.subprocess, "Popen", refuse)
    assert ingest(store_path, path, 2, early=early)[1] == expected
