"""What is not in a count: one line, and one for each source, for people; one JSON object for programs."""

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from uniqdb_cli.output import is_terminal, say

if TYPE_CHECKING:
    from uniqdb.completeness import Completeness

SOURCES_SHOWN = 10


def write_completeness(found: "Completeness", moment: Callable[[int], str]) -> None:
    """On standard error: sentences if somebody is looking there, else a JSON object. ``moment`` writes an instant."""
    if is_terminal(sys.stderr):
        for line in completeness_lines(found, moment):
            say(line)
        return
    import msgspec

    say(msgspec.json.encode(found).decode())


def completeness_lines(found: "Completeness", moment: Callable[[int], str]) -> Iterator[str]:
    """The sentences."""
    late = f" ({_listed(found.late)} after their bucket was closed)" if found.late else ""
    yield f"Visits counted: {found.accepted:,}{late}. Held: {found.held:,}. Expired: {found.expired:,}."
    for what, counts in (
        ("In quarantine", found.quarantined),
        ("Thrown away", found.discarded),
        ("Not counted in buckets that are no longer kept", found.skipped),
    ):
        if counts:
            yield f"{what}: {_listed(counts)}."
    if found.closed_through_s is not None:
        yield f"Closed: every bucket that ends at or before {moment(found.closed_through_s)}."
    for one in found.sources[-SOURCES_SHOWN:]:
        until = "has no clock yet" if one.clock_s is None else f"is complete up to {moment(one.clock_s)}"
        yield f"{one.name} {until}{' and open' if one.state == 'open' else ''}."
    if len(found.sources) > SOURCES_SHOWN:
        yield f"{len(found.sources) - SOURCES_SHOWN:,} more sources: see `uniqdb clock show`."


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
