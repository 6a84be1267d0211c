"""A local broker that goes on when the command that started it has ended, and how it is found again.

Its folder holds ``broker.json`` (which process it is), ``lock``, and ``kafka/`` with its settings, log and data. The
number of a process that ended may have gone to another one: a process is ours only if its command names our folder.
"""

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from uniqdb.errors import CannotWrite, NoLocalBroker, UsageError
from uniqdb_cli.broker_process import runs_in
from uniqdb_cli.jar_cache import Report, file_lock
from uniqdb_cli.kafka_packages import KAFKA_VERSION
from uniqdb_cli.local_broker import HOST, STOP_TIMEOUT_S, BrokerOptions, local_broker

_POLL_S = 0.05


def state_folder() -> Path:
    """``uniqdb/dev-broker`` below ``$XDG_STATE_HOME``, else below ``~/.local/state``. It need not exist."""
    # The standard wants a relative path to be ignored.
    base = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "uniqdb" / "dev-broker"


@dataclass(frozen=True, slots=True)
class RunningBroker:
    """A broker that was started, by its process id, the port on 127.0.0.1 and Kafka's version."""

    process_id: int
    port: int
    version: str

    @property
    def address(self) -> str:
        """What clients take as ``bootstrap.servers``."""
        return f"{HOST}:{self.port}"


class LastingBroker:
    """The one broker of a folder, whichever process started it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self.data_folder = self.folder / "kafka"
        self.log = self.data_folder / "broker.log"
        self._state = self.folder / "broker.json"

    def running(self) -> RunningBroker | None:
        """The broker if it runs. What a broker that died has left behind counts for nothing."""
        try:
            found = RunningBroker(**json.loads(self._state.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return found if runs_in(self.data_folder, found.process_id) else None

    def start(self, port: int, report: Report) -> tuple[RunningBroker, bool]:
        """Start it on the data that it has, and wait until it answers; False if it ran already.

        The first start on a machine fetches Kafka. Raises NoLocalBroker (also if the port is taken), CannotWrite,
        and as `kafka_packages` does.
        """
        with self._locked():
            found = self.running()
            if found is not None:
                return found, False
            _assert_free(port)
            broker = local_broker(BrokerOptions(self.data_folder, port, is_lasting=True), report)
            broker.start()
            try:
                process_id = broker.status().process_id
                if process_id is None:
                    raise NoLocalBroker("the broker ended as soon as it had begun", hint=f"look into {self.log}")
                found = RunningBroker(process_id, port, KAFKA_VERSION)
                self._state.write_text(json.dumps(asdict(found)) + "\n", "utf-8")
            except BaseException:
                broker.kill()
                raise
            return found, True

    def stop(self) -> RunningBroker | None:
        """End it in order, after `STOP_TIMEOUT_S` by force; its data stays. The broker that was ended, if one ran."""
        with self._locked():
            found = self.running()
            if found is not None:
                for number, patience_s in ((signal.SIGTERM, STOP_TIMEOUT_S), (signal.SIGKILL, 5.0)):
                    if self._ends(found.process_id, number, patience_s):
                        break
            self._state.unlink(missing_ok=True)
            return found

    def _ends(self, process_id: int, number: signal.Signals, patience_s: float) -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, number)
        end_at_s = time.monotonic() + patience_s
        while runs_in(self.data_folder, process_id):
            if time.monotonic() > end_at_s:
                return False
            time.sleep(_POLL_S)
        return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Two commands at once: the second waits."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "lock").touch()
        except OSError as error:
            raise CannotWrite(
                f"{self.folder} cannot be used: {error.strerror}", hint="name another with --folder"
            ) from None
        with file_lock(self.folder / "lock"):
            yield


def _assert_free(port: int) -> None:
    with socket.socket() as probe:
        # As Java does it: connections of a broker that has just ended are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise UsageError(f"port {port} is not for everybody", hint="give --port 1024 or more") from None
        except OSError:
            raise NoLocalBroker(
                f"port {port} of {HOST} is taken by another program", hint="end that, or give --port another number"
            ) from None
