"""Decoding of the records of batches, on a second core while there are many of them.

What is handed in comes back in the same order. While few records come they are decoded at once, by the caller's own
process. When a poll brings many, a process is started to decode them, and from then on such a batch comes back with the
next one. A process that dies or hangs costs nothing but time: its batches are kept here, and decoded here.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from uniqdb.field_settings import FieldSettings
from uniqdb.stream.decode_helper import PATIENCE_S, DecodeHelper, start_helpers
from uniqdb.stream.decode_process import unpack, visits_of
from uniqdb.stream.decode_program import SLOT_BYTES, SLOTS
from uniqdb.stream.kafka_batch import PartitionBatch
from uniqdb.visit import Visits
from uniqdb.visit_decoder import VisitDecoder

MANY_RECORDS = 2_000
"""So many records in one poll are worth the way to another process."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch and its visits; None: its records are not a line each, or one has no value."""

    batch: PartitionBatch
    visits: Visits | None


class Decoding:
    """Decodes batches of one topic. Used by one thread at a time. `close` it."""

    def __init__(self, fields: FieldSettings, on_log: Callable[[str], None], *, processes: bool = True) -> None:
        """``processes``: whether it may start one."""
        self._fields, self._on_log, self._may_start = fields, on_log, processes
        self._decoder = VisitDecoder(fields)
        self.hash_seed: int | None = None
        """Of the store for which the process works out the hashes of uids from now on; None: it does not."""
        self._helper: DecodeHelper | None = None
        self._under_way: deque[list[PartitionBatch]] = deque()

    @property
    def process_id(self) -> int | None:
        """The process that decodes, if there is one."""
        return None if self._helper is None else self._helper.process_id

    def add(self, batches: list[PartitionBatch]) -> list[Decoded]:
        """Hand in what a poll brought; what is decoded by now, in order. Nothing stays behind an empty list."""
        if sum(len(one.values) for one in batches) < MANY_RECORDS or not self._is_ready():
            return [*self.rest(), *map(self._decode, batches)]
        done: list[Decoded] = []
        while len(self._under_way) >= SLOTS:
            done += self._take()
        if not self._submit(batches):
            return [*done, *self.rest(), *map(self._decode, batches)]
        while len(self._under_way) > 1:
            done += self._take()
        return done

    def rest(self) -> list[Decoded]:
        """All that was handed in and has not come back."""
        done: list[Decoded] = []
        while self._under_way:
            done += self._take()
        return done

    def close(self) -> None:
        """End the process. What was not taken is gone."""
        self._under_way.clear()
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.close()

    def _submit(self, batches: list[PartitionBatch]) -> bool:
        """Have the process decode the batches; False: it cannot."""
        blocks = [_block(one) for one in batches]
        if self._helper is None or sum(map(len, blocks)) > SLOT_BYTES:
            return False
        if not self._helper.submit(blocks, [len(one.values) for one in batches], self.hash_seed):
            self._give_up()
            return False
        self._under_way.append(batches)
        return True

    def _take(self) -> list[Decoded]:
        batches = self._under_way.popleft()
        if self._helper is None:
            return list(map(self._decode, batches))
        packed = self._helper.result(PATIENCE_S)
        if packed is None:
            self._give_up()
        if not packed:
            return list(map(self._decode, batches))
        found = unpack(packed)
        return [Decoded(batch, visits) for batch, visits in zip(batches, found, strict=True)]

    def _decode(self, batch: PartitionBatch) -> Decoded:
        block = _block(batch)
        return Decoded(batch, visits_of(self._decoder, block, len(batch.values)) if block else None)

    def _is_ready(self) -> bool:
        if self._helper is None and self._may_start:
            try:
                (self._helper,) = start_helpers(self._fields)
            except OSError as error:  # too many processes, no memory: it goes without
                self._may_start = False
                self._on_log(f"records are decoded in this process: {error}")
        if self._helper is not None and self._helper.has_ended():
            self._give_up()
        return self._helper is not None and self._helper.is_ready()

    def _give_up(self) -> None:
        self._may_start = False
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.close()
            self._on_log("the process that decodes records has ended; they are decoded in this one from now on")


def _block(batch: PartitionBatch) -> bytes:
    """The values, a line each; empty if one of them is none."""
    try:
        return b"\n".join([*batch.values, b""])  # type: ignore[list-item]  # None is what the except is for
    except TypeError:
        return b""
