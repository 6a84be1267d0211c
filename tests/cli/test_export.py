"""`uniqdb export`: every file is what `query` and plain Python sets say, and it is there whole or not at all."""

import base64
import csv
import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyroaring import BitMap
from typer.testing import Result

import uniqdb
from cli.test_exit_codes import sweep
from engines import assert_sound, options
from lost import Fate, lose, span_at
from model import GRANULARITIES, Model
from uniqdb.exporting import bucket_sets
from uniqdb.forgetting import forget
from uniqdb.granularity import Granularity
from uniqdb_cli.export_clickhouse import group_bitmap_state, varuint

Run = Callable[..., Result]
RunProcess = Callable[..., subprocess.CompletedProcess[str]]
Sets = dict[tuple[str, int], set[str]]
T = 1_468_195_200  # 2016-07-11
ODD = ['say "no"', "a,b", "two\nlines", "\r\n", "ä\u2028ö", "\x00", " ", "x" * 1_024, "\\n", "'", "{}"]


@pytest.fixture(scope="module")
def forty_days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    """A store with days of few and of many visitors, and ids that every format has to quote; and its oracle."""
    path = tmp_path_factory.mktemp("forty_days") / "visits.uniqdb"
    rng, model = random.Random(5), Model("Europe/Zurich")
    with uniqdb.open(path, timezone="Europe/Zurich", options=options()) as db:
        for day in range(40):
            times = sorted(T + day * 86_400 + rng.randrange(86_400) for _ in range(rng.choice([3, 20, 160])))
            for columns in ((times, [f"u{rng.randrange(400)}" for _ in times]), ([times[0]], [ODD[day % len(ODD)]])):
                db.add_many(*columns)
                model.add(*columns)
            db.commit()
    return path, model


@pytest.fixture
def model(here: Path, forty_days: tuple[Path, Model]) -> Model:
    """The oracle; the store is in the current directory."""
    shutil.copytree(forty_days[0], here / "visits.uniqdb")
    return forty_days[1]


