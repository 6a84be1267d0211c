"""``uniqdb check``: does every invariant of the store hold? With ``--repair`` it is made to."""

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from uniqdb.errors import StoreCorrupt
from uniqdb_cli.output import printable, progress_line, reader_may_leave, refuse_format, say
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import ConfigOption, FormatOption, OutputFormat, StoreOption

if TYPE_CHECKING:
    from uniqdb.check import CheckReport
    from uniqdb.repair import Repaired

FORMATS = (OutputFormat.TABLE, OutputFormat.JSON, OutputFormat.JSONL)
RepairOption = Annotated[
    bool,
    typer.Option("--repair", help="Bring back what can be, and say what cannot.", show_default=False),
]


def check(
    repair: RepairOption = False, form: FormatOption = None, store: StoreOption = None, config: ConfigOption = None
) -> None:
    """Check that a store is sound.

    Pages, checksums, directories, counts, and that coarse buckets are the union of finer ones. Reads everything;
    readers and a writer may go on meanwhile. Exits with 74 and a list if something does not hold.

    With --repair a damaged store is written anew, whole again where that can be derived: a wrong bit from its checksum,
    an hour from its minutes, a day from its hours, a directory from its fragments. What is lost is listed, and asked
    for it ends with exit code 70, never with a wrong number; the exit code of the repair is then 74, too. Nothing else
    may write meanwhile. The damaged data stays in the store's directory, as g<number>.damaged, until you remove it.

    \b
      uniqdb check
      uniqdb check --store shop.uniqdb
      uniqdb check --repair
    """
    from uniqdb.examination import examine
    from uniqdb.repair import repair as bring_back

    refuse_format("check", form, FORMATS)
    settings = load_settings(config, store=store)
    with progress_line("checking") as on_progress:
        report = examine(settings.store, on_progress)
    repaired: Repaired | None = None
    if report.problems and repair:
        _list(form, report.problems)
        with progress_line("repairing") as on_progress:
            repaired = bring_back(settings.store, int(time.time()), on_progress=on_progress or _ignore)
        with progress_line("checking") as on_progress:
            report = examine(settings.store, on_progress)
    if form in (OutputFormat.JSON, OutputFormat.JSONL):
        _write_json(settings.store, form, report, repaired)
    else:
        _write(settings.store, report, repaired)
    if report.problems or (repaired is not None and repaired.lost):
        raise typer.Exit(StoreCorrupt.exit_code)


def _ignore(_what: str, _count: int) -> None:
    """Nobody wants to know how far it is."""


def _list(form: OutputFormat | None, lines: Iterable[str]) -> None:
    if form in (None, OutputFormat.TABLE):
        with reader_may_leave():
            for line in lines:
                sys.stdout.write(printable(line) + "\n")


def _write(store: str, report: "CheckReport", repaired: "Repaired | None") -> None:
    if repaired is not None:
        said = {"mended, one bit each": repaired.mended, "made anew": repaired.derived, "LOST": repaired.lost}
        _list(None, (f"{what}: {line}" for what, lines in said.items() for line in lines))
        say(
            f"The store was written anew; the damaged data is in {repaired.kept_at}. "
            f"{len(repaired.mended):,} places were mended, {len(repaired.derived):,} made anew, "
            + (f"{len(repaired.lost):,} are lost." if repaired.lost else "nothing is lost.")
        )
    if report.problems:
        _list(None, report.problems)
        number = len(report.problems)
        say(
            f"uniqdb: the store {store} is damaged: {number:,} {'problem' if number == 1 else 'problems'}. "
            + (
                "`uniqdb check --repair` brings back what it can; or restore a backup."
                if repaired is None
                else "Restore it from a backup, or ingest its input into a new store."
            )
        )
        return
    counts = ", ".join(f"{count:,} {what}" for what, count in report.counts.items())
    print(f"The store {printable(store)} is sound: {counts or 'it is empty'}.")


def _write_json(store: str, form: OutputFormat, report: "CheckReport", repaired: "Repaired | None") -> None:
    import msgspec

    found = {
        "store": store,
        "sound": not report.problems,
        "problems": report.problems,
        "counts": report.counts,
        "repaired": repaired,
    }
    line = msgspec.json.encode(found)
    sys.stdout.write((line if form is OutputFormat.JSONL else msgspec.json.format(line, indent=2)).decode() + "\n")
