"""Files as sources: any batch size gives the same rows, a stopped run goes on, nothing is counted twice or lost."""

import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from xxhash import xxh3_64_hexdigest

import uniqdb
from engines import digest, options, rows_of
from model import Model
from uniqdb.errors import InputRefused, NotFound
from uniqdb.field_settings import FieldSettings
from uniqdb.quarantine import read_quarantine
from uniqdb.stream.driver import ingest_file
from uniqdb.stream.ingest_options import IngestOptions, IngestSummary

T = 1_468_244_340


def write_visits(path: Path, count: int = 3_000, seed: int = 1) -> Model:
    """A file of visits in disorder, some lines odd or bad, and its oracle."""
    rng = random.Random(seed)
    model = Model()
    with path.open("wb") as file:
        for number in range(count):
            time_s, uid = T + number * 20 - rng.randrange(300), f"u{rng.randrange(700)}"
            if rng.random() < 0.01:
                file.write(rng.choice([b"{bad\n", b'{"ts":1}\n', b'{"ts":-5,"uid":"x"}\n']))
            if rng.random() < 0.02:
                file.write(rng.choice([b"\n", b"  \r\n"]))
            file.write(json.dumps({"k": "v" * rng.randrange(30), "uid": uid, "ts": time_s}).encode())
            file.write(rng.choice([b"\n"] * 20 + [b"\r\n"]))
            model.add([time_s], [uid])
    return model


def ingest(db: uniqdb.Engine, path: Path | str, commit_visits: int = 500, **more: object) -> IngestSummary:
    return ingest_file(db, path, IngestOptions(commit_visits=commit_visits, **more))  # type: ignore[arg-type]


