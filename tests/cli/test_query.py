"""`uniqdb query`: every way to ask and every way to print, against plain Python sets."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.oracle import model_of
from model import GRANULARITIES, Model
from uniqdb_cli.main import app

Run = Callable[..., Result]
DAY_S = 86_400
NEWEST = date(2016, 8, 19)


@pytest.fixture(scope="module")
def forty_days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    """A directory with a store of 40 days, and its oracle. Made once: here nothing is written."""
    where = tmp_path_factory.mktemp("forty_days")
    flags = ["--visits", "4000", "--days", "40", "--users", "700", "--skew", "0.9", "--daily-rhythm"]
    assert CliRunner().invoke(app, ["generate", *flags, "-o", str(where / "v.jsonl")]).exit_code == 0
    arguments = ["ingest", str(where / "v.jsonl"), "--store", str(where / "visits.uniqdb")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    return where, model_of(where / "v.jsonl")


@pytest.fixture
def model(run: Run, forty_days: tuple[Path, Model], monkeypatch: pytest.MonkeyPatch) -> Model:  # noqa: ARG001
    """The oracle of the store in the default place."""
    monkeypatch.chdir(forty_days[0])
    return forty_days[1]


def lines(done: Result) -> list[dict[str, Any]]:
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def seconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def trailing(model: Model, days: int, last: date = NEWEST) -> int:
    end_s = seconds(last) + DAY_S
    return len(model.union(end_s - days * DAY_S, end_s))


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_series(run: Run, model: Model, granularity: str) -> None:
    found = lines(run("query", "--by", granularity))
    rows = {(one["granularity"], one["start_ts"]): (one["count"], one["visits"]) for one in found}
    assert rows == {key: value for key, value in model.rows().items() if key[0] == granularity}
    assert [one["start_ts"] for one in found] == sorted(one["start_ts"] for one in found)
    first = found[0]
    assert set(first) == {
        *("granularity", "datetime", "count", "visits", "start_ts", "end_ts", "timezone", "status", "complete"),
        *("revision", "epoch"),
    }
    assert first["datetime"] == datetime.fromtimestamp(first["start_ts"], UTC).isoformat()


def test_no_selector_means_the_trailing_windows(run: Run, model: Model) -> None:
    found = lines(run("query"))
    assert [one["window"] for one in found] == ["7d", "30d", "90d", "180d", "365d"]
    assert [one["count"] for one in found] == [trailing(model, days) for days in (7, 30, 90, 180, 365)]
    assert {one["as_of"] for one in found} == {NEWEST.isoformat()}


def test_windows(run: Run, model: Model) -> None:
    found = lines(run("query", "--window", "10d", "--window", "36h", "--window", "90m", "--as-of", "2016-08-01"))
    end_s = seconds(date(2016, 8, 2))
    expected = [len(model.union(end_s - span_s, end_s)) for span_s in (10 * DAY_S, 36 * 3600, 90 * 60)]
    assert [one["count"] for one in found] == expected
    assert [one["window"] for one in found] == ["10d", "36h", "90m"]
    assert {one["granularity"] for one in found} == {"window"}


def test_as_of_today_is_after_all_visits(run: Run, model: Model) -> None:  # noqa: ARG001
    (one,) = lines(run("query", "--window", "30d", "--as-of", "today"))
    assert one["count"] == 0
    assert abs((date.fromisoformat(one["as_of"]) - datetime.now(UTC).date()).days) <= 1


@pytest.mark.parametrize(
    ("period", "first", "end"),
    [
        ("2016", date(2016, 1, 1), date(2017, 1, 1)),
        ("2016-07", date(2016, 7, 1), date(2016, 8, 1)),
        ("2016-W29", date(2016, 7, 18), date(2016, 7, 25)),
        ("2016-08-03", date(2016, 8, 3), date(2016, 8, 4)),
        ("2015", date(2015, 1, 1), date(2016, 1, 1)),
    ],
)
def test_periods(run: Run, model: Model, period: str, first: date, end: date) -> None:
    (one,) = lines(run("query", "--period", period))
    assert (one["start_ts"], one["end_ts"]) == (seconds(first), seconds(end))
    assert one["count"] == len(model.union(seconds(first), seconds(end)))


def test_several_periods(run: Run, model: Model) -> None:
    found = lines(run("query", "--period", "2016-08-03T13", "--period", "2016-07"))
    hour = seconds(date(2016, 8, 3)) + 13 * 3600
    assert [one["start_ts"] for one in found] == [hour, seconds(date(2016, 7, 1))]
    assert found[0]["count"] == len(model.union(hour, hour + 3600))


def test_an_interval_includes_its_last_day_but_not_its_last_minute(run: Run, model: Model) -> None:
    (days,) = lines(run("query", "--from", "2016-07-20", "--to", "2016-08-02"))
    assert (days["start_ts"], days["end_ts"]) == (seconds(date(2016, 7, 20)), seconds(date(2016, 8, 3)))
    assert days["count"] == len(model.union(days["start_ts"], days["end_ts"]))
    (minutes,) = lines(run("query", "--from", "2016-07-20T10:07", "--to", "2016-07-21T22:31"))
    assert minutes["end_ts"] - minutes["start_ts"] == DAY_S + 12 * 3600 + 24 * 60
    assert minutes["count"] == len(model.union(minutes["start_ts"], minutes["end_ts"]))
    assert minutes["granularity"] == "interval"


def test_series_from_to_and_fill(run: Run, model: Model) -> None:
    found = lines(run("query", "--by", "day", "--from", "2016-08-15", "--to", "2016-08-25", "--fill"))
    days = [date(2016, 8, 15) + timedelta(number) for number in range(11)]
    expected = [len(model.union(seconds(day), seconds(day) + DAY_S)) for day in days]
    assert [one["count"] for one in found] == expected
    assert expected[-1] == 0
    without = lines(run("query", "--by", "day", "--from", "2016-08-15", "--to", "2016-08-25"))
    assert [one["count"] for one in without] == [count for count in expected if count]
    assert lines(run("query", "--by", "day", "--from", "2016-08-15"))[0]["start_ts"] == seconds(days[0])


def test_formats_say_the_same(run: Run, model: Model) -> None:  # noqa: ARG001
    for arguments in (["--by", "week"], ["--window", "7d", "--window", "30d"]):
        records = lines(run("query", *arguments))
        assert json.loads(run("query", *arguments, "--format", "json").stdout) == records
        assert run("query", *arguments, "--format", "jsonl").stdout == run("query", *arguments).stdout
        counts = "".join(f"{one['count']}\n" for one in records)
        assert run("query", *arguments, "--format", "value").stdout == counts

        text = run("query", *arguments, "--format", "csv").stdout
        rows = list(csv.DictReader(io.StringIO(text)))
        as_text = {True: "true", False: "false"}
        for row, one in zip(rows, records, strict=True):
            assert {name: value for name, value in row.items() if value} == {
                name: as_text[value] if isinstance(value, bool) else str(value) for name, value in one.items()
            }
        assert "window,as_of" in text.splitlines()[0]

        table = run("query", *arguments, "--format", "table").stdout.splitlines()
        shown = [line for line in table if line[:1].isdigit()]
        assert "Time zone UTC" in table[0]
        for line, one in zip(shown, records, strict=True):
            assert f" {one['count']:,} " in line
            assert f" {one['visits']:,} " in line
            assert datetime.fromtimestamp(one["end_ts"], UTC).date().isoformat() in line


def test_an_empty_series(run: Run, model: Model) -> None:  # noqa: ARG001
    nothing = ["query", "--by", "day", "--from", "2020-01-01", "--to", "2020-01-31"]
    assert run(*nothing).stdout == ""
    assert json.loads(run(*nothing, "--format", "json").stdout) == []
    assert run(*nothing, "--format", "table").stdout == "No visits there.\n"
    assert run(*nothing, "--format", "csv").stdout.count("\n") == 1


def test_a_table_keeps_the_offsets_around_a_change_of_the_clocks(run: Run) -> None:
    # 2016-10-30 in Zurich: the hour from 02:00 comes twice.
    visits = "".join(f'{{"ts":{1477782000 + 3600 * hour},"uid":"a"}}\n' for hour in range(4))
    run("ingest", "-", "--timezone", "Europe/Zurich", stdin=visits)
    table = run("query", "--by", "hour", "--format", "table").stdout
    assert "2016-10-30T02:00+02:00" in table
    assert "2016-10-30T02:00+01:00" in table
    later = run("query", "--by", "hour", "--from", "2016-10-30T03", "--format", "table").stdout
    assert "2016-10-30T03:00 " in later


def test_a_setting_chooses_the_format(run: Run, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIQDB_FORMAT", "value")
    assert run("query", "--window", "30d").stdout == f"{trailing(model, 30)}\n"
    assert run("query", "--window", "30d", "--format", "csv").stdout.startswith("granularity,")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--window", "30"],
        ["--window", "2016-07"],
        ["--window", "7d", "--window", "0d"],
        ["--period", "30d"],
        ["--period", "2016-13"],
        ["--window", "7d", "--by", "day"],
        ["--window", "7d", "--period", "2016"],
        ["--window", "7d", "--from", "2016", "--to", "2016"],
        ["--from", "2016"],
        ["--to", "2016"],
        ["--from", "2016-07-12", "--to", "2016-07-11"],
        ["--from", "soon", "--to", "later"],
        ["--by", "decade"],
        ["--fill"],
        ["--by", "day", "--as-of", "2016-07-11"],
        ["--as-of", "yesterday"],
        ["--format", "xml"],
        ["--windows", "7d"],
        ["extra"],
    ],
)
def test_a_wrong_question_is_a_usage_error(run: Run, model: Model, arguments: list[str]) -> None:  # noqa: ARG001
    done = run("query", *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr


@pytest.mark.parametrize("arguments", [[], ["--window", "7d"], ["--by", "day"], ["--by", "day", "--from", "2016"]])
def test_an_empty_store_has_no_answer_without_a_date(run: Run, arguments: list[str]) -> None:
    run("init")
    done = run("query", *arguments)
    assert done.exit_code == 66
    assert done.stderr.startswith("uniqdb: the store has no visits yet. ")


def test_an_empty_store_with_a_date_has_zero(run: Run) -> None:
    run("init")
    assert run("query", "--window", "7d", "--as-of", "2016-07-11", "--format", "value").stdout == "0\n"
    assert run("query", "--period", "2016", "--format", "value").stdout == "0\n"
    filled = run("query", "--by", "month", "--from", "2016", "--to", "2016", "--fill", "--format", "value")
    assert filled.stdout == "0\n" * 12


def test_no_store(run: Run) -> None:
    done = run("query", "--store", "nowhere.uniqdb")
    assert done.exit_code == 66
    assert done.stderr.startswith("uniqdb: there is no store at ")
    assert "`uniqdb init`" in done.stderr


@pytest.mark.usefixtures("model")
def test_a_table_of_different_periods_says_which_is_which(run: Run) -> None:
    table = run("query", "--period", "2016-07", "--period", "2016-W30", "--format", "table").stdout
    assert "granularity   from" in table
    assert "\nmonth " in table
    assert "\nweek " in table
