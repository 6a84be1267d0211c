"""What systemd wants to know of a service (sd_notify): that it is ready, alive, stopping, and what it is doing.

Each is a datagram to the socket that the environment names. Without one, nothing is sent.
"""

import os
import socket
import time
from collections.abc import Mapping

STATUS_INTERVAL_S = 5.0


class ServiceManager:
    """Whoever started the service and watches it. Nothing here raises or waits: a manager that is deaf stops nobody."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of an address that has no file.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._interval_s = _watchdog_interval_s(environment)
        self._alive_at_s = self._status_at_s = float("-inf")
        self._is_ready = self._is_stopping = False

    def ready(self, status: str) -> None:
        """The start is over: from now on it counts as running."""
        self._is_ready = True
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self, status: str, *, is_stopping: bool) -> None:
        """To be called in every turn of the service's own loop: a loop that hangs is then found by the watchdog.

        Sends half as often again as the watchdog asks for, and the status every `STATUS_INTERVAL_S`.
        """
        now_s = time.monotonic()
        if is_stopping and not self._is_stopping:
            self._is_stopping = True
            self._send("STOPPING=1\nSTATUS=stopping")
        if self._interval_s is not None and now_s - self._alive_at_s >= self._interval_s:
            self._alive_at_s = now_s
            self._send("WATCHDOG=1")
        if self._is_ready and not self._is_stopping and now_s - self._status_at_s >= STATUS_INTERVAL_S:
            self._status_at_s = now_s
            self._send(f"STATUS={status}")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), self._address)
        except OSError:
            pass  # nobody listens any more, or its queue is full


def _watchdog_interval_s(environment: Mapping[str, str]) -> float | None:
    """Half of the time in which the manager wants to hear from us; None if it does not, or means another process."""
    usec = environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID", "")
    if not (usec.isascii() and usec.isdigit() and int(usec)) or (meant and meant != str(os.getpid())):
        return None
    return int(usec) / 2_000_000
