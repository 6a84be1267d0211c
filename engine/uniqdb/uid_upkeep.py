"""Writing the uid dictionary: new uids into the young unit, its slow drain into the partitions, merges and splits.

Every commit does a little: it drains the young unit in step with how fast that fills again, and merges or splits
partitions up to a budget of bytes that is proportional to its new bytes. Without the budget all partitions, being of
equal size, would merge or split in the same commits.
"""

import numpy as np
from xxhash import xxh3_64_intdigest

from uniqdb.commit_plan import CommitPlan
from uniqdb.format import YOUNG_KEY, Database, DictionaryRow, Directory, FragmentEntry, partition_key
from uniqdb.fragments import UnitEdit, to_merge
from uniqdb.limits import (
    MAINTENANCE_BYTES_PER_NEW_BYTE,
    PARTITION_BYTES_MAX,
    PARTITION_FRAGMENTS_URGENT,
)
from uniqdb.options import DictionarySizes
from uniqdb.uid_dictionary import DICTIONARY_KEY, Resolved, UidDictionary, columns_of
from uniqdb.uid_fragment import ENTRY_BYTES, UidColumns, merge
from uniqdb.uid_lookup import HASH_MAX, Layout, directory_of

_CREDIT_BYTES_MAX = 2 * PARTITION_BYTES_MAX
"""Unused budget is kept for later commits up to this."""


class DictionaryUpkeep:
    """The writer's side of the dictionary. ``due`` are partitions to merge or split, oldest first (memory only)."""

    def __init__(self, dictionary: UidDictionary, sizes: DictionarySizes) -> None:
        self._dictionary, self._sizes = dictionary, sizes
        self._due: dict[int, None] | None = None
        self._credit_bytes = 0

    def write_new(self, plan: CommitPlan, resolved: Resolved) -> None:
        """Add the batch's new uids, and this commit's share of the upkeep, to the change set."""
        columns = resolved.new
        if not len(columns):
            return
        step = _Step(plan, self._dictionary, self._sizes)
        payload = columns.pack()
        step.young.append(len(columns), payload)
        self._merge_young(step)
        drained = self._drain(step)
        if self._due is None:
            self._due = {first: None for first in step.layout.first_hashes.tolist() if step.is_due(first)}
        due = dict(self._due)
        due.update((first, None) for first in drained if step.is_due(first))
        credit = self._credit_bytes + MAINTENANCE_BYTES_PER_NEW_BYTE * len(payload)
        for first in list(due):
            edit = step.edit(first)
            if credit <= 0 and len(edit.fragments) <= PARTITION_FRAGMENTS_URGENT:
                continue
            del due[first]
            credit -= step.tidy(first)
        step.write(resolved.first_ordinal + len(columns))
        self._due, self._credit_bytes = due, min(credit, _CREDIT_BYTES_MAX)

    def forget_cached(self) -> None:
        """Drop what is known about due partitions, for example after a commit that failed."""
        self._due, self._credit_bytes = None, 0

    def _merge_young(self, step: "_Step") -> None:
        """Merge small young fragments, so that tiny commits do not leave hundreds of them."""
        small = [fragment for fragment in step.filling() if fragment.payload_bytes <= self._sizes.young_merge_bytes]
        chosen = to_merge(small)
        if chosen:
            merged = merge([UidColumns.parse(step.young.payload(fragment)) for fragment in chosen])
            step.young.remove(chosen)
            step.young.append(len(merged), merged.pack())

    def _drain(self, step: "_Step") -> list[int]:
        """Move the next partitions' share out of the draining fragments; returns the partitions that got some.

        The drain runs a quarter faster than the young unit fills again, so one drain ends before the next begins.
        """
        filling_bytes = sum(fragment.payload_bytes for fragment in step.filling())
        if not step.row.drain_through and filling_bytes >= self._sizes.young_bytes:
            step.row = step.row._replace(drain_through=step.plan.number - 1, drain_cursor=0)
            return []
        if not step.row.drain_through:
            return []
        goal = min(filling_bytes * 5 / (self._sizes.young_bytes * 4), 1.0) * HASH_MAX
        due: list[tuple[int, int]] = []
        cursor = step.row.drain_cursor
        while cursor <= min(goal, HASH_MAX):
            due.append(step.layout.partition_of(cursor))
            cursor = due[-1][1] + 1
        if due:
            parts = [columns_of(step.view, YOUNG_KEY, fragment) for fragment in step.draining()]
            step.receive(due, parts)
            step.row = step.row._replace(drain_cursor=cursor)
        if cursor > HASH_MAX:
            step.young.remove(step.draining())
            step.row = step.row._replace(drain_through=0, drain_cursor=0)
        return [first for first, _ in due]


