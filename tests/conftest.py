"""What every test shares: the ways Hypothesis runs."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from engines import assert_sound

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell in the background ignores Ctrl-C for what it starts, and so would the programs that the tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: on a busy machine a slow example says nothing about the code.
settings.register_profile("dev", deadline=None, print_blob=True)
# The same examples on each run, so that a red build can be repeated and a green one means the same each time.
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True, database=None)
# Many more examples, for `HYPOTHESIS_PROFILE=soak make test`.
settings.register_profile("soak", parent=settings.get_profile("dev"), max_examples=2_000)

settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def pytest_unconfigure(config: pytest.Config) -> None:
    """The very last lines of a run say which tests with Kafka, a browser, Flink or others were skipped, and why."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(config, "workerinput") or reporter is None:
        return
    # Of a skipped test the report holds file, line and reason.
    skipped = [(one.nodeid, one.longrepr[2].removeprefix("Skipped: ")) for one in reporter.stats.get("skipped", [])]
    for what, folder in (
        ("tested with a real Kafka", "tests/kafka/"),
        ("looked at in a browser", "tests/web/"),
        ("read back by other tools", "tests/exports/"),
        ("compared with Flink", "tests/flink/"),
    ):
        reasons = [reason for place, reason in skipped if folder in place]
        if reasons:
            reporter.write_line(f"Not {what}, {len(reasons)} skipped: {' / '.join(dict.fromkeys(reasons))}")


@pytest.fixture
def store_path(tmp_path: Path) -> Iterator[Path]:
    """Where the test may make a store; when the test is over the store is checked as a whole."""
    path = tmp_path / "test.uniqdb"
    yield path
    if (path / "MANIFEST").exists():
        assert_sound(path)
