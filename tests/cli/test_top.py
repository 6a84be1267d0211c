"""`uniqdb top`: one look in a pipe, a live view on a terminal, and how it ends."""

import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import uniqdb
from cli.terminal import on_a_terminal
from uniqdb.stream.meter import Meter, PartitionMeasures
from uniqdb.stream.partition import Moment
from uniqdb_cli.address import Address
from uniqdb_cli.metrics_server import Health, serving
from uniqdb_cli.top_view import _bytes, _duration, scrape

T = 1_468_244_340
COMMAND = [sys.executable, "-m", "uniqdb_cli", "top"]
Run = Callable[..., Result]


def fill(name: str = "visits.uniqdb") -> None:
    with uniqdb.open(name) as db:
        db.add_many([T + 60 * number for number in range(100)], ["ann", "ben"] * 50, source="web[bold]\x1b")
        db.add_many(["noon"], ["ann"])


def facts(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w[\w ]*?) {2,}(.+)$", text, re.MULTILINE))


@pytest.mark.parametrize("flags", [[], ["--once"]])
def test_one_look(run: Run, flags: list[str]) -> None:
    fill()
    done = run("top", *flags)
    assert (done.exit_code, done.stderr) == (0, "")
    found = facts(done.stdout)
    assert found["visits"] == "100"
    assert found["different visitors"] == "2"
    assert found["quarantine"] == "bad_ts 1"
    assert found["clock"].startswith("2016-07-11T15:")
    assert "minute 2, hour 1, day 1" in found["open buckets"]
    assert re.search(r"^day +2016-07-11T00:00:00\+00:00 +2 +100 +provisional$", done.stdout, re.MULTILINE)
    assert re.search(r"^web\[bold\]\\x1b +over +100 ", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout


def test_an_empty_store(run: Run) -> None:
    run("init")
    done = run("top")
    assert done.exit_code == 0
    assert facts(done.stdout)["clock"] == "none yet"


def test_with_the_metrics_of_a_service(run: Run) -> None:
    fill()
    health = Health()
    with serving(Address("127.0.0.1", 0), health, T) as address:
        assert "starting" in run("top", "--metrics-address", address.text).stdout
        with uniqdb.open("other.uniqdb") as db:
            health.meter = meter = Meter(db)
            meter._partitions = (PartitionMeasures(0, 1_234, T, False),)
            meter.looked(None, {}, history=True)
            meter.published(7, 0.5)
            meter.waits_for_room(Moment(T, 0), 5)
            found = facts(run("top", "--metrics-address", address.text).stdout)
        assert "Kafka does not answer" in found["service"]
        assert "reading history" in found["service"]
        assert "waiting for room to write" in found["service"]
        assert found["lag"] == "1,234 records"
        assert found["publishing took"] == "500.0 ms on average, 1 times"
        assert found["published"] == "7 records, 0 failures"
    assert f"no service answers at {address.text}" in run("top", "--metrics-address", address.text).stdout


def test_what_answers_something_else_is_no_service(run: Run) -> None:
    assert scrape(Address("127.0.0.1", 1)) is None
    fill()
    assert run("top", "--metrics-address", "nonsense").exit_code == 2


def test_no_store_is_66(run: Run) -> None:
    assert run("top").exit_code == 66
    assert run("top", "--interval", "0").exit_code == 2


@pytest.mark.parametrize("end", [b"q", b"Q", b"\x03", signal.SIGTERM])
def test_on_a_terminal_it_goes_on_until_it_is_ended(
    here: Path,  # noqa: ARG001
    process_environment: dict[str, str],
    end: bytes | signal.Signals,
) -> None:
    fill()
    with on_a_terminal([*COMMAND, "--interval", "0.2"], process_environment) as terminal:
        terminal.until("/s")  # the second look: visits by the second
        with uniqdb.open("visits.uniqdb") as db:
            db.add_many([T] * 23, ["cleo"] * 23)
        terminal.until("123")
        if isinstance(end, bytes):
            terminal.press(end)
        else:
            terminal.process.send_signal(end)
        assert terminal.end() == 0
        assert "Traceback" not in terminal.text
        assert terminal.text.endswith("\x1b[?25h\x1b[?1049l"), "the cursor is back, and what was there before"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (59, "59 s"), (3_600, "1 h"), (3_661, "1 h 1 min"), (86_400 * 4_000 + 60, "4,000 d 1 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert _duration(seconds) == text


def test_sizes() -> None:
    assert [_bytes(number) for number in (5, 1_500, 2.5e6, 3e9, 4e12, 5e15)] == [
        *("5 bytes", "1.5 KB", "2.5 MB", "3.0 GB", "4.0 TB", "5,000.0 TB")
    ]
