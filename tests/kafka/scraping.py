"""A service with metrics, as Prometheus and a supervisor see it."""

import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from kafka.serving import SERVE_STREAM, Served

Values = dict[str, dict[tuple[str, ...], float]]
LIMIT_S = 60.0


@dataclass
class Scraped:
    """A running service. ``said`` grows while it runs."""

    child: "subprocess.Popen[str]"
    address: str
    said: list[str]

    def get(self, path: str) -> tuple[int, str]:
        """Asked again, as Prometheus does: on a busy machine the server may cut off a request that came slowly."""
        end_at_s = time.monotonic() + LIMIT_S
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.address}{path}", timeout=LIMIT_S) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()
            except OSError:
                if self.child.poll() is not None or time.monotonic() > end_at_s:
                    print("".join(self.said), flush=True)
                    raise
            time.sleep(0.1)

    def values(self) -> Values:
        """Sample name -> values of its labels -> value."""
        status, text = self.get("/metrics")
        assert status == 200
        found: Values = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
        return found

    def until(self, name: str, is_it: Callable[[float], bool], *labels: str) -> Values:
        """Scrape until a value is as wanted; all values of that moment."""
        end_at_s = time.monotonic() + LIMIT_S
        while True:
            found = self.values()
            seen = found.get(name, {}).get(labels)
            if seen is not None and is_it(seen):
                return found
            assert time.monotonic() < end_at_s, f"{name}{labels} stays {seen}: {''.join(self.said)}"
            time.sleep(0.1)

    def until_probe(self, path: str, wanted: tuple[int, str]) -> None:
        end_at_s = time.monotonic() + LIMIT_S
        while (seen := self.get(path)) != wanted:
            assert time.monotonic() < end_at_s, f"{path} stays {seen}: {''.join(self.said)}"
            time.sleep(0.1)

    def stop(self) -> str:
        """Ask it to; all that it said."""
        self.child.terminate()
        assert self.child.wait(LIMIT_S) == 0, "".join(self.said)
        return "".join(self.said)


@contextmanager
def scraped(
    served: Served, *arguments: str, command: Sequence[str] = SERVE_STREAM, **environment: str
) -> Iterator[Scraped]:
    address = "--metrics-address", "127.0.0.1:0"
    with served.start(*address, *arguments, command=command, **environment) as child:
        assert child.stderr is not None
        said: list[str] = []
        for line in child.stderr:
            said.append(line)
            if found := re.search(r"(127\.0\.0\.1:\d+)/metrics", line):
                break
        else:
            raise AssertionError("".join(said))
        reader = threading.Thread(target=lambda: said.extend(child.stderr or ()))
        reader.start()
        try:
            yield Scraped(child, found[1], said)
        finally:
            child.kill()
            reader.join()