def test_batches_of_any_size_and_calls_in_any_order_give_the_same_digest(tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    model = write_visits(path, 600)
    visits = [(r["ts"], r["uid"]) for line in path.read_text().splitlines() if (r := _record(line))]
    digests = set()
    for size in (1, 50, 5_000, 50_000):
        with uniqdb.open(tmp_path / f"file{size}", options=options()) as db:
            assert ingest(db, path, size).visits == 600
            assert rows_of(db) == model.rows()
            digests.add(digest(db))
        random.Random(size).shuffle(visits)
        with uniqdb.open(tmp_path / f"many{size}", options=options(size)) as db:
            db.add_many([ts for ts, _ in visits], [uid for _, uid in visits])
            digests.add(digest(db))
        with uniqdb.open(tmp_path / f"one{size}", options=options(size)) as db:
            for ts, uid in visits:
                db.add_new_data(ts, uid)
            digests.add(digest(db))
    assert len(digests) == 1


def _record(line: str) -> dict[str, object] | None:
    try:
        record: dict[str, object] = json.loads(line)
    except ValueError:
        return None
    return record if "uid" in record and record["ts"] != -5 else None


def test_refused_records_are_kept_with_reason_and_place(store_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    write_visits(path)
    data = path.read_bytes()
    with uniqdb.open(store_path, options=options()) as db:
        summary = ingest(db, path, 77)
        with db.snapshot() as snapshot:
            rows = [row for _, row in read_quarantine(snapshot.answers.view)]
        assert summary.records == summary.visits + len(rows)
        assert db.info().quarantined == summary.refused
        assert {row.reason for row in rows} == {"malformed", "no_uid", "implausible"}
        for row in rows:
            if row.reason == "implausible":
                # Of a record that could be made out, that is all that is kept.
                assert (row.event_time_s, row.uid, row.record) == (-5, "x", b"")
            record = row.record or b'{"ts":-5,"uid":"x"}'
            assert data[row.position :].startswith(record + b"\n")
            assert row.record_hash == xxh3_64_hexdigest(record)
            assert data[: row.position].count(b"\n") == row.line - 1


def test_an_interrupted_run_goes_on_where_it_stopped(store_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    model = write_visits(path)
    runs = 0
    while True:
        blocks = iter(range(2))
        with uniqdb.open(store_path, options=options()) as db:
            summary = ingest_file(
                db, path, IngestOptions(commit_visits=230), should_stop=lambda b=blocks: next(b, None) is None
            )
            runs += 1
            if not summary.interrupted:
                break
    assert runs > 4
    with uniqdb.open(store_path, read_only=True) as db:
        assert rows_of(db) == model.rows()
        assert [source.finished for source in db.info().sources] == [True]


def test_a_finished_file_is_not_counted_twice_but_grows(store_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    model = write_visits(path)
    with uniqdb.open(store_path, options=options()) as db:
        ingest(db, path)
        again = ingest(db, path)
        assert (again.finished_before, again.records, again.commits) == (True, 0, 0)
        path.rename(tmp_path / "renamed.jsonl")
        assert ingest(db, tmp_path / "renamed.jsonl").records == 0
        with (tmp_path / "renamed.jsonl").open("a") as file:
            file.write(json.dumps({"ts": T, "uid": "late"}) + "\n")
        model.add([T], ["late"])
        assert ingest(db, tmp_path / "renamed.jsonl").visits == 1
        assert rows_of(db) == model.rows()
        copy = tmp_path / "sub" / "copy.jsonl"
        copy.parent.mkdir()
        copy.write_bytes((tmp_path / "renamed.jsonl").read_bytes())
        with pytest.raises(InputRefused, match="was read already"):
            ingest(db, copy)
        assert ingest(db, copy, again=True).visits == 3_001
        visits = {bucket: (count, 2 * seen) for bucket, (count, seen) in model.rows().items()}
        assert rows_of(db) == visits


def test_a_truncated_file_and_other_field_settings_are_refused(store_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    write_visits(path, 3_000)
    with uniqdb.open(store_path, options=options()) as db:
        ingest(db, path)
        with pytest.raises(InputRefused, match="--ts-unit s, not ms"):
            ingest(db, path, fields=FieldSettings(ts_unit="ms"))
        os.truncate(path, 70_000)
        with pytest.raises(InputRefused, match="truncated"):
            ingest(db, path)


def test_lines_without_a_visit_are_refused_with_advice(store_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    lines = {
        "--ts-unit ms": {"ts": T * 1_000, "uid": "a"},
        "--ts-unit ns": {"ts": T * 10**9, "uid": "a"},
        "--ts-unit iso8601": {"ts": "2016-07-11T13:39:44", "uid": "a"},
        "--ts-field timestamp": {"timestamp": T, "uid": "a"},
        "--uid-field visitor_id": {"ts": T, "visitor_id": "a"},
        "one JSON object per line": "ts,uid",
    }
    with uniqdb.open(store_path, options=options()) as db:
        for advice, record in lines.items():
            text = record if isinstance(record, str) else json.dumps(record)
            path.write_text(f"{text}\n" * 1_500)
            with pytest.raises(InputRefused, match="no visit") as refusal:
                ingest(db, path, 10)
            assert advice in refusal.value.hint
        assert db.info().visits == db.info().commits == 0
        assert db.info().sources == []
        path.write_text("{}\n" * 999 + json.dumps({"ts": T, "uid": "a"}) + "\n")
        assert ingest(db, path, 10).visits == 1


def test_a_line_that_is_too_long_is_skipped_without_holding_it(store_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    good = json.dumps({"ts": T, "uid": "a"}).encode() + b"\n"
    path.write_bytes(good + b'{"x":"' + b"y" * 9_000_000 + b'"}\n' + good + b"z" * 70_000 + b"\n" + good[:-1])
    with uniqdb.open(store_path, options=options()) as db:
        summary = ingest(db, path)
        assert (summary.visits, summary.refused) == (3, {"too_long": 2})
        assert summary.position_bytes == path.stat().st_size
        with db.snapshot() as snapshot:
            hashes = [row.record_hash for _, row in read_quarantine(snapshot.answers.view)]
        lines = path.read_bytes().split(b"\n")
        assert hashes == [xxh3_64_hexdigest(lines[1]), xxh3_64_hexdigest(lines[3])]
        assert ingest(db, path).records == 0


def test_standard_input_and_strange_paths(store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "visits.jsonl"
    model = write_visits(path)
    with uniqdb.open(store_path, options=options()) as db:
        with io.TextIOWrapper(io.BufferedReader(io.FileIO(path))) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            assert ingest(db, "-").visits == 3_000
        assert rows_of(db) == model.rows()
        assert db.info().sources == []
        for missing in (tmp_path / "none", tmp_path):
            with pytest.raises(NotFound):
                ingest(db, missing)
        fifo = tmp_path / "pipe"
        os.mkfifo(fifo)
        with subprocess.Popen(["cp", str(path), str(fifo)]):
            assert ingest(db, fifo).visits == 3_000
        empty = tmp_path / "empty"
        empty.touch()
        assert ingest(db, empty).records == 0


def test_strict_stops_at_the_first_bad_record(store_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    path.write_text(json.dumps({"ts": T, "uid": "a"}) + "\n{bad\n")
    with uniqdb.open(store_path, options=options()) as db, pytest.raises(InputRefused, match="line 2: malformed"):
        ingest(db, path, strict=True)


def test_a_silent_pipe_commits_what_waits_and_can_be_stopped(store_path: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    line = json.dumps({"ts": T, "uid": "a"})
    talker = f"import sys, time; f = open({str(fifo)!r}, 'w'); f.write({line!r} + chr(10)); f.flush(); time.sleep(60)"
    with uniqdb.open(store_path, options=options()) as db:
        with subprocess.Popen([sys.executable, "-c", talker]) as child:
            summary = ingest_file(db, fifo, IngestOptions(), should_stop=lambda: db._store.last_txn_id() > 1)
            child.kill()
        assert (summary.visits, summary.commits, summary.interrupted) == (1, 1, True)
        assert db.count("1d").count == 1
