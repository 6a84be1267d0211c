"""``uniqdb quarantine``: the records that were refused."""

import datetime
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uniqdb_cli.output import choose_format, print_tables, say, write_array
from uniqdb_cli.reading import open_snapshot
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import ConfigOption, FormatOption, OutputFormat, StoreOption

if TYPE_CHECKING:
    from uniqdb.quarantine import QuarantineRow
    from uniqdb.reading import Snapshot

quarantine_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, add_completion=False)
SHOWN_CHARACTERS = 60
COLUMNS = ("id", "reason", "origin", "position", "line", "event_time_s", "uid", "record", "record_hash")


@quarantine_app.callback()
def group() -> None:
    """Look at the records that were refused.

    \b
      uniqdb quarantine list --reason malformed
    """


@quarantine_app.command("list")
def list_rows(
    reason: Annotated[
        list[str] | None, typer.Option(metavar="REASON", help="Only for this reason, such as bad_ts. Repeatable.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only of this source; `call` is the Python interface.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Only with an event time from here on.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Only with an event time before.")] = None,
    most: Annotated[int | None, typer.Option("--max", metavar="N", min=1, help="At most so many.")] = None,
    counts: Annotated[bool, typer.Option("--counts", help="Only how many, by source and reason.")] = False,
    form: FormatOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """List refused records, oldest first, each with its reason and place.

    `position` is the record's first byte in the (decoded) input, `line` counts from 1. Of a record whose time and uid
    could be made out, these are kept; of any other its first 1,024 bytes, and a hash (xxh3-64) of all of it.
    The format value prints the ids.

    \b
      uniqdb quarantine list --counts
      uniqdb quarantine list --reason malformed --reason bad_ts --max 20
      uniqdb quarantine list --source visits.jsonl --format csv
    """
    settings = load_settings(config, store=store, format=form)
    _assert_reasons(reason or [])
    chosen = choose_format(settings.format)
    with open_snapshot(settings.store) as (snapshot, zone):
        from uniqdb.window import parse_edge

        wanted = _Filter(
            frozenset(reason or []),
            source,
            None if start is None else parse_edge(zone, start, is_end=False),
            None if end is None else parse_edge(zone, end, is_end=True),
        )
        if counts:
            _write_counts(snapshot, wanted, chosen)
            return
        from itertools import islice

        _write_rows(islice(wanted.rows(snapshot), most), chosen)
        beyond = sum(one.count for one in wanted.counted(snapshot))
    if beyond:
        say(f"{beyond:,} more are only counted: quarantine was full. See --counts.")


class _Filter:
    def __init__(self, reasons: frozenset[str], source: str | None, start_s: int | None, end_s: int | None) -> None:
        self._reasons, self._source, self._start_s, self._end_s = reasons, source, start_s, end_s

    def rows(self, snapshot: "Snapshot") -> Iterator[tuple[int, "QuarantineRow"]]:
        from uniqdb.quarantine import read_quarantine

        for number, row in read_quarantine(snapshot.answers.view):
            if self._has(row.reason, row.origin) and self._in_time(row.event_time_s):
                yield number, row

    def counted(self, snapshot: "Snapshot") -> Iterator[Any]:
        """What is only counted; nothing of it has a time."""
        from uniqdb.quarantine import read_counted

        if self._start_s is None and self._end_s is None:
            yield from (one for one in read_counted(snapshot.answers.view) if self._has(one.reason, one.origin))

    def _has(self, reason: str, origin: str) -> bool:
        return (not self._reasons or reason in self._reasons) and self._source in (None, origin)

    def _in_time(self, time_s: int | None) -> bool:
        if self._start_s is None and self._end_s is None:
            return True
        if time_s is None:
            return False
        return (self._start_s is None or time_s >= self._start_s) and (self._end_s is None or time_s < self._end_s)


def _assert_reasons(reasons: list[str]) -> None:
    from uniqdb.errors import UsageError
    from uniqdb.visit import Reason

    for one in reasons:
        if one not in tuple(Reason):
            raise UsageError(f"there is no reason {one!r}", hint=f"use one of {', '.join(Reason)}")


def _fields(number: int, row: "QuarantineRow") -> dict[str, Any]:
    """What is shown of a row; bytes that are no UTF-8 are escaped."""
    found: dict[str, Any] = {"id": number, "reason": row.reason, "origin": row.origin}
    found |= {"position": row.position, "line": row.line, "event_time_s": row.event_time_s, "uid": row.uid}
    return found | {"record": row.record.decode("utf-8", "backslashreplace"), "record_hash": row.record_hash}


def _write_rows(rows: Iterator[tuple[int, "QuarantineRow"]], form: OutputFormat) -> None:
    if form is OutputFormat.TABLE:
        _write_table(rows)
    elif form is OutputFormat.VALUE:
        sys.stdout.writelines(f"{number}\n" for number, _ in rows)
    else:
        _write_dicts((_fields(number, row) for number, row in rows), COLUMNS, form)


def _write_dicts(found: Iterator[dict[str, Any]], columns: tuple[str, ...], form: OutputFormat) -> None:
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


def _write_table(rows: Iterator[tuple[int, "QuarantineRow"]]) -> None:
    columns = ["id#", "reason", "source", "position#", "line#", "record, or time and uid"]
    lines = (
        (f"{number}", row.reason, row.origin, f"{row.position:,}", f"{row.line:,}", _shown(row)) for number, row in rows
    )
    if not print_tables("Refused records", columns, lines):
        print("No refused records there.")


def _shown(row: "QuarantineRow") -> str:
    """What was refused, cut to a column."""
    text = row.record.decode("utf-8", "backslashreplace")
    if row.event_time_s is not None and row.uid is not None:
        text = f"{_time_text(row.event_time_s)} {row.uid}"
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def _time_text(time_s: int) -> str:
    try:
        return datetime.datetime.fromtimestamp(time_s, datetime.UTC).isoformat()
    except (ValueError, OverflowError, OSError):  # flipped bits lead outside of every calendar
        return str(time_s)


def _write_counts(snapshot: "Snapshot", wanted: _Filter, form: OutputFormat) -> None:
    kept: dict[tuple[str, str], int] = {}
    for _, row in wanted.rows(snapshot):
        kept[row.origin, row.reason] = kept.get((row.origin, row.reason), 0) + 1
    beyond = {(one.origin, one.reason): one.count for one in wanted.counted(snapshot)}
    found = [
        {
            "origin": origin,
            "reason": reason,
            "kept": kept.get((origin, reason), 0),
            "counted": beyond.get((origin, reason), 0),
        }
        for origin, reason in sorted(kept.keys() | beyond.keys())
    ]
    if form is OutputFormat.TABLE:
        lines = [(one["origin"], one["reason"], f"{one['kept']:,}", f"{one['counted']:,}") for one in found]
        if not print_tables("Refused records", ["source", "reason", "kept#", "only counted#"], lines):
            print("No refused records there.")
    elif form is OutputFormat.VALUE:
        print(sum(one["kept"] + one["counted"] for one in found))
    else:
        _write_dicts(iter(found), ("origin", "reason", "kept", "counted"), form)
