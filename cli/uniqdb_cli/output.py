"""What goes to the terminal: errors in one line, answers in every format, nothing that a terminal would obey."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

from uniqdb.errors import UniqdbError, UsageError
from uniqdb_cli.words import OutputFormat

if TYPE_CHECKING:
    from uniqdb.record import CountRecord
    from uniqdb.visitor_questions import NewAndReturning, Overlap

    Counted = CountRecord | NewAndReturning | Overlap

PROGRESS_EVERY = 1_000
"""Rows or lines between two updates of the line that shows the progress."""
TABLE_ROWS_MAX = 10_000
"""A longer answer is printed as several tables, so that it begins at once and needs no memory."""


# ---------------------------------------------------------------- words for people
def is_terminal(stream: IO[str] | None) -> bool:
    """Whether somebody is looking. A closed stream is None."""
    return stream is not None and stream.isatty()


def printable(text: str) -> str:
    """The text with everything escaped that a terminal might obey or that has no glyph (lone surrogates too)."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def one_line(text: str) -> str:
    """`printable`, and different for different texts: a backslash is doubled."""
    return printable(text.replace("\\", "\\\\"))


def json_text(text: str) -> str:
    """The text, or its `printable` form if JSON cannot carry it: what was no UTF-8 has lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return printable(text)
    return text


def say(text: str) -> None:
    """A line on standard error."""
    print(printable(text), file=sys.stderr, flush=True)


def error_line(error: UniqdbError) -> str:
    """``uniqdb: what is wrong. What to do.``"""
    hint = error.hint[:1].upper() + error.hint[1:] if error.hint[:1].islower() else error.hint
    end = "" if hint.endswith((".", "?", "!")) else "."
    return f"uniqdb: {error.message}. {hint}{end}"


def discard_stdout() -> None:
    """After a write to standard output failed: let Python's own last flush go nowhere, silently."""
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)
    except (OSError, ValueError, AttributeError):
        pass  # standard output is closed or no file: nothing will be flushed to it


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """For an answer that the exit code gives, too: a reader that has seen enough (``| head``) does not change it.

    At the end of the block all that was written has arrived, or an OSError says why not.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()


@contextmanager
def progress_line(doing: str) -> Iterator[Callable[[str, int], None] | None]:
    """One line on standard error that says what is being done and how far it is, if somebody is looking."""
    if not is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(doing) as status:

        def show(what: str, count: int) -> None:
            if count % PROGRESS_EVERY == 0:
                status.update(f"{doing} {escape(printable(what))}: {count:,}")

        yield show


def refuse_format(command: str, wanted: str | None, allowed: Sequence[OutputFormat]) -> None:
    """Raise UsageError for a format that the command line gave and the command does not have."""
    if wanted is not None and wanted not in allowed:
        raise UsageError(f"{command} has no format {wanted}", hint=f"use one of {', '.join(allowed)}")


def choose_format(wanted: str | None, allowed: Iterable[OutputFormat] = tuple(OutputFormat)) -> OutputFormat:
    """The wanted format, or a table on a terminal and JSON lines otherwise."""
    if wanted is not None and wanted in tuple(allowed):
        return OutputFormat(wanted)
    return OutputFormat.TABLE if is_terminal(sys.stdout) else OutputFormat.JSONL


# ---------------------------------------------------------------- tables
def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on standard output; columns whose name ends with ``#`` are numbers, aligned to the right.

    It is never narrower than its content: a terminal may wrap a line, but no digit is cut off.
    """
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column.removesuffix("#"), justify="right" if column.endswith("#") else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(printable, row))
    needed = Measurement.get(console, console.options.update(width=10_000), table).maximum
    if needed > console.width:
        console = Console(highlight=False, markup=False, emoji=False, width=needed)
    with console.capture() as captured:
        console.print(table)
    lines = [title, "", *(line.rstrip() for line in captured.get().splitlines())]
    sys.stdout.write("\n".join(lines).rstrip() + "\n")


