"""Looking up a large batch, sorted by hash, in one fragment after the other.

A fragment is searched once for all that may be in it; whose hash it has is taken for found, and is not sought further.
Only at the end are the bytes of all compared at once, for doing it fragment by fragment costs more than the search. A
few look-ups in a million, of different uids with the same hash, are then told apart one by one.
"""

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import as_strided

from uniqdb.uid_batch import are_equal, assert_inside, words_of
from uniqdb.uid_fragment import I64Array, Query, U64Array, UidColumns
from uniqdb.uid_probe import address_of


class UidScan:
    """One pass over fragments that lie in LMDB's map, for one query. Dies with its view."""

    def __init__(self, query: Query) -> None:
        """``query``: sorted by hash."""
        self._query = query
        self._rows: list[I64Array] = []
        self._lengths: list[I64Array] = []
        self._addresses: list[I64Array] = []
        self._ordinals: list[I64Array] = []
        self._payloads: list[memoryview] = []

    def look(self, payload: memoryview, rows: I64Array) -> I64Array:
        """Seek the uids at these positions of the query, ascending; returns those whose hash is not in the fragment.

        ``payload``: verified, with at least one entry.
        """
        columns = UidColumns.parse(payload)
        asked = self._query.hashes[rows]
        entries = columns.hashes.searchsorted(asked)
        np.minimum(entries, len(columns) - 1, out=entries)
        is_hit = columns.hashes[entries] == asked
        hits = entries[is_hit]
        if not len(hits):
            return rows
        offsets, lengths = columns.offsets[hits].astype(np.int64), columns.lengths[hits].astype(np.int64)
        assert_inside(offsets, lengths, len(columns.blob))
        self._rows.append(rows[is_hit])
        self._lengths.append(lengths)
        self._addresses.append(offsets + (address_of(payload) + len(payload) - len(columns.blob)))
        self._ordinals.append(columns.ordinals[hits].astype(np.int64))
        self._payloads.append(payload)
        rest: I64Array = rows[~is_hit]
        return rest

    def found(self, one: Callable[[bytes, int], int]) -> I64Array:
        """The ordinal of each uid of the query, -1 where no fragment has it. ``one`` looks for a uid with its hash."""
        found = np.full(len(self._query), -1, np.int64)
        if not self._rows:
            return found
        rows, lengths = np.concatenate(self._rows), np.concatenate(self._lengths)
        addresses, ordinals = np.concatenate(self._addresses), np.concatenate(self._ordinals)
        begin, held = self._memory()
        equal = lengths == self._query.lengths[rows]
        same = np.flatnonzero(equal)
        starts = addresses[same] - begin, self._query.starts[rows[same]]
        equal[same] = are_equal((held, words_of(self._query.raw)), starts, lengths[same])
        found[rows[equal]] = ordinals[equal]
        for row in rows[~equal].tolist():
            found[row] = one(self._query.uid(row), int(self._query.hashes[row]))
        return found

    def _memory(self) -> tuple[int, U64Array]:
        """An address, and the words from there on: one array in which all fragments lie that have a hit."""
        addresses = [address_of(payload) for payload in self._payloads]
        begin = min(addresses)
        end = max(address + len(one) for address, one in zip(addresses, self._payloads, strict=True))
        lowest = np.frombuffer(self._payloads[addresses.index(begin)], np.uint8)
        return begin, words_of(as_strided(lowest, (end - begin,), (1,), writeable=False))