@pytest.fixture(scope="module")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of so many minutes that an export of them takes a second or more."""
    path = tmp_path_factory.mktemp("minutes") / "visits.uniqdb"
    with uniqdb.open(path, options=options()) as db:
        db.add_many([T + 61 * number for number in range(30_000)], [f"u{number % 700}" for number in range(30_000)])
    return path


def ok(done: Result) -> Result:
    assert done.exit_code == 0, done.stderr
    return done


def truth_of(model: Model, kind: str) -> Sets:
    return {bucket: uids for bucket, uids in model.members.items() if bucket[0] == kind}


def grouped(rows: Iterable[tuple[str, int, str]]) -> Sets:
    found, number = defaultdict[tuple[str, int], set[str]](set), 0
    for kind, start_s, uid in rows:
        found[kind, start_s].add(uid)
        number += 1
    assert number == sum(map(len, found.values())), "nobody is in a bucket twice"
    return dict(found)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


# ---------------------------------------------------------------- counts
@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize(
    "asked", [["minute"], ["day", "--from", "2016-07-12", "--to", "2016-07"], ["week", "--to", "2016-09", "--fill"]]
)
@pytest.mark.usefixtures("model")
def test_counts_are_those_of_query(run: Run, form: str, asked: list[str]) -> None:
    expected = ok(run("query", "--by", *asked, "--format", form)).stdout
    assert expected.count("\n") > 3
    assert ok(run("export", "counts", "--by", *asked, "--format", form)).stdout == expected
    done = ok(run("export", "counts", "--by", *asked, "-o", f"counts.{form}"))
    assert done.stderr.startswith("Exported ")
    assert f" to counts.{form}, {len(expected):,} bytes.\n" in done.stderr
    assert Path(f"counts.{form}").read_text("utf-8") == expected
    assert Path(f"counts.{form}").stat().st_mode & 0o777 == 0o600


# ---------------------------------------------------------------- members
@pytest.mark.parametrize("kind", GRANULARITIES)
def test_members_are_those_of_sets(run: Run, model: Model, kind: str) -> None:
    ok(run("export", "members", "--by", kind, "-o", "m.csv"))
    ok(run("export", "members", "--by", kind, "-o", "m.jsonl"))
    for rows in (read_csv(Path("m.csv")), read_lines(Path("m.jsonl"))):
        assert list(rows[0]) == ["granularity", "start_ts", "uid"]
        starts = [int(row["start_ts"]) for row in rows]
        assert starts == sorted(starts)
        assert grouped((row["granularity"], int(row["start_ts"]), row["uid"]) for row in rows) == truth_of(model, kind)
    assert ok(run("export", "members", "--by", kind)).stdout == Path("m.jsonl").read_text("utf-8")


def test_members_of_an_interval(run: Run, model: Model) -> None:
    ok(run("export", "members", "--by", "day", "--from", "2016-07-13", "--to", "2016-07-20", "-o", "m.jsonl"))
    found = grouped((row["granularity"], row["start_ts"], row["uid"]) for row in read_lines(Path("m.jsonl")))
    first_s, end_s = T - 7_200 + 2 * 86_400, T - 7_200 + 10 * 86_400
    assert found == {key: uids for key, uids in truth_of(model, "day").items() if first_s <= key[1] < end_s}
    assert len(found) == 8
    assert ok(run("export", "members", "--by", "day", "--from", "2001", "--to", "2001", "--format", "csv")).stdout == (
        "granularity,start_ts,uid\n"
    )


# ---------------------------------------------------------------- sets
def decoded(rows: Iterable[dict[str, Any]], uids: Iterable[dict[str, Any]]) -> Sets:
    names = {int(row["ordinal"]): row["uid"] for row in uids}
    assert len(set(names.values())) == len(names)
    found = {}
    for row in rows:
        members = BitMap.deserialize(base64.b64decode(row["set"]))
        assert len(members) == int(row["count"])
        found[row["granularity"], int(row["start_ts"])] = {names[one] for one in members}
    return found


@pytest.mark.parametrize("kind", ["hour", "day", "year"])
def test_sets_are_those_of_sets(run: Run, model: Model, kind: str) -> None:
    ok(run("export", "sets", "--by", kind, "--format", "csv", "--output", "c"))
    ok(run("export", "sets", "--by", kind, "--output", "j"))
    ok(run("export", "sets", "--by", kind, "--format", "clickhouse", "--output", "b"))
    truth = truth_of(model, kind)
    assert decoded(read_csv(Path("c/sets.csv")), read_csv(Path("c/uids.csv"))) == truth
    lines = read_lines(Path("j/sets.jsonl"))
    assert decoded(lines, read_lines(Path("j/uids.jsonl"))) == truth
    records = [json.loads(line) for line in ok(run("query", "--by", kind, "--format", "jsonl")).stdout.splitlines()]
    assert [{name: row[name] for name in row if name != "set"} for row in lines] == records
    uids = dict(row_binary(Path("b/uids.rowbinary")))
    rows = list(row_binary(Path("b/sets.rowbinary")))
    assert {(row[0], row[4]): {uids[one].decode() for one in row[-1]} for row in rows} == {
        (kind.encode(), at): members for (_, at), members in truth.items()
    }
    for row, record in zip(rows, records, strict=True):
        assert row[1] == record["start_ts"]
        texts = [one.decode() if isinstance(one, bytes) else one for one in [row[0], *row[2:-1]]]
        assert texts == [value for name, value in record.items() if name != "datetime"]
    manifest = json.loads(Path("b/manifest.json").read_text())
    with uniqdb.open("visits.uniqdb", read_only=True) as db:
        info = db.info()
    assert manifest == {
        "format": "uniqdb-sets",
        "version": 1,
        "tables": "clickhouse",
        "granularity": kind,
        "timezone": "Europe/Zurich",
        "store_uuid": info.store_uuid,
        "epoch": 1,
        "generation": 1,
        "commit_number": info.commits,
        "buckets": len(truth),
        "visitors": len(set().union(*truth.values())),
        "uids": len(uids),
    }
    assert sorted(os.listdir("b")) == ["manifest.json", "sets.rowbinary", "uids.rowbinary"]


def row_binary(path: Path) -> Iterator[list[Any]]:
    """The rows of a file in RowBinaryWithNamesAndTypes, by what ClickHouse's documentation says of it."""
    data = path.read_bytes()
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        assert at <= len(data)
        return data[at - size : at]

    def number() -> int:
        found, shift = 0, 0
        while True:
            (byte,) = take(1)
            found |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return found

    def state() -> BitMap:
        (kind,) = take(1)
        size = number()
        if kind == 1:
            return BitMap.deserialize(take(size))
        assert (kind, size <= 32) == (0, True)
        return BitMap(struct.unpack(f"<{size}I", take(4 * size)))

    readers: dict[str, Callable[[], Any]] = {
        "String": lambda: take(number()),
        "Int64": lambda: struct.unpack("<q", take(8))[0],
        "UInt32": lambda: struct.unpack("<I", take(4))[0],
        "Bool": lambda: take(1) == b"\x01",
        "DateTime64(0, 'Europe/Zurich')": lambda: struct.unpack("<q", take(8))[0],
        "AggregateFunction(groupBitmap, UInt32)": state,
    }
    columns = number()
    names = [take(number()) for _ in range(columns)]
    types = [take(number()).decode() for _ in range(columns)]
    assert len(set(names)) == columns
    while at < len(data):
        yield [readers[one]() for one in types]


