"""Requests that nobody should send: each gets its status, none harms the server, and nothing is left of them."""

import gc
import os
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest

from uniqdb_cli.web import limits, reader, server
from uniqdb_cli.web.endpoints import ENDPOINTS
from web.web_server import Served, memory_bytes, open_files

REQUESTS = int(os.environ.get("WEB_TEST_REQUESTS") or 1_000)
"""As many as `make test-web` says; a tenth in `make test`."""
STATUSES = {200, 304, 400, 403, 404, 405, 410, 414, 422, 431}
"""What may come of any request: neither 500, nor, from one at a time, 503."""
GROWTH_BYTES_MAX = 150_000_000
"""Memory that the largest answers leave in pieces, which the allocator keeps."""
TRICKS = [
    *("/../../etc/passwd", "/assets/../../uniqdb_cli/web/gate.py", "/assets/%2e%2e/%2e%2e/secret", "//etc/passwd"),
    *("/assets/..%2fapp.py", "/assets/%00", "/assets/main.js%00.html", "/assets/main.js/", "/assets/", "/assets"),
    *(
        "/%2fapi/status",
        "/API/STATUS",
        "/api/status;x=1",
        "/api/status%3fx",
        "/api//status",
        "/./api/status",
        "/api/./status",
    ),
    *(
        "/api/status/../../",
        "/\\..\\..\\",
        "/page/index.html",
        "/.git/config",
        "/cgi-bin/x",
        "*",
        "http://evil.example/",
    ),
    *("/assets/C:\\x", "/assets/file:///etc/passwd", "/%", "/%zz", "/\u00e4".encode().decode("latin-1")),
]


def ask(site: Served, request: bytes) -> bytes:
    """What comes back until the server closes."""
    with socket.create_connection((site.address.host, site.address.port), timeout=60) as connection:
        with suppress(OSError):  # it may have seen enough
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            return b"".join(iter(lambda: connection.recv(65_536), b""))
    return b""


