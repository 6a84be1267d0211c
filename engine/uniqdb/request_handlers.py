"""What a writer does for other processes, and how they say what they want: one place for both sides.

Every kind may be carried out twice: what was accepted or discarded is no longer in quarantine, a clock that was reset
has nothing to forget, a visitor who was forgotten is not known, and what was swept is no longer due.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import msgspec

from uniqdb.audit import ErasureRow
from uniqdb.engine import Engine
from uniqdb.errors import UsageError
from uniqdb.forgetting import forget
from uniqdb.limits import SWEEP_TURN_S
from uniqdb.quarantine_review import QuarantineFilter, Review, accept_quarantined, discard_quarantined
from uniqdb.requests import Handler
from uniqdb.source_clocks import reset_clock
from uniqdb.sweeping import SWEEP, SweepReport, SweepRun

QUARANTINE_ACCEPT = "quarantine-accept"
QUARANTINE_DISCARD = "quarantine-discard"
CLOCK_RESET = "clock-reset"
FORGET = "forget"
PUBLISH_TRAILING = "publish-trailing"
"""Only a writer that publishes carries it out."""
_Kind = TypeVar("_Kind")
_FILTER_FIELDS = {one.name for one in fields(QuarantineFilter)}


class _ReviewResult(msgspec.Struct):
    done: int
    left: dict[str, int]


class _ClockReset(msgspec.Struct, forbid_unknown_fields=True):
    source: str
    end: bool


class _ClockWasReset(msgspec.Struct):
    name: str


class _Forget(msgspec.Struct, forbid_unknown_fields=True):
    uids: list[str]
    keep_counts: bool


def request_handlers(engine: Engine) -> dict[str, Handler]:
    """How the store's writer carries out what `filter_arguments`, `reset_arguments` and `forget_arguments` ask for.

    By kind. The handlers commit. They raise UsageError for arguments that they do not know, and what
    `accept_quarantined`, `discard_quarantined`, `reset_clock` and `forget` raise.
    """
    return {
        QUARANTINE_ACCEPT: lambda arguments: _review(engine, accept_quarantined, arguments),
        QUARANTINE_DISCARD: lambda arguments: _review(engine, discard_quarantined, arguments),
        CLOCK_RESET: lambda arguments: _reset(engine, arguments),
        FORGET: lambda arguments: _forget(engine, arguments),
        SWEEP: _Sweeps(engine).carry_on,
    }


def filter_arguments(wanted: QuarantineFilter) -> dict[str, Any]:
    """The arguments of ``quarantine-accept`` and ``quarantine-discard``: the fields of the filter."""
    found: dict[str, Any] = msgspec.to_builtins(wanted)
    return found


class Trailing(msgspec.Struct, forbid_unknown_fields=True):
    """The arguments of ``publish-trailing``: the date that the windows end with; None: that of the store's clock."""

    as_of: str | None = None


class SweepWanted(msgspec.Struct, forbid_unknown_fields=True):
    """The arguments of ``sweep``. ``run``: the name of the run to go on with; another one begins if it is not known."""

    forced: bool = False
    run: str = ""


class SweepTurn(msgspec.Struct):
    """The result of ``sweep``: a run, and how far it is. It goes on when the request is made again."""

    run: str
    report: SweepReport


class _Sweeps:
    """The run that a writer has under way for others: about a second of it with each request."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._run: SweepRun | None = None

    def carry_on(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Begin a run, or go on with it."""
        wanted = understood(arguments, SweepWanted)
        run = self._run
        if run is None or run.name != wanted.run:
            run = SweepRun(self._engine, int(self._engine.wall_clock()), forced=wanted.forced)
        self._run, until_s = run, time.monotonic() + SWEEP_TURN_S
        try:
            while run.step() and time.monotonic() < until_s:
                pass
        except BaseException:
            self._run = None
            raise
        if run.report.is_over:
            self._run = None
        found: dict[str, Any] = msgspec.to_builtins(SweepTurn(run.name, run.report))
        return found


class TrailingPublished(msgspec.Struct):
    """The result of ``publish-trailing``."""

    published: int


def review_of(result: dict[str, Any]) -> Review:
    """What was done, from the result of ``quarantine-accept`` or ``quarantine-discard``. Raises UsageError."""
    found = understood(result, _ReviewResult)
    return Review(found.done, Counter(found.left))


def reset_arguments(source: str, *, end: bool) -> dict[str, Any]:
    """The arguments of ``clock-reset``, as of `reset_clock`."""
    return {"source": source, "end": end}


def reset_name(result: dict[str, Any]) -> str:
    """The name of the source whose clock was reset. Raises UsageError."""
    return understood(result, _ClockWasReset).name


def forget_arguments(uids: list[str], *, keep_counts: bool) -> dict[str, Any]:
    """The arguments of ``forget``, as of `uniqdb.forgetting.forget`."""
    return {"uids": uids, "keep_counts": keep_counts}


def forgotten(result: dict[str, Any]) -> ErasureRow:
    """What was found, from the result of ``forget``. Raises UsageError."""
    return understood(result, ErasureRow)


def _review(
    engine: Engine, review: Callable[[Engine, QuarantineFilter], Review], arguments: dict[str, Any]
) -> dict[str, Any]:
    if unknown := ", ".join(sorted(arguments.keys() - _FILTER_FIELDS)):
        raise _not_understood(f"it names {unknown}")  # to overlook a condition would mean more records
    done = review(engine, understood(arguments, QuarantineFilter))
    return {"done": done.done, "left": dict(done.left)}


def _reset(engine: Engine, arguments: dict[str, Any]) -> dict[str, Any]:
    wanted = understood(arguments, _ClockReset)
    return {"name": reset_clock(engine, wanted.source, end=wanted.end).name}


def _forget(engine: Engine, arguments: dict[str, Any]) -> dict[str, Any]:
    wanted = understood(arguments, _Forget)
    done: dict[str, Any] = msgspec.to_builtins(forget(engine, wanted.uids, keep_counts=wanted.keep_counts))
    return done


def understood(parts: dict[str, Any], kind: type[_Kind]) -> _Kind:
    """Arguments or a result as what they should be. Raises UsageError."""
    try:
        return msgspec.convert(parts, kind)
    except msgspec.ValidationError as error:
        raise _not_understood(str(error)) from None


def _not_understood(cause: str) -> UsageError:
    return UsageError(
        f"the request or its answer is not understood: {cause}", hint="use the same version of uniqdb as the writer"
    )
