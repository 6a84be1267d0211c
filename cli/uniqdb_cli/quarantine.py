"""``uniqdb quarantine``: the records that were refused."""

import datetime
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uniqdb_cli.output import choose_format, print_tables, say, write_dicts
from uniqdb_cli.reading import open_snapshot
from uniqdb_cli.settings import Settings, load_settings
from uniqdb_cli.words import ConfigOption, FormatOption, OutputFormat, StoreOption
from uniqdb_cli.writing import carry_out

if TYPE_CHECKING:
    from uniqdb.calendar_zone import CalendarZone
    from uniqdb.quarantine import QuarantineRow
    from uniqdb.quarantine_review import QuarantineFilter, Review
    from uniqdb.snapshot import Snapshot

quarantine_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, add_completion=False)
SHOWN_CHARACTERS = 60
COLUMNS = ("id", "reason", "origin", "position", "line", "event_time_s", "uid", "record", "record_hash")


@quarantine_app.callback()
def group() -> None:
    """Look at refused records, count or discard them.

    \b
      uniqdb quarantine list --reason malformed
      uniqdb quarantine accept --reason too_late
    """


ReasonOption = Annotated[
    list[str] | None, typer.Option(metavar="REASON", help="Only for this reason, such as bad_ts. Repeatable.")
]
SourceOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only of this source; `call` is the Python interface.")
]
FromOption = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Only with an event time from here on.")]
ToOption = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Only with an event time before.")]
IdOption = Annotated[
    list[int] | None, typer.Option("--id", metavar="ID", min=0, help="Only this one, as listed. Repeatable.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Every one. Needed if nothing else says which.")]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which refused records the options mean."""

    reasons: list[str] | None
    source: str | None
    start: str | None
    end: str | None
    ids: list[int] | None = None

    def __bool__(self) -> bool:
        return bool(self.reasons or self.source is not None or self.start or self.end or self.ids)

    def filter(self, zone: "CalendarZone") -> "QuarantineFilter":
        """With the times read in the store's zone. Raises UsageError for what is no time or reason."""
        from uniqdb.quarantine_review import QuarantineFilter
        from uniqdb.window import parse_edge

        _assert_reasons(self.reasons or [])
        return QuarantineFilter(
            frozenset(self.reasons or []),
            self.source,
            None if self.start is None else parse_edge(zone, self.start, is_end=False),
            None if self.end is None else parse_edge(zone, self.end, is_end=True),
            frozenset(self.ids or []),
        )


@quarantine_app.command("list")
def list_rows(
    reason: ReasonOption = None,
    source: SourceOption = None,
    start: FromOption = None,
    end: ToOption = None,
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
    _assert_reasons(reason or [])
    settings = load_settings(config, store=store, format=form)
    chosen = choose_format(settings.format)
    with open_snapshot(settings.store) as (snapshot, zone):
        wanted = Wanted(reason, source, start, end).filter(zone)
        if counts:
            _write_counts(snapshot, wanted, chosen)
            return
        from itertools import islice

        _write_rows(islice(wanted.rows(snapshot), most), chosen)
        beyond = sum(one.count for one in wanted.counted(snapshot))
    if beyond:
        say(f"{beyond:,} more are only counted: quarantine was full. See --counts.")


@quarantine_app.command("accept")
def accept(
    reason: ReasonOption = None,
    source: SourceOption = None,
    start: FromOption = None,
    end: ToOption = None,
    number: IdOption = None,
    every: AllOption = False,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Count refused visits after all.

    Those whose time and uid could be made out, and whose time lies in 2000 to 9998. Closed buckets are amended.
    Implausible ones only if --reason implausible or their --id says so. They leave quarantine with the commit that
    counts them, so doing it again does nothing. While `uniqdb ingest` runs, it does this between two of its commits.

    \b
      uniqdb quarantine accept --reason too_late
      uniqdb quarantine accept --source visits.jsonl --from 2016-07-01 --to 2016-07-31
      uniqdb quarantine accept --id 17 --id 18
    """
    from uniqdb.request_handlers import QUARANTINE_ACCEPT

    wanted = Wanted(reason, source, start, end, number)
    _assert_chosen(wanted, every=every)
    review = _review(QUARANTINE_ACCEPT, wanted, load_settings(config, store=store))
    say(f"{review.done:,} {'visit' if review.done == 1 else 'visits'} counted.")
    if review.left:
        left = ", ".join(f"{name} {count:,}" for name, count in sorted(review.left.items()))
        say(f"{review.left.total():,} cannot be counted and stay in quarantine: {left}.")


@quarantine_app.command("discard")
def discard(
    reason: ReasonOption = None,
    source: SourceOption = None,
    start: FromOption = None,
    end: ToOption = None,
    number: IdOption = None,
    every: AllOption = False,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Throw refused records away, for good. How many there were stays known (see `uniqdb info`).

    While `uniqdb ingest` runs, it does this between two of its commits.

    \b
      uniqdb quarantine discard --reason malformed
      uniqdb quarantine discard --all
    """
    from uniqdb.request_handlers import QUARANTINE_DISCARD

    wanted = Wanted(reason, source, start, end, number)
    _assert_chosen(wanted, every=every)
    review = _review(QUARANTINE_DISCARD, wanted, load_settings(config, store=store))
    say(f"{review.done:,} {'record' if review.done == 1 else 'records'} thrown away.")


def _review(kind: str, wanted: Wanted, settings: Settings) -> "Review":
    from uniqdb.request_handlers import filter_arguments, review_of

    return review_of(carry_out(settings, kind, lambda zone: filter_arguments(wanted.filter(zone))))


def _assert_chosen(wanted: Wanted, *, every: bool) -> None:
    from uniqdb.errors import UsageError

    _assert_reasons(wanted.reasons or [])
    if not wanted and not every:
        raise UsageError("nothing says which refused records are meant", hint="give --reason, --id, ... or --all")
    if wanted and every:
        raise UsageError("--all and a choice do not go together", hint="leave one of them out")


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
        write_dicts((_fields(number, row) for number, row in rows), COLUMNS, form)


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


def _write_counts(snapshot: "Snapshot", wanted: "QuarantineFilter", form: OutputFormat) -> None:
    kept: dict[tuple[str, str], int] = {}
    for _, row in wanted.rows(snapshot):
        kept[row.origin, row.reason] = kept.get((row.origin, row.reason), 0) + 1
    beyond = {(one.origin, one.reason): one.count for one in wanted.counted(snapshot)}
    found: list[dict[str, Any]] = [
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
        write_dicts(iter(found), ("origin", "reason", "kept", "counted"), form)
