"""The comparisons with other engines still run, and each engine's counts are held against plain sets.

Where `make bench-peers` has built its environment and it is up to date, its Python runs them, with every engine that it
has; else the Python of the tests does, and they leave out what it lacks. Figures at these sizes mean nothing.
"""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from bench_programs import BENCH, ROOT, load, run, write_visits
from model import Model

_MAKER = runpy.run_path(str(ROOT / "tools" / "make_venv.py"))
PYTHON = ROOT / ".venv-bench/bin/python" if _MAKER["is_current"]("bench") else Path(sys.executable)
TABLES = ("ingest", "ingest-large", "lookups", "windows", "windows-large", "bytes", "new-uids")
PEERS = {
    "json": (),
    "msgspec": (),
    "msgspec_twice": (),
    "uniqdb": (),
    "uniqdb_alone": (),
    "duckdb": ("duckdb",),
    "duckdb_file": ("duckdb",),
    "clickhouse": ("chdb",),
    "polars": ("polars",),
    "bytewax": ("bytewax",),
}


def has(module: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([PYTHON, "-c", code], check=False).returncode == 0


def skip_without(*modules: str) -> None:
    if missing := [name for name in modules if not has(name)]:
        pytest.skip(f"{', '.join(missing)} not installed: make bench-peers")


@pytest.mark.parametrize("table", TABLES)
def test_table_runs(table: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures.txt"
    figures.write_text("an earlier run\n")
    out = run(BENCH / "peers.py", table, "--quick", "--output", figures, python=PYTHON)
    assert "all of them ran, and all results agree" in out
    assert figures.read_text() == f"an earlier run\n{out}"
    assert ("| " in out) == (table != "new-uids")
    judged = out[out.index("\nprogram ") :].splitlines()[2:]
    assert bool(judged) or table == "windows-large"
    peers = (("rocksdb", "rocksdict"), ("duckdb", "duckdb"))
    absent = [word for word, module in peers if not has(module)]
    assert [line for line in judged if " none" in line and not any(word in line for word in absent)] == []
    if table.startswith(("ingest", "windows", "bytes")):
        assert "results_agree                  1" in out


@pytest.mark.usefixtures("programs")
def test_all_tables_are_tried() -> None:
    peers = load("peers")
    assert set(peers.TABLES) == set(TABLES)
    assert {target.program for target in peers.TARGETS} <= set(TABLES)
    assert set(load("peer_jobs").PEERS) == set(PEERS)


def test_who_is_not_installed_is_named() -> None:
    out = run(BENCH / "peers_bytes.py", "--visits=500", "--uids=50", "--days=1", python=PYTHON)
    for module, title in (("duckdb", "DuckDB, sorted"), ("rocksdict", "RocksDB, zstd")):
        assert (f"# left out: {title}: {module}" in out) != has(module)
    assert "SQLite" in out


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("peer", PEERS)
def test_peer_agrees_with_the_oracle(peer: str, tmp_path: Path) -> None:
    skip_without(*PEERS[peer])
    path, model = tmp_path / "visits.jsonl", Model()
    for ts, uid in write_visits(path):
        model.add([ts], [uid])
    folder = tmp_path / "folder"
    folder.mkdir()
    found = json.loads(run(BENCH / "peer_jobs.py", peer, path, folder, python=PYTHON).splitlines()[-1])
    rows = [(kind, at, count, visits) for (kind, at), (count, visits) in model.rows().items()]
    assert (found["buckets"], found["digest"]) == (len(rows), load("naive").digest_of(rows))
    assert (found["disk_bytes"] > 0) == (peer in ("uniqdb", "uniqdb_alone", "duckdb_file"))


@pytest.mark.usefixtures("programs")
def test_the_bench_s_own_oracle_agrees_with_the_oracle(tmp_path: Path) -> None:
    path, model = tmp_path / "visits.jsonl", Model()
    for ts, uid in write_visits(path):
        model.add([ts], [uid])
    found = {(kind, at): (count, visits) for kind, at, count, visits in load("peers_ingest").oracle_rows(path)}
    assert found == model.rows()


@pytest.mark.usefixtures("programs")
def test_who_counts_otherwise_is_named(tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    write_visits(path)
    ingest = load("peers_ingest")
    truth = ingest.digest_of(ingest.oracle_rows(path))
    assert ingest.run(path, ["json"], 1, truth)[1] == []
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    assert ingest.run(path, ["json"], 1, truth)[1] == ["json"]


@pytest.mark.usefixtures("programs")
def test_a_lookup_that_finds_nothing_fails() -> None:
    lookups, stores = load("peers_lookups"), load("peer_stores")
    known = {uid.encode() for batch in lookups.batches(300) for uid in batch}
    honest = stores.Asker(known.__contains__, lambda keys: [key in known for key in keys])
    assert set(lookups.ask(honest, 300, 100)) == set(lookups.FIGURES)
    for liar in (
        stores.Asker(lambda _: None, lambda keys: [True] * len(keys)),
        stores.Asker(lambda _: True, lambda keys: [True] * (len(keys) - 1)),
    ):
        with pytest.raises(AssertionError):
            lookups.ask(liar, 300, 100)


@pytest.mark.usefixtures("programs")
def test_bytes_of_large_buckets_are_those_of_their_sets(store_path: Path) -> None:
    # 150 visitors with every second number: no runs, so the smallest form is a Roaring array of two bytes each.
    sizes = load("peers_bytes")
    visits = sizes.Visits(*([sizes.np.array(column) for column in ([sizes.START_S] * 300, [*range(300)])]), uids=300)
    sizes.fill_uniqdb(store_path, visits)
    large = sizes.large_buckets(store_path)
    assert [(one.buckets, one.memberships) for one in large.values()] == [(1, 300)] * 6
    for one in large.values():
        assert 0 < one.set_bytes < one.stored_bytes
        assert one.set_bytes <= 4 * one.memberships


@pytest.mark.usefixtures("programs")
def test_memory_of_a_grandchild_counts(tmp_path: Path) -> None:
    child = "import time; held = bytearray(80_000_000); time.sleep(2)"
    parent = tmp_path / "parent.py"
    parent.write_text(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])\nprint('{{}}')\n")
    assert load("processes").run_job(parent).peak_bytes > 80_000_000


@pytest.mark.usefixtures("programs")
def test_pace_tells_speed_at_the_marks_that_were_reached() -> None:
    pace = load("new_uids").Pace(per_commit=10)
    for took_s in (1.0, 1.0, 2.0, 4.0):
        pace.add(0.0, took_s / 2, took_s)
    assert pace.speeds(40) == {10: 10, 20: 10, 30: 5, 40: 2}
    assert pace.speeds(80) == {10: 10, 20: 10, 30: 5, 40: 2}
    assert pace.latencies()["commit_median_s"] == 0.75
    assert pace.speed_at(40, 20) == 3
