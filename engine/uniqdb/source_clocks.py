"""What a user does to the clock of one source: forgets it, or ends the source."""

import msgspec

from uniqdb.completeness import source_id
from uniqdb.engine import Engine
from uniqdb.errors import NotFound, UsageError
from uniqdb.intake import open_intake
from uniqdb.meta import SourceRow, read_sources
from uniqdb.snapshot import Snapshot
from uniqdb.writer import nothing


def find_source(snapshot: Snapshot, name: str) -> tuple[bytes, SourceRow]:
    """The source of this name or id. Of several the open one. Raises NotFound; UsageError if it is not clear."""
    rows = list(read_sources(snapshot.answers.view))
    found = [(key, row) for key, row in rows if name in (row.name, source_id(key))]
    if not found:
        names = ", ".join(sorted({row.name for _, row in rows})[:20]) or "none"
        raise NotFound(f"there is no source {name!r}", hint=f"the sources are: {names}")
    still_open = [one for one in found if one[1].is_open]
    if len(found) > 1 and len(still_open) != 1:
        ids = ", ".join(source_id(key) for key, _ in found)
        raise UsageError(f"there are several sources {name!r}", hint=f"name one by its id: {ids}")
    return (still_open or found)[0]


def reset_clock(engine: Engine, name: str, *, end: bool = False) -> SourceRow:
    """Let the source begin like a new one; or, with ``end``, be over, so that nothing waits for it any longer.

    Either way nothing of it stays held: visits that agree with each other are accepted, the others quarantined. Buckets
    that are closed stay closed, and its position stays: it can be read on. Returns its row. One commit.
    """
    with engine.snapshot() as snapshot:
        key, row = find_source(snapshot, name)
        intake = open_intake(snapshot.answers.view, key, row, engine.allowed_lateness_s)
    if end:
        intake.end()
    else:
        intake.start_anew()
    is_open = row.is_open and not end
    taken = intake.cut(is_open=is_open)
    row = msgspec.structs.replace(
        row,
        visits=row.visits + len(taken.uids),
        refused=row.refused + len(taken.refused),
        held=0,
        clock_s=intake.clock_s,
        ended=row.ended or end,
        kafka=None if row.kafka is None else msgspec.structs.replace(row.kafka, closing_clock_s=intake.clock_s),
    )
    commit = nothing().then(taken, taken.refused)
    commit.sources[key] = row
    engine.write(commit)
    return row
