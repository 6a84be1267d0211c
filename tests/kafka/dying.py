"""`uniqdb serve-stream` that kills itself at a named step: the n-th time that it comes there.

python tests/kafka/dying.py "after consume" 3 serve-stream --until-caught-up ...

With the step "slowly" it reads ten records and pauses, so that others have the time to kill it in the middle.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from uniqdb.stream import service
from uniqdb.stream.kafka_source import KafkaSource
from uniqdb.stream.publisher import Publisher
from uniqdb.writer import Writer
from uniqdb_cli.main import run

DAY_S = 86_400


class Step:
    """Counts how often the step was reached, and dies at the n-th time."""

    def __init__(self, times: int) -> None:
        self._left = times

    def reached(self, is_it: object) -> None:
        self._left -= bool(is_it)
        if is_it and self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def wrap(owner: type, name: str, before: Callable[..., None], after: Callable[..., None]) -> None:
    original = getattr(owner, name)

    def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
        before(self, *arguments)
        result = original(self, *arguments, **named)
        after(self, result, *arguments)
        return result

    setattr(owner, name, wrapped)


def nothing(*_: Any) -> None:
    """Not at this moment."""


def day(state: Any) -> int:
    return (state.closed_through_s or 0) // DAY_S


def arm(name: str, step: Step) -> None:
    days: list[int] = []

    def day_closed(_writer: Any, state: Any, _commit: Any) -> None:
        step.reached(days and day(state) > days[-1])
        days.append(day(state))

    if name == "slowly":
        wrap(KafkaSource, "poll", lambda *_: time.sleep(0.15), nothing)
    elif name == "after consume":
        wrap(KafkaSource, "poll", nothing, lambda _, batches, *__: step.reached(batches))
    elif name == "before commit":
        wrap(Writer, "commit", lambda _, commit: step.reached(commit.uids), nothing)
    elif name == "after commit":
        wrap(Writer, "commit", nothing, lambda _, __, commit: step.reached(commit.uids))
    elif name == "after produce":
        wrap(Publisher, "publish", nothing, lambda _, __, records, *___: step.reached(records))
    elif name == "after the acknowledgement":
        wrap(Writer, "commit", nothing, lambda _, __, commit: step.reached(commit.published))
    elif name == "at a day's close":
        wrap(Writer, "commit", nothing, day_closed)
    else:
        raise ValueError(name)


if __name__ == "__main__":
    service.POLL_RECORDS = 10 if sys.argv[1] == "slowly" else 100
    arm(sys.argv[1], Step(int(sys.argv[2])))
    del sys.argv[1:3]
    run()
