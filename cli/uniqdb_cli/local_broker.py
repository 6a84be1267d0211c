"""A Kafka broker of one's own: one node on 127.0.0.1, from the packages that `kafka_packages` fetches.

For trying things and for tests that need the real thing, so it can also be killed, paused and started again on its
data. It is no broker to keep anything in: one copy of the data, little memory, no authentication.
"""

import base64
import concurrent.futures
import contextlib
import os
import platform
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType

from uniqdb.errors import CannotWrite, NoLocalBroker, UsageError
from uniqdb_cli.jar_cache import Report, file_lock, report_on_stderr
from uniqdb_cli.kafka_packages import KafkaPackages, kafka_packages

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
PREPARE_TIMEOUT_S = 180.0
"""Writing the cache of classes takes ten seconds or more on a busy machine."""
PORTS = range(15_000, 30_000)
"""Below the range of ports that systems give to outgoing connections: a client that dials a dead port of that range
again and again may in the end be connected to itself."""
_READY_PAUSE_S = 0.02
_LOG_LINES_SHOWN = 3
_HELPER = Path(__file__).with_name("broker_process.py")

_CHECKPOINT = "bootstrap.checkpoint"

# A process dies with the thread that created it, so this one must last.
_SPAWNER = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="broker-spawner")

_JVM_OPTIONS = (
    *("-Xmx256m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"),
    # A cache of classes that does not fit is left aside in silence; errors are still said.
    *("-Xlog:disable", "-Xlog:all=error:stderr"),
)
_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    # Whoever misspells a topic is to be told.
    "auto.create.topics.enable": "false",
    # Internal topics: one partition, one copy; they are made on first use, and a test waits for it.
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "group.initial.rebalance.delay.ms": "0",
    # After kill -9 the new process waits until the session of the old one is over.
    "broker.session.timeout.ms": "1000",
    "broker.heartbeat.interval.ms": "200",
    # Small: it shares the machine.
    "num.network.threads": "1",
    "num.io.threads": "2",
    "log.cleaner.dedupe.buffer.size": "1048577",
}
LOG4J = """\
status = error
appender.file.type = File
appender.file.name = file
appender.file.fileName = ${sys:uniqdb.log}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %p %m (%c{1})%n
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""


class BrokerState(StrEnum):
    """What the broker is doing. ``ended``: it ran, and stopped without being asked to."""

    STOPPED = "stopped"
    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """The state of a broker. ``process_id`` is None unless it runs or is paused."""

    state: BrokerState
    process_id: int | None
    bootstrap: str
    folder: Path


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """How to run it. Without ``folder`` the data is temporary; without ``port`` (1 to 65,535) a free one is taken."""

    folder: Path | None = None
    port: int | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    """Broker settings that go before ours."""
    jvm_options: tuple[str, ...] = ()
    cluster_id: str = ""
    """Of new data: the same for all brokers of a cluster. By default one of its own."""
    is_lasting: bool = False
    """It goes on when this process ends. With a ``folder`` only."""


class LocalBroker:
    """One broker, stopped at first. Used by one thread at a time; `close` it, or use it as a context manager."""

    def __init__(self, packages: KafkaPackages, options: BrokerOptions | None = None) -> None:
        """Write its settings. The packages were prepared, as `local_broker` does. Raises CannotWrite."""
        self._packages, self._options = packages, options or BrokerOptions()
        self._process: subprocess.Popen[bytes] | None = None
        self._janitor: subprocess.Popen[str] | None = None
        self._is_paused = False
        self.port = self._options.port or free_port()
        """The port that clients use, the same for the whole life of the object."""
        try:
            self._write_folder()
        except OSError as error:
            raise CannotWrite(f"the broker's data cannot be written: {error}", hint="name another directory") from error

    def _write_folder(self) -> None:
        chosen = self._options.folder
        if chosen is None:
            self.folder = Path(tempfile.mkdtemp(prefix="uniqdb-kafka-"))
            self._janitor = _start_janitor(self.folder)
        else:
            self.folder = chosen.absolute()
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        properties = _PROPERTIES | self._addresses() | {"log.dirs": str(data)} | dict(self._options.properties)
        text = "".join(f"{key}={value}\n" for key, value in properties.items())
        (self.folder / "server.properties").write_text(text, "utf-8")
        (self.folder / "log4j2.properties").write_text(LOG4J, "utf-8")
        if not (data / "meta.properties").exists():
            # The checkpoint holds the levels of Kafka's features; without it newer clients are refused.
            shutil.copy(self._packages.folder / _CHECKPOINT, data)
            cluster_id, node = self._options.cluster_id or kafka_uuid(), properties["node.id"]
            identity = f"version=1\ncluster.id={cluster_id}\nnode.id={node}\ndirectory.id={kafka_uuid()}\n"
            (data / "meta.properties").write_text(identity, "utf-8")

    def _addresses(self) -> dict[str, str]:
        controller = f"{HOST}:{free_port()}"
        return {
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.quorum.voters": f"1@{controller}",
        }

    @property
    def bootstrap(self) -> str:
        """What clients take as ``bootstrap.servers``."""
        return f"{HOST}:{self.port}"

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start it and wait until it answers. It goes on with the data that it had. Raises NoLocalBroker."""
        if self.status().process_id is not None:
            raise UsageError("the broker was started already", hint="stop it first")
        command = _java_command(self._packages, self.folder, self._options.jvm_options)
        command += ["kafka.Kafka", str(self.folder / "server.properties")]
        self._process = _SPAWNER.submit(_spawn, command, self.folder, self._options.is_lasting).result()
        self._tell_janitor(self._process.pid)
        end_at_s = time.monotonic() + timeout_s
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > end_at_s:
                self.kill()
                raise NoLocalBroker(f"the broker did not start: {self._last_words()}", hint="look at its settings")
            time.sleep(_READY_PAUSE_S)

    def is_ready(self) -> bool:
        """Whether a broker answers on the port: it is asked which requests it knows."""
        request = struct.pack(">ihhih6s", 16, 18, 0, 1, 6, b"uniqdb")
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1) as connection:
            connection.settimeout(5)
            connection.sendall(request)
            return len(connection.recv(8)) == 8
        return False

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End it in order, paused or not; after the timeout by force. Does nothing when it does not run."""
        self._end(signal.SIGTERM, timeout_s)

    def kill(self) -> None:
        """End it as a power cut would (``kill -9``). Its data stays for the next `start`."""
        self._end(signal.SIGKILL, STOP_TIMEOUT_S)

    def restart(self) -> None:
        """Stop and start on the same data and port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open, and nothing answers. Raises UsageError unless it runs."""
        process_id = self._signal(signal.SIGSTOP)
        if hasattr(os, "waitid"):
            # On a busy machine its threads go on for a while, long enough to take a record.
            os.waitid(os.P_PID, process_id, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self._is_paused = True

    def resume(self) -> None:
        """Go on after `pause`. Raises UsageError unless it runs."""
        self._signal(signal.SIGCONT)
        self._is_paused = False

    def status(self) -> BrokerStatus:
        """What it is doing, by the state of its process."""
        state, process_id = BrokerState.STOPPED, None
        if self._process is not None and self._process.poll() is not None:
            state = BrokerState.ENDED
        elif self._process is not None:
            state = BrokerState.PAUSED if self._is_paused else BrokerState.RUNNING
            process_id = self._process.pid
        return BrokerStatus(state, process_id, self.bootstrap, self.folder)

    def close(self) -> None:
        """End it by force and, if its data is temporary, remove that. A second call does nothing."""
        self.kill()
        if self._janitor is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._janitor.communicate()
            self._janitor = None

    def __enter__(self) -> "LocalBroker":
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> int:
        """Returns the number of the process."""
        if self._process is None or self._process.poll() is not None:
            raise UsageError("the broker does not run", hint="start it first")
        self._process.send_signal(number)
        return self._process.pid

    def _end(self, number: signal.Signals, timeout_s: float) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._process, self._is_paused = None, False
        self._tell_janitor(0)

    def _tell_janitor(self, process_id: int) -> None:
        if self._janitor is not None and self._janitor.stdin is not None:
            self._janitor.stdin.write(f"{process_id}\n")
            self._janitor.stdin.flush()

    def _last_words(self) -> str:
        for name in ("broker.log", "stdout.log"):
            with contextlib.suppress(OSError):
                lines = (self.folder / name).read_text("utf-8", errors="replace").split("\n")
                wrong = [line.strip() for line in lines if "ERROR" in line or "Exception:" in line or "Error" in line]
                if wrong:
                    return " / ".join(wrong[-_LOG_LINES_SHOWN:])
        return "it did not answer in time"


def local_broker(options: BrokerOptions | None = None, report: Report = report_on_stderr) -> LocalBroker:
    """A broker that is ready to be started. The first one on a machine fetches and prepares Kafka: a minute.

    Errors as in `kafka_packages`.
    """
    packages = kafka_packages(report)
    prepare(packages, report)
    return LocalBroker(packages, options)


def prepare(packages: KafkaPackages, report: Report) -> None:
    """Make what every start reuses, if it is not there: Kafka's first checkpoint, and Java's cache of classes.

    The checkpoint is the same for all clusters. With the cache a broker is ready in less than half the time. It
    depends on the place of the jars, so it is made where these are. Raises NoLocalBroker.
    """
    folder = packages.folder
    checkpoint, classes = folder / _CHECKPOINT, _class_cache(packages)
    if checkpoint.exists() and classes.exists():
        return
    with file_lock(folder.with_name(f"{folder.name}.lock")), _work_folder(folder) as name:
        if not checkpoint.exists():
            _write_checkpoint(packages, Path(name)).rename(checkpoint)
        if not classes.exists():
            report("preparing Kafka for quick starts, once (some seconds)")
            made = Path(name) / classes.name
            with LocalBroker(packages, BrokerOptions(jvm_options=(f"-XX:AOTCacheOutput={made}",))) as broker:
                broker.stop(PREPARE_TIMEOUT_S)
            # A Java that cannot make one serves all the same; an empty file says that it was tried.
            made.touch()
            made.rename(classes)


def _work_folder(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    """A directory that is removed again; what one that died has left there goes, too. The lock is held."""
    prefix = ".prepare."
    for left_over in folder.glob(f"{prefix}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=prefix, dir=folder)


def _write_checkpoint(packages: KafkaPackages, folder: Path) -> Path:
    text = (
        "process.roles=broker,controller\nnode.id=1\ncontroller.listener.names=CONTROLLER\n"
        f"controller.quorum.voters=1@{HOST}:1\nlisteners=PLAINTEXT://{HOST}:2,CONTROLLER://{HOST}:1\n"
        f"log.dirs={folder / 'data'}\n"
    )
    settings = folder / "format.properties"
    settings.write_text(text, "utf-8")
    command = _java_command(packages, folder, ())
    command += ["kafka.tools.StorageTool", "format", "-t", kafka_uuid(), "-c", str(settings)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PREPARE_TIMEOUT_S, check=False)
    if run.returncode != 0:
        said = (run.stderr or run.stdout).strip().splitlines()
        raise NoLocalBroker(
            f"Kafka's StorageTool failed: {said[-1] if said else run.returncode}",
            hint=f"remove {packages.folder} to fetch Kafka again",
        )
    return folder / "data" / _CHECKPOINT


def _class_cache(packages: KafkaPackages) -> Path:
    """It holds for one version of Java on one kind of machine."""
    return packages.folder / f"classes-{packages.java_version}-{platform.machine()}.aot"


def _java_command(packages: KafkaPackages, folder: Path, jvm_options: tuple[str, ...]) -> list[str]:
    classes = _class_cache(packages)
    cached = [f"-XX:AOTCache={classes}"] if classes.exists() and classes.stat().st_size else []
    return [
        *(str(packages.java), *_JVM_OPTIONS, *cached, *jvm_options),
        *(f"-Duniqdb.log={folder / 'broker.log'}", f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"),
        *("-Dlog4j2.disableJmx=true", "-cp", packages.class_path),
    ]


def _spawn(command: list[str], folder: Path, is_lasting: bool) -> subprocess.Popen[bytes]:
    # In a session of its own, so that a Ctrl-C on the terminal reaches only us, who then end it.
    mortal = [] if is_lasting else [sys.executable, "-I", "-S", str(_HELPER), "exec", str(os.getpid())]
    with (folder / "stdout.log").open("ab") as file:
        return subprocess.Popen(
            [*mortal, *command], stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, cwd=folder
        )


def _start_janitor(folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-I", "-S", str(_HELPER), "watch", str(folder)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, text=True, start_new_session=True
    )


def free_port() -> int:
    """A port on 127.0.0.1 that nobody uses just now."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port


def kafka_uuid() -> str:
    """A new one, as Kafka writes them."""
    # The first byte keeps the text from beginning with a "-", which Kafka does not allow.
    return base64.urlsafe_b64encode(b"\x01" + os.urandom(15)).decode().rstrip("=")
