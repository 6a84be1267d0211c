"""Ctrl-C and SIGTERM: the first only asks to stop, so that the running batch is committed; the second ends at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class StopRequest:
    """The signal that asked to stop, or 0."""

    signal_number: int = 0

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that a signal ended: 130 or 143."""
        return 128 + self.signal_number

    def is_made(self) -> bool:
        """Whether to stop."""
        return self.signal_number != 0


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within the block signals only set a flag; what a second one cuts off, the store undoes when it is opened."""
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is Python's
        request.signal_number = number
        for one in SIGNALS:
            signal.signal(one, signal.SIG_DFL)

    before = {one: signal.signal(one, ask) for one in SIGNALS}
    try:
        yield request
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
