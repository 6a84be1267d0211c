"""A service with metrics, as Prometheus and a supervisor see it."""

import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from kafka.serving import Served

Values = dict[str, dict[tuple[str, ...], float]]


@dataclass
class Scraped:
    """A running service."""

    child: "subprocess.Popen[str]"
    address: str
    said: list[str]

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def values(self) -> Values:
        """Sample name -> values of its labels -> value."""
        status, text = self.get("/metrics")
        assert status == 200
        found: Values = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
        return found

    def value(self, name: str, *labels: str) -> float:
        return self.values()[name][labels]

    def until(self, name: str, wanted: float, *labels: str, limit_s: float = 30) -> None:
        end_at_s = time.monotonic() + limit_s
        seen = None
        while time.monotonic() < end_at_s:
            seen = self.values().get(name, {}).get(labels)
            if seen == wanted:
                return
            time.sleep(0.2)
        raise AssertionError(f"{name}{labels} is {seen}, not {wanted}")

    def until_ready(self, wanted: int = 200, limit_s: float = 30) -> None:
        end_at_s = time.monotonic() + limit_s
        seen = 0, ""
        while time.monotonic() < end_at_s:
            seen = self.get("/readyz")
            if seen[0] == wanted:
                return
            time.sleep(0.1)
        raise AssertionError(f"/readyz says {seen}")


@contextmanager
def scraped(served: Served, *arguments: str, **environment: str) -> Iterator[Scraped]:
    with served.start("--metrics-address", "127.0.0.1:0", *arguments, **environment) as child:
        assert child.stderr is not None
        said: list[str] = []
        for line in child.stderr:
            said.append(line)
            if found := re.search(r"(127\.0\.0\.1:\d+)/metrics", line):
                yield Scraped(child, found[1], said)
                return
        raise AssertionError("".join(said))
