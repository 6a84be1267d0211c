"""The uids of several contents in the order of one hash, in bounded memory.

Uids are hashed with one seed and written to sorted runs, files that vanish with the process. Then ranges of hashes are
read from all runs at once: what is the same uid stands side by side, whichever content it is of.
Memory: one run, and one range of hashes.
"""

import mmap
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from uniqdb.batch import U32Array
from uniqdb.errors import StoreCorrupt
from uniqdb.options import DictionarySizes
from uniqdb.uid_batch import offsets_of
from uniqdb.uid_fragment import I64Array, UidColumns, merge
from uniqdb.uid_lookup import HASH_MAX

RUN_ENTRIES, RUN_BYTES = 262_144, 32 * 1024 * 1024


def damaged(what: str) -> StoreCorrupt:
    """The error for a dictionary that cannot be one."""
    return StoreCorrupt(f"the dictionary makes no sense: {what}", hint="run `uniqdb check`; use another copy")


class SortedUids:
    """The uids of all contents, numbered from 0 in the order in which they are added."""

    def __init__(self, folder: Path, hash_seed: int, sizes: DictionarySizes) -> None:
        """``folder``: where the runs are written; twice the bytes of all uids are needed there."""
        self._folder, self._seed, self._sizes = folder, hash_seed, sizes
        self._runs: list[tuple[int, UidColumns]] = []
        self._ordinals: list[U32Array] = []
        self._uids: list[bytes] = []
        self._bytes = 0
        self._contents = 0

    def add(self, batches: Iterator[tuple[U32Array, list[bytes]]], ordinals: int) -> None:
        """All uids of the next content. ``ordinals``: every one of its ordinals is below this."""
        for batch, uids in batches:
            if len(batch) and int(batch.max()) >= ordinals:
                raise damaged("an ordinal was never given out")
            self._ordinals.append(np.array(batch, np.uint32))
            self._uids += uids
            self._bytes += sum(map(len, uids))
            if len(self._uids) >= RUN_ENTRIES or self._bytes >= RUN_BYTES:
                self._end_run()
        self._end_run()
        self._contents += 1

    def _end_run(self) -> None:
        if not self._uids:
            return
        hashes = np.fromiter(map(xxh3_64_intdigest, self._uids, repeat(self._seed)), np.uint64, len(self._uids))
        lengths = np.fromiter(map(len, self._uids), np.uint16, len(self._uids))
        order = np.argsort(hashes, kind="stable")
        blob = np.frombuffer(b"".join(self._uids), np.uint8)
        ordinals = np.concatenate(self._ordinals)
        columns = UidColumns(hashes[order], offsets_of(lengths)[order], ordinals[order], lengths[order], blob)
        path = self._folder / f"uids-{len(self._runs)}"
        path.write_bytes(columns.pack())
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        path.unlink()  # its bytes last as long as the map
        self._runs.append((self._contents, UidColumns.parse(memoryview(mapped))))
        self._ordinals, self._uids, self._bytes = [], [], 0

    def ranges(self) -> Iterator[tuple[int, int]]:
        """(first, last) hash of equal parts of all hashes, of about half a partition each."""
        entries = sum(len(columns) for _, columns in self._runs)
        count = 1
        while entries > count * self._sizes.partition_entries // 2:
            count *= 2
        width = (HASH_MAX + 1) // count
        for number in range(count):
            yield number * width, (number + 1) * width - 1

    def between(self, first: int, last: int) -> tuple[UidColumns | None, I64Array]:
        """All entries with hashes from ``first`` to ``last``, both included, sorted, and which content each is of."""
        parts: list[UidColumns] = []
        contents: list[npt.NDArray[np.int64]] = []
        for content, columns in self._runs:
            start = int(np.searchsorted(columns.hashes, np.uint64(first)))
            end = int(np.searchsorted(columns.hashes, np.uint64(last), "right"))
            if end > start:
                parts.append(columns.cut(start, end))
                contents.append(np.full(end - start, content, np.int64))
        if not parts:
            return None, np.empty(0, np.int64)
        order = np.argsort(np.concatenate([part.hashes for part in parts]), kind="stable")
        return merge(parts), np.concatenate(contents)[order]

    def repeated(self) -> Iterator[tuple[bytes, list[int]]]:
        """Uids that are in more than one content, and in which. The hash finds candidates, the bytes decide."""
        for first, last in self.ranges():
            columns, contents = self.between(first, last)
            if columns is None:
                continue
            which = equal_neighbours(columns)
            where: dict[bytes, list[int]] = {}
            for uid, content in zip(columns.uids(which), contents[which].tolist(), strict=True):
                where.setdefault(uid, []).append(content)
            yield from ((uid, found) for uid, found in where.items() if len(found) > 1)


def equal_neighbours(columns: UidColumns) -> I64Array:
    """The positions whose hash is that of the one before or after, ascending."""
    same = np.flatnonzero(columns.hashes[1:] == columns.hashes[:-1])
    return np.unique(np.concatenate([same, same + 1]))
