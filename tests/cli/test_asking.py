"""`uniqdb exists`, `uniqdb info`, `uniqdb check`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]
VISITS = [(1468195200, "a"), (1468195260, "b"), (1470000000, "a"), (1471000000, "ä=\u202e")]


@pytest.fixture
def store(run: Run) -> Path:
    lines = [json.dumps({"ts": ts, "uid": uid}) for ts, uid in VISITS]
    assert run("ingest", "-", stdin="\n".join([*lines, "bad\n"])).exit_code == 0
    return Path("visits.uniqdb")


# ---------------------------------------------------------------- exists
def test_exists(run: Run, store: Path) -> None:  # noqa: ARG001
    done = run("exists", "a", "b")
    assert done.exit_code == 0
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"uid": "a", "exists": True},
        {"uid": "b", "exists": True},
    ]
    done = run("exists", "b", "c", "a", "--format", "value")
    assert (done.exit_code, done.stdout) == (1, "yes\nno\nyes\n")


def test_exists_in_a_window(run: Run, store: Path) -> None:  # noqa: ARG001
    done = run("exists", "a", "b", "--window", "20d")
    assert done.exit_code == 1
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["exists"], second["exists"]) == (True, False)
    assert (first["window"], first["as_of"], first["timezone"]) == ("20d", "2016-08-12", "UTC")
    assert (first["end_ts"] - first["start_ts"], first["end_ts"]) == (20 * 86400, 1471046400)
    assert run("exists", "b", "--window", "2m", "--as-of", "2016-07-11T00:02").exit_code == 0
    assert run("exists", "b", "--window", "1m", "--as-of", "2016-07-11T00:02").exit_code == 1
    assert run("exists", "a", "--window", "30d", "--as-of", "today").exit_code == 1


def test_exists_in_a_period(run: Run, store: Path) -> None:  # noqa: ARG001
    assert run("exists", "a", "--period", "2016-07-31").exit_code == 0
    assert '"end_ts":1470009600' in run("exists", "a", "--period", "2016-07-31").stdout
    assert run("exists", "b", "--period", "2016-07-31").exit_code == 1


def test_exists_prints_nothing_that_a_terminal_obeys(run: Run, store: Path) -> None:  # noqa: ARG001
    done = run("exists", "ä=\u202e", "x\x1b[31m", "bad\udcff", "--format", "table")
    shown = [line.split() for line in done.stdout.splitlines()[-3:]]
    assert shown == [["ä=\\u202e", "yes"], ["x\\x1b[31m", "no"], ["bad\\udcff", "no"]]
    assert done.stdout.startswith("Seen ever?\n")
    lines = run("exists", "ä=\u202e", "bad\udcff").stdout.splitlines()
    assert [json.loads(line)["exists"] for line in lines] == [True, False]


def test_exists_says_in_the_table_what_it_is_about(run: Run, store: Path) -> None:  # noqa: ARG001
    table = run("exists", "a", "--window", "30d", "--format", "table").stdout
    assert table.startswith("Seen in the last 30d, as of 2016-08-12 (UTC)?\n")
    assert run("exists", "a", "--period", "2016", "--format", "table").stdout.startswith("Seen in 2016 (UTC)?\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a", "--format", "csv"],
        ["a", "--window", "2016-07"],
        ["a", "--period", "30d"],
        ["a", "--window", "30d", "--period", "2016"],
        ["a", "--as-of", "2016-07-11"],
    ],
)
def test_exists_refuses_wrong_questions(run: Run, store: Path, arguments: list[str]) -> None:  # noqa: ARG001
    done = run("exists", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")


def test_a_format_for_query_does_not_stop_exists(
    run: Run,
    store: Path,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UNIQDB_FORMAT", "csv")
    assert json.loads(run("exists", "a").stdout) == {"uid": "a", "exists": True}


def test_exists_in_an_empty_store(run: Run) -> None:
    run("init")
    assert run("exists", "a", "--format", "value").stdout == "no\n"
    assert run("exists", "a", "--window", "30d").exit_code == 66
    assert run("exists", "a", "--window", "30d", "--as-of", "2016-07-11").exit_code == 1


# ---------------------------------------------------------------- info
def test_info(run: Run, store: Path) -> None:
    found = json.loads(run("info").stdout)
    assert json.loads(run("info", "--format", "json").stdout) == found
    assert run("info").stdout.count("\n") == 1
    assert (found["visits"], found["uids"], found["timezone"]) == (4, 3, "UTC")
    assert found["path"] == str(store.absolute())
    assert (found["event_time_s_min"], found["event_time_s_max"]) == (VISITS[0][0], VISITS[-1][0])
    assert found["quarantined"] == {"malformed": 1}
    assert found["buckets"] == {"minute": 4, "hour": 3, "day": 3, "week": 3, "month": 2, "year": 1}


def test_info_table(run: Run, store: Path) -> None:  # noqa: ARG001
    Path("more.jsonl").write_text('{"ts":1471000000,"uid":"z"}\n')
    run("ingest", "more.jsonl")
    text = run("info", "--format", "table").stdout
    facts = dict(line.split(maxsplit=1) for line in text.splitlines() if line[:1].isalpha() and " " in line)
    assert facts["visits"] == "5"
    assert facts["quarantined"] == "malformed 1"
    assert "2016-07-11T00:00:00+00:00" in text
    assert facts["more.jsonl"].split() == ["file", "1", "0", "28", "read", "to", "its", "end"]


def test_info_of_an_empty_store(run: Run) -> None:
    run("init")
    assert json.loads(run("info").stdout)["visits"] == 0
    assert "none" in run("info", "--format", "table").stdout
    assert run("info", "--format", "value").exit_code == 2


# ---------------------------------------------------------------- check
def test_check(run: Run, store: Path) -> None:  # noqa: ARG001
    done = run("check")
    assert done.exit_code == 0
    assert done.stdout.startswith("The store ./visits.uniqdb is sound: ")
    assert "3 uids" in done.stdout


def test_check_lists_what_is_damaged(run: Run, store: Path) -> None:
    data = store / "g1" / "data.mdb"
    raw = bytearray(data.read_bytes())
    # The second visitor's id in the dictionary; each copy, since LMDB keeps pages of earlier commits.
    at = raw.find(b"\xc3\xa4=")
    assert at > 0
    while at >= 0:
        raw[at + 2] ^= 1
        at = raw.find(b"\xc3\xa4=")
    data.write_bytes(raw)
    done = run("check")
    assert done.exit_code == 74
    assert "checksum" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("uniqdb: the store ./visits.uniqdb is damaged: ")


@pytest.mark.parametrize("command", [["info"], ["query"], ["exists", "a"], ["ingest", "-"]])
def test_a_damaged_manifest_is_74_in_one_line(run: Run, store: Path, command: list[str]) -> None:
    (store / "MANIFEST").write_text("{}")
    done = run(*command)
    assert (done.exit_code, done.stdout) == (74, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("uniqdb: ")
    assert "MANIFEST is damaged. Restore " in done.stderr
