"""Decodes records in processes of their own: what `decode_program` starts calls `main`, with arguments FILE WORKER ...

FILE is a descriptor, -1 for none; a WORKER is three: shared memory, a pipe to it, a pipe from it, as ``3-4-5``. For
each worker but the last the program divides itself.

See `decode_jobs` for what it is asked. A worker has no state beyond the settings of its first line, and ends when its
pipe does, so also when the parent was killed.
"""

import mmap
import os
import select
import sys
from typing import IO

import msgspec
import numpy as np

from uniqdb.field_settings import FieldSettings
from uniqdb.stream.decode_jobs import FileJob, Job
from uniqdb.stream.decode_program import SLOT_BYTES, SLOTS
from uniqdb.uid_batch import UidBatch, as_batch
from uniqdb.visit import I64Array, Reason, Refused, Visits
from uniqdb.visit_decoder import VisitDecoder, line_ends


class Stretch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a `FileJob` found: lines that take up ``[first, end)`` of the file; none at all if the two are equal.

    ``is_plain``: each line is a visit, and the columns hold them. Else nobody has looked at them.
    """

    first: int
    end: int
    lines: int
    is_plain: bool
    times_s: bytes = b""
    uid_bytes: bytes = b""
    uid_lengths: bytes = b""
    uid_hashes: bytes = b""

    def visits(self) -> Visits:
        """The visits of a plain stretch."""
        return Visits(*_from_columns(self), records=self.lines)


class _Found(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`Visits` on its way through the memory."""

    times_s: bytes
    uid_bytes: bytes
    uid_lengths: bytes
    uid_hashes: bytes
    refused: list[tuple[int, int, bytes, str]]
    records: int
    lines: list[int] | None


_NICENESS = 5
"""More processes than cores: the one that commits comes first, so that it need not go on alone in the end."""
_PIECE_BYTES = 2**20
_READ_ON_BYTES = 64 * 2**10
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[_Found | None])
_STRETCHES = msgspec.msgpack.Decoder(Stretch)


def visits_of(decoder: VisitDecoder, block: bytes, records: int, hash_seed: int | None = None) -> Visits | None:
    """The visits of a block of so many records, a line each; None if it is not: one is blank, or several lines.

    ``hash_seed``: see `VisitDecoder.decode`.
    """
    ends = line_ends(block)
    if len(ends) != records:
        return None
    visits = decoder.decode(block, ends, hash_seed)
    return visits if visits.records == records else None


def pack(found: list[Visits | None]) -> bytes:
    """What was found in the sections of a job, as bytes."""
    return _ENCODER.encode([None if one is None else _packed(one) for one in found])


def _packed(visits: Visits) -> _Found:
    return _Found(
        *_columns_of(visits),
        [(bad.line, bad.start, bad.record, str(bad.reason)) for bad in visits.refused],
        visits.records,
        visits.lines,
    )


def _columns_of(visits: Visits) -> tuple[bytes, bytes, bytes, bytes]:
    """Event times, the bytes of the uids, their lengths, their hashes if there are any: how visits go from process to
    process.
    """
    uids = as_batch(visits.uids)
    hashes = b"" if uids.hashes is None else uids.hashes.tobytes()
    return visits.event_times_s.tobytes(), uids.raw.tobytes(), uids.lengths.tobytes(), hashes


def _from_columns(found: Stretch | _Found) -> tuple[I64Array, UidBatch]:
    hashes = np.frombuffer(found.uid_hashes, np.uint64) if len(found.uid_hashes) else None
    uids = UidBatch(np.frombuffer(found.uid_bytes, np.uint8), np.frombuffer(found.uid_lengths, np.uint16), hashes)
    return np.frombuffer(found.times_s, np.int64), uids


def unpack(packed: memoryview) -> list[Visits | None]:
    """What `pack` packed. Nothing of the memory is kept."""
    return [
        None
        if one is None
        else Visits(
            *_from_columns(one),
            [Refused(line, start, record, Reason(reason)) for line, start, record, reason in one.refused],
            one.records,
            one.lines,
        )
        for one in _DECODER.decode(packed)
    ]


def unpack_stretch(packed: memoryview) -> Stretch:
    """What became of a `FileJob`. Nothing of the memory is kept."""
    return _STRETCHES.decode(packed)


