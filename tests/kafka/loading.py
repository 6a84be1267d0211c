"""Records that keep coming while brokers and services die, and what is true in the end."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Producer

from kafka.cluster import until
from kafka.serving import Served, line
from model import Model

FIRST_S = 1_468_244_340


class Load:
    """A producer that goes on through everything, and the oracle of what it has delivered."""

    def __init__(self, served: Served, per_s: int = 400) -> None:
        self.model = Model()
        self._served, self._per_s = served, per_s
        self._over = threading.Event()
        self._sent = 0

    def _run(self) -> None:
        producer = Producer(
            {"bootstrap.servers": self._served.cluster.broker.bootstrap, "enable.idempotence": True, "linger.ms": 5}
        )
        begun_at_s = time.monotonic()
        while not self._over.is_set():
            while self._sent < (time.monotonic() - begun_at_s) * self._per_s:
                ts, uid = FIRST_S + self._sent // 20, f"v{self._sent % 211}"
                producer.produce(self._served.topic, line(ts, uid), partition=self._sent % 2)
                self.model.add([ts], [uid])
                self._sent += 1
            producer.poll(0.01)
        assert producer.flush(120) == 0

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


def wait_for_more(served: Served) -> None:
    before = served.visits()
    until(lambda: served.visits() > before)
