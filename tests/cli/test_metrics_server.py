"""The server of metrics: whom it answers, what it refuses, and that nobody can hold it up."""

import json
import random
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from typer.testing import Result

import uniqdb
from uniqdb.errors import UsageError
from uniqdb.meta import StateRow
from uniqdb.stream.meter import Meter
from uniqdb.stream.partition import Moment
from uniqdb_cli import metrics_server
from uniqdb_cli.address import Address, parse_address
from uniqdb_cli.metrics_server import CONNECTIONS_MAX, HEALTHY_S, READY_S, Health, serving

T = 1_468_244_340
Run = Callable[..., Result]


@pytest.fixture
def health() -> Health:
    return Health()


@contextmanager
def served(health: Health, host: str = "127.0.0.1") -> Iterator[Address]:
    with serving(Address(host, 0), health, T) as taken:
        yield taken


def ask(address: Address, request: bytes) -> bytes:
    """What comes back until the server closes."""
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def get(address: Address, path: str, host: str = "", method: str = "GET") -> bytes:
    return ask(address, f"{method} {path} HTTP/1.1\r\nHost: {host or address.text}\r\n\r\n".encode())


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def is_let_down(address: Address) -> bool:
    try:
        return get(address, "/healthz") == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9464", "127.0.0.1", 9464),
        ("[::1]:0", "::1", 0),
        ("name:1", "name", 1),
        ("0.0.0.0:80", "0.0.0.0", 80),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host, port)
    assert parse_address(text).text == text
    assert parse_address(text).is_loopback == (host in ("127.0.0.1", "::1"))