class FileReader:
    """Decodes stretches of one file, read piece by piece into the same memory, which stays near the processor.

    To look at the file where the system keeps it would be no faster, and end the process should it be shortened.
    """

    def __init__(self, descriptor: int, decoder: VisitDecoder, piece_bytes: int = _PIECE_BYTES) -> None:
        self._descriptor, self._decoder, self._piece_bytes = descriptor, decoder, piece_bytes
        self._memory = bytearray(piece_bytes)

    def stretch(self, start: int, end: int, hash_seed: int | None = None) -> Stretch | None:
        """The lines that begin in ``[start, end)``; None if the file is shorter, or the last one is too long."""
        position = max(start - 1, 0)  # of the memory; a line begins at ``start`` if a line break stands before it
        begun = None if start else 0
        first, read, pieces = 0, 0, _Pieces(self._decoder, hash_seed)
        while position + read < end:
            size_bytes = min(self._piece_bytes, end - position - read)
            if self._read(position + read, read, size_bytes) < size_bytes:
                return None
            read += size_bytes
            if begun is None:
                first = self._memory.find(b"\n", 0, read) + 1
                if not first or position + first == end:
                    continue
                begun = position + first
            is_last = position + read == end
            stop = self._read_to_line_end(position, read) if is_last else self._memory.rfind(b"\n", first, read) + 1
            if is_last and not stop:
                return None
            if stop:
                with memoryview(self._memory) as view, view[first:stop] as piece:
                    pieces.add(piece)
                rest = self._memory[stop:read]
                self._memory[: len(rest)] = rest
                position, first, read = position + stop, 0, len(rest)
        return Stretch(end, end, 0, is_plain=True) if begun is None else pieces.stretch(begun, position)

    def _read_to_line_end(self, position: int, read: int) -> int:
        """Go on reading to the end of the line of the last byte that was read; where that is, 0 if it is not found."""
        searched, limit = read - 1, read + self._decoder.settings.line_bytes_max
        while not (stop := self._memory.find(b"\n", searched, read) + 1):
            more = self._read(position + read, read, _READ_ON_BYTES) if read <= limit else 0
            if not more:
                return 0
            searched, read = read, read + more
        return stop

    def _read(self, position: int, at: int, size_bytes: int) -> int:
        """Read from a position of the file into memory; how many bytes there were."""
        if len(self._memory) < at + size_bytes:
            self._memory.extend(bytes(at + size_bytes - len(self._memory)))
        read = 0
        with memoryview(self._memory) as view:
            while read < size_bytes:
                with view[at + read : at + size_bytes] as rest:
                    some = os.preadv(self._descriptor, [rest], position + read)
                if not some:
                    break
                read += some
        return read


class _Pieces:
    """What was decoded of a stretch."""

    def __init__(self, decoder: VisitDecoder, hash_seed: int | None) -> None:
        self._decoder, self._hash_seed = decoder, hash_seed
        self._lines, self._is_plain = 0, True
        self._columns: list[tuple[bytes, bytes, bytes, bytes]] = []

    def add(self, piece: memoryview) -> None:
        """The next lines."""
        ends = line_ends(piece)
        self._lines += len(ends)
        visits = self._decoder.plain(piece, ends, self._hash_seed) if self._is_plain else None
        self._is_plain = visits is not None
        if visits is not None:
            self._columns.append(_columns_of(visits))

    def stretch(self, first: int, end: int) -> Stretch:
        """All of them together."""
        if not self._is_plain:
            return Stretch(first, end, self._lines, is_plain=False)
        return Stretch(first, end, self._lines, True, *map(b"".join, zip(*self._columns, strict=True)))


def serve(memory: mmap.mmap, jobs: IO[bytes], answers: IO[bytes], file: int | None = None) -> None:
    """Carry out jobs until there are no more.

    The first answer is the process id, any other the number of bytes in the slot, -1 if there are none.
    """
    decoder = VisitDecoder(msgspec.json.decode(jobs.readline(), type=FieldSettings))
    reader = None if file is None else FileReader(file, decoder)
    answers.write(b"%d\n" % os.getpid())
    answers.flush()
    parent = select.poll()
    parent.register(jobs, 0)
    for line in jobs:
        if parent.poll(0):  # it has hung up: nobody waits for what is still in the pipe
            return
        job = msgspec.json.decode(line, type=Job | FileJob)
        at = job.slot * SLOT_BYTES
        if isinstance(job, Job):
            blocks = [(memory[at + one.start : at + one.end], one.records) for one in job.sections]
            packed = pack([visits_of(decoder, *one, job.hash_seed) for one in blocks])
        else:
            stretch = None if reader is None else reader.stretch(job.start, job.end, job.hash_seed)
            packed = b"" if stretch is None else _ENCODER.encode(stretch)
        if fits := 0 < len(packed) <= SLOT_BYTES:
            memory[at : at + len(packed)] = packed
        answers.write(b"%d\n" % (len(packed) if fits else -1))
        answers.flush()


def work(own: list[int], others: list[list[int]], file: int | None) -> None:
    """Be the worker with these descriptors: those of the others would keep their pipes open."""
    for descriptor in (one for some in others for one in some):
        os.close(descriptor)
    memory, jobs, answers = own
    with (
        mmap.mmap(memory, SLOTS * SLOT_BYTES) as shared,
        os.fdopen(jobs, "rb") as jobs_file,
        os.fdopen(answers, "wb") as answers_file,
    ):
        os.close(memory)
        serve(shared, jobs_file, answers_file, file)


def main() -> None:
    """Divide, and work."""
    os.nice(_NICENESS)
    file = int(sys.argv[1])
    workers = [list(map(int, one.split("-"))) for one in sys.argv[2:]]
    given = None if file < 0 else file
    children: list[int] = []
    for number, own in enumerate(workers[:-1]):
        child = os.fork()
        if child == 0:
            work(own, workers[number + 1 :], given)  # those before it were closed here
            os._exit(0)
        children.append(child)
        for descriptor in own:
            os.close(descriptor)
    work(workers[-1], [], given)
    for child in children:
        os.waitpid(child, 0)
    os._exit(0)  # there is nothing to be tidied up, and somebody waits