@pytest.mark.parametrize(
    ("members", "state"),
    [
        # As ClickHouse 26.9 itself writes groupBitmapState: an array up to 32 members, then a Roaring bitmap.
        ([], "0000"),
        ([0, 7, 14], "000300000000070000000e000000"),
        (range(0, 224, 7), "0020" + b"".join(struct.pack("<I", one) for one in range(0, 224, 7)).hex()),
        (
            range(0, 231, 7),
            "01523a30000001000000000020001000000000000700"
            "0e0015001c0023002a00310038003f0046004d0054005b0062006900700077007e0085008c0093009a00a100a800af00b600bd00c4"
            "00cb00d200d900e000",
        ),
    ],
)
def test_states_are_clickhouse_s_own(members: Iterable[int], state: str) -> None:
    assert group_bitmap_state(BitMap(members)).hex() == state


def test_numbers_of_variable_length() -> None:
    for number, encoded in ((0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (2**21, "80808001")):
        assert varuint(number).hex() == encoded


# ---------------------------------------------------------------- what is not there
def test_forgotten_visitors_count_and_have_no_name(run: Run, model: Model) -> None:
    gone = sorted(model.union(T - 7_200, T - 7_200 + 86_400))[:5]
    with uniqdb.open("visits.uniqdb") as db:
        forget(db, gone, keep_counts=True)
    ok(run("export", "members", "--by", "day", "-o", "m.jsonl"))
    found = grouped((row["granularity"], row["start_ts"], row["uid"]) for row in read_lines(Path("m.jsonl")))
    assert found == {key: uids - set(gone) for key, uids in truth_of(model, "day").items() if uids - set(gone)}
    ok(run("export", "sets", "--by", "day", "-o", "s"))
    rows, uids = read_lines(Path("s/sets.jsonl")), read_lines(Path("s/uids.jsonl"))
    assert {row["start_ts"]: row["count"] for row in rows} == {
        at: len(members) for (_, at), members in truth_of(model, "day").items()
    }
    united = BitMap.union(*(BitMap.deserialize(base64.b64decode(row["set"])) for row in rows))
    assert len(united) - len(uids) == len(gone)
    manifest = json.loads(Path("s/manifest.json").read_text())
    assert (manifest["visitors"], manifest["uids"]) == (len(united), len(uids))


@pytest.mark.usefixtures("model")
def test_70_a_swept_bucket_is_needed(run: Run) -> None:
    sweep(Path("visits.uniqdb"), [Granularity.MINUTE])
    before = sorted(os.listdir())
    for command in (["members", "-o", "m.csv"], ["sets", "-o", "s"], ["members"], ["members", "--from", "2016-07-13"]):
        done = run("export", command[0], "--by", "minute", *command[1:])
        assert (done.exit_code, done.stdout) == (70, "")
        assert done.stderr.startswith("uniqdb: the members of minutes before 2016-08-")
        assert "no longer kept. Begin there (--from " in done.stderr
    assert sorted(os.listdir()) == before
    from_s = done.stderr.split("--from ")[1].split(")")[0]
    assert ok(run("export", "members", "--by", "minute", "--from", from_s, "--to", "2016-12")).stdout == ""
    ok(run("export", "counts", "--by", "minute"))
    ok(run("export", "sets", "--by", "hour", "-o", "s"))


@pytest.mark.usefixtures("model")
def test_70_a_lost_bucket_is_needed(run: Run) -> None:
    with uniqdb.open("visits.uniqdb") as db:
        lose(db, [span_at(db, "day", T + 5 * 86_400)], lambda _bucket: Fate.COUNT)
    before = sorted(os.listdir())
    for command in (["members", "-o", "m.csv"], ["sets", "-o", "s"], ["members", "--from", "2016-07-16"]):
        done = run("export", command[0], "--by", "day", *command[1:])
        assert (done.exit_code, done.stdout) == (70, "")
        assert "were lost to damage, not swept" in done.stderr
    assert sorted(os.listdir()) == before
    for interval in (["--to", "2016-07-15"], ["--from", "2016-07-17"]):
        assert ok(run("export", "members", "--by", "day", *interval)).stdout
    (line,) = ok(run("export", "counts", "--by", "day", "--from", "2016-07-16", "--to", "2016-07-16")).stdout.split()
    assert json.loads(line)["complete"] is False
    ok(run("export", "members", "--by", "hour", "-o", "m.csv"))


def test_66_there_is_nothing(run: Run) -> None:
    assert run("export", "counts", "--by", "day").exit_code == 66
    run("init")
    for command in (["counts"], ["members"], ["sets", "-o", "s"]):
        done = run("export", command[0], "--by", "day", *command[1:])
        assert (done.exit_code, "no visits yet" in done.stderr) == (66, True)
    for command in (["counts"], ["members", "--format", "jsonl"]):
        assert ok(run("export", *command, "--by", "day", "--from", "2016", "--to", "2016")).stdout == ""
    assert os.listdir() == ["visits.uniqdb"]


# ---------------------------------------------------------------- where to
@pytest.mark.usefixtures("model")
def test_nothing_is_overwritten_unasked(run: Run) -> None:
    Path("days.csv").write_text("mine")
    done = run("export", "counts", "--by", "day", "-o", "days.csv")
    assert done.exit_code == 73
    assert done.stderr == "uniqdb: days.csv is there already. Name another place, or give --overwrite.\n"
    assert Path("days.csv").read_text() == "mine"
    ok(run("export", "counts", "--by", "day", "-o", "days.csv", "--overwrite"))
    assert Path("days.csv").read_text().startswith("granularity,")
    ok(run("export", "sets", "--by", "day", "-o", "s"))
    assert run("export", "sets", "--by", "week", "-o", "s").exit_code == 73
    ok(run("export", "sets", "--by", "week", "-o", "s", "--format", "csv", "--overwrite"))
    assert sorted(os.listdir("s")) == ["manifest.json", "sets.csv", "uids.csv"]
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("mine")
    for command in (["sets", "--by", "day"], ["counts", "--by", "day", "--format", "csv"]):
        assert run("export", *command, "-o", "mine", "--overwrite").exit_code == 73
    assert os.listdir("mine") == ["thesis.tex"]
    assert sorted(os.listdir()) == ["days.csv", "mine", "s", "visits.uniqdb"]


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["counts", "--by", "day", "-o", "days.txt"], 2, "let it end with one of .csv, .jsonl, .parquet, or give"),
        (["counts", "--by", "day", "-o", "visits.uniqdb/days.csv"], 2, "lies within the store"),
        (["counts", "--by", "day", "-o", "missing/days.csv"], 73, "No such file or directory"),
        (["sets", "--by", "day", "-o", "-"], 2, "name a folder"),
        (["members", "--by", "day", "--from", "july"], 2, "july"),
    ],
)
def test_mistakes_are_one_line(run: Run, arguments: list[str], exit_code: int, said: str) -> None:
    done = run("export", *arguments)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (exit_code, "", 1)
    assert said.lower() in done.stderr.lower()
    assert sorted(os.listdir()) == ["visits.uniqdb"]


