"""The page beside a service that reads from Kafka: it follows, without a reload."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from kafka.cluster import Cluster
from kafka.serving import Served
from web.browsers import browser, chromium  # noqa: F401 - fixtures of the test here
from web.looking import Page
from web.web_server import served

FOLLOWS_S = 10.0
"""What is promised: a minute is on the page so long after it began."""
MACHINE_S = 20.0
"""What a machine with much else to do may add: the test is about following at all, its figure is printed."""


@contextmanager
def traffic(cluster: Cluster, topic: str) -> Iterator[None]:
    """Fifty visits of now each second, until the end of the block."""
    until = threading.Event()

    def send() -> None:
        producer, number = Producer({"bootstrap.servers": cluster.broker.bootstrap, "linger.ms": 5}), 0
        while not until.wait(0.1):
            for _ in range(5):
                number += 1
                value = json.dumps({"uid": f"v{number % 300}", "ts": int(time.time())})
                producer.produce(topic, value, partition=number % 2)
            producer.poll(0)
        producer.flush(10)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        until.set()
        sender.join()


@pytest.mark.browser
def test_the_page_follows_the_service(
    cluster: Cluster,
    topic: str,
    tmp_path: Path,
    browser: Any,  # noqa: F811 - the fixture
) -> None:
    service = Served(cluster, topic, tmp_path)
    cluster.create(topic, 2)
    with service.start(), traffic(cluster, topic):
        while service.visits() == 0:
            time.sleep(0.2)
        with served(service.store) as site:
            page = Page(browser, site)
            page.open()
            page.run("window.mine = true")
            first = page.run("return document.getElementById('live-chart').dataset.newest")
            shown = page.until(lambda: _newer(page, first), 90)
            late_s = time.time() - shown["start_ts"]
            print(f"a new minute was on the page {late_s:.1f} s after it began", flush=True)
            assert late_s <= FOLLOWS_S + MACHINE_S
            page.until(lambda: sum(page.trace("live-chart", "final")) > 0, 90)
            assert page.run("return window.mine"), "it was not loaded again"
            assert page.complaints() == []


def _newer(page: Page, before: str) -> Any:
    """The record of the newest minute that is shown, if it is another one than before."""
    newest = page.run("return document.getElementById('live-chart').dataset.newest")
    if newest == before:
        return None
    return next(
        one
        for one in reversed(page.site.json("/api/series?by=minute&last=60m")["records"])
        if one["datetime"] == newest
    )
