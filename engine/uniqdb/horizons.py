"""How far a store was swept, what was removed from it on purpose, and what was lost: the row ``meta/retention``.

A *horizon* is a moment per granularity, always the start of one of its buckets: buckets that start before it have no
members any more, whether they had visits or not. It only rises, and that of a granularity is never behind (lower than)
that of a coarser one that is made of it. So whether a bucket is kept is one comparison, and a visit that a granularity
no longer takes is one that lies before its horizon.

A *lost span* is what a repair could not restore: buckets of one granularity that may lack their row, their members, or
visits that came later. They are no part of any answer that would be wrong without these, and take no visit any more.
"""

import msgspec

from uniqdb.change_set import ChangeSet
from uniqdb.format import Database, corrupt
from uniqdb.granularity import Granularity
from uniqdb.limits import AUDIT_ROWS_MAX
from uniqdb.store import ReadView

RETENTION_KEY = b"retention"


class AuditRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run that removed something. ``at_s``: when it began, by the wall clock (Unix seconds); ``run`` names it.

    ``removed`` says how many of what: members of buckets (``minute``, ...), rows of counts (``minute rows``, ...),
    ``uids``.
    """

    run: str
    at_s: int
    action: str
    forced: bool = False
    removed: dict[str, int] = {}


class LostSpan(msgspec.Struct, frozen=True):
    """Buckets of a granularity, by its word, that start in ``[start_s, end_s)`` (Unix seconds) were lost to damage.

    Both edges are edges of its buckets. A row that is there with its members is whole as of the repair; one without
    members has its count; of a bucket without a row nothing is known, which is not zero. Finer and coarser ones may be
    whole.
    """

    granularity: str
    start_s: int
    end_s: int


class LostNames(msgspec.Struct, frozen=True):
    """Visitors whose uids were lost to damage while their numbers stayed in the buckets.

    ``hashes``: between which hashes of uids, both inclusive, those lie. ``newest_s``: the newest visit at the repair. A
    uid in there that the dictionary lacks may have been seen; if it comes again, it counts once more.
    """

    visitors: int
    newest_s: int
    hashes: tuple[tuple[int, int], ...]


class RetentionRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """``meta/retention``; a store that was never swept or repaired has none. Horizons: Unix seconds by granularity."""

    members_from_s: dict[str, int] = {}
    """The horizons. Buckets that start earlier are swept."""
    rows_from_s: dict[str, int] = {}
    """The same for the rows with the counts: none is left of a bucket that starts earlier."""
    visits_of_gone_years: int = 0
    """Visits in the rows of years that are gone."""
    uids_dropped: int = 0
    """How many uids left the dictionary. Their ordinals are not used again."""
    has_dead_uids: bool = False
    """Members went since all dead uids were last dropped."""
    audit: tuple[AuditRow, ...] = ()
    """The last runs that removed something, oldest first."""
    lost: tuple[LostSpan, ...] = ()
    """What was lost to damage: finest granularity first, ascending, disjoint in each. See `uniqdb.lost_times`."""
    lost_names: LostNames | None = None
    """Whose names were lost to damage. See `uniqdb.lost_names`."""

    def kept_from_s(self, granularity: Granularity) -> int:
        """The horizon; 0 where nothing was swept: no bucket starts earlier."""
        return self.members_from_s.get(granularity.word, 0)

    def counted_from_s(self, granularity: Granularity) -> int:
        """The horizon of the rows with the counts, or 0."""
        return self.rows_from_s.get(granularity.word, 0)

    def horizons(self) -> dict[Granularity, int]:
        """All horizons of members."""
        return {granularity: self.kept_from_s(granularity) for granularity in Granularity}

    def row_horizons(self) -> dict[Granularity, int]:
        """All horizons of rows."""
        return {granularity: self.counted_from_s(granularity) for granularity in Granularity}

    def loses(self, granularity: Granularity, time_s: int) -> bool:
        """Whether the bucket that holds a moment lies in a lost span. Cost: a look at each; for many moments there is
        `uniqdb.lost_times.LostTimes`.
        """
        word = granularity.word if self.lost else ""
        return any(one.granularity == word and one.start_s <= time_s < one.end_s for one in self.lost)

    def keeps(self, granularity: Granularity, time_s: int) -> bool:
        """Whether the bucket that holds a moment takes visits, and its members are all there: not swept, not lost."""
        return time_s >= self.kept_from_s(granularity) and not self.loses(granularity, time_s)

    @property
    def expired_before_s(self) -> int:
        """Visits before this belong to no bucket that is kept."""
        return min(self.kept_from_s(granularity) for granularity in Granularity)

    def with_audit(self, entry: AuditRow) -> "RetentionRow":
        """With the entry of a run, instead of an earlier one of the same run."""
        others = [one for one in self.audit if one.run != entry.run]
        return msgspec.structs.replace(self, audit=(*others, entry)[-AUDIT_ROWS_MAX:])


NOTHING_SWEPT = RetentionRow()


def read_retention(view: ReadView) -> RetentionRow:
    """The row, or that of a store that was never swept. Raises StoreCorrupt."""
    payload = view.row(Database.META, RETENTION_KEY)
    if payload is None:
        return NOTHING_SWEPT
    try:
        return msgspec.msgpack.decode(payload, type=RetentionRow)
    except (ValueError, RecursionError) as error:
        raise corrupt(Database.META, RETENTION_KEY, str(error)) from None


def write_retention(changes: ChangeSet, row: RetentionRow) -> None:
    """Add the row to the change set."""
    changes.put_row(Database.META, RETENTION_KEY, msgspec.msgpack.encode(row))
