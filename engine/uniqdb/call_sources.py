"""Visits that calls hand over in the name of a source: judged like those of a file, in the order of the calls."""

from collections import Counter
from collections.abc import Callable, Container

import msgspec
import numpy as np
from msgspec import structs
from xxhash import xxh3_128_digest

from uniqdb.errors import UsageError
from uniqdb.intake import Intake, Place, open_intake
from uniqdb.meta import SourceRow, read_source
from uniqdb.plausibility import VERDICTS
from uniqdb.quarantine import Quarantined
from uniqdb.store import ReadView
from uniqdb.uid_batch import Uids
from uniqdb.visit import I64Array, Verdict, uid_text
from uniqdb.writer import Commit, nothing

CALL_KIND = "call"


def call_source_key(name: str) -> bytes:
    """The key of the call source of this name."""
    return xxh3_128_digest(b"call\0" + name.encode())


class CallSources:
    """The named call sources of a handle. Each is open from its first commit until the handle is closed."""

    def __init__(self, allowed_lateness_s: int) -> None:
        self._allowed_lateness_s = allowed_lateness_s
        self._intakes: dict[str, Intake] = {}
        self._rows: dict[str, SourceRow] = {}
        self._refused: dict[str, list[Quarantined]] = {}
        self._reference_s = 0
        self.waiting = 0
        """Visits and refused records since the last commit."""

    def take(
        self, view_of: Callable[[], ReadView], name: str, visits: tuple[I64Array, Uids], reference_s: int
    ) -> Counter[Verdict]:
        """Judge visits of the source; returns how many got which verdict. ``view_of``: where its past can be read."""
        self._reference_s = reference_s
        intake = self._intakes.get(name) or self._open(view_of(), name)
        codes = intake.take(*visits, reference_s, _place)
        self.waiting += len(codes)
        return Counter({VERDICTS[code]: count for code, count in enumerate(np.bincount(codes).tolist()) if count})

    def refuse(self, view_of: Callable[[], ReadView], name: str, refused: list[Quarantined]) -> None:
        """Records of the source that are no visits."""
        if name not in self._intakes:
            self._open(view_of(), name)
        self._refused[name] += refused
        self.waiting += len(refused)

    def drop(self, keys: Container[bytes]) -> None:
        """Forget what is known of these sources: somebody else has written them. Nothing of them may wait."""
        for name in [name for name, intake in self._intakes.items() if intake.key in keys]:
            del self._intakes[name], self._rows[name], self._refused[name]

    def read_again(self, view: ReadView, keys: Container[bytes]) -> None:
        """Go on from what the store has of these sources now. Nothing of them may wait."""
        for name in [name for name, intake in self._intakes.items() if intake.key in keys]:
            self._open(view, name)

    def end(self) -> None:
        """Every source is over: nothing stays held."""
        for name, intake in self._intakes.items():
            intake.end()
            self._rows[name] = msgspec.structs.replace(self._rows[name], finished=True)
        self.waiting += len(self._intakes)

    def commit(self, write: Callable[[Commit], object]) -> None:
        """Write what waits, in one commit for all sources."""
        commit = structs.replace(nothing(), reference_s=self._reference_s)
        rows: dict[str, SourceRow] = {}
        for name, intake in self._intakes.items():
            before = self._rows[name]
            taken = intake.cut(is_open=not before.finished)
            refused = self._refused[name] + taken.refused
            rows[name] = msgspec.structs.replace(
                before,
                visits=before.visits + len(taken.uids),
                refused=before.refused + len(refused),
                held=intake.held,
                clock_s=intake.clock_s,
            )
            commit = commit.then(taken, refused)
            commit.sources[intake.key] = rows[name]
        write(commit)
        for name, intake in self._intakes.items():
            intake.committed()
            self._refused[name] = []
        self._rows |= rows
        self.waiting = 0

    def _open(self, view: ReadView, name: str) -> Intake:
        if uid_text(name) is None:
            raise UsageError("the name of a source is empty, too long or no text", hint="name it, such as source='web'")
        key = call_source_key(name)
        row = read_source(view, key) or SourceRow(
            kind=CALL_KIND, name=name, ts_field="ts", uid_field="uid", ts_unit="s"
        )
        self._rows[name] = msgspec.structs.replace(row, finished=False, ended=False)
        self._refused[name] = []
        intake = self._intakes[name] = open_intake(view, key, row, self._allowed_lateness_s)
        return intake


def _place(_visit: int) -> Place:
    """A call has no place."""
    return Place(0, 0, "")
