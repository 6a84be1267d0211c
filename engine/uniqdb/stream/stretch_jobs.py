"""The stretches of a large plain file that other processes are asked to decode, each by its turn."""

import os

from uniqdb.field_settings import FieldSettings
from uniqdb.stream.decode_helper import PATIENCE_S, helpers_of
from uniqdb.stream.decode_program import SLOTS
from uniqdb.stream.early_start import EarlyStart

_STRETCH_BYTES_MAX, _STRETCH_BYTES_MIN = 4 * 2**20, 64 * 2**10
_STRETCHES_PER_BLOCK = 4


class StretchJobs:
    """The processes of one file, and what they are asked for. `close` it."""

    def __init__(self, early: EarlyStart, fields: FieldSettings) -> None:
        """``fields``: where the records hold their times and uids."""
        self._early = early
        self._helpers = helpers_of(early.program, fields)
        self._wanted: range | None = None
        self._submitted = 0

    @property
    def descriptor(self) -> int:
        """Of the file, for as long as this is open."""
        return self._early.descriptor

    def is_ready(self) -> bool:
        """Whether all processes have come up; this does not wait."""
        return all(one.is_ready() for one in self._helpers)

    def close(self) -> None:
        """End the processes. A second call does nothing."""
        self._early.close()

    @property
    def is_begun(self) -> bool:
        """Whether stretches were asked for."""
        return self._wanted is not None

    @property
    def stretches(self) -> range:
        """Where the stretches begin that are asked for."""
        return self._wanted or range(0)

    def begin(self, position: int, lines_max: int, line_bytes: float | None = None) -> None:
        """Ask for stretches from ``position`` on, of about a quarter of ``lines_max`` lines.

        ``line_bytes``: how long a line is; None: as at the beginning of the file.
        """
        wanted = int((line_bytes or self._early.line_bytes) * lines_max / _STRETCHES_PER_BLOCK)
        size_bytes = max(_STRETCH_BYTES_MIN, min(wanted, _STRETCH_BYTES_MAX))
        end = os.fstat(self.descriptor).st_size
        self._wanted, self._submitted = range(position, end - size_bytes + 1, size_bytes), 0
        self._submit(0, None)

    def result(self, number: int, hash_seed: int | None) -> memoryview | None:
        """What became of a stretch; they are asked for one after the other. None or nothing: there is no more.

        ``hash_seed``: of the store, if hashes of the uids are wanted in stretches that nobody decodes yet.
        """
        if not self._submit(number, hash_seed):
            return None
        return self._helpers[number % len(self._helpers)].result(PATIENCE_S)

    def _submit(self, number: int, hash_seed: int | None) -> bool:
        """Ask for as many from this one on as there is room for. False: somebody is gone."""
        wanted, helpers = self.stretches, self._helpers
        while self._submitted < min(len(wanted), number + len(helpers) * SLOTS):
            start = wanted[self._submitted]
            if not helpers[self._submitted % len(helpers)].submit_stretch(start, start + wanted.step, hash_seed):
                return False
            self._submitted += 1
        return True