@pytest.mark.parametrize("text", ["9464", ":9464", "host", "host:", "host:x", "host:65536", "::1:9464", "h:-1", "h:²"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        parse_address(text)


def test_pages(health: Health) -> None:
    with served(health) as address:
        metrics = get(address, "/metrics")
        assert status(metrics) == 200
        assert f'uniqdb_build_info{{version="{uniqdb.__version__}"}} 1.0'.encode() in metrics
        assert b"uniqdb_start_timestamp_seconds 1.46824434e+09" in metrics
        assert b"process_start_time_seconds" in metrics
        assert b"uniqdb_records" not in metrics
        assert status(get(address, "/metrics?name[]=nothing")) == 200
        for path in ("/", "/metrics/", "/favicon.ico", "/../etc/passwd", "http://evil/metrics"):
            assert status(get(address, path)) == 404
        for answer in (metrics, get(address, "/healthz")):
            assert b"nosniff" in answer
            assert b"Server:" not in answer
            assert b"Access-Control" not in answer


def test_only_get_and_head(health: Health) -> None:
    with served(health) as address:
        for path in ("/metrics", "/healthz"):
            head = get(address, path, method="HEAD")
            assert status(head) == 200
            assert head.endswith(b"\r\n\r\n")
            for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
                assert status(get(address, path, method=method)) == 405


def test_a_page_of_the_web_cannot_ask_under_a_name_of_its_own(health: Health) -> None:
    with served(health) as address:
        for host in ("evil.example", f"evil.example:{address.port}", "127.0.0.1", "127.0.0.1:1", "localhost:0"):
            assert status(get(address, "/metrics", host)) == 403
        for name in ("127.0.0.1", "localhost", "[::1]"):
            assert status(get(address, "/metrics", f"{name}:{address.port}")) == 200
        assert status(ask(address, b"GET /metrics HTTP/1.0\r\n\r\n")) == 403
    with serving(Address("0.0.0.0", 0), health, T) as wide:
        assert status(get(Address("127.0.0.1", wide.port), "/metrics", "uniqdb:9464")) == 200


def test_a_long_first_line_is_refused(health: Health) -> None:
    with served(health) as address:
        assert status(get(address, "/" + "x" * 3_000)) == 414
        assert status(get(address, "/healthz")) == 200


def test_nobody_holds_it_up(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who send nothing, or drop by drop, are cut off; those who come too many are not let in."""
    monkeypatch.setattr(metrics_server, "REQUEST_TIMEOUT_S", 2.0)
    with served(health) as address, ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection((address.host, address.port))) for _ in range(CONNECTIONS_MAX)
        ]
        assert any(is_let_down(address) for _ in range(10)), "the slow ones take up every place, once all are let in"
        end_at_s = time.monotonic() + 60
        while True:
            for one in slow:
                with suppress(OSError):
                    one.sendall(b"G")
            if not is_let_down(address):
                break
            assert time.monotonic() < end_at_s, "it stays held up"
            time.sleep(0.2)


def test_rubbish_harms_nobody(health: Health, capfd: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(5)
    good = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/plain\r\n\r\n"
    with served(health) as address:
        for _ in range(100):
            request = bytearray(good)
            for _ in range(rng.randrange(1, 6)):
                request[rng.randrange(len(request))] = rng.randrange(256)
            with socket.create_connection((address.host, address.port)) as connection:
                connection.sendall(bytes(request[: rng.randrange(1, len(request))]))
                connection.shutdown(socket.SHUT_WR)
                with suppress(OSError):
                    connection.recv(100)
        assert status(get(address, "/metrics")) == 200
    assert capfd.readouterr() == ("", "")


def test_probes(store_path: Path) -> None:
    now_s = [1_000.0]
    health = Health(lambda: now_s[0])
    assert (health.healthz(), health.readyz()) == ((True, "starting"), (False, "starting"))
    with uniqdb.open(store_path) as db:
        health.meter = meter = Meter(db)
        assert health.healthz() == (True, "starting")
        meter.looked({0: 5}, {}, history=False)
        meter.turned(Moment(T, 1_000.0), 1)
        assert (health.healthz(), health.readyz()) == ((True, "the loop turned 0.0 s ago"), (True, "ready"))
        meter.looked({0: 5}, {}, history=True)
        meter.turned(Moment(T, 1_001.0), 1)
        assert health.readyz() == (True, "reading history")
        meter.looked(None, {}, history=False)
        meter.turned(Moment(T, 1_002.0), 1)
        assert health.readyz() == (False, "Kafka does not answer")
        meter.looked({0: 5}, {}, history=False)
        meter.waits_for_room(Moment(T, 1_002.5), 1)
        meter.waits_for_room(Moment(T, 1_003.0), 1)
        assert health.healthz() == (True, "waits for room")
        assert health.readyz() == (False, "the store cannot be written: there is no room")
        meter.committed(StateRow(), StateRow(), 0.1)
        meter.turned(Moment(T, 1_004.0), 1)
        assert (health.healthz()[0], health.readyz()) == (True, (True, "ready"))
        now_s[0] = 1_004.0 + READY_S
        assert (health.healthz()[0], health.readyz()) == (True, (False, "the loop turned 10.0 s ago"))
        latest = health.latest()
        assert latest is not None
        assert latest.at.wall_s == T + READY_S
        now_s[0] = 1_004.0 + HEALTHY_S
        assert health.healthz() == (False, "the loop turned 120.0 s ago")
        # One that hangs while it waits for room is not worth keeping either.
        meter.waits_for_room(Moment(T, 1_005.0), 1)
        now_s[0] = 1_005.0 + HEALTHY_S
        assert health.healthz() == (False, "the loop turned 120.0 s ago")


def test_a_probe_that_says_no_is_503(health: Health) -> None:
    with served(health) as address:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://{address.text}/readyz")
        assert (caught.value.code, caught.value.read()) == (503, b"starting\n")


def test_an_address_that_is_taken(health: Health) -> None:
    with (
        served(health) as address,
        pytest.raises(UsageError, match="Address already in use"),
        serving(address, health, T),
    ):
        pass


@pytest.mark.parametrize(
    ("value", "message"),
    [("here", "'here' is no address to serve metrics at"), ("no.such.host.invalid:1", "metrics cannot be served at")],
)
def test_a_wrong_address_is_one_line_and_no_store(run: Run, value: str, message: str) -> None:
    done = run("serve-stream", "--metrics-address", value)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"uniqdb: {message}")
    assert done.stderr.count("\n") == 1
    assert not Path("visits.uniqdb").exists()


def test_errors_in_the_format_of_the_log(run: Run) -> None:
    done = run("serve-stream", "--metrics-address", "here", "--log-format", "json")
    said = json.loads(done.stderr)
    assert done.exit_code == said["exit_code"] == 2
    assert (said["level"], said["event"], said["kind"]) == ("error", "failed", "UsageError")
    assert said["message"] == "'here' is no address to serve metrics at"
    assert said["hint"]


def test_without_the_package_it_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    done = run("serve-stream", "--metrics-address", "127.0.0.1:0")
    assert done.exit_code == 2
    assert done.stderr.startswith("uniqdb: the package prometheus-client is not there. Python -m pip install")
