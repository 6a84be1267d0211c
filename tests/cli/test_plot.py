"""`uniqdb query --plot`: what is drawn stands where it belongs."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from uniqdb_cli import plot

pytest.importorskip("plotext")
Run = Callable[..., Result]
DAY_S = 86_400
FIRST_S = 1_468_195_200  # 2016-07-11
# Visitors of the days 0, 1, 2 and 6; nobody came on the others. One of them comes twice a day.
VISITORS = {0: 10, 1: 40, 2: 20, 6: 40}


@pytest.fixture
def store(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = [
        f'{{"ts":{FIRST_S + day * DAY_S + number},"uid":"{max(number, 1)}"}}\n'
        for day, visitors in VISITORS.items()
        for number in range(visitors + 1)
    ]
    assert run("ingest", "-", stdin="".join(lines)).exit_code == 0


def drawn(run: Run, *arguments: str) -> list[str]:
    done = run("query", "--plot", *arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout  # no colours into a file
    return done.stdout.splitlines()


def height_at(lines: list[str], share: float) -> float:
    """How high the curve is at a share of the axis, 0 to 1; dots and line lie close together."""
    body = [re.split("[│┤]", line, maxsplit=1)[-1].rstrip("│") for line in lines if re.match(r"^[ \d,]*[│┤]", line)]
    width = lines[1].count("─")
    column = round(share * (width - 1))
    rows = [row for row, line in enumerate(body) if line[column : column + 1].strip()]
    assert rows
    return 1 - rows[0] / (len(body) - 1)


@pytest.mark.usefixtures("store")
def test_a_series_is_a_line_over_time_that_falls_to_zero_where_nobody_came(run: Run) -> None:
    lines = drawn(run, "--by", "day")
    assert lines[0].strip() == "Unique visitors (line) and visits (dots) by day (UTC)"
    assert max(map(len, lines)) <= 80
    assert len(lines) == plot.HEIGHT_LINES
    assert "2016-07-11" in lines[-1]
    assert lines[1 + 1].startswith("50┤")
    assert height_at(lines, 1 / 6) == pytest.approx(0.8, abs=0.1)
    assert height_at(lines, 2 / 6) == pytest.approx(0.4, abs=0.1)
    assert height_at(lines, 4 / 6) == 0
    assert height_at(lines, 1) == pytest.approx(0.8, abs=0.1)


@pytest.mark.usefixtures("store")
def test_dates_below_the_axis_are_those_of_the_store_s_zone(run: Run) -> None:
    visits = "".join(f'{{"ts":{FIRST_S - 7_200 + day * DAY_S},"uid":"a"}}\n' for day in range(5))
    run("ingest", "-", "--store", "z.uniqdb", "--timezone", "Europe/Zurich", stdin=visits)
    lines = drawn(run, "--by", "day", "--store", "z.uniqdb")
    assert "(Europe/Zurich)" in lines[0]
    assert "2016-07-11" in lines[-1]
    assert "2016-07-10" not in lines[-1]
    hours = drawn(run, "--by", "hour", "--store", "z.uniqdb")
    assert "2016-07-11 00:00" in hours[-1]


@pytest.mark.usefixtures("store")
def test_windows_are_bars_with_their_figures(run: Run) -> None:
    lines = drawn(run, "--window", "1d", "--window", "7d", "--window", "5d", "--as-of", "2016-07-15")
    assert lines[0].strip() == "Unique visitors, as of 2016-07-15 (UTC)"
    bars = {
        match[1]: (int(match[2]), line.count("█")) for line in lines if (match := re.match(r" *(\w+)  ([\d,]+)┤", line))
    }
    assert {name: count for name, (count, _) in bars.items()} == {"1d": 0, "7d": 40, "5d": 40}
    assert list(bars) == ["1d", "7d", "5d"]
    assert bars["7d"][1] == bars["5d"][1] > 30
    assert drawn(run, "--period", "2016-07-12", "--period", "2016-07-11")[3].startswith("2016-07-12  40┤█")


@pytest.mark.usefixtures("store")
def test_a_short_series_is_bars(run: Run) -> None:
    lines = drawn(run, "--by", "day", "--to", "2016-07-12")
    assert sum("█" in line for line in lines) == 2
    assert drawn(run, "--by", "year")[3].startswith("2016  40┤█")


@pytest.mark.usefixtures("store")
def test_visits_are_left_out_where_they_would_press_the_line_flat(run: Run) -> None:
    visits = "".join(
        f'{{"ts":{FIRST_S + day * DAY_S + number},"uid":"a"}}\n' for day in range(4) for number in range(9)
    )
    run("ingest", "-", "--store", "few.uniqdb", stdin=visits)
    lines = drawn(run, "--by", "day", "--store", "few.uniqdb")
    assert lines[0].strip() == "Unique visitors by day (UTC)"
    assert "·" not in "".join(lines)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("columns", ["20", "60", "120", "300"])
def test_it_is_as_wide_as_the_terminal(run: Run, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    widest = max(map(len, drawn(run, "--by", "day")))
    assert widest == min(max(int(columns), plot.WIDTH_COLUMNS_MIN), plot.WIDTH_COLUMNS_MAX)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("columns", range(40, 70, 3))
def test_it_says_what_it_shows_on_every_terminal(run: Run, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for arguments, title in (
        (["--by", "day"], "Unique visitors (line) and visits (dots) by day (UTC)"),
        (["--window", "7d"], "Unique visitors, as of 2016-07-13 (UTC)"),
    ):
        lines = drawn(run, *arguments)
        frame = next(number for number, line in enumerate(lines) if "┌" in line)
        assert " ".join(" ".join(lines[:frame]).split()) == title
        assert max(map(len, lines)) <= columns


@pytest.mark.usefixtures("store")
def test_many_bars_are_higher_than_the_screen(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "10")
    days = [f"2016-07-{day}" for day in range(11, 31)]
    lines = drawn(run, *(word for day in days for word in ("--period", day)))
    assert [match[1] for line in lines if (match := re.match(r" *(2016-07-\d\d)", line))] == days


@pytest.mark.usefixtures("store")
def test_nothing_to_draw(run: Run) -> None:
    assert drawn(run, "--by", "day", "--from", "2020", "--to", "2020") == ["No visits there."]
    assert len(drawn(run, "--by", "day", "--from", "2020-01-01", "--to", "2020-01-09", "--fill")) == plot.HEIGHT_LINES


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--format", "csv"], "--plot and --format csv do not go together"),
        (["--by", "minute", "--fill", "--from", "2015", "--to", "2015"], "more than 5,000 figures to draw. Narrow"),
    ],
)
def test_what_cannot_be_drawn(run: Run, arguments: list[str], says: str) -> None:
    done = run("query", "--plot", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr


@pytest.mark.usefixtures("store")
def test_a_format_in_the_settings_does_not_stop_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIQDB_FORMAT", "csv")
    assert len(drawn(run, "--by", "day")) == plot.HEIGHT_LINES
    assert len(drawn(run, "--by", "day", "--format", "table")) == plot.HEIGHT_LINES


@pytest.mark.usefixtures("store")
def test_without_the_library_it_says_how_to_get_it(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A module of that name that cannot be imported stands before the real one.
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "plotext.py").write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    for name in [name for name in sys.modules if name.split(".")[0] == "plotext"]:
        monkeypatch.delitem(sys.modules, name)
    done = run("query", "--plot")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("uniqdb: --plot needs the package plotext, which is not installed. Install it ")
    assert done.stderr.endswith("-m pip install plotext.\n")
    assert run("query", "--format", "value").exit_code == 0


@pytest.mark.parametrize(
    ("top", "steps"),
    [
        (0, [0, 1]),
        (1, [0, 1]),
        (5, [0, 1, 2, 3, 4, 5]),
        (6, [0, 2, 4, 6]),
        (11, [0, 5, 10, 15]),
        (42, [0, 10, 20, 30, 40, 50]),
    ],
)
def test_round_steps(top: int, steps: list[int]) -> None:
    assert plot._round_steps(top) == steps
