"""Decoding of the records of batches, on a second core while there are many of them.

What is handed in comes back in the same order. While few records come they are decoded at once, by the caller's own
process. When a poll brings many, a process is started to decode them, and from then on such a batch comes back with the
next one. A process that dies or hangs costs nothing but time: its batches are kept here, and decoded here.
"""

import mmap
import os
import select
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from uniqdb.stream.decode_process import READY, SLOT_BYTES, SLOTS, Job, Section, unpack, visits_of
from uniqdb.stream.kafka_batch import PartitionBatch
from uniqdb.visit import FieldSettings, Visits
from uniqdb.visit_decoder import VisitDecoder

MANY_RECORDS = 2_000
"""So many records in one poll are worth the way to another process."""
PATIENCE_S = 60.0
"""A process that takes longer for one job is given up."""
_END_S = 5.0


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
        self._helper: _Helper | None = None
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
        if not self._helper.submit(blocks, [len(one.values) for one in batches]):
            self._give_up()
            return False
        self._under_way.append(batches)
        return True

    def _take(self) -> list[Decoded]:
        batches = self._under_way.popleft()
        if self._helper is None:
            return list(map(self._decode, batches))
        found = self._helper.result()
        if found is None:
            self._give_up()
        if not found:
            return list(map(self._decode, batches))
        return [Decoded(batch, visits) for batch, visits in zip(batches, found, strict=True)]

    def _decode(self, batch: PartitionBatch) -> Decoded:
        block = _block(batch)
        return Decoded(batch, visits_of(self._decoder, block, len(batch.values)) if block else None)

    def _is_ready(self) -> bool:
        if self._helper is None and self._may_start:
            try:
                self._helper = _Helper(self._fields)
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


class _Helper:
    """The other process. Its answers come in the order of the jobs."""

    def __init__(self, fields: FieldSettings) -> None:
        descriptor = _shared_memory(SLOTS * SLOT_BYTES)
        try:
            self._memory = mmap.mmap(descriptor, SLOTS * SLOT_BYTES)
            # -P: modules of the working directory are none of its business. A session of its own: Ctrl-C is for us.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "uniqdb.stream.decode_process", str(descriptor)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(descriptor,),
                start_new_session=True,
                bufsize=0,
            )
        finally:
            os.close(descriptor)
        self._view = memoryview(self._memory)
        self._answers = b""
        self._begun = False
        self._submitted = self._answered = 0
        self._tell(msgspec.json.encode(fields) + b"\n")

    @property
    def process_id(self) -> int:
        return self._process.pid

    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def is_ready(self) -> bool:
        """Whether it has come up; this does not wait."""
        if not self._begun:
            self._begun = self._line(0) == READY
        return self._begun

    def submit(self, blocks: list[bytes], records: list[int]) -> bool:
        """Have blocks decoded, at most `SLOT_BYTES` in all, and at most `SLOTS` jobs at once. False: it is gone."""
        slot = self._submitted % SLOTS
        at = slot * SLOT_BYTES
        sections: list[Section] = []
        start = 0
        for block, count in zip(blocks, records, strict=True):
            end = start + len(block)
            self._view[at + start : at + end] = block
            sections.append(Section(start, end, count))
            start = end
        self._submitted += 1
        return self._tell(msgspec.json.encode(Job(slot, sections)) + b"\n")

    def result(self) -> list[Visits | None] | None:
        """What became of the oldest job: nothing in it if it did not fit; None if the process is gone."""
        line = self._line(PATIENCE_S)
        if line is None:
            return None
        at = self._answered % SLOTS * SLOT_BYTES
        self._answered += 1
        length = int(line)
        return [] if length < 0 else unpack(self._view[at : at + length])

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._view.release()
        self._memory.close()

    def _tell(self, line: bytes) -> bool:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
        except OSError:  # it has ended
            return False
        return True

    def _line(self, timeout_s: float) -> bytes | None:
        """The next line it writes; None if none comes in time."""
        assert self._process.stdout is not None
        while b"\n" not in self._answers:
            if not select.select([self._process.stdout], [], [], timeout_s)[0]:
                return None
            piece = os.read(self._process.stdout.fileno(), 4096)
            if not piece:
                return None
            self._answers += piece
        line, _, self._answers = self._answers.partition(b"\n")
        return line + b"\n"


def _block(batch: PartitionBatch) -> bytes:
    """The values, a line each; empty if one of them is none."""
    try:
        return b"\n".join([*batch.values, b""])  # type: ignore[list-item]  # None is what the except is for
    except TypeError:
        return b""


def _shared_memory(size_bytes: int) -> int:
    """A descriptor of memory that a child can be given; it vanishes with the last one that holds it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("uniqdb-decoding")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size_bytes)
    return descriptor
