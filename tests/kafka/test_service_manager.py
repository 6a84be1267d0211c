"""What a service tells systemd: over a real socket, from its own loop."""

import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kafka.cluster import Cluster
from kafka.serving import Served, line
from uniqdb_cli.service_manager import ServiceManager

SO_TIMESTAMP = 29
"""Linux notes when a message was sent; not among the names of Python's module."""


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.settimeout(60)
        if sys.platform == "linux":
            made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMP, 1)
        yield made


def next_of(listener: socket.socket, beginning: str) -> str:
    while True:
        text = listener.recv(4096).decode()
        if text.startswith(beginning):
            return text


def beat_times_s(listener: socket.socket, beats: int) -> list[float]:
    """When the next ones were sent: those that had to wait for a busy machine are read all at once."""
    found: list[float] = []
    while len(found) < beats:
        text, more, _, _ = listener.recvmsg(4096, 64)
        if text.startswith(b"WATCHDOG=1"):
            seconds, microseconds = struct.unpack("=qq", more[0][2])
            found.append(seconds + microseconds / 1e6)
    return found


def test_a_service_says_when_it_is_ready_alive_and_stopping(
    cluster: Cluster, topic: str, tmp_path: Path, listener: socket.socket
) -> None:
    cluster.create(topic)
    now_s = int(time.time())
    cluster.write(topic, [line(now_s, f"secret-uid-{number}") for number in range(30)])
    served = Served(cluster, topic, tmp_path)
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    with served.start(**environment) as child:
        assert next_of(listener, "READY=1").startswith(f"READY=1\nSTATUS={topic}: ")
        if sys.platform == "linux":
            first_s, *_, last_s = beat_times_s(listener, 4)
            assert 0.4 < last_s - first_s < 30
        while not next_of(listener, "STATUS=").startswith(f"STATUS={topic}: 30 visits, "):
            pass
        # A loop that stands still is silent: the watchdog would end it.
        child.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        listener.setblocking(False)
        with suppress(BlockingIOError):
            while listener.recv(4096):
                pass
        time.sleep(0.6)
        with pytest.raises(BlockingIOError):
            listener.recv(4096)
        listener.settimeout(60)
        child.send_signal(signal.SIGCONT)
        next_of(listener, "WATCHDOG=1")
        child.send_signal(signal.SIGTERM)
        assert next_of(listener, "STOPPING=1") == "STOPPING=1\nSTATUS=stopping"
        assert child.wait(60) == 0


def test_who_is_not_asked_says_nothing(tmp_path: Path, listener: socket.socket) -> None:
    address = str(tmp_path / "notify")
    listener.setblocking(False)
    for environment in (
        {},
        {"WATCHDOG_USEC": "1"},
        {"NOTIFY_SOCKET": address},
        {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "0"},
        {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1", "WATCHDOG_PID": str(os.getpid() + 1)},
        {"NOTIFY_SOCKET": address + "-gone", "WATCHDOG_USEC": "1"},
    ):
        ServiceManager(environment).alive("x", is_stopping=False)
        with pytest.raises(BlockingIOError):
            listener.recv(4096)
    manager = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())})
    manager.ready("begun")
    manager.alive("going", is_stopping=False)
    manager.alive("going", is_stopping=False)
    assert [listener.recv(4096) for _ in range(3)] == [b"READY=1\nSTATUS=begun", b"WATCHDOG=1", b"STATUS=going"]
    with pytest.raises(BlockingIOError):
        listener.recv(4096)


@pytest.mark.skipif(not Path("/proc/net/unix").exists(), reason="addresses without a file are Linux's own")
def test_an_address_without_a_file() -> None:
    name = f"uniqdb-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(f"\0{name}")
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).ready("begun")
        assert made.recv(4096) == b"READY=1\nSTATUS=begun"