def print_tables(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """As `print_table`, a long answer as several tables; the number of rows. Without rows nothing is printed."""
    rows, number = iter(rows), 0
    while chunk := list(islice(rows, TABLE_ROWS_MAX)):
        print_table(title, columns, chunk)
        number += len(chunk)
    return number


# ---------------------------------------------------------------- counts
def write_counts(records: Iterable["CountRecord"], form: OutputFormat, end_text: Callable[[int], str]) -> None:
    """Counts on standard output, as they come. ``end_text`` writes an instant in the store's zone."""
    if form is OutputFormat.TABLE:
        _write_tables(iter(records), end_text)
    elif form is OutputFormat.JSON:
        write_array(record.to_json() for record in records)
    elif form is OutputFormat.JSONL:
        for record in records:
            sys.stdout.write(record.to_json().decode() + "\n")
    elif form is OutputFormat.VALUE:
        for record in records:
            sys.stdout.write(f"{record.count}\n")
    else:
        write_csv(records, sys.stdout)


def write_array(objects: Iterable[bytes]) -> None:
    """JSON objects on standard output as one array, each on a line of its own."""
    separator = "[\n "
    for one in objects:
        sys.stdout.write(separator + one.decode())
        separator = ",\n "
    sys.stdout.write("[]\n" if separator == "[\n " else "\n]\n")


def write_dicts(found: Iterable[dict[str, Any]], columns: Sequence[str], form: OutputFormat) -> None:
    """Flat objects on standard output as csv, json or (any other format) jsonl."""
    import csv

    import msgspec

    if form is OutputFormat.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(["" if one[name] is None else one[name] for name in columns] for one in found)
        return
    objects = (msgspec.json.encode(one) for one in found)
    if form is OutputFormat.JSON:
        write_array(objects)
    else:
        sys.stdout.writelines(one.decode() + "\n" for one in objects)


def write_csv(records: Iterable["CountRecord"], out: IO[str]) -> int:
    """Counts as CSV with a line of names; how many there were."""
    import csv

    from uniqdb.record import CountRecord

    names, number = CountRecord.__struct_fields__, 0
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for record in records:
        values = record.to_dict()
        values["complete"] = "true" if record.complete else "false"
        writer.writerow([values.get(name, "") for name in names])
        number += 1
    return number


def _write_tables(records: Iterator["CountRecord"], end_text: Callable[[int], str]) -> None:
    first = True
    while chunk := list(islice(records, TABLE_ROWS_MAX)):
        first = False
        _write_table(chunk, end_text)
    if first:
        print("No visits there.")


def _write_table(records: list["CountRecord"], end_text: Callable[[int], str]) -> None:
    head, labels = label_columns(records, end_text)
    rows = []
    for record, label in zip(records, labels, strict=True):
        complete = "yes" if record.complete else "no"
        rows.append([*label, f"{record.count:,}", f"{record.visits:,}", record.status, complete])
    columns = [*head, "unique visitors#", "visits#", "status", "complete"]
    print_table(f"Time zone {records[0].timezone}. `to` is not included.", columns, rows)


def label_columns(records: Sequence["Counted"], end_text: Callable[[int], str]) -> tuple[list[str], list[list[str]]]:
    """The columns of a table that say what each record is of, and what stands in them."""
    is_window = records[0].granularity == "window"
    kinds = {record.granularity for record in records}
    head = ["window", "as of"] if is_window else sorted(kinds) if len(kinds) == 1 else ["granularity", "from"]
    starts = [record.datetime for record in records]
    times = shorten_times([*starts, *(end_text(record.end_ts) for record in records)])
    labels = []
    for record, start, end in zip(records, times, times[len(records) :], strict=False):
        label = [str(record.window), str(record.as_of), start, end] if is_window else [start, end]
        if len(kinds) > 1:
            label.insert(0, record.granularity)
        labels.append(label)
    return [*head, "from", "to"] if is_window else [*head, "to"], labels


def shorten_times(times: list[str]) -> list[str]:
    """ISO times of whole minutes without what all of them share: seconds, one offset, midnight.

    Around a change of the clocks offsets differ; then they stay, because a label may come twice.
    """
    parts = [time.partition("T") for time in times]
    offsets = {clock[8:] for _, _, clock in parts}
    is_midnight = len(offsets) == 1 and all(clock[:5] == "00:00" for _, _, clock in parts)
    if is_midnight:
        return [date for date, _, _ in parts]
    keep = slice(8, None) if len(offsets) > 1 else slice(0, 0)
    return [f"{date}T{clock[:5]}{clock[keep]}" for date, _, clock in parts]
