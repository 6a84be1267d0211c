"""`uniqdb forget` and `uniqdb compact`: who is meant, who is asked, what is said, and while another process writes."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import Result

import uniqdb
from engines import assert_sound
from uniqdb.limits import REQUEST_BYTES_MAX
from uniqdb_cli.forget import PART_BYTES_MAX, _parts

Run = Callable[..., Result]
RunProcess = Callable[..., subprocess.CompletedProcess[str]]
WriteLines = Callable[[str, Sequence[object]], Path]
T = 1_468_244_340
STORE = Path("visits.uniqdb")
AFTER = (
    "`uniqdb compact`, with the store's writer stopped, also takes their bytes out of free pages of the data file.\n"
)


def visits(seconds: int = 200) -> list[object]:
    return [{"ts": T + at, "uid": f"visitor-{at % 30:02}"} for at in range(seconds)]


@pytest.fixture
def store(run: Run, write_lines: WriteLines) -> Iterator[Path]:
    """200 visits of 30 visitors, and a bad record that names one of them."""
    write_lines("visits.jsonl", [*visits(), "visitor-07 is no record"])
    assert run("ingest", "visits.jsonl").exit_code == 0
    yield STORE
    assert_sound(STORE)


def members(run: Run) -> set[str]:
    return set(run("members", "--period", "2016", "--format", "value").stdout.split())


def test_visitors_are_forgotten(run: Run, store: Path) -> None:
    done = run("forget", "visitor-07", "visitor-08", "visitor-07", "nobody", "--yes", "--store", str(store))
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == (
        "1 id is not known here.\n2 visitors forgotten, in 9 buckets, with 1 refused record.\n" + AFTER
    )
    assert members(run) == {f"visitor-{number:02}" for number in range(30)} - {"visitor-07", "visitor-08"}
    assert run("exists", "visitor-07").exit_code == 1
    again = run("forget", "visitor-07", "--yes")
    assert (again.exit_code, again.stderr) == (1, "1 id is not known here.\n")
    (audit,) = json.loads(run("info", "--format", "json").stdout)["erasures"]
    assert abs(audit.pop("at_s") - time.time()) < 60
    assert audit == {"uids": 2, "unknown": 1, "buckets": 9, "held": 0, "refused": 1, "keep_counts": False}
    assert "visitor-" not in run("info", "--format", "json").stdout
    table = run("info", "--format", "table").stdout.split("Visitors forgotten")[1].splitlines()[4].split()
    assert table[1:] == ["2", "9", "0", "1", "reduced"]


def test_counts_are_kept_if_wanted(run: Run, store: Path) -> None:
    before = run("query", "--by", "minute", "--format", "csv").stdout
    done = run("forget", "visitor-01", "--keep-counts", "--yes", "--store", str(store))
    assert done.stderr == "1 visitor forgotten; counts stay.\n" + AFTER
    assert run("query", "--by", "minute", "--format", "csv").stdout == before
    assert "visitor-01" not in members(run)
    assert run("info", "--format", "table").stdout.split("Visitors forgotten")[1].splitlines()[4].split()[-1] == "kept"


def test_a_file_and_standard_input(run: Run, store: Path) -> None:
    Path("gone.txt").write_bytes(b"visitor-01\r\n\nvisitor-02\nvisitor-03")
    assert run("forget", "--file", "gone.txt", "--yes").stderr.startswith("3 visitors forgotten, in 9 buckets.\n")
    assert run("forget", "--file", "-", "--yes", stdin="visitor-04\nx y\n").stderr.startswith(
        "1 id is not known here.\n"
    )
    assert len(members(run)) == 26
    Path("odd.txt").write_bytes(b"visitor-05\n\xff\n")
    odd = run("forget", "--file", "odd.txt", "--yes", "--store", str(store))
    assert (odd.exit_code, odd.stderr) == (
        2,
        "uniqdb: odd.txt, line 2, is not UTF-8. Give one id in each line.\n",
    )
    assert run("forget", "--file", "missing.txt", "--yes").exit_code == 66


def test_mistakes(run: Run, run_process: RunProcess) -> None:
    assert run("forget", "--yes").exit_code == 2
    Path("empty.txt").write_text("\n\n")
    assert run("forget", "--file", "empty.txt", "--yes").exit_code == 2
    assert run("forget", "a", "--yes").exit_code == 66, "there is no store"
    assert run("compact").exit_code == 66
    assert not STORE.exists()
    unasked = run_process("forget", "a")
    assert (unasked.returncode, unasked.stderr) == (
        2,
        "uniqdb: nobody can be asked whether this is meant. --yes does it without asking.\n",
    )
    lone = run_process("forget", os.fsdecode(b"\xff"), "--yes")
    assert (lone.returncode, lone.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_on_a_terminal_it_asks(
    run: Run, store: Path, process_environment: dict[str, str], answer: str, code: int
) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "uniqdb_cli", "forget", "visitor-01", "--store", str(store)]
    with subprocess.Popen(command, stdin=theirs, stderr=subprocess.PIPE, text=True, env=process_environment) as child:
        os.write(ours, f"{answer}\n".encode())
        assert child.stderr is not None
        said = child.stderr.read()
    os.close(ours)
    os.close(theirs)
    assert said.startswith(f"Forget 1 visitor in {store}? This cannot be undone. [y/N]:")
    assert child.returncode == code
    assert ("visitor-01" in members(run)) == bool(code)


def test_compact_says_what_it_did(run: Run, store: Path) -> None:
    before = run("query", "--by", "minute", "--format", "csv").stdout
    run("forget", "visitor-01", "--yes", "--store", str(store))
    done = run("compact")
    assert done.exit_code == 0
    assert done.stderr.startswith("The data file has ")
    sizes = [int(word.replace(",", "")) for word in done.stderr.replace(".", "").split() if word[0].isdigit()]
    assert sizes[0] < sizes[1]
    renumbered = run("compact", "--renumber")
    assert renumbered.stderr.endswith("Numbers of visitors in use: 29; there were 30.\n")
    assert [line.split(",")[3] for line in run("query", "--by", "minute", "--format", "csv").stdout.splitlines()] == [
        line.split(",")[3] for line in before.splitlines()
    ]
    assert sorted(entry.name for entry in store.iterdir()) == ["MANIFEST", "WRITER", "g3", "requests"]


def test_compact_waits_for_readers_and_says_who_is_in_the_way(
    run: Run, store: Path, process_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uniqdb_cli.compact.READERS_WAIT_S", 0.3)
    program = (
        f"import sys, uniqdb\ndb = uniqdb.open({str(store)!r}, read_only=True)\nprint(flush=True)\nsys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, env=process_environment) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        done = run("compact")
        assert done.exit_code == 75
        assert done.stderr.splitlines()[1].startswith("uniqdb: a reader still has the old data open (g1), with all")
        assert (store / "g1").exists()
        reader.kill()
    assert run("clock", "reset", "visits.jsonl", "--end").exit_code == 0
    assert not (store / "g1").exists(), "the next command that writes removes it"


# ---------------------------------------------------------------- while another process writes
def until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s, "it does not come true"
        time.sleep(0.01)


def accepted() -> int:
    if not (STORE / "MANIFEST").exists():
        return 0
    with uniqdb.open(STORE, read_only=True) as db:
        return db.info().visits


def test_while_a_file_is_followed(
    run: Run, write_lines: WriteLines, process_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uniqdb_cli.forget.PART_UIDS_MAX", 2)
    write_lines("visits.jsonl", [*visits(1_400), {"ts": T + 40 * 86_400, "uid": "doubtful-visitor"}])
    command = [sys.executable, "-m", "uniqdb_cli", "ingest", "--follow", "visits.jsonl"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=process_environment) as follower:
        try:
            until(lambda: accepted() == 1_400)
            gone = ["visitor-01", "doubtful-visitor", "visitor-03"]
            done = run("forget", *gone, "--yes")
            assert done.exit_code == 0
            assert "3 visitors forgotten" in done.stderr
            assert "with 1 held visit" in done.stderr
            busy = run("compact")
            assert (busy.exit_code, f"process {follower.pid}" in busy.stderr) == (75, True)
            with Path("visits.jsonl").open("a") as file:
                file.writelines(json.dumps(one) + "\n" for one in [{"ts": T + 1_400, "uid": "visitor-01"}])
            until(lambda: accepted() == 1_401)
            assert "visitor-01" in members(run), "who comes back is new"
            assert not {"doubtful-visitor", "visitor-03"} & members(run)
            (minute,) = json.loads(
                run(
                    "query",
                    "--by",
                    "minute",
                    "--from",
                    "2016-07-11T13:39",
                    "--to",
                    "2016-07-11T13:40",
                    "--format",
                    "json",
                ).stdout
            )
            assert (minute["count"], minute["visits"]) == (28, 60)
        finally:
            follower.send_signal(signal.SIGINT)
            follower.communicate(timeout=60)
    assert list((STORE / "requests").iterdir()) == []
    assert_sound(STORE)
    assert run("compact").exit_code == 0
    assert not [file for file in STORE.rglob("*") if file.is_file() and b"doubtful" in file.read_bytes()]


def test_requests_that_nobody_owns_leave_no_uid(run: Run, store: Path) -> None:
    for ending, age_s in ((".claimed", 0), (".request", 3_700), (".request.new", 3_700)):
        left = store / "requests" / f"{time.time_ns():020}-{'0' * 32}{ending}"
        left.write_text('{"kind": "forget", "arguments": {"uids": ["visitor-01"], "keep_counts": false}}')
        os.utime(left, (time.time() - age_s,) * 2)
    assert run("compact").exit_code == 0
    assert list((store / "requests").iterdir()) == []


def test_parts_fit_into_requests() -> None:
    wanted = [f"{number}" + '"' * 1_000 for number in range(2_000)]
    parts = list(_parts(wanted))
    assert [uid for part in parts for uid in part] == wanted
    assert max(len(json.dumps(part, ensure_ascii=False).encode()) for part in parts) < PART_BYTES_MAX + 2_000
    assert 2 * PART_BYTES_MAX <= REQUEST_BYTES_MAX
    assert [len(part) for part in _parts(["a"] * 25_000)] == [10_000, 10_000, 5_000]