def status_of(answer: bytes) -> int:
    """0: it was closed without a word."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def request_for(site: Served, path: str, *more: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {site.address.text}", "Connection: close", *more]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def sound(site: Served) -> None:
    got = site.get("/healthz")
    assert got.status == 200, got


# ---------------------------------------------------------------- one by one
def test_no_path_leads_out(site: Served) -> None:
    for trick in TRICKS:
        answer = ask(site, request_for(site, trick))
        assert status_of(answer) in (400, 404), trick
        assert b"root:" not in answer
        assert b"import" not in answer
    sound(site)


def test_heads_that_are_too_large(site: Served) -> None:
    size = limits.HEAD_BYTES_MAX
    assert status_of(ask(site, request_for(site, "/healthz", "X: " + "x" * (size // 2)))) == 200
    for request in (
        request_for(site, "/healthz", "X: " + "x" * (2 * size)),
        request_for(site, "/healthz", *(f"X-{number}: x" for number in range(size))),
        request_for(site, "/" + "x" * (2 * size)),
        b"x" * (4 * size),
    ):
        assert status_of(ask(site, request)) in (400, 414, 431, 0)
    assert status_of(ask(site, request_for(site, "/" + "x" * limits.URL_BYTES_MAX))) == 414
    sound(site)


def test_requests_that_are_none(site: Served) -> None:
    host = f"Host: {site.address.text}"
    for lines, statuses in (
        (["GET /healthz HTTP/1.1"], {400}),
        (["GET /healthz HTTP/1.1", host, host], {400}),
        (["GET /healthz HTTP/1.0"], {403}),
        (["GET /healthz HTTP/9.9", host], {400, 200}),
        (["GET /healthz HTTP/1.1", host, "Content-Length: 10", "Content-Length: 11"], {400}),
        (["GET /healthz HTTP/1.1", host, "Content-Length: -1"], {400}),
        (["GET /healthz HTTP/1.1", host, "Transfer-Encoding: chunked, chunked"], {400, 501}),
        (["GET /healthz HTTP/1.1", host, "Upgrade: websocket", "Connection: upgrade"], {200, 400}),
        (["GET /healthz HTTP/1.1", host, " folded: x"], {400, 403}),
        (["GET\t/healthz\tHTTP/1.1", host], {400}),
        (["PRI * HTTP/2.0"], {400, 403}),
        (["\x16\x03\x01\x02\x00\x01\x00"], {400, 0}),
    ):
        answer = ask(site, "\r\n".join([*lines, "", ""]).encode("latin-1"))
        assert status_of(answer) in statuses, lines
    sound(site)


def test_a_body_is_not_waited_for(site: Served) -> None:
    """Neither one that is promised and does not come, nor one of a megabyte."""
    assert status_of(ask(site, request_for(site, "/healthz", "Content-Length: 1000000"))) == 200
    body = b"x" * 1_000_000
    whole = request_for(site, "/healthz", f"Content-Length: {len(body)}") + body
    assert status_of(ask(site, whole)) in (200, 0)
    sound(site)


# ---------------------------------------------------------------- many
def parts() -> tuple[list[str], list[str], list[str]]:
    """Names, values and paths of which queries are made."""
    parameters = [parameter for one in ENDPOINTS for parameter in one.parameters]
    names = sorted({one.name for one in parameters})
    values = [one.example for one in parameters] + [choice for one in parameters for choice in one.choices]
    values += [
        "",
        "0",
        "-1",
        "1" * 400,
        "99999999999999999999d",
        "0d",
        "36600d",
        "52704000m",
        "1990-01-05",
        "2016-02-30",
        "9999",
        "1800-01-01",
    ]
    values += [
        "%00",
        "%ff",
        "'; --",
        "<script>",
        "../..",
        "\u0130",
        "NaN",
        "1e309",
        "2016-07-11T13:39+99:00",
        "T",
        "1468244340",
    ]
    return names, sorted(set(values)), [one.path for one in ENDPOINTS]


def rubbish(site: Served, number: int) -> Iterator[bytes]:
    """Requests with something wrong or strange in them, the same ones each time."""
    names, values, paths = parts()
    times = ["7d", "1d", "24h", "45m", "2016", "2016-07", "2016-W27", "2016-06-30", "2016-07-01T13:30", "1468200000"]
    rng = random.Random(5)
    for _ in range(number):
        kind = rng.random()
        if kind < 0.2:
            pairs = [f"{rng.choice(names)}={rng.choice(values)}" for _ in range(rng.randrange(5))]
            path = f"{rng.choice(paths)}?{'&'.join(pairs)}".encode().decode("latin-1")
            yield request_for(site, path.replace(" ", "+"))
        elif kind < 0.5:
            # Nearly a question: its own names, and values that might be theirs.
            one = rng.choice(ENDPOINTS)
            asked = [p for p in one.parameters if p.is_required or rng.random() < 0.3]
            pairs = [
                f"{p.name}={rng.choice(p.choices or (p.example, *times)) if rng.random() < 0.9 else rng.choice(values)}"
                for p in asked
            ]
            path = f"{one.path}?{'&'.join(pairs)}".encode().decode("latin-1")
            yield request_for(site, path.replace(" ", "+"))
        elif kind < 0.6:
            yield request_for(site, rng.choice(TRICKS))
        elif kind < 0.7:
            hosts = ["evil.example", "", "127.0.0.1", "localhost:1", site.address.text + "\x00", "[::1"]
            request = request_for(site, rng.choice(paths))
            yield request.replace(site.address.text.encode(), rng.choice(hosts).encode(), 1)
        elif kind < 0.75:
            yield request_for(site, rng.choice(paths), method=rng.choice(["POST", "PUT", "get", "BREW", "G\x00T"]))
        elif kind < 0.8:
            yield request_for(
                site, rng.choice(paths), f"If-None-Match: {'x' * rng.randrange(3_000)}", "Authorization: x"
            )
        else:
            request = bytearray(request_for(site, rng.choice(paths)))
            for _ in range(rng.randrange(1, 6)):
                at = rng.randrange(len(request))
                if rng.random() < 0.5:
                    request[at] = rng.randrange(256)
                else:
                    del request[at : at + rng.randrange(8)]
            yield bytes(request)


def test_rubbish_leaves_nothing_behind(site: Served, capfd: pytest.CaptureFixture[str]) -> None:
    """The same ones twice: what is loaded and kept at the first time is no leak."""
    statuses: Counter[int] = Counter()
    files = held_bytes = blocks = 0
    for _ in range(2):
        gc.collect()
        files, held_bytes, blocks = open_files(), memory_bytes(), sys.getallocatedblocks()
        for request in rubbish(site, REQUESTS // 2):
            statuses[status_of(ask(site, request))] += 1
    assert statuses.total() == REQUESTS
    assert set(statuses) <= STATUSES | {0}, statuses
    # A request cut short is closed when its time is up, or with the connection.
    assert statuses[0] < REQUESTS / 10, statuses
    assert all(statuses[expected] for expected in (200, 400, 403, 404, 405, 422)), statuses
    sound(site)
    gc.collect()
    grown_bytes, more_blocks = memory_bytes() - held_bytes, sys.getallocatedblocks() - blocks
    assert capfd.readouterr().err == ""
    with capfd.disabled():
        print(f"{REQUESTS:,} requests, {dict(statuses)}; {more_blocks:,} blocks, {grown_bytes:,} bytes more")
    assert open_files() <= files + 4
    assert more_blocks <= REQUESTS / 4, "objects of Python; those of the second half alone are counted"
    assert grown_bytes <= GROWTH_BYTES_MAX


# ---------------------------------------------------------------- slowly
@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same limits, sooner."""
    monkeypatch.setattr(server, "LOOK_S", 0.05)
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 0.5)
    monkeypatch.setattr(server, "RESPONSE_TIMEOUT_S", 2.0)


