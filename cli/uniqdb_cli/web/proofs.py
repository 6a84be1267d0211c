"""That the stores share no visitor: proved at the start, and again now and then, by a process of its own.

What is proved holds until somebody new is in one of the stores. Then it is proved again, at most every
`PROOF_EVERY_S`, and in no more than a tenth of the time: reading all uids is the one thing here that is not cheap.
"""

import multiprocessing
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from uniqdb.errors import HandleClosed, InputRefused, SharedVisitors, UniqdbError, UsageError
from uniqdb.summing import open_sum
from uniqdb_cli.web.limits import PROOF_EVERY_S, PROOF_TIME_PARTS

Outcome = tuple[str, str, str] | None
"""None: it is proved. Else the kind of the error, its message and its hint; without a kind: no proof was made."""


def prove(paths: Sequence[str], folder: str) -> list[int]:
    """Prove that the stores can be added, and share no visitor; how many uids each has ever had.

    Cost, errors: `uniqdb.summing.open_sum` and `StoreSum.assert_disjoint`.
    """
    with open_sum(paths) as total:
        total.assert_disjoint(Path(folder))
        return total.uids_given()


def _prove_and_tell(paths: Sequence[str], folder: str, told: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this process
    told.send(_outcome(paths, folder))


def _outcome(paths: Sequence[str], folder: str) -> Outcome:
    try:
        prove(paths, folder)
    except HandleClosed as error:  # it was compacted in the middle of it
        return "", error.message, error.hint
    except (InputRefused, UsageError) as error:
        return type(error).__name__, error.message, error.hint
    except (UniqdbError, OSError) as error:
        return "", str(error), ""
    return None


@dataclass(frozen=True, slots=True)
class _Running:
    """A proof that is being made, of stores that had so many uids when it began."""

    process: BaseProcess
    told: Connection
    folder: tempfile.TemporaryDirectory[str]
    uids: list[int]
    began_s: float


class Proofs:
    """What is known, and the process that finds out anew. Its methods may be called by several threads."""

    def __init__(
        self,
        names: Sequence[str],
        uids: list[int],
        on_log: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        every_s: float = PROOF_EVERY_S,
    ) -> None:
        """``names``: the paths; ``uids``: how many uids each had when `prove` returned. ``clock`` counts seconds."""
        self.names = names
        self._proved_uids, self._on_log, self._clock, self._every_s = uids, on_log, clock, every_s
        self._due_s = clock() + every_s
        self._refused: tuple[str, str, str] | None = None
        self._running: _Running | None = None
        self._lock = threading.Lock()

    def assert_proved(self) -> None:
        """Raise SharedVisitors, InputRefused if the newest proof that was made failed."""
        if self._refused is not None:
            kind, message, hint = self._refused
            raise (SharedVisitors if kind == SharedVisitors.__name__ else InputRefused)(message, hint=hint)

    def keep_up(self, uids: list[int]) -> None:
        """``uids``: how many each store has had by now. Takes no time: another process does it."""
        with self._lock:
            if self._running is not None:
                if self._running.told.poll() or not self._running.process.is_alive():
                    self._end(self._running)
            elif self._clock() >= self._due_s and (uids != self._proved_uids or self._refused is not None):
                self._begin(uids)

    def _begin(self, uids: list[int]) -> None:
        context = multiprocessing.get_context("spawn")
        with ExitStack() as undo:
            try:
                folder = tempfile.TemporaryDirectory(prefix="uniqdb-sum-")
                undo.callback(folder.cleanup)
                mine, theirs = context.Pipe(duplex=False)
                undo.callback(mine.close)
                undo.callback(theirs.close)
                process = context.Process(
                    target=_prove_and_tell, args=(list(self.names), folder.name, theirs), daemon=True
                )
                process.start()
            except OSError as error:  # no room, too many processes
                self._not_made(str(error), 0.0)
                return
            undo.pop_all()
        theirs.close()
        self._running = _Running(process, mine, folder, uids, self._clock())

    def _end(self, running: _Running) -> None:
        outcome: Outcome = "", "the process that was to prove it ended early", ""
        with suppress(EOFError, OSError):
            if running.told.poll():
                outcome = running.told.recv()
        self._clear_away(running)
        took_s = self._clock() - running.began_s
        if outcome is not None and not outcome[0]:
            self._not_made(outcome[1], took_s)
            return
        self._set_due(took_s)
        if outcome is None:
            if self._refused is not None:
                self._on_log("The stores share no visitor any more. They are added again.")
            self._proved_uids, self._refused = running.uids, None
            return
        if self._refused is None:
            self._on_log(f"Nothing is answered any more: {outcome[1]} ({outcome[2]})")
        self._refused = outcome

    def _not_made(self, why: str, took_s: float) -> None:
        """What was known before still stands."""
        self._on_log(f"It could not be proved again that the stores share no visitor: {why}. Trying again later.")
        self._set_due(took_s)

    def _set_due(self, took_s: float) -> None:
        self._due_s = self._clock() + max(self._every_s, PROOF_TIME_PARTS * took_s)

    def _clear_away(self, running: _Running) -> None:
        self._running = None
        running.process.terminate()
        running.process.join()
        running.told.close()
        running.folder.cleanup()

    def close(self) -> None:
        """End a proof that is being made."""
        with self._lock:
            if self._running is not None:
                self._clear_away(self._running)
