"""The service in tests: its topics, how it is run, and an independent reader of what it publishes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uniqdb
from engines import assert_sound
from kafka.cluster import Cluster
from model import GRANULARITIES, Model

ROOT = Path(__file__).resolve().parents[2]
SERVE_STREAM = [sys.executable, "-m", "uniqdb_cli", "serve-stream"]
DYING = Path(__file__).with_name("dying.py")
NAMES = (*GRANULARITIES, "trailing", "quarantine")
Buckets = dict[tuple[str, int], tuple[int, int]]


@dataclass
class Published:
    """What stands in the output topics. ``highest``: by (epoch, revision); ``last``: by offset."""

    highest: dict[str, dict[str, Any]]
    last: dict[str, dict[str, Any]]
    messages: int

    def buckets(self) -> Buckets:
        """Count and visits of every bucket."""
        return {
            (one["granularity"], one["start_ts"]): (one["count"], one["visits"])
            for one in self.highest.values()
            if one["granularity"] != "window"
        }


class Served:
    """A store that is fed from one topic."""

    def __init__(self, cluster: Cluster, topic: str, folder: Path) -> None:
        self.cluster, self.topic, self.store = cluster, topic, folder / "served.uniqdb"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("UNIQDB_")}
        self.environment |= {f"UNIQDB_TOPIC_{name.upper()}": self.output(name) for name in NAMES}
        self.environment |= {"PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("engine", "cli", "tests"))}

    def output(self, name: str) -> str:
        return f"{self.topic}-{name}"

    def where(self) -> list[str]:
        """The options that every run has."""
        broker = self.cluster.broker.bootstrap
        return ["--store", str(self.store), "--bootstrap-servers", broker, "--input-topic", self.topic]

    @contextmanager
    def start(
        self, *arguments: str, command: Sequence[str] = SERVE_STREAM, **environment: str
    ) -> "Iterator[subprocess.Popen[str]]":
        """Running until the block ends; it does not outlive a test that fails."""
        whole = [*command, *self.where(), *arguments]
        child = subprocess.Popen(whole, stderr=subprocess.PIPE, text=True, env={**self.environment, **environment})
        try:
            yield child
        finally:
            child.kill()
            child.wait()
            assert child.stderr is not None
            child.stderr.close()

    @contextmanager
    def start_dying(self, step: str, times: int, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
        """One that kills itself when it comes to the step for so many times; see `dying.py`."""
        command = [sys.executable, str(DYING), step, str(times), "serve-stream"]
        with self.start(*arguments, command=command) as child:
            yield child

    def run(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """Run to the end; what it said."""
        with self.start(*arguments, **environment) as child:
            said = child.communicate(timeout=120)[1]
            assert child.returncode == code, said
        return said

    def catch_up(self, *arguments: str, code: int = 0, **environment: str) -> str:
        return self.run("--until-caught-up", *arguments, code=code, **environment)

    def info(self) -> str:
        command = [sys.executable, "-m", "uniqdb_cli", "info", "--store", str(self.store), "--format", "json"]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout

    def visits(self) -> int:
        """In the store by now."""
        if not (self.store / "MANIFEST").exists():
            return 0
        with uniqdb.open(self.store, read_only=True) as db:
            return db.info().visits

    def stored(self) -> Buckets:
        assert_sound(self.store)
        with uniqdb.open(self.store, read_only=True) as db:
            return {(kind, one.start_ts): (one.count, one.visits) for kind in GRANULARITIES for one in db.series(kind)}

    def published(self, *names: str) -> Published:
        """Read the topics from their beginning."""
        found = Published({}, {}, 0)
        for name in names or (*GRANULARITIES, "trailing"):
            for message in self.cluster.read_all(self.output(name)):
                key, record = message.key().decode(), json.loads(message.value())
                found.messages += 1
                found.last[key] = record
                best = found.highest.get(key)
                order = record["epoch"], record["revision"]
                if best is None or order >= (best["epoch"], best["revision"]):
                    found.highest[key] = record
        return found

    def assert_true(self, model: Model) -> Published:
        """All that was sent is read, counted and published as the sets have it; what is published."""
        self.catch_up()
        assert self.stored() == model.rows()
        found = self.published()
        assert found.buckets() == model.rows()
        assert found.last == found.highest, "the last record of a key is not its newest"
        return found

    def dead_letters(self) -> list[dict[str, Any]]:
        return [json.loads(message.value()) for message in self.cluster.read_all(self.output("quarantine"))]


def line(ts: object, uid: object, **more: object) -> bytes:
    return json.dumps({"id": 1, "uid": uid, "ts": ts, **more}).encode()
