"""The notebook runs from start to end, and its charts show what plain Python counts.

It is run by `.venv-docs`, which has a kernel; `make test-docs` builds that and asks for these tests.
"""

import collections
import json
import os
import subprocess
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.oracle import model_of
from model import Model

pytestmark = pytest.mark.docs

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "walkthrough.ipynb"
PYTHON = ROOT / ".venv-docs" / "bin" / "python"
CHART = "application/vnd.plotly.v1+json"
ZONE = "Europe/Zurich"
DAY_S = 86_400


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """The outputs of each cell by its id, after a run of the whole notebook."""
    folder = tmp_path_factory.mktemp("notebook")
    # Nothing of the user's own Jupyter takes part, and nothing is left in it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UNIQDB_", "JUPYTER_"))}
    environment |= {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    environment |= {"TMPDIR": str(folder), "PLOTLY_RENDERER": "plotly_mimetype", "HOME": str(folder)}
    command = [str(PYTHON), str(ROOT / "tools" / "run_notebook.py"), str(NOTEBOOK), str(folder / "run.ipynb")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert list(folder.glob("uniqdb-walkthrough-*")) == []
    notebook = json.loads((folder / "run.ipynb").read_text("utf-8"))
    return {cell["id"]: cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"}


@pytest.fixture(scope="module")
def model() -> Model:
    return model_of(ROOT / "data" / "sample_visits.jsonl", ZONE)


def printed(cells: dict[str, list[dict[str, Any]]], cell: str) -> str:
    return "".join("".join(one.get("text", "")) for one in cells[cell])


def traces(cells: dict[str, list[dict[str, Any]]], cell: str) -> list[dict[str, Any]]:
    (shown,) = [one["data"][CHART]["data"] for one in cells[cell] if CHART in one.get("data", {})]
    return list(shown)


def days_of(model: Model) -> list[date]:
    """Every date from the first visit to the last."""
    starts = sorted(start_s for kind, start_s in model.members if kind == "day")
    first, last = model.day_of(starts[0]), model.day_of(starts[-1])
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def test_every_chart_is_drawn_and_nothing_complains(cells: dict[str, list[dict[str, Any]]]) -> None:
    drawn = [cell for cell, outputs in cells.items() if any(CHART in one.get("data", {}) for one in outputs)]
    assert drawn == [cell for cell in cells if cell.startswith("plot-")]
    assert len(drawn) >= 7
    assert [cell for cell, outputs in cells.items() if any(one.get("name") == "stderr" for one in outputs)] == []


def test_days(cells: dict[str, list[dict[str, Any]]], model: Model) -> None:
    visits, visitors = traces(cells, "plot-days")
    rows = [model.rows().get(("day", model.midnight(day)), (0, 0)) for day in days_of(model)]
    assert visits["x"] == visitors["x"] == [str(day) for day in days_of(model)]
    assert list(zip(visitors["y"], visits["y"], strict=True)) == rows


def test_hours_and_minutes(cells: dict[str, list[dict[str, Any]]], model: Model) -> None:
    (heat,) = traces(cells, "plot-hours")
    for day, row in zip(heat["y"], heat["z"], strict=True):
        midnight = model.midnight(date.fromisoformat(day))
        assert row == [len(model.members.get(("hour", midnight + hour * 3600), ())) for hour in range(24)]
    (line,) = traces(cells, "plot-minutes")
    starts = [int(datetime.fromisoformat(at).timestamp()) for at in line["x"]]
    assert line["y"] == [len(model.members.get(("minute", start_s), ())) for start_s in starts]
    assert sum(line["y"]) > 0


def test_windows(cells: dict[str, list[dict[str, Any]]], model: Model) -> None:
    lines = traces(cells, "plot-windows")
    assert [line["name"] for line in lines] == ["1d", "7d", "30d"]
    for line in lines:
        length = int(line["name"].removesuffix("d"))
        assert line["x"] == [str(day) for day in days_of(model)]
        for day, count in zip(days_of(model), line["y"], strict=True):
            start_s, end_s = model.midnight(day - timedelta(days=length - 1)), model.midnight(day + timedelta(days=1))
            assert count == len(model.union(start_s, end_s))


def test_the_sum_of_days_is_not_the_month(cells: dict[str, list[dict[str, Any]]], model: Model) -> None:
    (bars,) = traces(cells, "plot-sums")
    july = [day for day in days_of(model) if day.month == 7]
    days = [len(model.members[("day", model.midnight(day))]) for day in july]
    assert bars["y"] == [sum(days), len(model.union(model.midnight(july[0]), model.midnight(date(2016, 8, 1))))]
    assert bars["y"][0] > bars["y"][1]


def test_sets(cells: dict[str, list[dict[str, Any]]], model: Model) -> None:
    week_s = 7 * DAY_S
    monday = model.midnight(date(2016, 7, 25))
    before, now = model.union(monday, monday + week_s), model.union(monday + week_s, monday + 2 * week_s)
    line = f"{len(now - before)} new or back again, {len(now & before)} stayed, {len(before - now)} left\n"
    assert printed(cells, "sets-ask").startswith(line)
    (heat,) = traces(cells, "plot-cohorts")
    mondays = [model.midnight(date.fromisocalendar(2016, week, 1)) for week in range(28, 34)]
    weeks = [model.union(at, at + week_s) for at in mondays]
    for start, row in enumerate(heat["z"]):
        cohort = weeks[start] - set().union(*weeks[:start])
        assert row[:start] == [None] * start
        assert row[start:] == [100 * len(cohort & week) / len(cohort) for week in weeks[start:]]


def test_frequency(cells: dict[str, list[dict[str, Any]]], model: Model) -> None:
    (bars,) = traces(cells, "plot-frequency")
    days = (uids for (kind, _), uids in model.members.items() if kind == "day")
    often = collections.Counter(collections.Counter(uid for uids in days for uid in uids).values())
    assert dict(zip(bars["x"], bars["y"], strict=True)) == often


def test_what_it_prints(cells: dict[str, list[dict[str, Any]]], model: Model) -> None:
    assert "2,000 visits from sample_visits.jsonl" in printed(cells, "ingest-run")
    assert "Nothing new in sample_visits.jsonl" in printed(cells, "ingest-run")
    july = model.rows()[("month", model.midnight(date(2016, 7, 1)))]
    assert f"2016-07          {july[0]} visitors  {july[1]:,} visits" in printed(cells, "periods-table")
    assert printed(cells, "visitors-ask").splitlines()[:3] == ["True False", "True", "[True, False, False]"]
    assert printed(cells, "late-ask").splitlines()[:2] == ["held", "accepted"]
    assert printed(cells, "sound-ask").startswith("[]\n")
    assert "agrees with the recount of 2,000 visits" in printed(cells, "sound-ask")
