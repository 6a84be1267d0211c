"""How each way to fail ends: its exit code, one line on standard error with a remedy, nothing written by the way.

In processes of their own, as a shell sees it. One who is root may write anywhere but below a file: so tests do that.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import uniqdb
from lost import Fate, lose, span_at
from uniqdb.change_set import ChangeSet
from uniqdb.format import BucketRow, Database, MembersState
from uniqdb.granularity import Granularity
from uniqdb.horizons import RetentionRow, write_retention

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Result]
RunProcess = Callable[..., Done]
VISITS = "".join(f'{{"ts":{1468195200 + number * 90},"uid":"{number % 7}"}}\n' for number in range(100))


def is_one_line(done: Done) -> bool:
    """``uniqdb: what is wrong. What to do.``"""
    return re.fullmatch(r"uniqdb: [^\n]+\. [^\n]+[.?!]\n", done.stderr) is not None


@pytest.fixture
def store(here: Path, run: Run) -> Path:
    """A store with visits in the default place."""
    (here / "v.jsonl").write_text(VISITS)
    assert run("ingest", "v.jsonl").exit_code == 0
    return here / "visits.uniqdb"


def files_below(place: Path) -> dict[Path, int]:
    """Every file with its time of change; locks are touched, but nothing is written into them that lasts."""
    passing = ("WRITER", "lock.mdb", "closed")
    files = [path for path in sorted(place.rglob("*")) if path.is_file() and path.name not in passing]
    return {path: path.stat().st_mtime_ns for path in files}


def fails(run_process: RunProcess, here: Path, exit_code: int, *arguments: str, **streams: str) -> str:
    before = files_below(here)
    done = run_process(*arguments, **streams)
    assert done.returncode == exit_code, done.stderr
    assert done.stdout == ""
    assert is_one_line(done), done.stderr
    assert files_below(here) == before
    return done.stderr


@pytest.mark.usefixtures("store")
def test_0_fine(run_process: RunProcess) -> None:
    for arguments in (["query"], ["exists", "3"], ["info"], ["check"], ["members", "--period", "2016"], ["--help"]):
        assert run_process(*arguments).returncode == 0
    assert run_process("verify", "--against", "v.jsonl").returncode == 0


@pytest.mark.usefixtures("store")
def test_1_no(run_process: RunProcess, here: Path) -> None:
    done = run_process("exists", "nobody")
    assert (done.returncode, done.stderr) == (1, "")
    (here / "other.jsonl").write_text('{"ts":1468195200,"uid":"x"}\n')
    done = run_process("verify", "--against", "other.jsonl", "--by", "year")
    assert done.returncode == 1
    assert is_one_line(done) or done.stderr.startswith("uniqdb: 1 of 1 buckets of the store ")


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["query", "--window", "soon"], "soon"),
        (["query", "--window", "7d", "--by", "day"], "do not go together"),
        (["ingest", "v.jsonl", "--timezone", "Asia/Tokyo"], "UTC, not Asia/Tokyo"),
        (["init", "--timezone", "Mars/Base", "mars.uniqdb"], "unknown time zone 'Mars/Base'"),
        (["init"], "already"),
        (["members"], "no window, period or interval"),
        (["generate", "--record-bytes", "10"], "record"),
    ],
)
def test_2_usage(run_process: RunProcess, here: Path, arguments: list[str], says: str) -> None:
    assert says in fails(run_process, here, 2, *arguments)


@pytest.mark.parametrize("arguments", [["query", "--format", "xml"], ["query", "--wrong"], ["qwery"], ["ingest"]])
def test_2_what_the_parser_refuses(run_process: RunProcess, here: Path, arguments: list[str]) -> None:
    done = run_process(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert files_below(here) == {}


def test_65_no_visit_in_the_input(run_process: RunProcess, here: Path) -> None:
    (here / "clicks.jsonl").write_text('{"at":1468244384,"who":"ann"}\n' * 1_200)
    run_process("init")
    assert "--ts-field at" in fails(run_process, here, 65, "ingest", "clicks.jsonl")


def test_65_strict(run_process: RunProcess, here: Path) -> None:
    (here / "mixed.jsonl").write_text(VISITS + "bad\n" + VISITS)
    done = run_process("ingest", "mixed.jsonl", "--strict")
    assert done.returncode == 65
    assert "Traceback" not in done.stderr
    assert "mixed.jsonl" in done.stderr


@pytest.mark.usefixtures("store")
def test_65_other_fields_and_a_shorter_file(run_process: RunProcess, here: Path) -> None:
    assert "--ts-unit s, not ms" in fails(run_process, here, 65, "ingest", "v.jsonl", "--ts-unit", "ms")
    (here / "v.jsonl").write_text(VISITS[:1_000])
    done = run_process("ingest", "v.jsonl")
    assert done.returncode in (0, 65)  # a file so short is another one, or was truncated
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        *(["query"], ["info"], ["check"], ["exists", "a"], ["members", "--window", "1d"]),
        *(["ingest", "missing.jsonl"], ["ingest", "."], ["verify", "--against", "missing.jsonl"]),
        ["config", "show", "--config", "missing.toml"],
    ],
)
def test_66_no_store_or_no_input(run_process: RunProcess, here: Path, arguments: list[str]) -> None:
    fails(run_process, here, 66, *arguments)
    assert list(here.iterdir()) == []


def test_66_a_question_before_the_first_visit(run_process: RunProcess, here: Path) -> None:
    run_process("init")
    for arguments in (["query"], ["query", "--by", "day"], ["members", "--window", "7d"]):
        assert "no visits yet" in fails(run_process, here, 66, *arguments)
    assert run_process("query", "--window", "7d", "--as-of", "2016-07-11", "--format", "value").stdout == "0\n"


def sweep(path: Path, kinds: list[Granularity]) -> None:
    """Mark every bucket of these granularities as swept, as a sweep writes it."""
    with uniqdb.open(path) as db:
        store = db._store
        changes, view = ChangeSet(), store.view()
        for kind in kinds:
            for key, payload in view.rows(Database.BUCKETS, bytes((kind,)), bytes((kind + 1,))):
                swept = BucketRow.unpack(key, payload)._replace(members=MembersState.SWEPT, inline=b"")
                changes.put_row(Database.BUCKETS, key, swept.pack())
        ends_s = {kind.word: max(one.end_ts for one in db.series(kind.word)) for kind in kinds}
        write_retention(changes, RetentionRow(members_from_s=ends_s))
        store.commit(changes, based_on=view.txn_id)


def test_70_a_swept_bucket_is_needed(run_process: RunProcess, here: Path) -> None:
    (here / "v.jsonl").write_text(VISITS)
    assert run_process("ingest", "v.jsonl").returncode == 0
    sweep(here / "visits.uniqdb", [Granularity.MINUTE])
    for arguments in (
        ["query", "--from", "2016-07-11T00:10", "--to", "2016-07-11T00:20"],
        ["members", "--from", "2016-07-11T00:10", "--to", "2016-07-11T00:20"],
        ["members", "--window", "5m"],
        ["exists", "3", "--window", "5m"],
        ["query", "--window", "5m", "--plot"],
    ):
        fails(run_process, here, 70, *arguments)
    # Its count is there all the same, and coarser buckets answer.
    assert run_process("query", "--by", "minute").returncode == 0
    assert run_process("members", "--period", "2016-07-11").returncode == 0


def test_70_a_lost_bucket_is_needed(run_process: RunProcess, here: Path) -> None:
    (here / "v.jsonl").write_text(VISITS)
    assert run_process("ingest", "v.jsonl").returncode == 0
    with uniqdb.open(here / "visits.uniqdb") as db:
        start_s = next(iter(db.series("minute"))).start_ts
        lose(db, [span_at(db, "minute", start_s)], lambda _bucket: Fate.NOTHING)
        minute = db.zone.isoformat(start_s)[:16]
    for command in (["query"], ["members"], ["exists", "3"]):
        text = fails(run_process, here, 70, *command, "--period", minute)
        assert "lost to damage" in text
        assert "restore a backup" in text
    fails(run_process, here, 70, "dump", "d.tar")
    assert run_process("members", "--period", "2016-07-11").returncode == 0
    assert "lost to damage" in run_process("info", "--format", "table").stdout
    assert '"lost":[{"granularity":"minute"' in run_process("info").stdout


def test_73_cannot_write(run_process: RunProcess, here: Path) -> None:
    (here / "file").write_text("in the way")
    (here / "v.jsonl").write_text(VISITS)
    for arguments in (
        ["init", "file/visits.uniqdb"],
        ["ingest", "v.jsonl", "--store", "file/visits.uniqdb"],
        ["ingest", "v.jsonl", "--store", "file"],
        ["generate", "--visits", "5", "-o", "file/v.jsonl"],
        ["demo", "--visits", "100", "--dir", "file/demo"],
    ):
        fails(run_process, here, 73, *arguments)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a place where nobody can write")
def test_73_where_nobody_can_write(run_process: RunProcess, here: Path) -> None:
    fails(run_process, here, 73, "init", "/proc/uniqdb/visits.uniqdb")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "arguments", [["members", "--period", "2016"], ["query"], ["config", "show"], ["completion", "bash"]]
)
def test_73_a_full_disk_behind_the_output(process_environment: dict[str, str], arguments: list[str]) -> None:
    command = [sys.executable, "-m", "uniqdb_cli", *arguments]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=process_environment, timeout=120, check=False
        )
    assert done.returncode == 73
    assert done.stderr == "uniqdb: cannot write: No space left on device. Check the space on the disk.\n"


def test_74_damaged(run_process: RunProcess, store: Path) -> None:
    data = bytearray((store / "g1" / "data.mdb").read_bytes())
    # The pages after the two that LMDB keeps its roots in.
    for at in range(2 * 4096 + 100, len(data), 512):
        data[at] ^= 1
    (store / "g1" / "data.mdb").write_bytes(data)
    for arguments in (["query", "--by", "minute"], ["members", "--period", "2016"], ["verify", "--against", "v.jsonl"]):
        done = run_process(*arguments)
        assert done.returncode == 74, done.stderr
        assert is_one_line(done), done.stderr
    done = run_process("check")
    assert done.returncode == 74
    assert "Traceback" not in done.stderr


def test_74_a_data_file_that_is_none(run_process: RunProcess, store: Path, here: Path) -> None:
    (store / "g1" / "data.mdb").write_bytes(b"no store" * 1_000)
    for arguments in (["query"], ["info"], ["ingest", "v.jsonl"]):
        fails(run_process, here, 74, *arguments)


def test_75_another_process_writes(run_process: RunProcess, store: Path, here: Path) -> None:
    with uniqdb.open(store):
        line = fails(run_process, here, 75, "ingest", "v.jsonl")
        assert str(os.getpid()) in line
        assert run_process("query").returncode == 0


def has_visits(path: Path) -> bool:
    try:
        with uniqdb.open(path, read_only=True) as db:
            return db.info().visits > 0
    except uniqdb.NotFound:
        return False


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_130_and_143_interrupted_while_ingesting(
    process_environment: dict[str, str], here: Path, number: signal.Signals, exit_code: int
) -> None:
    command = [sys.executable, "-m", "uniqdb_cli", "ingest", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=process_environment, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(VISITS)
        process.stdin.flush()
        patience_s = time.monotonic() + 60
        while not has_visits(here / "visits.uniqdb") and time.monotonic() < patience_s:
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60) == exit_code
        assert "Traceback" not in process.stderr.read()
    with uniqdb.open(here / "visits.uniqdb", read_only=True) as db:
        assert db.check().problems == []


@pytest.mark.usefixtures("store")
def test_130_interrupted_while_recounting(process_environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "uniqdb_cli", "verify", "--against", "-"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=process_environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        # More than a pipe holds: once all is written, the program is reading.
        process.stdin.write(VISITS * 500)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == "uniqdb: interrupted.\n"
