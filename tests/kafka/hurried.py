"""`uniqdb serve-stream` for which time runs faster: its wall clock is injected, as everything else is given the time.

python tests/kafka/hurried.py START_S BEGAN_AT_S FACTOR serve-stream ...
"""

import sys
import time
from types import SimpleNamespace

from uniqdb_cli import serve_stream
from uniqdb_cli.main import run


def hurried_s(start_s: float, began_at_s: float, factor: float) -> float:
    """The time that it is then: ``start_s`` was it when the monotonic clock, which all processes share, said so."""
    return start_s + (time.monotonic() - began_at_s) * factor


if __name__ == "__main__":
    arguments = [float(word) for word in sys.argv[1:4]]
    del sys.argv[1:4]
    serve_stream.time = SimpleNamespace(time=lambda: hurried_s(*arguments))
    run()
