"""A small HTTP server beside the service: ``/metrics`` for Prometheus, ``/healthz`` and ``/readyz`` for a supervisor.

It only reads: no request changes anything, and none touches the store. On a loopback address it answers only to names
of this machine, so that no web page can have a browser ask it under a name of the page's own.
"""

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from uniqdb import __version__
from uniqdb.errors import UsageError
from uniqdb.stream.meter import LATENCY_EDGES_S, Latencies, Measures, Meter
from uniqdb.stream.partition import Moment
from uniqdb_cli.address import LOOPBACK_NAMES, Address
from uniqdb_cli.metrics import ALWAYS, CATALOGUE, Metric, Sample

HEALTHY_S = 120.0
"""A loop that has not turned for so long hangs: publishing to a broker that is away takes up to 75 s."""
READY_S = 10.0
"""A loop that has not turned for so long waits for something."""
CONNECTIONS_MAX = 8
REQUEST_TIMEOUT_S = 5.0
LOOK_S = 0.2
"""So often it is looked whether to stop, and whom to cut off."""
REQUEST_LINE_BYTES_MAX = 2_048


class Health:
    """What the two probes answer, from what the service put down. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.meter: Meter | None = None
        """None until the store is open."""

    def latest(self) -> Measures | None:
        """The latest picture of the service. While the loop waits for something, ages go on."""
        found = None if self.meter is None else self.meter.latest
        if found is None:
            return None
        stale_s = self._clock() - found.at.monotonic_s
        return replace(found, at=Moment(found.at.wall_s + int(stale_s), found.at.monotonic_s + stale_s))

    def loop_age_s(self) -> float | None:
        """How long ago the loop turned; None if it has not begun."""
        turned_at_s = None if self.meter is None else self.meter.turned_at_s
        return None if turned_at_s is None else max(self._clock() - turned_at_s, 0.0)

    def healthz(self) -> tuple[bool, str]:
        """Whether the process is worth keeping."""
        age_s = self.loop_age_s()
        if age_s is None:
            return True, "starting"
        if age_s < HEALTHY_S and self._waits_for_room():
            return True, "waits for room"  # a new process would find none either
        return age_s < HEALTHY_S, f"the loop turned {age_s:.1f} s ago"

    def readyz(self) -> tuple[bool, str]:
        """Whether it counts: it has begun, its loop turns, and Kafka answers. Reading history it is ready, too."""
        age_s, latest = self.loop_age_s(), self.latest()
        if age_s is None or latest is None:
            return False, "starting"
        if age_s >= READY_S:
            return False, f"the loop turned {age_s:.1f} s ago"
        if latest.waits_for_room:
            return False, "the store cannot be written: there is no room"
        if not latest.is_kafka_up:
            return False, "Kafka does not answer"
        return True, "reading history" if latest.is_history else "ready"

    def _waits_for_room(self) -> bool:
        latest = self.latest()
        return latest is not None and latest.waits_for_room


class Exported(Collector):
    """What a registry collects: the latest picture, as the service has put it down."""

    def __init__(self, started_at_s: int, health: Health) -> None:
        """``started_at_s``: Unix seconds."""
        self._started_at_s, self._health = started_at_s, health

    def collect(self) -> Iterator[Family]:
        """One family of samples for each metric."""
        age_s = self._health.loop_age_s()
        always: tuple[list[Sample], ...] = (
            [((__version__,), 1)],
            [((), self._started_at_s)],
            [] if age_s is None else [((), age_s)],
        )
        for metric, samples in zip(ALWAYS, always, strict=True):
            yield _family(metric, samples)
        found = self._health.latest()
        if found is None:
            return
        for metric in CATALOGUE:
            if metric.latencies is not None:
                yield _histogram(metric, metric.latencies(found))
            elif metric.read is not None:
                yield _family(metric, metric.read(found))


def _family(metric: Metric, samples: Iterable[Sample]) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, float(value))
    return family


def _histogram(metric: Metric, found: Latencies) -> Family:
    edges = [*map(str, LATENCY_EDGES_S), "+Inf"]
    family = HistogramMetricFamily(metric.name, metric.meaning)
    family.add_metric((), [(edge, float(count)) for edge, count in zip(edges, found.counts, strict=True)], found.sum_s)
    return family


def application(health: Health, started_at_s: int, hosts: frozenset[str] | None) -> WSGIApplication:
    """The three pages. ``hosts``: the values that the Host header may have; None: any."""
    registry = CollectorRegistry()
    registry.register(Exported(started_at_s, health))
    ProcessCollector(registry=registry)
    metrics = make_wsgi_app(registry)
    probes = {"/healthz": health.healthz, "/readyz": health.readyz}

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Any:
        def respond(status: str, text: str) -> list[bytes]:
            body = text.encode() + b"\n"
            start(status, [("Content-Type", "text/plain; charset=utf-8"), *_SAFE, ("Content-Length", str(len(body)))])
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

        if hosts is not None and environ.get("HTTP_HOST", "") not in hosts:
            return respond("403 Forbidden", "this name is not served here")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return respond("405 Method Not Allowed", "GET or HEAD")
        path = environ["PATH_INFO"]
        if path in probes:
            is_good, words = probes[path]()
            return respond("200 OK" if is_good else "503 Service Unavailable", words)
        if path != "/metrics":
            return respond("404 Not Found", "/metrics, /healthz, /readyz")
        asked = {**environ, "REQUEST_METHOD": "GET", "QUERY_STRING": ""}
        body = metrics(asked, lambda status, headers, *rest: start(status, [*headers, *_SAFE], *rest))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else body

    return answer


_SAFE = [("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")]


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def version_string(self) -> str:
        return "uniqdb"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: nobody may fill the disk by asking."""

    def handle(self) -> None:
        """One request; of its first line no more is read than it may be long."""
        self.raw_requestline = self.rfile.readline(REQUEST_LINE_BYTES_MAX + 1)
        if len(self.raw_requestline) > REQUEST_LINE_BYTES_MAX:
            self.requestline = self.request_version = self.command = ""
            self.send_error(414)
        elif self.parse_request():
            assert isinstance(self.server, _Server)
            # What goes wrong here goes wrong for whoever asks; the log is the service's.
            streams: tuple[Any, Any, io.StringIO] = self.rfile, self.wfile, io.StringIO()
            handler = _Response(*streams, self.get_environ(), multithread=True)
            handler.run(self.server.application)


