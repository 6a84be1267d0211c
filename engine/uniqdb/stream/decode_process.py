"""Decodes blocks of records in a process of its own: `python -m uniqdb.stream.decode_process MEMORY_FD`.

Parent and child share memory that is divided into slots. The parent puts blocks into a slot and writes one line to the
child's standard input; the child puts what it found in their place and answers with a line. The child has no state
beyond the settings of its first line, and ends when its standard input does, so also when the parent was killed.
"""

import mmap
import os
import sys
from typing import IO

import msgspec
import numpy as np

from uniqdb.visit import FieldSettings, Reason, Refused, Visits
from uniqdb.visit_decoder import VisitDecoder, line_ends

SLOT_BYTES = 32 * 2**20
"""A job with more is not handed over."""
SLOTS = 2
READY = b"ready\n"


class Section(msgspec.Struct, frozen=True, array_like=True):
    """A block in a slot: its bytes ``[start, end)`` are so many records, a line each."""

    start: int
    end: int
    records: int


class Job(msgspec.Struct, frozen=True, array_like=True):
    """The blocks in a slot."""

    slot: int
    sections: list[Section]


class _Found(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`Visits` on its way through the memory."""

    times_s: bytes
    uids: list[str]
    refused: list[tuple[int, int, bytes, str]]
    records: int
    lines: list[int] | None


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[_Found | None])


def visits_of(decoder: VisitDecoder, block: bytes, records: int) -> Visits | None:
    """The visits of a block of so many records, a line each; None if it is not: one is blank, or several lines."""
    ends = line_ends(block)
    if len(ends) != records:
        return None
    visits = decoder.decode(block, ends)
    return visits if visits.records == records else None


def pack(found: list[Visits | None]) -> bytes:
    """What was found in the sections of a job, as bytes."""
    return _ENCODER.encode(
        [
            None
            if one is None
            else _Found(
                one.event_times_s.tobytes(),
                one.uids,
                [(bad.line, bad.start, bad.record, str(bad.reason)) for bad in one.refused],
                one.records,
                one.lines,
            )
            for one in found
        ]
    )


def unpack(packed: memoryview) -> list[Visits | None]:
    """What `pack` packed. Nothing of the memory is kept."""
    return [
        None
        if one is None
        else Visits(
            np.frombuffer(one.times_s, np.int64),
            one.uids,
            [Refused(line, start, record, Reason(reason)) for line, start, record, reason in one.refused],
            one.records,
            one.lines,
        )
        for one in _DECODER.decode(packed)
    ]


def serve(memory: mmap.mmap, jobs: IO[bytes], answers: IO[bytes]) -> None:
    """Carry out jobs until there are no more. An answer is the number of bytes in the slot, -1 if they do not fit."""
    decoder = VisitDecoder(msgspec.json.decode(jobs.readline(), type=FieldSettings))
    answers.write(READY)
    answers.flush()
    for line in jobs:
        job = msgspec.json.decode(line, type=Job)
        at = job.slot * SLOT_BYTES
        packed = pack([visits_of(decoder, memory[at + one.start : at + one.end], one.records) for one in job.sections])
        if fits := len(packed) <= SLOT_BYTES:
            memory[at : at + len(packed)] = packed
        answers.write(b"%d\n" % (len(packed) if fits else -1))
        answers.flush()


if __name__ == "__main__":
    import gc

    gc.disable()  # a job makes ten thousands of objects and no cycles
    descriptor = int(sys.argv[1])
    with mmap.mmap(descriptor, SLOTS * SLOT_BYTES) as shared:
        os.close(descriptor)
        serve(shared, sys.stdin.buffer, sys.stdout.buffer)