def connect(site: Served, stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_connection((site.address.host, site.address.port), timeout=60))


def is_let_in(site: Served) -> bool:
    try:
        return site.get("/healthz").status == 200
    except OSError:
        return False


def wait_until_let_in(site: Served, slow: list[socket.socket], word: bytes) -> None:
    """Those who are slow go on all the while."""
    end_at_s = time.monotonic() + 60
    while not is_let_in(site):
        for one in slow:
            with suppress(OSError):
                one.send(word)
        assert time.monotonic() < end_at_s, "it stays held up"
        time.sleep(0.1)


def wait_for_files(most: int) -> None:
    end_at_s = time.monotonic() + 60
    while open_files() > most:
        assert time.monotonic() < end_at_s, "connections are left open"
        time.sleep(0.1)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("word", [b"", b"G", b"X-x: x\r\n"])
def test_nobody_holds_it_up_by_sending_slowly(site: Served, word: bytes) -> None:
    files = open_files()
    with ExitStack() as stack:
        slow = [connect(site, stack) for _ in range(2 * limits.CONNECTIONS_MAX)]
        if word.endswith(b"\n"):
            for one in slow:
                with suppress(OSError):
                    one.sendall(f"GET /healthz HTTP/1.1\r\nHost: {site.address.text}\r\n".encode())
        wait_until_let_in(site, slow, word)
    wait_until_let_in(site, [], b"")
    wait_for_files(files + 4)


@pytest.mark.usefixtures("hurried")
def test_nobody_holds_it_up_by_reading_slowly(site: Served) -> None:
    """Plotly's script is larger than what the kernel takes off the server's hands."""
    files = open_files()
    with ExitStack() as stack:
        for _ in range(limits.CONNECTIONS_MAX):
            one = connect(site, stack)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            one.sendall(request_for(site, "/assets/plotly.min.js"))
        wait_until_let_in(site, [], b"")
        wait_for_files(files + limits.CONNECTIONS_MAX + 4)  # our ends of the connections


def test_a_connection_that_is_used_stays(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer in all than any one request may take."""
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 3.0)
    with closing(HTTPConnection(site.address.host, site.address.port, timeout=60)) as one:
        one.connect()
        first = one.sock
        for _ in range(9):
            one.request("GET", "/healthz")
            answer = one.getresponse()
            assert (answer.status, len(answer.read()) > 0) == (200, True)
            time.sleep(0.5)
        assert one.sock is first


def test_a_question_that_takes_too_long_is_given_up(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniqdb_cli.web.questions.WORK_S_MAX", -1.0)
    got = site.get("/api/series?by=day&last=30d")
    assert (got.status, got.headers["retry-after"]) == (503, "1")
    assert site.get("/healthz").status == 200


def test_too_many_questions_at_once(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniqdb_cli.web.reader.WAITING_MAX", 0)
    got = site.get("/healthz")
    assert (got.status, got.json["type"]) == (503, "urn:uniqdb:Busy")


def test_the_store_goes_away(site: Served, store_path: Path) -> None:
    """What is open stays readable."""
    store_path.rename(store_path.with_name("elsewhere.uniqdb"))
    try:
        assert site.get("/api/count").status == 200
    finally:
        store_path.with_name("elsewhere.uniqdb").rename(store_path)


def test_answers_that_are_kept_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "ANSWERS_KEPT_BYTES_MAX", 10_000)
    monkeypatch.setattr(reader, "ANSWER_KEPT_BYTES_MAX", 5_000)
    kept, version = reader.KeptAnswers(), (1, 1, 7)
    for number in range(100):
        kept.put(version, str(number), b"x" * 1_500)
        kept.put(version, str(number), b"x" * 1_500)
    assert kept.get(version, "99") == b"x" * 1_500
    assert [kept.get(version, str(number)) is not None for number in range(90, 100)] == [False] * 5 + [True] * 5
    kept.put(version, "large", b"x" * 5_001)
    assert kept.get(version, "large") is None
    assert kept.get((1, 1, 8), "99") is None
    kept.put((1, 1, 8), "new", b"y")
    kept.put(version, "old", b"z")
    assert (kept.get((1, 1, 8), "new"), kept.get(version, "old"), kept.get(version, "99")) == (b"y", None, None)