@pytest.mark.usefixtures("model")
def test_without_the_library_it_says_how_to_get_it(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A module of that name that cannot be imported stands before a real one.
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "pyarrow.py").write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow" or name.endswith("export_parquet")]:
        monkeypatch.delitem(sys.modules, name)
    for command in (["counts", "-o", "d.parquet"], ["members", "-o", "d.parquet"], ["sets", "-o", "s"]):
        done = run("export", *command, "--by", "day", "--format", "parquet")
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr == (
            "uniqdb: Parquet needs the package pyarrow, which is not installed. "
            f"Install it beside uniqdb: {sys.executable} -m pip install pyarrow.\n"
        )
    assert sorted(os.listdir()) == ["lib", "visits.uniqdb"]


# ---------------------------------------------------------------- beside others, and cut off
def test_one_export_is_of_one_commit(run_process: RunProcess, model: Model) -> None:
    truth = [len(one) for _, one in sorted(truth_of(model, "day").items())]
    with uniqdb.open("visits.uniqdb") as writer:
        with writer.snapshot() as snapshot:
            found = bucket_sets(snapshot, "day")
            seen = [next(found)]
            for day in range(50):
                writer.add_many([T + day * 86_400] * 300, [f"new-{number}" for number in range(300)])
                writer.commit()
            seen += found
        assert [len(members) for _, members in seen] == truth
        # The command is another reader, which the writer's lock does not keep out.
        assert run_process("export", "members", "--by", "year", "-o", "m.csv").returncode == 0
    assert len(read_csv(Path("m.csv"))) == len(truth_of(model, "year")["year", 1_451_602_800]) + 300
    assert_sound(Path("visits.uniqdb"))


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    "command", [["members", "-o", "out.csv"], ["sets", "-o", "out"], ["sets", "--format", "csv", "-o", "out"]]
)
def test_what_is_cut_off_leaves_nothing(
    minutes: Path, process_environment: dict[str, str], command: list[str], number: signal.Signals, exit_code: int
) -> None:
    words = [sys.executable, "-m", "uniqdb_cli", "export", command[0], "--by", "minute", *command[1:]]
    words += ["--store", str(minutes)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=process_environment) as process:
        patience_s = time.monotonic() + 60
        while not os.listdir() and time.monotonic() < patience_s:
            time.sleep(0.002)
        begun = os.listdir()
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (exit_code, "uniqdb: interrupted.\n")
    assert len(begun) == 1
    assert begun[0].startswith(".out")
    assert ".building-" in begun[0]
    assert os.listdir() == []