def pieces_of(
    columns: UidColumns, hashes: tuple[int, int], sizes: DictionarySizes, *, at_least_two: bool = False
) -> list[tuple[int, int, int, int]]:
    """(first hash, last hash, start, end) of the partitions into which entries with hashes of this range are cut.

    The range is halved until every piece is at most half of what a partition may be; equal hashes stay together.
    """
    pieces: list[tuple[int, int, int, int]] = []
    stack = [(*hashes, 0, len(columns))]
    while stack:
        low, high, start, end = stack.pop()
        size_bytes = int(columns.lengths[start:end].sum(dtype=np.int64)) + ENTRY_BYTES * (end - start)
        fits = end - start <= sizes.partition_entries // 2 and size_bytes <= sizes.partition_bytes // 2
        if low == high or (fits and not (at_least_two and (low, high) == hashes)):
            pieces.append((low, high, start, end))
            continue
        middle = low + (high - low) // 2
        at = start + int(np.searchsorted(columns.hashes[start:end], np.uint64(middle), "right"))
        stack += [(middle + 1, high, at, end), (low, middle, start, at)]
    return pieces


class _Step:
    """The edits of one commit to the dictionary's units."""

    def __init__(self, plan: CommitPlan, dictionary: UidDictionary, sizes: DictionarySizes) -> None:
        self.plan, self.view, self.sizes = plan, plan.view, sizes
        self.row: DictionaryRow = dictionary.row(plan.view)
        self.layout: Layout = dictionary.layout(plan.view)
        self._edits: dict[int, UnitEdit] = {}
        self.young = UnitEdit(plan, Database.UIDS, YOUNG_KEY, directory_of(plan.view, YOUNG_KEY))

    def draining(self) -> list[FragmentEntry]:
        return [f for f in self.young.fragments if f.id.commit_number <= self.row.drain_through]

    def filling(self) -> list[FragmentEntry]:
        return [f for f in self.young.fragments if f.id.commit_number > self.row.drain_through]

    def edit(self, first: int) -> UnitEdit:
        """The edit of the partition that begins at ``first``."""
        if first not in self._edits:
            key = partition_key(first)
            directory = directory_of(self.view, key)
            self._edits[first] = UnitEdit(self.plan, Database.UIDS, key, directory)
        return self._edits[first]

    def receive(self, partitions: list[tuple[int, int]], parts: list[UidColumns]) -> None:
        """Append to each of these partitions (first and last hash, side by side) the draining entries that are its own.

        All of them are cut out of the parts and merged at once, for a commit may drain into a hundred partitions.
        """
        cuts = [cut for part in parts if len(cut := part.between(partitions[0][0], partitions[-1][1]))]
        if not cuts:
            return
        merged = merge(cuts)
        merged = merged.cut(0, len(merged))  # each partition's bytes are then in one piece
        firsts = np.array([first for first, _ in partitions], np.uint64)
        bounds = [*np.searchsorted(merged.hashes, firsts).tolist(), len(merged)]
        for (first, _), start, end in zip(partitions, bounds, bounds[1:], strict=False):
            if end > start:
                self.edit(first).append(end - start, merged.cut(start, end).pack())

    def is_due(self, first: int) -> bool:
        edit = self.edit(first)
        return self._too_large(edit, first) or bool(to_merge(edit.fragments))

    def _too_large(self, edit: UnitEdit, first: int) -> bool:
        """Whether to split. The bound differs from partition to partition (50 to 100 %), so that they take turns."""
        share = (512 + xxh3_64_intdigest(first.to_bytes(8, "big")) % 512) / 1024
        return (
            edit.entries > share * self.sizes.partition_entries
            or edit.payload_bytes > share * self.sizes.partition_bytes
        ) and first != edit.note

    def tidy(self, first: int) -> int:
        """Merge or split the partition; returns the bytes that this writes."""
        edit = self.edit(first)
        if self._too_large(edit, first):
            return self._split(edit, first)
        chosen = to_merge(edit.fragments)
        if not chosen:
            return 0
        merged = merge([UidColumns.parse(edit.payload(fragment)) for fragment in chosen])
        edit.remove(chosen)
        payload = merged.pack()
        edit.append(len(merged), payload)
        return len(payload)

    def _split(self, edit: UnitEdit, first: int) -> int:
        """Halve the range of hashes until every piece fits; hashes that are equal stay together."""
        columns = merge([UidColumns.parse(edit.payload(fragment)) for fragment in edit.fragments])
        pieces = pieces_of(columns, (first, edit.note), self.sizes, at_least_two=True)
        edit.remove(edit.fragments)
        written_bytes = 0
        for low, high, start, end in pieces:
            piece = edit
            if low != first:
                empty = Directory((), high)
                piece = UnitEdit(self.plan, Database.UIDS, partition_key(low), empty)
                self._edits[low] = piece
            piece.note, piece.changed = high, True
            if end > start:
                payload = columns.cut(start, end).pack()
                piece.append(end - start, payload)
                written_bytes += len(payload)
        self.row = self.row._replace(layout=self.row.layout + 1)
        return written_bytes

    def write(self, next_ordinal: int) -> None:
        """Add every edit to the change set."""
        self.young.write()
        for edit in self._edits.values():
            if edit.changed:
                edit.write()
        row = self.row._replace(next_ordinal=next_ordinal)
        self.plan.changes.put_row(Database.META, DICTIONARY_KEY, row.pack())
