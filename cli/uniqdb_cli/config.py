"""``uniqdb config``: the settings in force, and where each of them was set."""

import sys

import typer

from uniqdb_cli.ingest import CommitVisitsOption, LineBytesMaxOption
from uniqdb_cli.output import choose_format, json_text, print_table, refuse_format, write_array
from uniqdb_cli.settings import redacted, sourced_settings
from uniqdb_cli.words import (
    ConfigOption,
    FormatOption,
    OutputFormat,
    StoreOption,
    TimezoneOption,
    TsFieldOption,
    TsUnitOption,
    UidFieldOption,
)

FORMATS = (OutputFormat.TABLE, OutputFormat.JSON, OutputFormat.JSONL)
UNSET_MEANS = {
    "timezone": "UTC",
    "metrics_address": "metrics are not served",
    "http_token_file": "no token is asked for",
    "format": "table on a terminal, jsonl otherwise",
    "bootstrap_servers": "as in kafka_config, else localhost:9092",
    "kafka_config": "./config/kafka_config.ini or ./kafka_config.ini, if there is one",
}
"""What happens without a value, where the default is none."""

config_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, add_completion=False)


@config_app.callback()
def config() -> None:
    """Look at the settings.

    \b
      uniqdb config show
    """


@config_app.command()
def show(
    form: FormatOption = None,
    store: StoreOption = None,
    timezone: TimezoneOption = None,
    ts_field: TsFieldOption = None,
    uid_field: UidFieldOption = None,
    ts_unit: TsUnitOption = None,
    line_bytes_max: LineBytesMaxOption = None,
    commit_visits: CommitVisitsOption = None,
    config: ConfigOption = None,
) -> None:
    """Show each setting with its value and where it was set.

    A flag comes first, then a variable UNIQDB_..., then the settings file, then the default. The options take the flags
    of other commands, to see what would be used; --format is this command's own.
    Formats: table, json, jsonl.

    \b
      uniqdb config show
      uniqdb config show --format json
      UNIQDB_STORE=shop.uniqdb uniqdb config show
    """
    refuse_format("config show", form, FORMATS)
    found = sourced_settings(
        config,
        store=store,
        timezone=timezone,
        ts_field=ts_field,
        uid_field=uid_field,
        ts_unit=ts_unit,
        line_bytes_max=line_bytes_max,
        commit_visits=commit_visits,
    )
    values = {key: redacted(key, one.value) for key, one in found.items()}
    chosen = choose_format(form, FORMATS)
    if chosen is OutputFormat.TABLE:
        rows = [
            (key, f"none: {UNSET_MEANS[key]}" if values[key] is None else str(values[key]), one.origin, one.place or "")
            for key, one in found.items()
        ]
        print_table("Settings", ["setting", "value", "set by", "where"], rows)
        return
    import msgspec

    def carried(value: object) -> object:
        return json_text(value) if isinstance(value, str) else value

    objects = [
        msgspec.json.encode(
            {"setting": key, "value": carried(values[key]), "origin": one.origin, "place": carried(one.place)}
        )
        for key, one in found.items()
    ]
    if chosen is OutputFormat.JSON:
        write_array(objects)
    else:
        sys.stdout.writelines(one.decode() + "\n" for one in objects)
