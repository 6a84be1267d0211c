"""``uniqdb info``: what a store holds."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from uniqdb_cli.output import is_terminal, print_table, refuse_format
from uniqdb_cli.reading import open_reader
from uniqdb_cli.settings import load_settings
from uniqdb_cli.words import ConfigOption, FormatOption, OutputFormat, StoreOption

if TYPE_CHECKING:
    from collections.abc import Callable

    from uniqdb.calendar_zone import CalendarZone
    from uniqdb.info import StoreInfo
    from uniqdb.meta import SourceRow

_SPANS_SHOWN = 10
FORMATS = (OutputFormat.TABLE, OutputFormat.JSON, OutputFormat.JSONL)


def info(form: FormatOption = None, store: StoreOption = None, config: ConfigOption = None) -> None:
    """Show what a store holds.

    Visits, visitors, buckets, sizes, sources, and what is in quarantine.
    Formats: table, json, jsonl (one object in one line).

    \b
      uniqdb info
      uniqdb info --format json
    """
    refuse_format("info", form, FORMATS)
    settings = load_settings(config, store=store)
    with open_reader(settings.store) as engine:
        found = engine.info()
        with engine.snapshot() as snapshot:
            zone = snapshot.answers.zone
    if form is OutputFormat.TABLE or (form is None and is_terminal(sys.stdout)):
        _write_table(found, zone)
        return
    import msgspec

    line = msgspec.json.encode(found)
    sys.stdout.write((line if form is not OutputFormat.JSON else msgspec.json.format(line, indent=2)).decode() + "\n")


def _state(one: "SourceRow") -> str:
    if one.finished:
        return "over" if one.kind == "call" else "read to its end"
    if one.ended:
        return "ended before its end was read"
    return "open" if one.kind == "call" else "interrupted: ingest it again to continue"


def _write_erasures(found: "StoreInfo", moment: Callable[[int | None], str]) -> None:
    print_table(
        "Visitors forgotten",
        ["when", "visitors#", "buckets#", "held visits#", "refused records#", "counts"],
        [
            (
                moment(one.at_s),
                *(f"{number:,}" for number in (one.uids, one.buckets, one.held, one.refused)),
                "kept" if one.keep_counts else "reduced",
            )
            for one in found.erasures
        ],
    )


def _since(found: "StoreInfo", moment: "Callable[[int | None], str]") -> str:
    """From when on members are kept, of each granularity that was swept."""
    return ", ".join(f"{word}s {moment(at)}" for word, at in found.kept_from_s.items()) or "always"


def _lost(found: "StoreInfo", moment: "Callable[[int | None], str]") -> str:
    """The spans that were lost to damage, the first few of them."""
    spans = [f"{one.granularity}s {moment(one.start_s)} to {moment(one.end_s)}" for one in found.lost]
    more = [f"and {len(spans) - _SPANS_SHOWN:,} more"] if len(spans) > _SPANS_SHOWN else []
    return ", ".join(spans[:_SPANS_SHOWN] + more)


def _last_run(found: "StoreInfo", moment: "Callable[[int | None], str]") -> str:
    if not found.audit:
        return "none"
    last = found.audit[-1]
    removed = ", ".join(f"{word} {count:,}" for word, count in last.removed.items())
    return f"{moment(last.at_s)}{', forced' if last.forced else ''}: {removed}"


def _write_table(found: "StoreInfo", zone: "CalendarZone") -> None:
    def moment(time_s: int | None) -> str:
        return "none" if time_s is None else zone.isoformat(time_s)

    rows = [
        ("path", found.path),
        ("store uuid", found.store_uuid),
        ("format, generation, epoch", f"{found.format_version}, {found.generation}, {found.epoch}"),
        ("time zone", found.timezone),
        ("commits", f"{found.commits:,}"),
        ("visits", f"{found.visits:,}"),
        ("different visitors", f"{found.uids:,}"),
        ("first visit", moment(found.event_time_s_min)),
        ("newest visit", moment(found.event_time_s_max)),
        ("buckets", ", ".join(f"{name} {count:,}" for name, count in found.buckets.items())),
        ("data file", f"{found.file_bytes:,} bytes, {found.live_bytes:,} of them in use"),
        ("quarantined", ", ".join(f"{name} {count:,}" for name, count in sorted(found.quarantined.items())) or "none"),
        ("members kept since", _since(found, moment)),
        ("uids dropped", f"{found.uids_dropped:,}; {found.ordinals_used:,} ordinals used"),
        ("last sweep", _last_run(found, moment)),
        ("held", f"{found.completeness.held:,}"),
        ("clock", moment(found.completeness.clock_s)),
        ("closed through", moment(found.completeness.closed_through_s)),
    ]
    if found.lost:
        rows.append(("lost to damage", _lost(found, moment)))
    if found.is_short_of_ordinals:
        rows.append(("warning", "more than 80 % of the ordinals are used: renumber the store in time"))
    print_table("The store", ["fact", "value"], rows)
    if found.erasures:
        print()
        _write_erasures(found, moment)
    if not found.sources:
        return
    print()
    columns = ["source", "kind", "visits#", "refused#", "position (bytes)#", "state"]
    print_table(
        "Its sources",
        columns,
        [
            (
                one.name,
                one.kind,
                f"{one.visits:,}",
                f"{one.refused:,}",
                f"{one.position_bytes:,}",
                _state(one),
            )
            for one in found.sources
        ],
    )