class _Response(ServerHandler):
    server_software = ""

    def close(self) -> None:
        """Without the line in the log that the class above writes."""
        SimpleHandler.close(self)


def _nothing_yet(environ: WSGIEnvironment, start: StartResponse) -> list[bytes]:  # noqa: ARG001 - as WSGI has it
    start("503 Service Unavailable", [])
    return []


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each request, of which there are few, and none lasts long."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, family: int, place: tuple[str, int]) -> None:
        self.address_family = family
        self.application: WSGIApplication = _nothing_yet
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._begun_at_s: dict[socket.socket, float] = {}
        super().__init__(place, _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # without asking for the name of the address, which may take long
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._begun_at_s[request] = time.monotonic()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._begun_at_s.pop(request, None)
            self._free.release()

    def service_actions(self) -> None:
        """Cut off those who send or read drop by drop."""
        now_s = time.monotonic()
        for request, begun_at_s in list(self._begun_at_s.items()):
            if now_s - begun_at_s > REQUEST_TIMEOUT_S:
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has gone, or was cut off."""


@contextmanager
def serving(address: Address, health: Health, started_at_s: int) -> Iterator[Address]:
    """Serve until the end of the block, in threads of its own; yields the address with the port that was taken.

    Raises UsageError if the address is not to be had.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        server = _Server(family, (str(place[0]), int(place[1])))
    except OSError as error:
        raise UsageError(
            f"metrics cannot be served at {address.text}: {error.strerror}", hint="name another --metrics-address"
        ) from None
    taken = Address(address.host, int(server.server_address[1]))
    names = frozenset(f"{name}:{taken.port}" for name in LOOPBACK_NAMES)
    server.application = application(health, started_at_s, names if address.is_loopback else None)
    thread = threading.Thread(target=server.serve_forever, args=(LOOK_S,), name="metrics", daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        server.shutdown()
        server.server_close()
