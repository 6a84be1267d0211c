"""``uniqdb query --plot``: a series as lines over time, windows and periods as bars, drawn with characters."""

import shutil
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import count, islice, pairwise
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from uniqdb.errors import UsageError

if TYPE_CHECKING:
    from uniqdb.record import CountRecord

POINTS_MAX = 5_000
"""More buckets than that have no meaning on a screen, and are slow to draw."""
LINE_POINTS_MIN = 3
"""Fewer points make no line and are drawn as bars."""
BARS_MAX = 200
HEIGHT_LINES = 20
FRAME_LINES = 4
"""Title, frame above and below, ticks."""
WIDTH_COLUMNS_MIN, WIDTH_COLUMNS_MAX = 40, 200
VISITS_RATIO_MAX = 5
"""Visits are drawn too, unless there are so many that the line of the visitors would lie flat on the axis."""


def assert_plotext() -> None:
    """Raise UsageError if the library that draws is not there."""
    try:
        _figure()
    except (ImportError, OSError):
        raise UsageError(
            "--plot needs the package plotext, which is not installed",
            hint=f"install it beside uniqdb: {sys.executable} -m pip install plotext",
        ) from None


def _figure() -> Any:
    """The library's one figure, empty, as large as we say: a long list of bars may be higher than the screen."""
    plotext = import_module("plotext")
    plotext.terminal.limit(False, False)
    return plotext.figure.clear()


def write_plot(records: Iterable["CountRecord"], *, is_series: bool) -> None:
    """Draw the records on standard output. Raises UsageError if they are too many."""
    found = list(islice(records, POINTS_MAX + 1))
    if not found:
        print("No visits there.")
        return
    is_line = is_series and len(found) >= LINE_POINTS_MIN
    if len(found) > (POINTS_MAX if is_line else BARS_MAX):
        raise UsageError(
            f"there are more than {len(found) - 1:,} figures to draw",
            hint="narrow --from and --to, or take a coarser --by",
        )
    width_columns = min(max(shutil.get_terminal_size().columns, WIDTH_COLUMNS_MIN), WIDTH_COLUMNS_MAX)
    has_visits = max(one.visits for one in found) <= VISITS_RATIO_MAX * max(one.count for one in found)
    figure = _lines(found, width_columns, has_visits=has_visits) if is_line else _bars(found, width_columns)
    title = _line_title(found[0], has_visits=has_visits) if is_line else _bar_title(found)
    figure.title(title)
    lines = figure.build().string(True).splitlines()  # without colours
    if not lines[0].strip():
        # The library leaves out a title that is longer than the frame.
        lines[:1] = wrap(title, width_columns)
    sys.stdout.write("\n".join(line.rstrip() for line in lines).rstrip() + "\n")


# ---------------------------------------------------------------- lines
def _lines(found: list["CountRecord"], width_columns: int, *, has_visits: bool) -> Any:
    figure = _figure()
    figure.plot_size(width_columns, HEIGHT_LINES).theme("colorless")
    times_s, uniques, visits = zip(*_points(found), strict=True)
    if has_visits:
        # First, because what is drawn later covers it.
        figure.draw(figure.signal(times_s, visits, marker="·").lines())
    figure.draw(figure.signal(times_s, uniques, marker="braille").lines())
    ticks = _ticks(found, width_columns)
    figure.ruler("x").ticks([one.start_ts for one in ticks], _labels(ticks))
    steps = _round_steps(max(visits if has_visits else uniques))
    figure.ruler("y").lim(0, steps[-1]).ticks(steps, [f"{step:,}" for step in steps])
    return figure


def _line_title(first: "CountRecord", *, has_visits: bool) -> str:
    what = "Unique visitors (line) and visits (dots)" if has_visits else "Unique visitors"
    return f"{what} by {first.granularity} ({first.timezone})"


def _points(found: list["CountRecord"]) -> list[tuple[int, int, int]]:
    """(start, count, visits) of each bucket; where buckets without visits were left out, the line falls to zero."""
    points = [(found[0].start_ts, found[0].count, found[0].visits)]
    for before, one in pairwise(found):
        if before.end_ts < one.start_ts:
            points += [(before.end_ts, 0, 0), (max(before.end_ts, one.start_ts - (one.end_ts - one.start_ts)), 0, 0)]
        points.append((one.start_ts, one.count, one.visits))
    return points


def _ticks(found: list["CountRecord"], width_columns: int) -> list["CountRecord"]:
    """Buckets whose start is written below the axis: evenly over the time, as many as fit."""
    label_columns = len(_labels(found[:1])[0]) + 4
    wanted = max(2, (width_columns - 10) // label_columns)
    first_s, last_s = found[0].start_ts, found[-1].start_ts
    ticks: list[CountRecord] = []
    for one in found:
        if one.start_ts >= first_s + len(ticks) * (last_s - first_s) / wanted:
            ticks.append(one)
    return ticks[:wanted]


def _labels(records: list["CountRecord"]) -> list[str]:
    """The local start, as short as the granularity allows."""
    long = {"year": 4, "month": 7, "week": 10, "day": 10}.get(records[0].granularity, 16)
    return [one.datetime[:long].replace("T", " ") for one in records]


def _round_steps(top: int) -> list[int]:
    """Zero to at least ``top`` in about five round steps."""
    step = next(step for step in _round_numbers() if step * 5 >= top)
    return [step * number for number in range(max(1, -(-top // step)) + 1)]


def _round_numbers() -> Iterator[int]:
    for exponent in count():
        yield from (factor * 10**exponent for factor in (1, 2, 5))


# ---------------------------------------------------------------- bars
def _bars(found: list["CountRecord"], width_columns: int) -> Any:
    figure = _figure()
    # One line per bar and one between: the limits of the ruler put the middle of each bar on a line.
    figure.plot_size(width_columns, 2 * len(found) + 1 + FRAME_LINES).theme("colorless")
    places = list(range(len(found), 0, -1))  # the first one on top
    figure.draw(figure.bar(places, [one.count for one in found], orientation="horizontal", width=0.1))
    labels = [f"{_name(one)}  {one.count:,}" for one in found]
    figure.ruler("y").lim(0.5, len(found) + 0.5).ticks(places, labels)
    steps = _round_steps(max(one.count for one in found))
    figure.ruler("x").lim(0, steps[-1]).ticks(steps, [f"{step:,}" for step in steps])
    return figure


def _bar_title(found: list["CountRecord"]) -> str:
    as_of = {str(one.as_of) for one in found if one.granularity == "window"}
    when = f", as of {as_of.pop()}" if len(as_of) == 1 else ""
    return f"Unique visitors{when} ({found[0].timezone})"


def _name(record: "CountRecord") -> str:
    if record.granularity == "window":
        return str(record.window)
    return _labels([record])[0]
