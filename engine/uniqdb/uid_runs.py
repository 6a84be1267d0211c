"""One dictionary out of the uids of several contents, in bounded memory.

Uids are hashed with the new store's seed and written to sorted runs, files beside the data that is being built. Then
ranges of hashes are merged from all runs, twice: once to find which uids are the same, once to write the partitions.
Memory: 12 bytes for each ordinal of the contents, and one range of hashes.
"""

import mmap
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap
from xxhash import xxh3_64_intdigest

from uniqdb.batch import U32Array, U64Array
from uniqdb.errors import StoreCorrupt
from uniqdb.fresh_data import FreshData
from uniqdb.limits import ORDINAL_MAX
from uniqdb.options import DictionarySizes
from uniqdb.uid_batch import offsets_of
from uniqdb.uid_fragment import UidColumns, merge
from uniqdb.uid_lookup import HASH_MAX
from uniqdb.whole_units import put_empty_young_unit, put_partitions

RUN_ENTRIES, RUN_BYTES = 262_144, 32 * 1024 * 1024
_NOBODY = np.uint64(2**64 - 1)
NO_ORDINAL = np.uint32(2**32 - 1)


def _damaged(what: str) -> StoreCorrupt:
    return StoreCorrupt(f"the dictionary makes no sense: {what}", hint="run `uniqdb check`; use another copy")


class UidRuns:
    """The uids of all contents; `number` gives them ordinals, `write` makes the dictionary."""

    def __init__(self, folder: Path, hash_seed: int, sizes: DictionarySizes) -> None:
        self._folder, self._seed, self._sizes = folder, hash_seed, sizes
        self._runs: list[tuple[int, UidColumns]] = []
        self._ordinals: list[U32Array] = []
        self._uids: list[bytes] = []
        self._bytes = 0
        self._leaders: list[U64Array] = []
        self.maps: list[U32Array] = []
        """For each content: new ordinals by old ones; `NO_ORDINAL` where it has none."""
        self.next_ordinal = 0

    # ------------------------------------------------------------ gathering
    def add(self, batches: Iterator[tuple[U32Array, list[bytes]]], ordinals: int) -> None:
        """All uids of the next content. ``ordinals``: every one of its ordinals is below this."""
        for batch, uids in batches:
            if len(batch) and int(batch.max()) >= ordinals:
                raise _damaged("an ordinal was never given out")
            self._ordinals.append(np.array(batch, np.uint32))
            self._uids += uids
            self._bytes += sum(map(len, uids))
            if len(self._uids) >= RUN_ENTRIES or self._bytes >= RUN_BYTES:
                self._end_run()
        self._end_run()
        self._leaders.append(np.full(ordinals, _NOBODY))

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
        self._runs.append((len(self._leaders), UidColumns.parse(memoryview(mapped))))
        self._ordinals, self._uids, self._bytes = [], [], 0

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """(first, last) hash of equal parts of all hashes, of about half a partition each."""
        entries = sum(len(columns) for _, columns in self._runs)
        count = 1
        while entries > count * self._sizes.partition_entries // 2:
            count *= 2
        width = (HASH_MAX + 1) // count
        for number in range(count):
            yield number * width, (number + 1) * width - 1

    def _range(self, first: int, last: int) -> tuple[UidColumns | None, npt.NDArray[np.int64]]:
        """All entries with hashes in the range, sorted, and which content each is of."""
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

    # ------------------------------------------------------------ who is whom
    def number(self, nameless: Sequence[BitMap]) -> None:
        """Give ordinals: in the order of the contents, in each of them in its own order. Then `maps` holds."""
        for first, last in self._ranges():
            columns, contents = self._range(first, last)
            if columns is not None:
                self._lead(columns, contents)
        for content, ordinals in enumerate(nameless):
            leaders = self._leaders[content]
            own: U32Array = np.frombuffer(ordinals.to_array(), np.uint32)
            if len(own) and (int(own[-1]) >= len(leaders) or bool((leaders[own] != _NOBODY).any())):
                raise _damaged("an ordinal that was forgotten is in use")
            leaders[own] = (np.uint64(content) << np.uint64(32)) | own.astype(np.uint64)
        for content, leaders in enumerate(self._leaders):
            self.maps.append(self._map(content, leaders))
        if self.next_ordinal > ORDINAL_MAX:
            raise StoreCorrupt("there are more than 2^32 different visitors", hint="keep the stores apart")

    def _lead(self, columns: UidColumns, contents: npt.NDArray[np.int64]) -> None:
        """Note for each entry the first of those with the same uid."""
        names = (contents.astype(np.uint64) << np.uint64(32)) | columns.ordinals.astype(np.uint64)
        leads = names.copy()
        same = np.flatnonzero(columns.hashes[1:] == columns.hashes[:-1])
        if len(same):
            which = np.unique(np.concatenate([same, same + 1]))
            first: dict[bytes, int] = {}
            uids = columns.uids(which)
            for uid, name in zip(uids, names[which].tolist(), strict=True):
                first[uid] = min(first.get(uid, name), name)
            leads[which] = np.fromiter(map(first.__getitem__, uids), np.uint64, len(uids))
            pairs = list(zip(uids, contents[which].tolist(), strict=True))
            if len(set(pairs)) != len(pairs):
                raise _damaged("a uid is in it twice")
        for content, leaders in enumerate(self._leaders):
            own = contents == content
            ordinals = columns.ordinals[own]
            if bool((leaders[ordinals] != _NOBODY).any()) or len(np.unique(ordinals)) != len(ordinals):
                raise _damaged("an ordinal is in it twice")
            leaders[ordinals] = leads[own]

    def _map(self, content: int, leaders: U64Array) -> U32Array:
        found = np.full(len(leaders), NO_ORDINAL, np.uint32)
        owners = leaders >> np.uint64(32)
        known = leaders != _NOBODY
        own = known & (owners == np.uint64(content))
        count = int(own.sum())
        found[own] = np.arange(self.next_ordinal, self.next_ordinal + count, dtype=np.int64).astype(np.uint32)
        self.next_ordinal += count
        for earlier in range(content):
            others = np.flatnonzero(known & (owners == np.uint64(earlier)))
            found[others] = self.maps[earlier][(leaders[others] & np.uint64(2**32 - 1)).astype(np.int64)]
        return found

    # ------------------------------------------------------------ the dictionary
    def write(self, fresh: FreshData, commit_number: int) -> int:
        """The dictionary's units, each of one fragment; returns how many uids there are."""
        put_empty_young_unit(fresh)
        total = 0
        for first, last in self._ranges():
            columns, contents = self._range(first, last)
            if columns is not None:
                columns = self._renumbered(columns, contents)
                total += len(columns)
            put_partitions(fresh, (first, last), columns, self._sizes, commit_number)
        return total

    def _renumbered(self, columns: UidColumns, contents: npt.NDArray[np.int64]) -> UidColumns:
        """Each uid once, with its new ordinal."""
        keep = np.zeros(len(columns), np.bool_)
        numbers = np.empty(len(columns), np.uint32)
        for content, leaders in enumerate(self._leaders):
            own = np.flatnonzero(contents == content)
            ordinals = columns.ordinals[own]
            keep[own] = leaders[ordinals] >> np.uint64(32) == np.uint64(content)
            numbers[own] = self.maps[content][ordinals]
        kept = columns.only(keep)
        return UidColumns(kept.hashes, kept.offsets, numbers[keep], kept.lengths, kept.blob)