@pytest.mark.parametrize("command", [["members", "-o", "out.csv"], ["sets", "--format", "csv", "-o", "out"]])
def test_a_full_disk_is_73(minutes: Path, process_environment: dict[str, str], command: list[str]) -> None:
    # A limit on the size of files is a full disk that needs no disk of its own.
    limited = (
        "import resource, sys; from uniqdb_cli.main import run; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000)); sys.argv[0] = 'uniqdb'; run()"
    )
    words = [sys.executable, "-c", limited, "export", command[0], "--by", "day", *command[1:], "--store", str(minutes)]
    done = subprocess.run(words, capture_output=True, text=True, env=process_environment, timeout=120, check=False)
    assert done.returncode == 73, done.stderr
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert os.listdir() == []


def test_a_pipe_gets_what_a_file_gets(
    run: Run,
    process_environment: dict[str, str],
    model: Model,  # noqa: ARG001 - it makes the store
) -> None:
    words = [sys.executable, "-m", "uniqdb_cli", "export", "members", "--by", "day", "--format", "csv"]
    done = subprocess.run(words, capture_output=True, env=process_environment, timeout=120, check=True)
    ok(run("export", "members", "--by", "day", "-o", "m.csv"))
    assert done.stdout == Path("m.csv").read_bytes()
    assert csv.reader(io.StringIO(done.stdout.decode()))
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=process_environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"granularity,start_ts,uid\n"
        process.stdout.close()
        assert process.wait(60) == 0
