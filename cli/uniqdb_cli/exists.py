"""``uniqdb exists``: was this visitor here?"""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uniqdb.errors import UsageError
from uniqdb_cli.output import choose_format, print_table, printable
from uniqdb_cli.reading import open_snapshot, parse_all, resolve_as_of
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import AsOfOption, ConfigOption, FormatOption, OutputFormat, StoreOption

if TYPE_CHECKING:
    from uniqdb.calendar_zone import CalendarZone
    from uniqdb.reading import Snapshot

NO = 1
FORMATS = (OutputFormat.TABLE, OutputFormat.JSONL, OutputFormat.VALUE)


def exists(
    uids: Annotated[list[str], typer.Argument(metavar="UID...", help="The visitors' ids, exactly as in the visits.")],
    window: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Only in the last days, hours or minutes: 30d, 24h, 45m.")
    ] = None,
    period: Annotated[
        str | None, typer.Option(metavar="PERIOD", help="Only in 2016, 2016-07, 2016-W28, 2016-07-11, 2016-07-11T13.")
    ] = None,
    as_of: AsOfOption = None,
    form: FormatOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Say whether visitors were seen.

    Ever, or in a window or period. Exits with 0 if all of them were, with 1 if one was not.
    Formats: table, jsonl, value.

    \b
      uniqdb exists fbfcbfc80d60cb19266
      uniqdb exists fbfcbfc80d60cb19266 --window 30d --format value
      uniqdb exists -- -starts-with-a-dash
    """
    if form is not None and form not in FORMATS:
        raise UsageError(f"exists has no format {form}", hint=f"use one of {', '.join(FORMATS)}")
    if window is not None and period is not None:
        raise UsageError("--window and --period do not go together", hint="ask one after the other")
    if as_of is not None and window is None:
        raise UsageError("--as-of says where a trailing window ends", hint="give --window too")
    settings = load_settings(config, store=store, format=form)
    with open_snapshot(settings.store) as (snapshot, zone):
        interval: dict[str, Any] = {}
        when = resolve_as_of(as_of, zone)
        if window is not None or period is not None:
            interval = _interval(snapshot, zone, (window, period), when)
        seen = snapshot.check_many(uids, window or period, as_of=when)
    _write(uids, seen, interval, choose_format(settings.format, FORMATS))
    if not all(seen):
        raise typer.Exit(NO)


def _interval(
    snapshot: "Snapshot", zone: "CalendarZone", asked: tuple[str | None, str | None], as_of: Any
) -> dict[str, Any]:
    """What the answer is about, in the words of the record schema."""
    from uniqdb.reading import resolve_window
    from uniqdb.window import parse_period

    window, period = asked
    if window is None:
        bucket = parse_period(zone, period or "")
        return {"start_ts": bucket.start_s, "end_ts": bucket.end_s, "timezone": zone.name, "period": period}
    parse_all([window], zone, periods=False)
    newest = snapshot.answers.as_of_default_s() if as_of is None else None
    found = resolve_window(zone, window, as_of, newest)
    words = {"start_ts": found.start_s, "end_ts": found.end_s, "timezone": zone.name}
    return {**words, "window": found.window.text, "as_of": found.as_of}


def _write(uids: list[str], seen: list[bool], interval: dict[str, Any], form: OutputFormat) -> None:
    answers = list(zip(uids, seen, strict=True))
    if form is OutputFormat.TABLE:
        title = "Seen ever?"
        if "window" in interval:
            title = f"Seen in the last {interval['window']}, as of {interval['as_of']} ({interval['timezone']})?"
        elif "period" in interval:
            title = f"Seen in {interval['period']} ({interval['timezone']})?"
        print_table(title, ["uid", "seen"], [(uid, "yes" if one else "no") for uid, one in answers])
    elif form is OutputFormat.VALUE:
        sys.stdout.writelines("yes\n" if one else "no\n" for one in seen)
    else:
        import msgspec

        for uid, one in answers:
            # An argument that was no UTF-8 has lone surrogates, which JSON cannot carry.
            text = uid if uid.isascii() or _is_unicode(uid) else printable(uid)
            sys.stdout.write(msgspec.json.encode({"uid": text, "exists": one, **interval}).decode() + "\n")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
