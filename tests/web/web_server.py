"""The server in tests: on a socket of this process, asked by a client that shares nothing with it."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import uniqdb
from uniqdb_cli.address import Address
from uniqdb_cli.web.app import application
from uniqdb_cli.web.assets import load_assets
from uniqdb_cli.web.gate import Rules, names_of
from uniqdb_cli.web.limits import PROOF_EVERY_S
from uniqdb_cli.web.proofs import Proofs, prove
from uniqdb_cli.web.reader import StoreReader
from uniqdb_cli.web.server import listening, serve
from uniqdb_cli.web.stores import OneStore, Stores, SumOfStores

ROOT = Path(__file__).resolve().parents[2]
T = 1_468_244_340
"""2016-07-11T13:39:00Z, a Monday."""
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Got:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs."""

    address: Address

    @property
    def url(self) -> str:
        return f"http://{self.address.text}"

    def get(self, path: str, method: str = "GET", **headers: str) -> Got:
        """Ask over a connection of its own. A header's name has _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = HTTPConnection(self.address.host, self.address.port, timeout=30)
        try:
            connection.request(method, path, headers=named)
            answer = connection.getresponse()
            return Got(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        """The answer, which is a good one."""
        got = self.get(path)
        assert got.status == 200, got.body
        return got.json


@contextmanager
def served(store: Path, token: str | None = None, names: tuple[str, ...] = ()) -> Iterator[Served]:
    """Until the end of the block."""
    with uniqdb.open(store, read_only=True) as engine, _served(OneStore(engine), token, names) as running:
        yield running


@contextmanager
def served_sum(stores: list[Path], log: list[str] | None = None, every_s: float = PROOF_EVERY_S) -> Iterator[Served]:
    """The sum of several, until the end of the block; ``log``: what is said meanwhile."""
    paths = [str(one) for one in stores]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        proofs = Proofs(paths, prove(paths, folder), ([] if log is None else log).append, every_s=every_s)
        engines = [stack.enter_context(uniqdb.open(one, read_only=True)) for one in stores]
        yield stack.enter_context(_served(SumOfStores(engines, proofs), None, ()))


@contextmanager
def _served(stores: Stores, token: str | None, names: tuple[str, ...]) -> Iterator[Served]:
    until = threading.Event()
    with listening(Address("127.0.0.1", 0)) as (listener, taken):
        reader = StoreReader(stores)
        app = application(reader, load_assets(), Rules(names_of(taken, names), token))

        def should_stop() -> bool:
            if not until.is_set():
                reader.keep_up()
            return until.is_set()

        thread = threading.Thread(target=serve, args=(app, listener, should_stop))
        thread.start()
        try:
            yield Served(taken)
        finally:
            until.set()
            thread.join()
            reader.close()


_ADD = """
import json, sys, uniqdb
with uniqdb.open(sys.argv[1]) as db:
    db.add_many(*json.load(sys.stdin))
"""


@dataclass(frozen=True, slots=True)
class Writer:
    """Another process that writes: one process cannot have a store open twice."""

    store: Path

    def add(self, times: list[int], uids: list[str]) -> None:
        """In one commit."""
        self._run([sys.executable, "-c", _ADD, str(self.store)], json.dumps([times, uids]))

    def forget(self, uid: str) -> None:
        """Everything that is known of a visitor."""
        self._run([sys.executable, "-m", "uniqdb_cli", "forget", uid, "--yes", "--store", str(self.store)])

    def compact(self) -> None:
        """Into another data file."""
        self._run([sys.executable, "-m", "uniqdb_cli", "compact", "--store", str(self.store)])

    def _run(self, command: list[str], stdin: str = "") -> None:
        paths = os.pathsep.join(str(ROOT / part) for part in ("engine", "cli"))
        done = subprocess.run(
            command,
            input=stdin,
            text=True,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": paths},
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def open_files() -> int:
    """Descriptors that this process has open."""
    return len(os.listdir("/proc/self/fd"))


def memory_bytes() -> int:
    """What this process holds now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) * 1024
