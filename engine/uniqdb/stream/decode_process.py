"""Decodes records in processes of their own: `python -m uniqdb.stream.decode_process FILE WORKER ...`.

FILE is a descriptor, -1 for none; a WORKER is three: shared memory, a pipe to it, a pipe from it, as ``3-4-5``. For
each worker but the last the program divides itself.

Parent and worker share memory that is divided into slots. The parent puts blocks into a slot, or names a stretch of the
file, and writes one line to the pipe; the worker puts what it found into the slot and answers with a line. A worker has
no state beyond the settings of its first line, and ends when its pipe does, so also when the parent was killed.
"""

import mmap
import os
import sys
from typing import IO

import msgspec
import numpy as np

from uniqdb.uid_batch import UidBatch, as_batch
from uniqdb.visit import FieldSettings, I64Array, Reason, Refused, Visits
from uniqdb.visit_decoder import VisitDecoder, line_ends

SLOT_BYTES = 32 * 2**20
"""A job with more is not handed over."""
SLOTS = 8


class Section(msgspec.Struct, frozen=True, array_like=True):
    """A block in a slot: its bytes ``[start, end)`` are so many records, a line each."""

    start: int
    end: int
    records: int


class Job(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The blocks in a slot. ``hash_seed``: of the store, where hashes of the uids are wanted."""

    slot: int
    sections: list[Section]
    hash_seed: int | None = None


class FileJob(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The lines that begin in ``[start, end)`` of the file, all of which were there when the job was made.

    ``hash_seed``: as in `Job`.
    """

    slot: int
    start: int
    end: int
    hash_seed: int | None = None


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
    """Decodes stretches of one file where the system keeps it: copying it costs a tenth of decoding it.

    Should the file be shortened meanwhile, the system ends this process; the one that asked goes on by itself.
    """

    def __init__(self, descriptor: int, decoder: VisitDecoder) -> None:
        self._descriptor, self._decoder = descriptor, decoder

    def stretch(self, start: int, end: int, hash_seed: int | None = None) -> Stretch | None:
        """The lines that begin in ``[start, end)``; None if the file is shorter, or the last one is too long."""
        file_bytes = os.fstat(self._descriptor).st_size
        if file_bytes < end:
            return None
        origin = max(start - 1, 0)  # a line begins at ``start`` if a line break stands before it
        base = origin - origin % mmap.ALLOCATIONGRANULARITY
        limit = min(file_bytes, end + self._decoder.settings.line_bytes_max + 1) - base
        with mmap.mmap(self._descriptor, limit, mmap.MAP_SHARED, mmap.PROT_READ, offset=base) as mapped:
            first = mapped.find(b"\n", origin - base, end - base) + 1 if start else 0
            if start and not 0 < first < end - base:
                return Stretch(end, end, 0, is_plain=True)
            stop = mapped.find(b"\n", end - 1 - base, limit) + 1
            if not stop:
                return None
            with memoryview(mapped) as view, view[first:stop] as block:
                return self._decoded(base + first, block, hash_seed)

    def _decoded(self, first: int, block: memoryview, hash_seed: int | None) -> Stretch:
        ends = line_ends(block)
        visits = self._decoder.plain(block, ends, hash_seed)
        bounds = first, first + len(block), len(ends)
        if visits is None:
            return Stretch(*bounds, is_plain=False)
        return Stretch(*bounds, True, *_columns_of(visits))


def serve(memory: mmap.mmap, jobs: IO[bytes], answers: IO[bytes], file: int | None = None) -> None:
    """Carry out jobs until there are no more.

    The first answer is the process id, any other the number of bytes in the slot, -1 if there are none.
    """
    decoder = VisitDecoder(msgspec.json.decode(jobs.readline(), type=FieldSettings))
    reader = None if file is None else FileReader(file, decoder)
    answers.write(b"%d\n" % os.getpid())
    answers.flush()
    for line in jobs:
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


def main(file: int, workers: list[list[int]]) -> None:
    """Divide, and work."""
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


if __name__ == "__main__":
    import gc

    gc.disable()  # a job makes ten thousands of objects and no cycles
    main(int(sys.argv[1]), [list(map(int, one.split("-"))) for one in sys.argv[2:]])
