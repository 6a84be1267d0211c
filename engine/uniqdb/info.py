"""Facts about a store, for `uniqdb info` and monitoring."""

import msgspec

from uniqdb.audit import ErasureRow, read_audits
from uniqdb.completeness import Completeness, read_completeness
from uniqdb.format import FORMAT_VERSION, Database
from uniqdb.granularity import Granularity
from uniqdb.horizons import AuditRow, LostSpan, read_retention
from uniqdb.limits import ORDINAL_MAX, ORDINALS_ALARM_FRACTION
from uniqdb.meta import SourceRow, read_sources, read_state, read_store_row
from uniqdb.quarantine import counted_only
from uniqdb.store import Store
from uniqdb.store_facts import StoreFacts


class StoreInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a store holds. Event times are Unix seconds; sizes are bytes of LMDB's data file."""

    path: str
    store_uuid: str
    format_version: int
    generation: int
    timezone: str
    epoch: int
    commits: int
    visits: int
    uids: int
    """Uids in the dictionary."""
    ordinals_used: int
    """How many of the 2^32 - 1 ordinals were given out: the uids, and those that were dropped."""
    is_short_of_ordinals: bool
    """More than 80 % of them."""
    uids_dropped: int
    kept_from_s: dict[str, int]
    """By granularity: buckets that start earlier were swept. Empty: nothing was."""
    counted_from_s: dict[str, int]
    """By granularity: the rows with the counts of buckets that start earlier are gone."""
    audit: tuple[AuditRow, ...]
    """The last runs that removed something, oldest first."""
    event_time_s_min: int | None
    event_time_s_max: int | None
    buckets: dict[str, int]
    file_bytes: int
    live_bytes: int
    quarantined: dict[str, int]
    """Refused records by reason, kept or not."""
    quarantine_beyond: int
    """How many of them are only counted, because quarantine was full."""
    sources: list[SourceRow]
    completeness: Completeness
    erasures: list[ErasureRow] = []
    """When visitors were forgotten, how many; oldest first."""
    lost: tuple[LostSpan, ...] = ()
    """What was lost to damage, and no repair could restore: there answers are refused, or not complete."""


def collect_info(store: Store, facts: StoreFacts, store_uuid: str) -> StoreInfo:
    """Read the facts. Cost: a scan of the sources, the rest are counters."""
    view = store.view()
    state = read_state(view)
    file_bytes, live_bytes = view.sizes()
    retention, ordinals = read_retention(view), facts.dictionary.row(view).next_ordinal
    buckets = {}
    for granularity in Granularity:
        first, end = bytes((granularity,)), bytes((granularity + 1,))
        buckets[granularity.word] = sum(1 for _ in view.raw_rows(Database.BUCKETS, first, end))
    return StoreInfo(
        path=str(store.path),
        store_uuid=store_uuid,
        format_version=FORMAT_VERSION,
        generation=store.manifest.generation,
        timezone=facts.zone.name,
        epoch=read_store_row(view, store_uuid).epoch,
        commits=state.commit_number,
        visits=state.visits,
        uids=ordinals - retention.uids_dropped,
        ordinals_used=ordinals,
        is_short_of_ordinals=is_short_of_ordinals(ordinals),
        uids_dropped=retention.uids_dropped,
        kept_from_s=retention.members_from_s,
        counted_from_s=retention.rows_from_s,
        audit=retention.audit,
        event_time_s_min=state.event_time_s_min,
        event_time_s_max=state.event_time_s_max,
        buckets=buckets,
        file_bytes=file_bytes,
        live_bytes=live_bytes,
        quarantined=state.quarantined,
        quarantine_beyond=counted_only(view),
        sources=[row for _, row in read_sources(view)],
        completeness=read_completeness(view),
        erasures=[row for _, row in read_audits(view)],
        lost=retention.lost,
    )


def is_short_of_ordinals(ordinals_used: int) -> bool:
    """Whether more than 80 % of the ordinals are given out; when none is left, no new visitor can be counted."""
    return ordinals_used > ORDINALS_ALARM_FRACTION * ORDINAL_MAX
