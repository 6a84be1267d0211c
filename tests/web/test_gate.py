"""Who is let in, and under which conditions the command serves at all."""

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

import uniqdb
from uniqdb.errors import NotFound, UsageError
from uniqdb_cli.address import Address
from uniqdb_cli.main import app
from uniqdb_cli.web.gate import SAFE_HEADERS, names_of, read_token
from uniqdb_cli.web.limits import TOKEN_CHARACTERS_MIN, URL_BYTES_MAX
from web.web_server import ROOT, Got, Served, served

TOKEN = "0123456789abcdef"
PATHS = ("/", "/assets/main.js", "/assets/plotly.min.js", "/api/status", "/api/openapi.json", "/healthz", "/nothing")


@pytest.fixture
def empty(store_path: Path) -> Path:
    with uniqdb.open(store_path):
        pass
    return store_path


@pytest.fixture
def quiet(empty: Path) -> Iterator[Served]:
    """A server of a store without visits: what is tested here does not ask for any."""
    with served(empty) as site:
        yield site


def test_every_answer_has_the_safe_headers(quiet: Served) -> None:
    refused = [quiet.get("/", Host="evil.example"), quiet.get("/", method="POST"), quiet.get("/?" + "x" * 3_000)]
    for got in [*map(quiet.get, PATHS), *refused]:
        assert {name: got.headers[name.lower()] for name in SAFE_HEADERS} == SAFE_HEADERS
        assert not [name for name in got.headers if name.startswith("access-control")]
        assert "server" not in got.headers
    policy = SAFE_HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "http" not in policy


def test_only_get_and_head(quiet: Served) -> None:
    for path in PATHS:
        whole, head = quiet.get(path), quiet.get(path, method="HEAD")
        assert head.status == whole.status
        assert head.body == b""
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "FROB"):
            got = quiet.get(path, method=method)
            assert got.status == 405
            assert got.headers["allow"] == "GET, HEAD"


def test_only_names_of_this_machine(quiet: Served) -> None:
    port = quiet.address.port
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        f"127.0.0.1:{port + 1}",
        f"127.0.0.1:{port}.x",
        "",
    ):
        for path in PATHS:
            assert quiet.get(path, Host=host).status == 403
    for name in ("127.0.0.1", "localhost", "LocalHost", "[::1]"):
        assert quiet.get("/healthz", Host=f"{name}:{port}").status == 200


def test_which_names(empty: Path) -> None:
    assert names_of(Address("::1", 80), ["Stats.Example"]) >= {"[::1]", "[::1]:80", "localhost", "stats.example"}
    assert "10.0.0.7:8321" in names_of(Address("10.0.0.7", 8321), [])
    assert "localhost" not in names_of(Address("127.0.0.1", 8321), [])
    with served(empty, names=("stats.example",)) as site:
        assert site.get("/healthz", Host="stats.example").status == 200
        assert site.get("/healthz", Host="stats.example.evil.example").status == 403


