"""Made-up visits that happen now: so many a second, for as long as somebody reads them."""

import time
from collections.abc import Iterator

import numpy as np

from uniqdb_cli.generator import BLOCK_RECORDS_MAX, GeneratorSettings, LineMaker

TURN_S = 0.05
"""How long the records of one block may have waited for each other."""


def generate_live(settings: GeneratorSettings, rate: float) -> Iterator[bytes]:
    """Blocks of whole lines, each when its time has come; the event time is that of the wall clock.

    ``rate`` is in records a second. A reader that cannot keep up gets what was held back as soon as it can, with the
    times of then. Ends after ``settings.records``.
    """
    maker = LineMaker(settings)
    began_at_s = time.monotonic()
    first = 0
    while first < settings.records:
        due = min(settings.records, int((time.monotonic() - began_at_s) * rate) + 1, first + BLOCK_RECORDS_MAX)
        if due > first:
            numbers = np.arange(first, due, dtype=np.int64)
            yield maker.block(numbers, np.full(len(numbers), int(time.time()), np.int64))
            first = due
        else:
            time.sleep(min(1.0, max(TURN_S, began_at_s + first / rate - time.monotonic())))
