"""Event time as a user of the command line meets it: late visits, quarantine, clocks, several files."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import uniqdb
from engines import assert_sound

Run = Callable[..., Result]
WriteLines = Callable[[str, Sequence[object]], Path]
T = 1_468_244_340  # 2016-07-11T13:39:00
DAY_S = 86_400


def steady(start_s: int, seconds: int, per_s: int = 25) -> list[dict[str, Any]]:
    return [{"ts": start_s + at, "uid": f"v{number}"} for at in range(seconds) for number in range(per_s)]


def by(run: Run, kind: str, store: str = "visits.uniqdb") -> dict[str, tuple[int, str]]:
    done = run("query", "--by", kind, "--format", "jsonl", "--store", store)
    assert done.exit_code == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert_sound(Path(store))
    return {one["datetime"]: (one["count"], one["status"]) for one in records}


@pytest.fixture
def late(run: Run, write_lines: WriteLines) -> None:
    """Ten minutes of visits; one of five days before, one of five days after, one of the year 2106, one bad line."""
    lines: list[object] = steady(T, 600, 5)
    lines[700:700] = [{"ts": T - 5 * DAY_S, "uid": "old"}, {"ts": T + 5 * DAY_S, "uid": "early"}]
    lines[900:900] = [{"ts": T + 2**31 + 2**30, "uid": "flipped"}, "no record"]
    write_lines("visits.jsonl", lines)
    done = run("ingest", "visits.jsonl")
    assert done.exit_code == 0
    assert (
        "4 records refused and kept in quarantine: ahead 1, implausible 1, not_an_object 1, too_late 1." in done.stderr
    )


@pytest.mark.usefixtures("late")
def test_quarantine_gives_back_and_throws_away(run: Run) -> None:
    assert run("query", "--window", "1d", "--format", "value").stdout == "5\n", "no wrong clock moves `as of`"
    listed = run("quarantine", "list", "--reason", "too_late", "--reason", "ahead", "--format", "jsonl").stdout
    rows = {one["reason"]: one for one in map(json.loads, listed.splitlines())}
    assert {(one["line"], one["uid"]) for one in rows.values()} == {(701, "old"), (702, "early")}
    done = run("quarantine", "accept", "--reason", "too_late")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "1 visit counted.\n")
    assert by(run, "day")["2016-07-06T00:00:00+00:00"] == (1, "amended")
    again = run("quarantine", "accept", "--reason", "too_late")
    assert again.stderr == "0 visits counted.\n"
    everything = run("quarantine", "accept", "--all").stderr
    assert everything == (
        "1 visit counted.\n2 cannot be counted and stay in quarantine: implausible 1, not_an_object 1.\n"
    )
    assert by(run, "day")["2016-07-16T00:00:00+00:00"] == (1, "provisional")
    assert run("quarantine", "accept", "--id", "0").stderr.startswith(("0 visits", "1 visit"))
    assert run("quarantine", "discard", "--reason", "not_an_object").stderr == "1 record thrown away.\n"
    assert run("quarantine", "discard", "--all").exit_code == 0
    assert run("quarantine", "list", "--format", "value").stdout == ""
    found = json.loads(run("info", "--format", "json").stdout)["completeness"]
    assert found["accepted"] + sum(found["discarded"].values()) == 3_004
    assert found["quarantined"] == {}


@pytest.mark.usefixtures("late")
def test_by_source_and_time(run: Run) -> None:
    assert run("quarantine", "accept", "--source", "other.jsonl").stderr == "0 visits counted.\n"
    wanted = ["--source", "visits.jsonl", "--from", "2016-07-06", "--to", "2016-07-06"]
    assert run("quarantine", "accept", *wanted).stderr == "1 visit counted.\n"


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("command", ["accept", "discard"])
def test_which_ones_has_to_be_said(run: Run, command: str) -> None:
    for arguments, says in (
        ([], "nothing says which refused records are meant"),
        (["--all", "--reason", "ahead"], "--all and a choice do not go together"),
        (["--reason", "silly"], "there is no reason 'silly'"),
        (["--from", "someday"], "someday"),
    ):
        done = run("quarantine", command, *arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
    assert run("quarantine", command, "--all", "--store", "nowhere.uniqdb").exit_code == 66
    assert not Path("nowhere.uniqdb").exists()


@pytest.mark.usefixtures("late")
def test_a_second_writer_is_told_who_writes(run: Run) -> None:
    with uniqdb.open("visits.uniqdb"):
        # The same process: LMDB's locks belong to it.
        for command in (["quarantine", "accept", "--all"], ["clock", "reset", "visits.jsonl"]):
            assert run(*command).exit_code in (2, 75)


def test_completeness_goes_to_standard_error(run: Run, late: None) -> None:  # noqa: ARG001 - it makes the store
    done = run("query", "--by", "year", "--format", "csv", "--completeness")
    assert len(done.stdout.splitlines()) == 2
    found = json.loads(done.stderr)
    assert (found["accepted"], found["held"], found["clock_s"]) == (3_000, 0, T + 599)
    assert found["quarantined"] == {"ahead": 1, "implausible": 1, "not_an_object": 1, "too_late": 1}
    (source,) = found["sources"]
    assert (source["name"], source["state"], source["clock_s"]) == ("visits.jsonl", "ended", T + 599)


def test_files_of_one_command_close_together(run: Run, write_lines: WriteLines) -> None:
    write_lines("a.jsonl", steady(T, 120))
    write_lines("b.jsonl", [{"ts": T, "uid": "v0"}, *steady(T, 220)])
    assert run("ingest", "a.jsonl", "b.jsonl").exit_code == 0
    assert set(by(run, "minute").values()) == {(25, "final"), (25, "provisional")}
    for name in ("a.jsonl", "b.jsonl"):
        assert run("ingest", name, "--store", "apart.uniqdb").exit_code == 0
    apart = by(run, "minute", "apart.uniqdb")
    assert [status for _, status in apart.values()] == ["amended", "final", "final", "provisional"]


def test_close(run: Run, write_lines: WriteLines) -> None:
    write_lines("a.jsonl", steady(T, 60))
    assert run("ingest", "a.jsonl", "--close").exit_code == 0
    assert {status for kind in ("minute", "week", "year") for _, status in by(run, kind).values()} == {"final"}
    refused = run("ingest", "a.jsonl", "--close", "--follow")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)


def test_an_interrupted_file_keeps_buckets_open_until_it_is_ended(run: Run, write_lines: WriteLines) -> None:
    cut = write_lines("old.jsonl.gz", [])
    whole = gzip.compress(b"".join(json.dumps(one).encode() + b"\n" for one in steady(T, 300)))
    cut.write_bytes(whole[:-20])
    assert run("ingest", "old.jsonl.gz").exit_code == 65
    write_lines("new.jsonl", steady(T + 1_000, 300))
    done = run("ingest", "new.jsonl")
    assert done.exit_code == 0
    assert done.stderr.endswith(
        "Nothing is closed beyond the clock of old.jsonl.gz: read on, or end it with `uniqdb clock reset NAME --end`.\n"
    )
    assert by(run, "minute")["2016-07-11T13:56:00+00:00"] == (25, "provisional")
    shown = run("clock", "show", "--format", "jsonl").stdout
    states = {one["name"]: one["state"] for one in map(json.loads, shown.splitlines())}
    assert states == {"old.jsonl.gz": "open", "new.jsonl": "ended"}
    reset = run("clock", "reset", "old.jsonl.gz", "--end")
    assert (reset.exit_code, reset.stderr) == (0, "old.jsonl.gz is over.\n")
    assert by(run, "minute")["2016-07-11T13:56:00+00:00"] == (25, "final")
    table = run("clock", "show", "--format", "table").stdout
    assert "old.jsonl.gz   ended" in table
    assert "The store's clock: 2016-07-11T14:00:39+00:00." in table
    cut.write_bytes(whole)
    assert run("ingest", "old.jsonl.gz").exit_code == 0
    assert run("verify", "--against", "old.jsonl.gz", "new.jsonl").exit_code == 0


def test_a_clock_that_is_not_there(run: Run, write_lines: WriteLines) -> None:
    write_lines("a.jsonl", steady(T, 3))
    run("ingest", "a.jsonl")
    missing = run("clock", "reset", "b.jsonl")
    assert (missing.exit_code, missing.stderr.count("\n")) == (66, 1)
    assert "the sources are: a.jsonl" in missing.stderr.lower()
    run("ingest", "a.jsonl", "--again")
    several = run("clock", "reset", "a.jsonl")
    assert (several.exit_code, several.stderr.count("\n")) == (2, 1)
    assert "Name one by its id: " in several.stderr
    chosen = several.stderr.rsplit(" ", 1)[-1].strip(".\n")
    assert run("clock", "reset", chosen).stderr == "a.jsonl has no clock now; its next visits start one.\n"
    assert run("clock", "show", "--format", "value").exit_code == 2


def test_limits_are_kept_with_the_source(run: Run, write_lines: WriteLines) -> None:
    lines = [*steady(T, 100), {"ts": T - 5 * DAY_S, "uid": "old"}, *steady(T + 100, 100)]
    write_lines("a.jsonl", lines)
    done = run("ingest", "a.jsonl", "--late-limit-s", str(7 * DAY_S))
    assert "refused" not in done.stderr
    with Path("a.jsonl").open("a") as more:
        more.write('{"ts":1468244540,"uid":"v1"}\n')
    other = run("ingest", "a.jsonl")
    assert (other.exit_code, other.stderr.count("\n")) == (65, 1)
    assert "was begun with --late-limit-s 604800, not 86400" in other.stderr
    assert run("ingest", "a.jsonl", "--late-limit-s", str(7 * DAY_S)).exit_code == 0


def test_a_pipe_without_a_name_holds_nothing_back(run: Run) -> None:
    lines = "".join(json.dumps(one) + "\n" for one in [{"ts": T - 40 * DAY_S, "uid": "old"}, *steady(T, 60)])
    done = run("ingest", "-", stdin=lines)
    assert "too_late 1." in done.stderr
    assert run("clock", "show", "--format", "jsonl").stdout == ""
    assert run("query", "--window", "1d", "--format", "jsonl").stdout.count('"as_of":"2016-07-11"') == 1
