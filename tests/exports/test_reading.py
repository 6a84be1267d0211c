"""DuckDB, Polars, pyroaring and ClickHouse find in exports what plain Python sets, and `uniqdb query`, say."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import uniqdb
from bench_programs import ENVIRONMENT
from cli.test_docs_commands import ELSEWHERE, assert_page_does_what_it_shows
from engines import options
from exports.conftest import FIRST_DAY_S, ZONE, Exported

Read = Callable[[str], dict[str, Any]]
FORMS = {
    "duckdb": ({"parquet", "csv", "jsonl"}, {"parquet", "csv", "jsonl"}),
    "polars": ({"parquet", "csv", "jsonl"}, {"parquet"}),
    "pyroaring": (set(), {"parquet", "csv", "jsonl"}),
    "clickhouse": ({"parquet", "csv", "jsonl", "rowbinary"}, {"rowbinary"}),
}


@pytest.fixture(scope="module", params=FORMS)
def found(request: pytest.FixtureRequest, read: Read) -> tuple[str, dict[str, Any]]:
    return request.param, read(request.param)


def days_of(exported: Exported) -> dict[int, set[str]]:
    return {at: uids for (kind, at), uids in sorted(exported.model.members.items()) if kind == "day"}


def test_the_store_has_sets_of_all_kinds(exported: Exported) -> None:
    sizes = {len(uids) for uids in days_of(exported).values()}
    assert {1, 31, 32, 33, 400, 9_000} == sizes
    assert exported.window == len(set().union(*list(days_of(exported).values())[-30:]))


def test_every_tool_finds_what_sets_say(exported: Exported, found: tuple[str, dict[str, Any]]) -> None:
    tool, facts = found
    days = days_of(exported)
    counts, members = FORMS[tool]
    rows = [[at, len(uids), exported.model.visits["day", at]] for at, uids in days.items()]
    assert facts.get("counts", {}) == dict.fromkeys(counts, rows)
    sizes = [[at, len(uids), len(uids)] for at, uids in days.items()]
    assert facts["members"] == dict.fromkeys(members, sizes)
    assert facts["windows"] == dict.fromkeys(members, exported.window)
    assert facts["everybody"] == sorted(set().union(*days.values()))


def test_times_and_types(exported: Exported, read: Read) -> None:
    starts = list(days_of(exported))
    local = [datetime.fromtimestamp(at, ZoneInfo(ZONE)).isoformat() for at in starts]
    assert {one[-6:] for one in local} == {"+02:00", "+01:00"}
    for tool, integer, moment, blob in (
        ("duckdb", "BIGINT", "TIMESTAMP WITH TIME ZONE", "BLOB"),
        ("polars", "Int64", f"Datetime(time_unit='ms', time_zone='{ZONE}')", None),
        ("clickhouse", "Int64", f"DateTime64(0, '{ZONE}')", "AggregateFunction(groupBitmap, UInt32)"),
    ):
        facts = read(tool)
        numbers = ("count", "visits", "start_ts", "end_ts", "revision", "epoch")
        assert {facts["types"][name] for name in numbers} == {integer}
        assert (facts["types"]["datetime"], facts["types"].get("set")) == (moment, blob)
        if tool == "clickhouse":
            assert facts["days"] == [one[:10] for one in local]
        else:
            assert facts["times"] == local


def test_sets_have_the_very_members(exported: Exported, read: Read) -> None:
    days = days_of(exported)
    assert read("pyroaring")["by_day"] == {str(at): sorted(uids) for at, uids in days.items()}
    sets = read("duckdb")["sets"]
    assert [row[:2] for row in sets] == [[at, len(uids)] for at, uids in days.items()]
    assert min(row[2] for row in sets) > 0


def test_states_are_those_that_clickhouse_makes_itself(exported: Exported, read: Read) -> None:
    facts = read("clickhouse")
    assert facts["states"] == facts["own_states"]
    kinds = {state[:2] for _, state in facts["states"]}
    assert kinds == {"00", "01"}, "small sets and bitmaps"
    names = ("granularity", "timezone", "status", "complete", "revision", "epoch")
    records = [json.loads(line) for line in (exported.folder / "counts.jsonl").read_text().splitlines()]
    assert facts["records"] == [[*map(one.get, names), one["end_ts"] - one["start_ts"]] for one in records]
    assert {one["status"] for one in records} >= {"final", "amended"}
    assert {one["end_ts"] - one["start_ts"] for one in records} == {86_400, 90_000}


def test_parquet_is_whole_or_not_there(exported: Exported, tools: Path, tmp_path: Path) -> None:
    store = exported.folder / "visits.uniqdb"
    words = ["export", "members", "--by", "day", "--format", "parquet", "--store", str(store)]
    through_pipe = subprocess.run(
        [tools, "-m", "uniqdb_cli", *words], capture_output=True, env=ENVIRONMENT, timeout=120, check=True
    )
    assert through_pipe.stdout == (exported.folder / "members.parquet").read_bytes()
    # A limit on the size of files is a full disk that needs no disk of its own.
    limited = (
        "import resource, sys; from uniqdb_cli.main import run; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000)); sys.argv[0] = 'uniqdb'; run()"
    )
    for command in (words, ["export", "sets", *words[2:]]):
        full = subprocess.run(
            [tools, "-c", limited, *command, "--output", "out"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=ENVIRONMENT,
            timeout=120,
            check=False,
        )
        assert (full.returncode, full.stdout, full.stderr.count("\n")) == (73, "", 1), full.stderr
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_parquet_that_is_cut_off_leaves_nothing(tools: Path, tmp_path: Path, number: signal.Signals) -> None:
    store, folder = tmp_path / "visits.uniqdb", tmp_path / "here"
    folder.mkdir()
    with uniqdb.open(store, options=options()) as db:
        db.add_many([FIRST_DAY_S + 61 * at for at in range(20_000)], [f"u{at % 700}" for at in range(20_000)])
    words = [str(tools), "-m", "uniqdb_cli", "export", "members", "--by", "minute", "--store", str(store)]
    with subprocess.Popen(
        [*words, "--output", "out.parquet"], stderr=subprocess.PIPE, text=True, cwd=folder, env=ENVIRONMENT
    ) as process:
        patience_s = time.monotonic() + 60
        while not os.listdir(folder) and time.monotonic() < patience_s:
            time.sleep(0.002)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (128 + number, "uniqdb: interrupted.\n")
    assert os.listdir(folder) == []


@pytest.mark.parametrize("page", ELSEWHERE)
def test_page_does_what_it_shows(page: str, tools: Path, tmp_path: Path) -> None:
    assert_page_does_what_it_shows(page, tmp_path, tools)
