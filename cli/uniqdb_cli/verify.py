"""``uniqdb verify``: are the counts what a recount of the files gives?"""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uniqdb.errors import UsageError
from uniqdb_cli.ingest import LineBytesMaxOption
from uniqdb_cli.input_files import assert_readable, identity_of, lines_of, shown
from uniqdb_cli.output import (
    choose_format,
    print_tables,
    printable,
    progress_line,
    reader_may_leave,
    refuse_format,
    say,
    write_array,
)
from uniqdb_cli.reading import open_snapshot
from uniqdb_cli.settings import Settings, load_settings, record_fields
from uniqdb_cli.words import (
    By,
    ConfigOption,
    FormatOption,
    OutputFormat,
    StoreOption,
    TsFieldOption,
    TsUnitOption,
    UidFieldOption,
)

if TYPE_CHECKING:
    from uniqdb.calendar_zone import CalendarZone
    from uniqdb.snapshot import Snapshot
    from uniqdb_cli.recount import Figures, Recount

DIFFERS = 1
FORMATS = (OutputFormat.TABLE, OutputFormat.JSON, OutputFormat.JSONL, OutputFormat.CSV)
FACTS = (
    *("granularity", "datetime", "start_ts", "difference"),
    *("expected_count", "stored_count", "expected_visits", "stored_visits"),
)


@dataclass(frozen=True, slots=True)
class Difference:
    """A bucket on which the files and the store disagree; None: it is not there."""

    granularity: str
    datetime: str
    start_s: int
    expected: "Figures | None"
    stored: "Figures | None"

    def facts(self) -> dict[str, Any]:
        """As written: `FACTS`, zero for what is not there."""
        kind = "missing" if self.stored is None else "extra" if self.expected is None else "different"
        expected, stored = self.expected or (0, 0), self.stored or (0, 0)
        values = (self.granularity, self.datetime, self.start_s, kind, expected[0], stored[0], expected[1], stored[1])
        return dict(zip(FACTS, values, strict=True))


