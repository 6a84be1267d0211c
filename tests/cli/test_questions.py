"""`uniqdb query --new`, `--returning`, `--overlap-with`, `uniqdb cohorts` and `uniqdb stickiness`, in every format."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import uniqdb
from asked_sets import days_back, periods, sticky, told_apart, triangle
from cli.oracle import model_of
from engines import options
from model import Model
from uniqdb.options import Retention
from uniqdb.sweeping import sweep
from uniqdb_cli.main import app

Run = Callable[..., Result]
DAY_S = 86_400
ZONE = "America/Sao_Paulo"
FIRST, NEWEST = date(2018, 9, 20), date(2018, 11, 19)
"""2018-11-04 began at 01:00 there, and of the newest day there is only the first hour."""


@pytest.fixture(scope="module")
def sixty_days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    """A directory with a store of 60 days, and its oracle. Made once: here nothing is written."""
    where = tmp_path_factory.mktemp("sixty_days")
    flags = ["--visits", "3000", "--days", "60", "--users", "500", "--skew", "0.9", "--start", "2018-09-20T03:00"]
    assert CliRunner().invoke(app, ["generate", *flags, "-o", str(where / "v.jsonl")]).exit_code == 0
    arguments = ["ingest", str(where / "v.jsonl"), "--store", str(where / "visits.uniqdb"), "--timezone", ZONE]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    return where, model_of(where / "v.jsonl", ZONE)


@pytest.fixture
def model(run: Run, sixty_days: tuple[Path, Model], monkeypatch: pytest.MonkeyPatch) -> Model:  # noqa: ARG001
    """The oracle of the store in the default place."""
    monkeypatch.chdir(sixty_days[0])
    return sixty_days[1]


def lines(done: Result) -> list[dict[str, Any]]:
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def text_of(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def assert_formats_agree(run: Run, arguments: list[str], value: str) -> list[dict[str, Any]]:
    """json, csv and value say what jsonl says; ``value`` names the number. The records."""
    records = lines(run(*arguments, "--format", "jsonl"))
    assert run(*arguments).stdout == run(*arguments, "--format", "jsonl").stdout
    assert json.loads(run(*arguments, "--format", "json").stdout) == records
    assert run(*arguments, "--format", "value").stdout == "".join(f"{text_of(one[value])}\n" for one in records)
    rows = list(csv.DictReader(io.StringIO(run(*arguments, "--format", "csv").stdout)))
    for row, one in zip(rows, records, strict=True):
        expected = {name: text for name, given in one.items() if (text := text_of(given))}
        assert {name: given for name, given in row.items() if given} == expected
    return records


# ---------------------------------------------------------------- new and returning
@pytest.mark.parametrize(("days", "before"), [(7, 365), (7, 14), (30, 20), (1, 1)])
def test_new_and_returning_of_trailing_windows(run: Run, model: Model, days: int, before: int) -> None:
    first = NEWEST - timedelta(days - 1)
    edges_s = model.midnight(first), model.midnight(NEWEST + timedelta(1))
    new, returning = told_apart(model, edges_s, model.midnight(first - timedelta(before)))
    asked = ["query", "--window", f"{days}d", "--before", f"{before}d"]
    (found,) = assert_formats_agree(run, [*asked, "--new"], "new")
    assert (found["new"], found["returning"], found["count"]) == (len(new), len(returning), len(new | returning))
    assert (found["start_ts"], found["end_ts"]) == edges_s
    assert found["since_ts"] == model.midnight(first - timedelta(before))
    assert (found["window"], found["as_of"], found["before"]) == (f"{days}d", NEWEST.isoformat(), f"{before}d")
    assert assert_formats_agree(run, [*asked, "--returning"], "returning") == [found]
    table = run(*asked, "--new", "--format", "table").stdout
    assert "New: not seen from `since` to the start." in table
    assert f" {len(new):,}  " in table
    assert f"{len(new) / len(new | returning):.1%}" in table
    assert "Returning: also seen" in run(*asked, "--returning", "--format", "table").stdout


def test_new_of_periods_intervals_and_each_day(run: Run, model: Model) -> None:
    october = model.midnight(date(2018, 10, 1)), model.midnight(date(2018, 11, 1))
    new, _ = told_apart(model, october, days_back(model, october[0], 365))
    (found,) = lines(run("query", "--period", "2018-10", "--new"))
    assert (found["granularity"], found["new"], found["before"]) == ("month", len(new), "365d")
    (found,) = lines(run("query", "--from", "2018-10-10T07:11", "--to", "2018-10-10T19:30", "--new", "--before", "all"))
    edges_s = found["start_ts"], found["end_ts"]
    assert edges_s[1] - edges_s[0] == (12 * 60 + 19) * 60
    assert found["new"] == len(told_apart(model, edges_s, 0)[0])
    assert "before" not in found
    for before, since in (("all", None), ("3d", 3)):
        days = lines(
            run("query", "--by", "day", "--from", "2018-10-30", "--to", "2018-11-08", "--new", "--before", before)
        )
        assert len(days) == 10
        for one in days:
            edges_s = one["start_ts"], one["end_ts"]
            since_s = 0 if since is None else days_back(model, edges_s[0], since)
            assert one["new"] == len(told_apart(model, edges_s, since_s)[0])
    nothing = ["query", "--by", "day", "--from", "2020", "--to", "2020-01", "--new"]
    assert run(*nothing, "--format", "table").stdout == "No visits there.\n"
    assert run(*nothing, "--format", "csv").stdout.startswith("granularity,datetime,count,new,returning,")


def test_it_is_only_complete_if_the_look_back_is(run: Run, model: Model) -> None:  # noqa: ARG001
    october = ["query", "--period", "2018-10-20", "--new"]
    (short,), (long,), (everything,) = (lines(run(*october, "--before", one)) for one in ("20d", "40d", "all"))
    assert (short["complete"], long["complete"], everything["complete"]) == (True, False, True)


# ---------------------------------------------------------------- overlap
def test_overlaps(run: Run, model: Model) -> None:
    week = model.midnight(NEWEST - timedelta(6)), model.midnight(NEWEST + timedelta(1))
    for other, first, end in (
        ("30d", NEWEST - timedelta(29), NEWEST + timedelta(1)),
        ("2018-10", date(2018, 10, 1), date(2018, 11, 1)),
        ("previous", NEWEST - timedelta(13), NEWEST - timedelta(6)),
    ):
        arguments = ["query", "--window", "7d", "--overlap-with", other]
        (found,) = assert_formats_agree(run, arguments, "both")
        edges_s = model.midnight(first), model.midnight(end)
        mine, others = model.union(*week), model.union(*edges_s)
        assert (found["other_start_ts"], found["other_end_ts"], found["other"]) == (*edges_s, other)
        assert (found["count"], found["other_count"]) == (len(mine), len(others))
        assert (found["both"], found["either"]) == (len(mine & others), len(mine | others))
        table = run(*arguments, "--format", "table").stdout
        assert f"{len(mine & others) / len(mine):.1%}" in table
        assert first.isoformat() in table


def test_what_is_previous(run: Run, model: Model) -> None:
    for asked, first, end in (
        (["--period", "2018-11"], date(2018, 10, 1), date(2018, 11, 1)),
        (["--period", "2018-W45"], date(2018, 10, 29), date(2018, 11, 5)),
        (["--period", "2018-11-05"], date(2018, 11, 4), date(2018, 11, 5)),
        (["--from", "2018-11-02", "--to", "2018-11-06"], date(2018, 10, 28), date(2018, 11, 2)),
        (["--window", "2d", "--as-of", "2018-11-05"], date(2018, 11, 2), date(2018, 11, 4)),
    ):
        (found,) = lines(run("query", *asked, "--overlap-with", "previous"))
        assert (found["other_start_ts"], found["other_end_ts"]) == (model.midnight(first), model.midnight(end))
        mine, others = (
            model.union(found["start_ts"], found["end_ts"]),
            model.union(model.midnight(first), model.midnight(end)),
        )
        assert found["both"] == len(mine & others)
    (found,) = lines(run("query", "--window", "3h", "--overlap-with", "previous"))
    assert found["other_end_ts"] == found["start_ts"] == found["other_start_ts"] + 3 * 3_600


@pytest.mark.parametrize(
    "arguments",
    [
        ["--new", "--returning"],
        ["--new", "--overlap-with", "7d"],
        ["--before", "7d"],
        ["--overlap-with", "7d", "--before", "7d"],
        ["--by", "day", "--overlap-with", "7d"],
        ["--new", "--plot"],
        ["--new", "--before", "2016-07"],
        ["--new", "--before", "0d"],
        ["--overlap-with", "2016-13"],
        ["--overlap-with", ""],
        ["--overlap-with", "soon"],
        ["--new", "--window", "7d", "--period", "2016"],
    ],
)
def test_what_does_not_go_together(run: Run, model: Model, arguments: list[str]) -> None:  # noqa: ARG001
    done = run("query", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("uniqdb: ")
    assert done.stderr.count("\n") == 1


# ---------------------------------------------------------------- cohorts
@pytest.mark.parametrize(
    ("by", "first"), [("week", date(2018, 9, 17)), ("month", date(2018, 9, 1)), ("day", date(2018, 11, 8))]
)
def test_cohorts_without_a_range(run: Run, model: Model, by: str, first: date) -> None:
    """The last twelve, and none before the first visit."""
    asked = periods(model, by, first, NEWEST)
    rows = assert_formats_agree(run, ["cohorts", "--by", by], "count")
    expected = triangle(model, asked)
    found = [[one["count"] for one in rows if one["cohort_start_ts"] == start_s] for start_s, _ in asked]
    assert found == expected
    for one in rows:
        cohort = asked[[edges_s[0] for edges_s in asked].index(one["cohort_start_ts"])]
        period = asked[asked.index(cohort) + one["after"]]
        assert (one["start_ts"], one["end_ts"]) == period
        assert one["by"] == by
        assert one["share"] == (round(one["count"] / one["new"], 6) if one["new"] else None)
        assert one["status"] == ("provisional" if period == asked[-1] else "final")
        assert one["complete"] == (period != asked[-1] and cohort[0] >= model.midnight(FIRST))


def test_cohorts_as_a_triangle(run: Run, model: Model) -> None:
    asked = periods(model, "week", date(2018, 10, 1), date(2018, 10, 31))
    arguments = ["cohorts", "--by", "week", "--from", "2018-10-01", "--to", "2018-10-31", "--format", "table"]
    shown = run(*arguments).stdout.splitlines()
    assert "first seen (since 2018-09-20)" in shown[0]
    rows = [line.split() for line in shown if line.startswith("2018-")]
    expected = triangle(model, asked)
    assert [row[0] for row in rows] == ["2018-10-01", "2018-10-08", "2018-10-15", "2018-10-22", "2018-10-29"]
    assert [[int(cell) for cell in row[1:]] for row in rows] == expected
    percent = run(*arguments, "--percent").stdout.splitlines()
    second = next(line for line in percent if line.startswith("2018-10-01")).split()[2]
    assert second == f"{expected[0][1] / expected[0][0]:.1%}"
    newest = run("cohorts", "--by", "week", "--format", "table").stdout
    assert "What is of 2018-11-19 is provisional." in newest


def test_cohorts_of_nothing(run: Run, model: Model) -> None:  # noqa: ARG001
    for arguments in (
        ["--from", "2020"],
        ["--from", "2020", "--to", "2021"],
        ["--from", "2001", "--to", "2001-01-01T05"],
    ):
        assert run("cohorts", "--by", "month", *arguments).stdout in (
            "",
            run("cohorts", "--by", "month", *arguments).stdout,
        )
    for edges in (
        ["--from", "2020"],
        ["--from", "2020", "--to", "2021"],
        ["--from", "2018-10-02", "--to", "2018-10-02"],
    ):
        assert lines(run("cohorts", "--by", "month", *edges)) == []
    assert run("cohorts", "--from", "2020", "--format", "table").stdout == "No visits there.\n"
    assert run("cohorts", "--from", "2020", "--format", "csv").stdout.count("\n") == 1
    (early,) = lines(run("cohorts", "--by", "month", "--from", "2001", "--to", "2001-01"))
    assert (early["new"], early["count"], early["share"]) == (0, 0, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["cohorts", "--by", "hour"],
        ["cohorts", "--by", "year"],
        ["cohorts", "--from", "2018-11-01", "--to", "2018-10-01"],
        ["cohorts", "--from", "soon"],
        ["cohorts", "--by", "day", "--from", "2016"],
        ["stickiness", "--from", "2018-11-01", "--to", "2018-10-01"],
        ["stickiness", "--to", "soon"],
    ],
)
def test_a_wrong_question_is_a_usage_error(run: Run, model: Model, arguments: list[str]) -> None:  # noqa: ARG001
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr


# ---------------------------------------------------------------- stickiness
def test_stickiness(run: Run, model: Model) -> None:
    days = assert_formats_agree(run, ["stickiness"], "dau_mau")
    dates = [NEWEST - timedelta(29 - number) for number in range(30)]
    expected = [sticky(model, day) for day in dates]
    assert [(one["dau"], one["wau"], one["mau"]) for one in days] == expected
    assert [one["dau_mau"] for one in days] == [round(dau / mau, 6) for dau, _, mau in expected]
    assert [one["dau_wau"] for one in days] == [round(dau / wau, 6) for dau, wau, _ in expected]
    complete = [day >= FIRST + timedelta(29) and day < NEWEST for day in dates]
    assert [one["complete"] for one in days] == complete
    (mean,) = assert_formats_agree(run, ["stickiness", "--average"], "dau_mau")
    chosen = [one for one, is_complete in zip(expected, complete, strict=True) if is_complete]
    assert mean["days_averaged"] == len(chosen) == 29
    assert mean["dau_mau"] == pytest.approx(sum(dau / mau for dau, _, mau in chosen) / len(chosen), abs=1e-6)
    assert mean["dau_wau"] == pytest.approx(sum(dau / wau for dau, wau, _ in chosen) / len(chosen), abs=1e-6)
    table = run("stickiness", "--format", "table").stdout
    assert len([line for line in table.splitlines() if line.startswith("2018-")]) == 30
    last = f"On average over 29 days (complete): {mean['dau_wau']:.1%} of the visitors of 7 days"
    assert table.splitlines()[-1].startswith(last)
    assert run("stickiness", "--average", "--format", "table").stdout.startswith("On average over 29 days")


def test_stickiness_where_no_day_is_complete_and_of_nobody(run: Run, model: Model) -> None:
    (mean,) = lines(run("stickiness", "--from", "2018-09-20", "--to", "2018-09-24", "--average"))
    expected = [sticky(model, FIRST + timedelta(number)) for number in range(5)]
    assert mean["days_averaged"] == 5
    assert mean["dau_mau"] == pytest.approx(sum(dau / mau for dau, _, mau in expected) / 5, abs=1e-6)
    assert not mean["complete"]
    before = ["stickiness", "--from", "2018-01-01", "--to", "2018-01-03"]
    assert [one["dau_mau"] for one in lines(run(*before))] == [None] * 3
    assert run(*before, "--format", "value").stdout == "\n" * 3
    assert lines(run(*before, "--average"))[0]["dau_mau"] is None
    assert run("stickiness", "--from", "2020", "--format", "table").stdout == "No visits there.\n"


# ---------------------------------------------------------------- stores without answers
@pytest.mark.parametrize(
    "command", [["cohorts"], ["stickiness"], ["query", "--new"], ["query", "--overlap-with", "previous"]]
)
def test_an_empty_store(run: Run, command: list[str]) -> None:
    run("init")
    done = run(*command)
    assert done.exit_code == 66
    assert done.stderr.startswith("uniqdb: the store has no visits yet. ")
    assert run(*command, "--store", "nowhere.uniqdb").exit_code == 66


def test_what_was_swept_is_not_guessed(run: Run, here: Path) -> None:
    kept = Retention(minute_days=1, hour_days=1, day_days=9, week_days=14, month_days=40)
    start_s = int(datetime(2016, 7, 11, tzinfo=UTC).timestamp())
    with uniqdb.open(here / "visits.uniqdb", options=replace(options(), retention=kept)) as db:
        times = [start_s + DAY_S * number for number in range(60)]
        db.add_many(times, [f"u{number % 7}" for number in range(60)], source="web")
        db.commit()
        sweep(db, start_s + 400 * DAY_S, forced=True)
    for command in (
        ["cohorts", "--by", "day", "--from", "2016-07-15"],
        ["stickiness", "--from", "2016-07-15"],
        ["query", "--window", "7d", "--new", "--before", "30d"],
        ["query", "--window", "7d", "--overlap-with", "2016-07-15"],
    ):
        done = run(*command)
        assert (done.exit_code, done.stdout) == (70, ""), command
        assert "no longer kept" in done.stderr
