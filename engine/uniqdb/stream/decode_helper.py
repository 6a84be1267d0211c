"""A process that decodes for this one: its jobs, its answers."""

import os
import select

import msgspec

from uniqdb.field_settings import FieldSettings
from uniqdb.stream.decode_jobs import FileJob, Job, Section
from uniqdb.stream.decode_program import SLOT_BYTES, SLOTS, Connection, DecodeProgram, start_program

PATIENCE_S = 60.0
"""A process that takes longer for one job is given up."""


class DecodeHelper:
    """A process that decodes. Its answers come in the order of the jobs."""

    def __init__(self, program: DecodeProgram, connection: Connection, fields: FieldSettings) -> None:
        """Tell it how records are read: the first thing that it is told."""
        self._program, self._connection = program, connection
        self._answers = b""
        self._submitted = self._answered = 0
        self.process_id: int | None = None
        """Its number in the system; None until it has come up."""
        self._tell(msgspec.json.encode(fields) + b"\n")

    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._program.has_ended()

    def is_ready(self, patience_s: float = 0) -> bool:
        """Whether it has come up; this waits no longer than that."""
        if self.process_id is None and (line := self._line(patience_s)) is not None:
            self.process_id = int(line)
        return self.process_id is not None

    def submit(self, blocks: list[bytes], records: list[int], hash_seed: int | None = None) -> bool:
        """Have blocks decoded, at most `SLOT_BYTES` in all, and at most `SLOTS` jobs at once. False: it is gone.

        ``hash_seed``: of the store, if the hashes of the uids are wanted.
        """
        slot = self._submitted % SLOTS
        at = slot * SLOT_BYTES
        sections: list[Section] = []
        start = 0
        for block, count in zip(blocks, records, strict=True):
            end = start + len(block)
            self._connection.view[at + start : at + end] = block
            sections.append(Section(start, end, count))
            start = end
        self._submitted += 1
        return self._tell(msgspec.json.encode(Job(slot, sections, hash_seed)) + b"\n")

    def submit_stretch(self, start: int, end: int, hash_seed: int | None = None) -> bool:
        """Have the lines decoded that begin in ``[start, end)`` of the file; else as `submit`."""
        slot = self._submitted % SLOTS
        self._submitted += 1
        return self._tell(msgspec.json.encode(FileJob(slot, start, end, hash_seed)) + b"\n")

    def result(self, patience_s: float) -> memoryview | None:
        """What became of the oldest job, to be read before the next `submit`: empty if it did not fit.

        None if the process is gone, or does not answer in time.
        """
        line = self._line(patience_s) if self.is_ready(patience_s) else None
        if line is None:
            return None
        at = self._answered % SLOTS * SLOT_BYTES
        self._answered += 1
        return self._connection.view[at : at + max(int(line), 0)]

    def close(self) -> None:
        """End it, and those that were started with it; what they have not answered is gone."""
        self._program.end()

    def _tell(self, line: bytes) -> bool:
        try:
            while line:
                line = line[os.write(self._connection.jobs, line) :]
        except OSError:  # it has ended
            return False
        return True

    def _line(self, timeout_s: float) -> bytes | None:
        """The next line it writes, without its end; None if none comes in time."""
        heard = self._connection.answers
        while b"\n" not in self._answers:
            if not select.select([heard], [], [], timeout_s)[0]:
                return None
            piece = os.read(heard, 4096)
            if not piece:
                return None
            self._answers += piece
        line, _, self._answers = self._answers.partition(b"\n")
        return line


def helpers_of(program: DecodeProgram, fields: FieldSettings) -> list[DecodeHelper]:
    """The processes of a program that was started."""
    return [DecodeHelper(program, one, fields) for one in program.connections]


def start_helpers(fields: FieldSettings, count: int = 1) -> list[DecodeHelper]:
    """Start so many processes, which decode what they are given. Raises OSError."""
    return helpers_of(start_program(count, None), fields)
