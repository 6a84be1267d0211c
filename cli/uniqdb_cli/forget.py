"""``uniqdb forget``: erase what the store knows of single visitors."""

import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uniqdb.errors import UsageError
from uniqdb_cli.output import is_terminal, say
from uniqdb_cli.settings import Settings, load_settings
from uniqdb_cli.words import ConfigOption, StoreOption
from uniqdb_cli.writing import carry_out

if TYPE_CHECKING:
    from uniqdb.audit import ErasureRow
    from uniqdb.calendar_zone import CalendarZone

NOBODY = 1
PART_UIDS_MAX, PART_BYTES_MAX = 10_000, 500_000
"""So much is handed to a running writer at once, and done in one commit."""


def forget(
    uids: Annotated[
        list[str] | None, typer.Argument(metavar="UID", help="The visitors' ids, exactly as in the visits.")
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE", help="One id in each line; - is standard input.")
    ] = None,
    keep_counts: Annotated[
        bool, typer.Option("--keep-counts", help="Leave all counts as they are.", show_default=False)
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.", show_default=False)] = False,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Forget visitors for good.

    Nothing in the store names them any more: they leave the dictionary, every kept bucket, held visits, and quarantine
    with each refused record in which their id stands. Counts fall by exactly their memberships and are published again;
    visits stay. Deleted bytes stay in free pages of the data file until `uniqdb compact`. The input is not touched:
    reading it again counts them again. While `uniqdb ingest` or `uniqdb serve-stream` runs, it does this between two of
    its commits. Exits with 1 if the store knows none of them. Ids in a file do not end up in the shell's history.

    \b
      uniqdb forget fbfcbfc80d60cb19266
      uniqdb forget --file gone.txt --yes
      uniqdb forget --file gone.txt --keep-counts --yes
    """
    wanted = list(dict.fromkeys([*_texts(uids or []), *([] if file is None else _read(file))]))
    if not wanted:
        raise UsageError("nobody is named", hint="give an id, or --file with one in each line")
    settings = load_settings(config, store=store)
    if not yes:
        _ask(settings, wanted, from_stdin=file == "-")
    done = _forget(settings, wanted, keep_counts=keep_counts)
    if done.unknown:
        say(f"{_number(done.unknown, 'id is', 'ids are')} not known here.")
    if not done.uids:
        raise typer.Exit(NOBODY)
    said = f"{_number(done.uids, 'visitor', 'visitors')} forgotten"
    said += "; counts stay" if keep_counts else f", in {_number(done.buckets, 'bucket', 'buckets')}"
    if done.held or done.refused:
        held, refused = (done.held, "held visit", "held visits"), (done.refused, "refused record", "refused records")
        said += ", with " + " and ".join(_number(*one) for one in (held, refused) if one[0])
    say(f"{said}.")
    say("`uniqdb compact`, with the store's writer stopped, also takes their bytes out of free pages of the data file.")


def _number(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _texts(uids: list[str]) -> list[str]:
    for uid in uids:
        try:
            uid.encode()
        except UnicodeEncodeError:
            raise UsageError("an id is not UTF-8, as every id in a store is", hint="give it as in the visits") from None
    return uids


def _read(name: str) -> Iterator[str]:
    """The lines of the file that are not empty. Raises NotFound, UsageError."""
    from uniqdb.limits import LINE_BYTES_MAX
    from uniqdb_cli.input_files import lines_of

    for number, line in enumerate(lines_of(name, LINE_BYTES_MAX), start=1):
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise UsageError(f"{name}, line {number:,}, is not UTF-8", hint="give one id in each line") from None
        if text:
            yield text


def _ask(settings: Settings, wanted: list[str], *, from_stdin: bool) -> None:
    if from_stdin or not is_terminal(sys.stdin):
        raise UsageError("nobody can be asked whether this is meant", hint="--yes does it without asking")
    who = _number(len(wanted), "visitor", "visitors")
    if not typer.confirm(f"Forget {who} in {settings.store}? This cannot be undone.", err=True):
        say("Nothing is done.")
        raise typer.Exit(NOBODY)


def _parts(wanted: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size_bytes = 0
    for uid in wanted:
        uid_bytes = len(json.dumps(uid, ensure_ascii=False).encode()) + 1
        if part and (len(part) == PART_UIDS_MAX or size_bytes + uid_bytes > PART_BYTES_MAX):
            yield part
            part, size_bytes = [], 0
        part.append(uid)
        size_bytes += uid_bytes
    yield part


def _always(arguments: dict[str, Any]) -> "Callable[[CalendarZone], dict[str, Any]]":
    """Arguments that do not depend on the store's calendar."""
    return lambda _: arguments


def _forget(settings: Settings, wanted: list[str], *, keep_counts: bool) -> "ErasureRow":
    """Forget them, or have the process do it that writes the store; what was found."""
    from uniqdb.audit import ErasureRow
    from uniqdb.request_handlers import FORGET, forget_arguments, forgotten

    total = ErasureRow(at_s=0, uids=0)
    for part in _parts(wanted):
        arguments = forget_arguments(part, keep_counts=keep_counts)
        total = total.plus(forgotten(carry_out(settings, FORGET, _always(arguments))))
    return total
