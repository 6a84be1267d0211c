"""A real Kafka broker for the tests below, one for each process that runs them.

It comes from packages (see CONTRIBUTING.md). Where these are not to be had the tests are skipped, and the last line of
the run says so; where CI is set, that is a failure.
"""

import importlib.util
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from uniqdb.errors import NoLocalBroker
from uniqdb_cli.jar_cache import missing_packages
from uniqdb_cli.local_broker import BrokerOptions, BrokerState, LocalBroker, local_broker

_numbers = itertools.count()

LACKING = [name for name in ("confluent_kafka",) if importlib.util.find_spec(name) is None] + missing_packages()
"""Packages that have no wheel for this Python or system; on those that have, `make test` installs them."""


class _NotHere(pytest.Module):
    """A test module that cannot be imported without the packages."""

    def collect(self) -> Any:
        pytest.skip(f"{', '.join(LACKING)} cannot be had here", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return _NotHere.from_parent(parent, path=module_path) if LACKING else None


@pytest.fixture(scope="session")
def broker() -> Iterator[LocalBroker]:
    """Running when a test begins; one that stops it starts it again."""
    try:
        # Large records, and compaction while a test waits for it.
        properties = {"message.max.bytes": "10485760", "log.cleaner.backoff.ms": "100"}
        # Transactions that were left open are undone soon after their time.
        properties["transaction.abort.timed.out.transaction.cleanup.interval.ms"] = "300"
        made = local_broker(BrokerOptions(properties=properties))
    except NoLocalBroker as error:
        if os.environ.get("CI"):
            pytest.fail(f"no Kafka broker: {error}", pytrace=False)
        pytest.skip(f"no Kafka broker: {error}")
    with made:
        yield made


@pytest.fixture
def cluster(broker: LocalBroker, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The broker, and ways to write to it. Sources are less patient than they otherwise are."""
    from kafka.cluster import Cluster  # noqa: PLC0415 - it needs the packages that may be lacking

    monkeypatch.setattr("uniqdb.stream.kafka_source.CHECK_INTERVAL_S", 0.3)
    monkeypatch.setattr("uniqdb.stream.kafka_source.SETTLE_S", 0.3)

    if broker.status().state is not BrokerState.RUNNING:  # a test that failed has left it so: one red is enough
        broker.stop()
        broker.start()
    return Cluster(broker)


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return f"{re.sub('[^a-z0-9]+', '-', request.node.name.lower())}-{next(_numbers)}"