def test_what_another_page_asks_is_refused(quiet: Served) -> None:
    for where in ("cross-site", "same-site", "anything"):
        assert quiet.get("/api/status", Sec_Fetch_Site=where, Sec_Fetch_Mode="no-cors").status == 403
        assert quiet.get("/", Sec_Fetch_Site=where, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe").status == 403
        followed = quiet.get("/", Sec_Fetch_Site=where, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")
        assert followed.status == 200
    assert quiet.get("/api/status", Sec_Fetch_Site="same-origin").status == 200
    assert quiet.get("/api/status", Sec_Fetch_Site="none").status == 200


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_with_a_token_nobody_else_gets_anything(empty: Path) -> None:
    with served(empty, token=TOKEN) as site:
        wrong = [None, "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", basic("u", TOKEN + "x")]
        wrong += [basic(TOKEN, ""), f"Digest {TOKEN}", "Basic ====", f"Bearer {TOKEN} {TOKEN}", "Bearer \xff\xfe"]
        for path in PATHS:
            for one in wrong:
                got = site.get(path) if one is None else site.get(path, Authorization=one)
                assert (path, one, got.status) == (path, one, 401)
                assert got.headers["www-authenticate"].startswith("Basic ")
                assert TOKEN.encode() not in got.body
        for one in (f"Bearer {TOKEN}", f"bearer  {TOKEN}", basic("anybody", TOKEN), basic("", TOKEN)):
            assert site.get("/api/status", Authorization=one).status == 200


def test_the_longest_address(quiet: Served) -> None:
    assert quiet.get("/" + "x" * (URL_BYTES_MAX - 1)).status == 404
    assert quiet.get("/" + "x" * URL_BYTES_MAX).status == 414


def test_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "token"
    place.write_text(f"  {TOKEN}\nand a remark\n")
    place.chmod(0o600)
    assert read_token(place) == TOKEN
    assert capsys.readouterr().err == ""
    place.chmod(0o644)
    assert read_token(place) == TOKEN
    assert "others may read" in capsys.readouterr().err
    for text in ("", "short", "\n" + TOKEN, f"{TOKEN} {TOKEN}", "ü" * TOKEN_CHARACTERS_MIN):
        place.write_text(text)
        with pytest.raises(UsageError, match="is no token"):
            read_token(place)
    with pytest.raises(NotFound, match="cannot be read"):
        read_token(tmp_path / "missing")


# ---------------------------------------------------------------- the command
COMMAND = [sys.executable, "-m", "uniqdb_cli", "serve-http"]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("UNIQDB_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("engine", "cli"))}


def refusal(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, env=environment(), timeout=120, check=False
    )
    return done.returncode, done.stderr


def test_other_machines_need_a_flag_and_a_token(empty: Path, tmp_path: Path) -> None:
    where = ["--store", str(empty), "--port", "0", "--host", "0.0.0.0"]
    assert refusal(*where)[0] == 2
    assert "give --allow-remote" in refusal(*where)[1].replace("Give", "give")
    code, said = refusal(*where, "--allow-remote")
    assert code == 2
    assert "--token-file" in said
    assert refusal(*where, "--allow-remote", "--token-file", str(tmp_path / "missing"))[0] == 66


def test_packages_that_are_missing_are_named(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniqdb_cli.serve_http.PACKAGES", ("starlette", "no_such_package"))
    done = CliRunner().invoke(app, ["serve-http", "--store", str(empty)], catch_exceptions=False)
    assert done.exit_code == 2
    assert done.stderr.strip() == (
        "uniqdb: the page needs packages that are not there: no_such_package. Run python -m pip install uniqdb[http]."
    )


def test_no_store_and_no_place(empty: Path, quiet: Served, tmp_path: Path) -> None:
    assert refusal("--store", str(tmp_path / "missing.uniqdb"))[0] == 66
    code, said = refusal("--store", str(empty), "--port", str(quiet.address.port))
    assert code == 2
    assert said.count("\n") == 1
    assert "nothing can be served at" in said


@contextmanager
def running(*arguments: str) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """The command as a process, and the address that it says it serves."""
    with subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True, env=environment()) as child:
        try:
            assert child.stderr is not None
            yield child, child.stderr.readline().split("http://")[1].split("/")[0]
        finally:
            child.kill()


def ask(address: str, token: str) -> Got:
    host, _, port = address.rpartition(":")
    return Served(Address(host, int(port))).get("/healthz", Host=address, Authorization=f"Bearer {token}")


def test_it_serves_until_it_is_stopped(empty: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    given = ["--store", str(empty), "--port", "0", "--host", "0.0.0.0", "--allow-remote", "--token-file", str(token)]
    for number in (signal.SIGTERM, signal.SIGINT):
        with running(*given) as (child, address):
            assert ask(address, TOKEN).status == 200
            assert ask(address, TOKEN[::-1]).status == 401
            child.send_signal(number)
            assert child.wait(timeout=60) == 0
            assert child.stderr is not None
            assert child.stderr.read() == ""


def test_a_compaction_need_not_wait_for_it(empty: Path) -> None:
    """Nobody asks anything, and yet it leaves the old data."""
    with running("--store", str(empty), "--port", "0"):
        done = subprocess.run(
            [sys.executable, "-m", "uniqdb_cli", "compact", "--store", str(empty)],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
