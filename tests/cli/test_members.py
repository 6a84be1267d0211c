"""`uniqdb members`: who is behind a count, in every format, with ids that are hard to write."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from typer.testing import Result

from model import Model

Run = Callable[..., Result]
AWKWARD = [
    *("line\nbreak", "carriage\rreturn", "nul\x00inside", "\x1b[31mred", 'quote"d', "comma,ted", "back\\slash"),
    *("line\\nbreak", "ä=\u202e", " blank ", "=1+1", "\u2028", "\x7f\x85", "東京", "\U0001f600", "plain"),
]
DAY_S = 86_400
FIRST_S = 1_468_195_200  # 2016-07-11
VISITS = [
    # Far enough from each other that two visits four days later are nothing strange.
    *((FIRST_S + 5_400 * number, uid) for number, uid in enumerate(AWKWARD)),
    (FIRST_S + 4 * DAY_S, "plain"),
    (FIRST_S + 4 * DAY_S + 3_600, "later"),
]


@pytest.fixture
def model(run: Run) -> Model:
    """The oracle of the store in the default place."""
    lines = "".join(json.dumps({"ts": ts, "uid": uid}) + "\n" for ts, uid in VISITS)
    assert run("ingest", "-", stdin=lines).exit_code == 0
    model = Model()
    model.add([ts for ts, _ in VISITS], [uid for _, uid in VISITS])
    return model


def members(run: Run, *arguments: str) -> list[str]:
    done = run("members", *arguments, "--format", "jsonl")
    assert done.exit_code == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.split("\n")[:-1]]
    assert {tuple(one) for one in records} <= {("uid",)}
    return [one["uid"] for one in records]


@pytest.mark.parametrize(
    ("arguments", "start_s", "end_s"),
    [
        (["--period", "2016-07-11"], FIRST_S, FIRST_S + DAY_S),
        (["--period", "2016"], FIRST_S - 365 * DAY_S, FIRST_S + 365 * DAY_S),
        (["--period", "2015"], 0, 0),
        (["--window", "2d"], FIRST_S + 3 * DAY_S, FIRST_S + 5 * DAY_S),
        (["--window", "2h"], FIRST_S + 4 * DAY_S, FIRST_S + 4 * DAY_S + 7_200),
        (["--window", "60m", "--as-of", "2016-07-15T00:59"], FIRST_S + 4 * DAY_S, FIRST_S + 4 * DAY_S + 3_600),
        (["--window", "3d", "--as-of", "2016-07-12"], FIRST_S - DAY_S, FIRST_S + 2 * DAY_S),
        (["--window", "30d", "--as-of", "today"], 0, 0),
        (["--from", "2016-07-15", "--to", "2016-07-15"], FIRST_S + 4 * DAY_S, FIRST_S + 5 * DAY_S),
        (["--from", "2016-07-15T00:30", "--to", "2016-07-15T02:00"], FIRST_S + 4 * DAY_S + 1_800, FIRST_S + 5 * DAY_S),
    ],
)
def test_members_are_those_of_the_sets(run: Run, model: Model, arguments: list[str], start_s: int, end_s: int) -> None:
    found = members(run, *arguments)
    assert len(found) == len(set(found))
    assert set(found) == model.union(start_s, end_s)
    assert members(run, *arguments, "--sort") == sorted(found, key=str.encode)
    as_counted = run("query", *arguments, "--format", "value")
    assert as_counted.stdout == f"{len(found)}\n"


@pytest.mark.usefixtures("model")
def test_json_and_csv_are_exact(run: Run) -> None:
    asked = ["members", "--period", "2016-07-11", "--sort"]
    expected = sorted(AWKWARD, key=str.encode)
    assert [one["uid"] for one in json.loads(run(*asked, "--format", "json").stdout)] == expected
    text = run(*asked, "--format", "csv").stdout
    assert [row["uid"] for row in csv.DictReader(io.StringIO(text, newline=""))] == expected


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("form", ["value", "table"])
def test_for_people_each_id_has_a_line_of_its_own_unlike_all_others(run: Run, form: str) -> None:
    shown = run("members", "--period", "2016-07-11", "--format", form).stdout
    lines = shown.split("\n")[:-1]
    if form == "table":
        assert lines[0] == f"{len(AWKWARD)} visitors in 2016-07-11 (UTC):"
        lines = lines[-len(AWKWARD) :]
    assert len(lines) == len(set(lines)) == len(AWKWARD)
    assert all(char.isprintable() for line in lines for char in line)
    assert {"line\\nbreak", "line\\\\nbreak", "back\\\\slash", "東京", "plain", "\\x1b[31mred"} <= set(lines)


@pytest.mark.usefixtures("model")
def test_nobody(run: Run) -> None:
    asked = ["members", "--period", "2015"]
    assert run(*asked, "--format", "table").stdout == "0 visitors in 2015 (UTC).\n"
    assert run(*asked, "--format", "value").stdout == ""
    assert run(*asked, "--format", "csv").stdout == "uid\n"
    assert json.loads(run(*asked, "--format", "json").stdout) == []


@pytest.mark.usefixtures("model")
def test_the_table_says_what_it_lists(run: Run) -> None:
    def title(*arguments: str) -> str:
        return run("members", *arguments, "--format", "table").stdout.split("\n")[0]

    assert title("--window", "2d") == "2 visitors in the last 2d, as of 2016-07-15 (UTC):"
    start, end = (datetime.fromtimestamp(FIRST_S + days * DAY_S, UTC).isoformat() for days in (4, 5))
    assert title("--from", "2016-07-15", "--to", "2016-07-15") == f"2 visitors from {start} until before {end} (UTC):"


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no window, period or interval was given. Give --window, --period, or --from and --to."),
        (["--window", "30"], ""),
        (["--window", ""], ""),
        (["--period", "30d"], ""),
        (["--window", "30d", "--period", "2016"], "--window and --period do not go together"),
        (["--from", "2016"], "the interval has no to. Give --to too"),
        (["--from", "2016-07-12", "--to", "2016-07-11"], "the interval is empty"),
        (["--period", "2016", "--as-of", "2016-07-11"], "--as-of does not go with --period"),
        (["--as-of", "2016-07-11"], "no window, period or interval was given"),
        (["--by", "day"], ""),
        (["ann"], ""),
    ],
)
def test_a_wrong_question_is_a_usage_error(run: Run, arguments: list[str], says: str) -> None:
    done = run("members", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr


def test_an_empty_store(run: Run) -> None:
    run("init")
    assert run("members", "--window", "30d").exit_code == 66
    assert run("members", "--window", "30d", "--as-of", "today").stdout == ""
    assert run("members", "--period", "2016", "--store", "no.uniqdb").exit_code == 66
