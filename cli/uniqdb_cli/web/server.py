"""The server: uvicorn on a socket of our own, with limits on how long anybody may take."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from uniqdb.errors import UsageError
from uniqdb_cli.address import Address
from uniqdb_cli.web.limits import (
    CONNECTIONS_MAX,
    HEAD_BYTES_MAX,
    LOOK_S,
    REQUEST_TIMEOUT_S,
    RESPONSE_TIMEOUT_S,
)

BACKLOG = 128
STOP_S = 3
"""So long requests may go on when the server was asked to stop."""


class TimedProtocol(H11Protocol):
    """uvicorn's, and nobody holds a connection by sending or reading drop by drop, or by doing neither."""

    _began_at_s = 0.0
    _has_said_all = False
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Let in if there is room; from now on the time counts."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()
            return
        self._began_at_s = self.loop.time()
        self._look = self.loop.call_later(LOOK_S, self._look_at_the_time)

    def connection_lost(self, exc: Exception | None) -> None:
        """No need to look any longer."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """As uvicorn does; a request that is whole begins the time of its answer."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._began_at_s = self.loop.time()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio keeps the transport open if it is true
        """Whoever has nothing more to say still gets the answer."""
        self._has_said_all = self._is_answering()
        return self._has_said_all

    def on_response_complete(self) -> None:
        """The next request has its own time."""
        self._began_at_s = self.loop.time()
        super().on_response_complete()
        if self._has_said_all:
            self.transport.close()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, which its type does not say
        return cycle is not None and not cycle.response_complete

    def _look_at_the_time(self) -> None:
        # What was answered but not fetched yet stands in the transport's buffer.
        is_answering = self._is_answering() or self.transport.get_write_buffer_size() > 0
        limit_s = RESPONSE_TIMEOUT_S if is_answering else REQUEST_TIMEOUT_S
        if self.loop.time() - self._began_at_s > limit_s:
            self.transport.abort()
            return
        self._look = self.loop.call_later(LOOK_S, self._look_at_the_time)


@contextmanager
def listening(address: Address) -> Iterator[tuple[socket.socket, Address]]:
    """A socket, and the address with the port that was taken. Raises UsageError if it is not to be had."""
    listener = None
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise UsageError(
            f"nothing can be served at {address.text}: {error.strerror}", hint="name another --host or --port"
        ) from None
    with contextlib.closing(listener):
        yield listener, Address(address.host, int(listener.getsockname()[1]))


def serve(app: ASGIApp, listener: socket.socket, should_stop: Callable[[], bool]) -> None:
    """Serve until it is time to stop, which is asked several times a second."""
    asyncio.run(_serve(app, listener, should_stop))


async def _serve(app: ASGIApp, listener: socket.socket, should_stop: Callable[[], bool]) -> None:
    # Nobody may fill a log by asking: only what is our fault is written.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    options: dict[str, Any] = {
        **{"http": TimedProtocol, "ws": "none", "lifespan": "off", "loop": "asyncio", "interface": "asgi3"},
        **{"log_config": None, "access_log": False, "server_header": False, "proxy_headers": False},
        **{"h11_max_incomplete_event_size": HEAD_BYTES_MAX, "timeout_keep_alive": int(REQUEST_TIMEOUT_S)},
        "timeout_graceful_shutdown": STOP_S,
    }
    server = _Server(uvicorn.Config(app, **options))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not serving.done():
        if should_stop():
            server.should_exit = True
        await asyncio.wait({serving}, timeout=0.1)
    serving.result()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are whoever's who started us."""
        yield
