"""Questions by uid in a store that has lost uids to damage: what it cannot know it does not answer."""

from collections.abc import Sequence

from pyroaring import BitMap

from uniqdb.audit import read_nameless
from uniqdb.errors import WindowNotKept
from uniqdb.horizons import RetentionRow
from uniqdb.lost_times import expired_edges_s
from uniqdb.store import ReadView
from uniqdb.uid_dictionary import UidDictionary

_HINT = "ingest the source again into a new store, or restore a backup"


def find(dictionary: UidDictionary, view: ReadView, retention: RetentionRow, uid: bytes) -> int:
    """The uid's ordinal, or -1. Raises WindowNotKept if it may be one of those that were lost."""
    ordinal = dictionary.find(view, uid)
    if ordinal < 0 and retention.lost_names is not None:
        assert_known(retention, dictionary.hashes_of([uid]).tolist())
    return ordinal


def assert_known(retention: RetentionRow, hashes: Sequence[int]) -> None:
    """Raise WindowNotKept if a uid with one of these hashes, which the dictionary lacks, may have been lost."""
    lost = retention.lost_names
    if lost is not None and any(first <= one <= last for one in hashes for first, last in lost.hashes):
        raise WindowNotKept(
            f"whether this visitor was seen cannot be told: the names of {lost.visitors:,} were lost to damage",
            hint=_HINT,
        )


def assert_nobody_lost(retention: RetentionRow) -> None:
    """Raise WindowNotKept if there are times of which no bucket is left: who came then only is not known any more."""
    if retention.lost and expired_edges_s(retention):
        raise WindowNotKept(
            "whether this visitor was never seen cannot be told: buckets were lost to damage", hint=_HINT
        )


def assert_named(view: ReadView, retention: RetentionRow, members: BitMap) -> None:
    """Raise WindowNotKept if somebody among these has no name any more, because it was lost."""
    if retention.lost_names is not None and members.intersect(read_nameless(view)):
        raise WindowNotKept("the names of some of these visitors were lost to damage", hint=_HINT)
