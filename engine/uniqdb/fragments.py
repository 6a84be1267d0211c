"""Units: short lists of immutable fragments. One mechanism for bucket members and dictionary partitions.

A commit appends what is new as a small fragment. Four fragments of one size class are merged into one of the next, so a
unit has at most a few dozen, each entry is rewritten O(log n) times, and nothing large is rewritten per commit.
(The scheme is size-tiered merging as in log-structured merge trees.)
"""

from collections.abc import Sequence

from uniqdb.commit_plan import CommitPlan
from uniqdb.format import Database, Directory, FragmentEntry, FragmentId, fragment_key
from uniqdb.limits import FRAGMENT_FAN_IN

_CLASS_BITS = (FRAGMENT_FAN_IN - 1).bit_length()


def size_class(entries: int) -> int:
    """The power of four at or below the number of entries: 1..3 -> 0, 4..15 -> 1, 16..63 -> 2 and so on."""
    return (max(entries, 1).bit_length() - 1) // _CLASS_BITS


def to_merge(fragments: Sequence[FragmentEntry]) -> list[FragmentEntry]:
    """The fragments to merge into one now (none, or at least four).

    Classes are taken from the smallest up, and what they would become counts in its own class, so that a cascade of
    merges is done as one.
    """
    if len(fragments) < FRAGMENT_FAN_IN:
        return []
    classes: dict[int, list[FragmentEntry]] = {}
    for fragment in fragments:
        classes.setdefault(size_class(fragment.entries), []).append(fragment)
    taken: list[FragmentEntry] = []
    taken_entries = 0
    for number in sorted(classes):
        here = classes[number]
        joined = 1 if taken and size_class(taken_entries) >= number else 0
        if len(here) + joined >= FRAGMENT_FAN_IN:
            taken += here
            taken_entries += sum(fragment.entries for fragment in here)
    return taken


class UnitEdit:
    """The changes of one commit to one unit, put together from a view; `write` adds them to the change set.

    Fragments are named by the commit and an index within the commit and unit, so a name is never used twice.
    """

    __slots__ = ("_database", "_fresh", "_next_index", "_plan", "_removed", "changed", "fragments", "key", "note")

    def __init__(self, plan: CommitPlan, database: Database, key: bytes, directory: Directory) -> None:
        self._plan, self._database = plan, database
        self.key, self.note = key, directory.note
        self.fragments = list(directory.fragments)
        self._fresh: dict[FragmentId, bytes] = {}
        self._removed: list[FragmentId] = []
        self._next_index = 0
        self.changed = False

    @property
    def entries(self) -> int:
        """Entries of all fragments."""
        return sum(fragment.entries for fragment in self.fragments)

    @property
    def payload_bytes(self) -> int:
        """Payload bytes of all fragments."""
        return sum(fragment.payload_bytes for fragment in self.fragments)

    def payload(self, fragment: FragmentEntry) -> bytes | memoryview:
        """The fragment's payload, verified; of one written by this edit, the bytes themselves."""
        fresh = self._fresh.get(fragment.id)
        if fresh is not None:
            return fresh
        return self._plan.view.fragment(self._database, fragment_key(self.key, fragment.id)).whole()

    def append(self, entries: int, payload: bytes) -> None:
        """Add a fragment."""
        name = FragmentId(self._plan.number, self._next_index)
        self._next_index += 1
        self._fresh[name] = payload
        self.changed = True
        self.fragments.append(FragmentEntry(name, entries, len(payload)))

    def remove(self, fragments: Sequence[FragmentEntry]) -> None:
        """Drop fragments: committed ones are deleted, those of this edit are never written."""
        self.changed = True
        gone = {fragment.id for fragment in fragments}
        self.fragments = [fragment for fragment in self.fragments if fragment.id not in gone]
        for name in gone:
            self._fresh.pop(name, None)
            self._removed.append(name)

    def write(self) -> Directory:
        """Add the fragments, deletions and the directory row to the change set; returns the new directory."""
        changes = self._plan.changes
        for name, payload in self._fresh.items():
            changes.put_fragment(self._database, fragment_key(self.key, name), payload)
        for name in self._removed:
            if name.commit_number != self._plan.number:
                changes.delete(self._database, fragment_key(self.key, name))
        directory = Directory(tuple(self.fragments), self.note)
        changes.put_row(Database.UNITS, self.key, directory.pack())
        return directory
