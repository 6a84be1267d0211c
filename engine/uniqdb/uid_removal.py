"""Taking uids out of the dictionary, bytes and all."""

import numpy as np

from uniqdb.commit_plan import CommitPlan
from uniqdb.format import YOUNG_KEY, Database, partition_key
from uniqdb.fragments import UnitEdit
from uniqdb.store import ReadView
from uniqdb.uid_dictionary import UidDictionary, columns_of
from uniqdb.uid_fragment import U32Array, U64Array
from uniqdb.uid_lookup import directory_of


def remove_uids(plan: CommitPlan, dictionary: UidDictionary, ordinals: U32Array, hashes: U64Array) -> None:
    """Add to the commit that the uids with these ordinals and hashes are in the dictionary no longer.

    Whoever caches uids has to drop these afterwards. Cost: each fragment that holds one of them is read and written.
    """
    view, row = plan.view, dictionary.row(plan.view)
    layout = dictionary.layout(view)
    # What a drain has moved on goes from the young fragment, too: as a fragment of this commit it no longer drains.
    _remove(plan, YOUNG_KEY, ordinals, (row.drain_through, row.drain_cursor))
    numbers = np.unique(layout.first_hashes.searchsorted(hashes, "right") - 1)
    for first_hash in layout.first_hashes[numbers].tolist():
        _remove(plan, partition_key(first_hash), ordinals, (0, 0))


def _remove(plan: CommitPlan, unit_key: bytes, ordinals: U32Array, drain: tuple[int, int]) -> None:
    view: ReadView = plan.view
    edit = UnitEdit(plan, Database.UIDS, unit_key, directory_of(view, unit_key))
    drain_through, drain_cursor = drain
    for fragment in list(edit.fragments):
        columns = columns_of(view, unit_key, fragment)
        keep = np.isin(columns.ordinals, ordinals, invert=True)
        if keep.all():
            continue
        if fragment.id.commit_number <= drain_through:
            keep[: int(np.searchsorted(columns.hashes, np.uint64(drain_cursor)))] = False
        edit.remove([fragment])
        left = columns.only(keep)
        if len(left):
            edit.append(len(left), left.pack())
    if edit.changed:
        edit.write()