def verify(
    more: Annotated[list[str] | None, typer.Argument(metavar="FILE", help="More of them.", show_default=False)] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="A file that was ingested: JSON lines, also as gzip or zstd; - is standard input."
        ),
    ] = None,
    by: Annotated[
        list[By] | None, typer.Option(help="Only this granularity. Repeatable [default: all six].", show_default=False)
    ] = None,
    ts_field: TsFieldOption = None,
    uid_field: UidFieldOption = None,
    ts_unit: TsUnitOption = None,
    line_bytes_max: LineBytesMaxOption = None,
    form: FormatOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Recount files and compare every bucket of the store.

    The recount shares nothing with the engine but the store's time zone: plain Python sets, one visit at a time,
    tens of thousands a second, with all visitors of all buckets in memory. Give every file that the store was fed with.
    It counts every well-formed visit from 2000 to 9998 but those that the store keeps apart for their time, in
    quarantine or held. A file that was ingested twice shows as differences, and so do visits that were discarded.
    Each difference is printed (nothing else in json, jsonl, csv). Exits with 0 if there is none, with 1 otherwise.
    Formats: table, json, jsonl, csv.

    \b
      uniqdb verify --against visits.jsonl
      uniqdb verify --against monday.jsonl.gz tuesday.jsonl.zst --by day
      uniqdb verify --against clicks.jsonl --ts-field at --ts-unit ms --uid-field who.id --format csv
    """
    refuse_format("verify", form, FORMATS)
    files = _files([*(against or []), *(more or [])])
    settings = load_settings(
        config,
        store=store,
        format=form,
        ts_field=ts_field,
        uid_field=uid_field,
        ts_unit=ts_unit,
        line_bytes_max=line_bytes_max,
    )
    kinds = [kind.value for kind in By if not by or kind in by]
    with open_snapshot(settings.store) as (snapshot, zone):
        recount = _recount(files, settings, zone, kinds, uncounted(snapshot))
        found = Differences(recount, snapshot, zone)
        chosen = choose_format(settings.format, FORMATS)
        _write_all(found.of(kinds), chosen)
    names = shown(files[0]) if len(files) == 1 else f"{len(files)} files"
    visits = f"{recount.visits:,} {'visit' if recount.visits == 1 else 'visits'}"
    apart = f", {recount.apart:,} that the store keeps apart" if recount.apart else ""
    records = f"{visits}{apart} and {recount.others:,} other records in {names}"
    if found.count:
        hint = (
            ""
            if recount.visits or not recount.others
            else " Give --ts-field, --uid-field, --ts-unit if the fields have other names."
        )
        say(
            f"uniqdb: {found.count:,} of {found.buckets:,} buckets of the store {settings.store} differ from the "
            f"recount of {records}.{hint}"
        )
        raise typer.Exit(DIFFERS)
    line = f"The store {settings.store} agrees with the recount of {records}: {found.buckets:,} buckets."
    if chosen is OutputFormat.TABLE:
        print(printable(line))
    else:
        say(line)


def _files(names: list[str]) -> list[str]:
    if not names:
        raise UsageError("nothing to compare with", hint="give --against FILE, every file that was ingested")
    seen: set[object] = set()
    for name in names:
        assert_readable(name)
        identity = identity_of(name)
        if identity in seen:
            raise UsageError(f"{shown(name)} is named twice", hint="name each file once, also if it has several names")
        seen.add(identity)
    return names


def uncounted(snapshot: "Snapshot") -> "Counter[tuple[int, str]]":
    """Event time and uid of every visit that the store keeps apart: held, or in quarantine for its time."""
    from uniqdb.intake import read_held
    from uniqdb.quarantine import read_quarantine
    from uniqdb.visit import Reason

    view = snapshot.answers.view
    apart = {Reason.IMPLAUSIBLE, Reason.AHEAD, Reason.TOO_LATE}
    found = Counter((one.event_time_s, one.uid) for _, one in read_held(view, b""))
    for _, row in read_quarantine(view):
        if row.reason in apart and row.event_time_s is not None and row.uid is not None:
            found[row.event_time_s, row.uid] += 1
    return found


def _recount(
    files: list[str], settings: Settings, zone: "CalendarZone", kinds: list[str], apart: "Counter[tuple[int, str]]"
) -> "Recount":
    from uniqdb_cli.recount import Calendar, Recount

    recount = Recount(Calendar(zone.name, zone.tzif_bytes), record_fields(settings), kinds, apart)
    with progress_line("recounting") as on_progress:
        for name in files:
            for number, line in enumerate(lines_of(name, settings.line_bytes_max), start=1):
                recount.add_line(line)
                if on_progress is not None:
                    on_progress(shown(name), number)
    return recount


class Differences:
    """Compares bucket by bucket, and counts what it saw."""

    def __init__(self, recount: "Recount", snapshot: "Snapshot", zone: "CalendarZone") -> None:
        self._recount, self._snapshot, self._zone = recount, snapshot, zone
        self.buckets = self.count = 0

    def of(self, kinds: list[str]) -> Iterator[Difference]:
        """The differences, by granularity and time."""
        from uniqdb_cli.recount import Figures

        for kind in kinds:
            expected = self._recount.figures(kind)
            stored = {one.start_ts: Figures(one.count, one.visits) for one in self._snapshot.series(kind)}
            self.buckets += len(expected.keys() | stored.keys())
            for at in sorted(expected.keys() | stored.keys()):
                if expected.get(at) != stored.get(at):
                    self.count += 1
                    yield Difference(kind, self._zone.isoformat(at), at, expected.get(at), stored.get(at))


# ---------------------------------------------------------------- writing
def _write_all(differences: Iterator[Difference], form: OutputFormat) -> None:
    """Write them, and compare also what nobody reads."""
    with reader_may_leave():
        _write(differences, form)
    for _ in differences:
        pass


def _write(differences: Iterator[Difference], form: OutputFormat) -> None:
    if form is OutputFormat.TABLE:
        columns = ["granularity", "from", "difference", "unique visitors: expected#", "stored#", "visits: expected#"]
        print_tables("Expected is what the files hold.", [*columns, "stored#"], map(_row, differences))
    elif form is OutputFormat.CSV:
        import csv

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(FACTS)
        writer.writerows(one.facts().values() for one in differences)
    else:
        import msgspec

        objects = (msgspec.json.encode(one.facts()) for one in differences)
        if form is OutputFormat.JSON:
            write_array(objects)
        else:
            sys.stdout.writelines(one.decode() + "\n" for one in objects)


def _row(one: Difference) -> list[str]:
    facts = one.facts()
    return [one.granularity, one.datetime, facts["difference"], *(f"{facts[name]:,}" for name in FACTS[4:])]
