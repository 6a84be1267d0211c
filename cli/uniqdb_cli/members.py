"""``uniqdb members``: who was here."""

import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from uniqdb.errors import UsageError
from uniqdb_cli.output import choose_format, one_line, print_tables, write_array
from uniqdb_cli.reading import Question, given, interval_of, open_snapshot
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import AsOfOption, ConfigOption, FormatOption, OutputFormat, StoreOption, ToOption


def members(
    window: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Of the last days, hours or minutes: 30d, 24h, 45m.")
    ] = None,
    period: Annotated[
        str | None, typer.Option(metavar="PERIOD", help="Of 2016, 2016-07, 2016-W28, 2016-07-11, 2016-07-11T13.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Start of an interval: a period, a time, seconds.")
    ] = None,
    end: ToOption = None,
    as_of: AsOfOption = None,
    sort: Annotated[
        bool, typer.Option("--sort", help="In the order of their bytes. Holds all of them in memory.")
    ] = False,
    form: FormatOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """List the visitors of a window, a period or an interval.

    Each visitor once, in no order unless --sort is given; they are written as they are found.
    Formats: json, jsonl and csv hold every id exactly. In table and value it has a line to itself: what is not
    printable is escaped (\\n, \\x1b, \\u202e), a backslash is doubled, so that two ids never look alike.

    \b
      uniqdb members --window 30d
      uniqdb members --period 2016-07-11 --format value --sort
      uniqdb members --from 2016-07-11T08:00 --to 2016-07-11T12:00 --format jsonl
    """
    question = Question(given(window), given(period), None, start, end, as_of=as_of)
    if not (question.windows or question.periods or question.start is not None):
        raise UsageError("no window, period or interval was given", hint="give --window, --period, or --from and --to")
    settings = load_settings(config, store=store, format=form)
    with open_snapshot(settings.store) as (snapshot, zone):
        interval = interval_of(snapshot, zone, question)
        # The same questions as for a count, so that the two always agree.
        if question.start is not None and question.end is not None:
            found = snapshot.between(question.start, question.end)
        else:
            found = snapshot.window(*question.periods, *question.windows, as_of=interval.get("as_of"))
        uids = sorted(found) if sort else iter(found)
        title = f"{found.count:,} {'visitor' if found.count == 1 else 'visitors'} {_phrase(interval, zone.isoformat)}"
        _write(uids, choose_format(settings.format), title)


def _phrase(interval: dict[str, Any], end_text: Any) -> str:
    zone = interval["timezone"]
    if "window" in interval:
        return f"in the last {interval['window']}, as of {interval['as_of']} ({zone})"
    if "period" in interval:
        return f"in {interval['period']} ({zone})"
    return f"from {end_text(interval['start_ts'])} until before {end_text(interval['end_ts'])} ({zone})"


def _write(uids: Iterable[str], form: OutputFormat, title: str) -> None:
    if form is OutputFormat.TABLE:
        if not print_tables(f"{title}:", ["uid"], ((one_line(uid),) for uid in uids)):
            print(f"{title}.")
    elif form is OutputFormat.VALUE:
        sys.stdout.writelines(one_line(uid) + "\n" for uid in uids)
    elif form is OutputFormat.CSV:
        sys.stdout.write("uid\n")
        # Every id in quotes: then line breaks of any kind are part of it, whoever reads it.
        sys.stdout.writelines('"' + uid.replace('"', '""') + '"\n' for uid in uids)
    else:
        import msgspec

        encode = msgspec.json.Encoder().encode
        objects = (encode({"uid": uid}) for uid in uids)
        if form is OutputFormat.JSON:
            write_array(objects)
        else:
            sys.stdout.writelines(one.decode() + "\n" for one in objects)
