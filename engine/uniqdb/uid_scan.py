"""Looking up a large batch, sorted by hash, in one fragment after the other.

A fragment is searched once for all that may be in it; whose hash it has is taken for found, and is not sought further.
Only at the end are the bytes of all compared at once, for doing it fragment by fragment costs more than the search. A
few look-ups in a million, of different uids with the same hash, are then told apart one by one.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from uniqdb.uid_batch import assert_inside, words_of
from uniqdb.uid_fragment import I64Array, Query, U32Array, U64Array, UidColumns, blob_bytes_in
from uniqdb.uid_probe import address_of, span_of


class UidScan:
    """One pass over fragments for one query. Dies with its view."""

    def __init__(self, query: Query) -> None:
        """``query``: fastest if it is sorted by hash."""
        self._query = query
        self._rows: list[I64Array] = []
        self._lengths: list[npt.NDArray[np.uint16]] = []
        self._offsets: list[U32Array] = []
        self._ordinals: list[U32Array] = []
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
        found = np.flatnonzero(is_hit)
        if not len(found):
            return rows
        hits = entries[found]
        self._rows.append(rows[found])
        self._lengths.append(columns.lengths[hits])
        self._offsets.append(columns.offsets[hits])
        self._ordinals.append(columns.ordinals[hits])
        self._payloads.append(payload)
        rest: I64Array = rows[np.flatnonzero(~is_hit)]
        return rest

    def found(self, one: Callable[[bytes, int], int]) -> I64Array:
        """The ordinal of each uid of the query, -1 where no fragment has it. ``one`` looks for a uid with its hash.

        Raises StoreCorrupt if the bytes of one lie outside its fragment.
        """
        found = np.full(len(self._query), -1, np.int64)
        if not self._rows:
            return found
        rows, lengths = np.concatenate(self._rows), np.concatenate(self._lengths).astype(np.int64)
        ordinals = np.concatenate(self._ordinals)
        held, blobs, sizes_bytes = self._memory()
        numbers = np.repeat(np.arange(len(self._rows)), list(map(len, self._rows)))
        offsets = np.concatenate(self._offsets).astype(np.int64)
        assert_inside(offsets - sizes_bytes[numbers], lengths, 0)
        is_equal = self._query.only(rows).are_at(held, offsets + blobs[numbers], lengths)
        found[rows] = ordinals
        for row in rows[~is_equal].tolist():
            found[row] = one(self._query.uid(row), int(self._query.hashes[row]))
        return found

    def _memory(self) -> tuple[U64Array, I64Array, I64Array]:
        """The words of one array in which all fragments lie that have a hit; where in it the uids of each begin, and
        how many bytes they have.
        """
        addresses = list(map(address_of, self._payloads))
        begin, memory = span_of(self._payloads, addresses)
        blob_bytes = np.array(list(map(blob_bytes_in, self._payloads)))
        blobs = np.array(addresses) + list(map(len, self._payloads)) - blob_bytes - begin
        return words_of(memory), blobs, blob_bytes
