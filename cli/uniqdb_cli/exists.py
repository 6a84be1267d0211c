"""``uniqdb exists``: was this visitor here?"""

import sys
from typing import Annotated, Any

import typer

from uniqdb.errors import UsageError
from uniqdb_cli.output import choose_format, json_text, print_table, reader_may_leave, refuse_format
from uniqdb_cli.reading import Question, given, interval_of, open_snapshot, resolve_as_of
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import AsOfOption, ConfigOption, FormatOption, OutputFormat, StoreOption

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
    refuse_format("exists", form, FORMATS)
    question = Question(given(window), given(period), as_of=as_of)
    if as_of is not None and window is None:
        raise UsageError("--as-of says where a trailing window ends", hint="give --window too")
    settings = load_settings(config, store=store, format=form)
    with open_snapshot(settings.store) as (snapshot, zone):
        interval: dict[str, Any] = {}
        if question.windows or question.periods:
            interval = interval_of(snapshot, zone, question)
        seen = snapshot.check_many(uids, window or period, as_of=resolve_as_of(as_of, zone))
    with reader_may_leave():
        _write(uids, seen, interval, choose_format(settings.format, FORMATS))
    if not all(seen):
        raise typer.Exit(NO)


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
            record = {"uid": json_text(uid), "exists": one, **interval}
            sys.stdout.write(msgspec.json.encode(record).decode() + "\n")
