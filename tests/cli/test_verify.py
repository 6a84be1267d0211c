"""`uniqdb verify`: a recount that agrees with a right store, and names every bucket of a wrong one."""

import csv
import gzip
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import Result

import uniqdb
from cli.oracle import model_of
from model import GRANULARITIES, Model
from uniqdb.calendar_zone import CalendarZone
from uniqdb.field_settings import FieldSettings
from uniqdb.visit_decoder import VisitDecoder
from uniqdb_cli import input_files
from uniqdb_cli.recount import Calendar, Recount, visit_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Run = Callable[..., Result]
ZONES = [
    "UTC",
    "Europe/Zurich",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Beirut",
    "America/St_Johns",
]
T = b'"ts":1468244384'
NOT_VISITS = [
    *(b"", b"  ", b"\x0b\x0c", b"[1]", b'"x"', b"{}", b"{" + T + b"}", b'{"uid":"a"}', b"{'ts':1,'uid':'a'}"),
    *(b"{" + T + b',"uid":"a"', b"{" + T + b',"uid":"a",}', b"{" + T + b',"uid":"a"} x', b"{" + T + b',"uid":"a"}{}'),
    *(b"\xef\xbb\xbf{" + T + b',"uid":"a"}', ("{" + T.decode() + ',"uid":"a"}').encode("utf-16")),
    *(b'{"ts":' + value + b',"uid":"a"}' for value in (b"true", b"null", b"NaN", b"1e400", b"18446744073709551616")),
    *(
        b'{"ts":' + value + b',"uid":"a"}'
        for value in (b"-5", b'"+5"', b'" 1468244384"', b"946684799", b"253370764800")
    ),
    *(b"{" + T + b',"uid":' + value + b"}" for value in (b'""', b"1.0", b"null", b"[]", b'"\xff"', b'"\\ud800"')),
    *(b"{" + T + b',"uid":' + value + b"}" for value in (b'"' + b"x" * 1_025 + b'"', b"9" * 1_025, b"9" * 5_000)),
    b"{" + T + b',"uid":"a","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    b"{" + T + b',"uid":"a","pad":"' + b"p" * 65_536 + b'"}',
]
VISIT_LINES = [
    *(
        b'{"ts":' + value + b',"uid":"a"}'
        for value in (b"1468244384", b'"1468244384"', b"1468244384.9", b"1.468244384e9")
    ),
    *(
        b"{" + T + b',"uid":' + value + b"}"
        for value in (b"1", b"-7", b'"\\u0000"', b'"' + b"x" * 1_024 + b'"', b"9" * 1_024)
    ),
    *(b"{" + T + b',"uid":"a"}\r', b" {" + T + b',"uid":"\xc3\xa4"} ', b'{"ts":1,' + T + b',"uid":"b","uid":"a"}'),
    *(b"{" + T + b',"uid":"a","n":{"ts":1,"uid":"z"}}', b"{" + T + b',"uid":"a","x":"\xff"}'),
    *(b'{"ts":946684800,"uid":"a"}', b'{"ts":253370764799,"uid":"a"}'),
]


@pytest.mark.parametrize("line", NOT_VISITS + VISIT_LINES)
def test_what_is_a_visit_is_judged_as_the_engine_does(line: bytes) -> None:
    found = VisitDecoder(FieldSettings()).decode(line + b"\n")
    engine = (int(found.event_times_s[0]), found.uids[0]) if len(found) else None
    assert visit_of(line, FieldSettings()) == engine
    assert (engine is not None) == (line in VISIT_LINES)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "iso8601"])
@pytest.mark.parametrize(
    "value",
    [
        *("1468244384123", '"1468244384123"', "1468244384123.7", "-1", '"2016-07-11T13:39:44"', '"2016-07-11"'),
        *('"2016-07-11T13:39:44.5+02:00"', '"20160711T133944Z"', '"x"', "1468244384123456789", "1468244384123456"),
    ],
)
def test_every_unit_is_read_as_the_engine_does(unit: str, value: str) -> None:
    line = f'{{"t":{{"at":{value}}},"uid":"a"}}'.encode()
    fields = FieldSettings("t.at", "uid", unit)
    found = VisitDecoder(fields).decode(line + b"\n")
    assert visit_of(line, fields) == ((int(found.event_times_s[0]), "a") if len(found) else None)


@pytest.mark.parametrize("zone", ZONES)
@given(data=st.data())
def test_its_calendar_is_the_engine_s(zone: str, data: st.DataObject) -> None:
    theirs = CalendarZone.from_name(zone)
    calendar = Calendar(zone, theirs.tzif_bytes)
    # Around every change of the clocks of a few years, and anywhere.
    near = [datetime(2011, 12, 29, tzinfo=UTC), datetime(2016, 3, 26, tzinfo=UTC), datetime(2016, 10, 30, tzinfo=UTC)]
    spot = st.sampled_from([int(day.timestamp()) for day in near]).flatmap(lambda at: st.integers(at, at + 3 * 86_400))
    time_s = data.draw(st.one_of(spot, st.integers(946_684_800, 253_370_764_799)))
    for granularity in GRANULARITIES:
        bucket = theirs.bucket_at(uniqdb.Granularity.from_word(granularity), time_s)
        assert calendar.start(granularity, time_s // 60 * 60) == bucket.start_s


@pytest.fixture
def files(run: Run, here: Path) -> Iterator[list[str]]:
    """Two files in a store of a zone with changing clocks."""
    days = ["--days", "200", "--users", "300", "--malformed", "0.02", "--lateness", "0.3", "500"]
    for name, seed in (("one.jsonl", "1"), ("two.jsonl", "2")):
        assert run("generate", "--visits", "300", *days, "--seed", seed, "-o", name).exit_code == 0
        assert run("ingest", name, "--timezone", "Europe/Zurich").exit_code == 0
    yield ["one.jsonl", "two.jsonl"]
    with uniqdb.open(here / "visits.uniqdb", read_only=True) as db:
        assert db.check().problems == []


def differences(done: Result) -> list[dict[str, Any]]:
    assert done.exit_code == 1, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_right_store_agrees(run: Run, files: list[str]) -> None:
    done = run("verify", "--against", *files)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.startswith("The store ./visits.uniqdb agrees with the recount of ")
    assert run("verify", "--against", files[0], "--against", files[1], "--format", "json").stdout == "[]\n"
    table = run("verify", *files, "--format", "table")
    assert (table.exit_code, table.stderr) == (0, "")
    assert table.stdout.startswith("The store ./visits.uniqdb agrees ")


def test_the_recount_is_that_of_the_oracle(files: list[str]) -> None:
    zone = CalendarZone.from_name("Europe/Zurich")
    recount = Recount(Calendar(zone.name, zone.tzif_bytes), FieldSettings())
    for line in input_files.lines_of(files[0], 65_536):
        recount.add_line(line)
    rows = {(kind, at): tuple(one) for kind in GRANULARITIES for at, one in recount.figures(kind).items()}
    assert rows == model_of(Path(files[0]), "Europe/Zurich").rows()
    assert recount.visits + recount.others == 300


def test_every_difference_is_printed(run: Run, files: list[str]) -> None:
    # Expected: of one file; stored: of both.
    expected, stored = Model("Europe/Zurich").rows(), Model("Europe/Zurich").rows()
    first, second = (model_of(Path(name), "Europe/Zurich") for name in files)
    expected = first.rows()
    stored = {
        key: (
            len(first.members.get(key, set()) | second.members.get(key, set())),
            first.visits.get(key, 0) + second.visits.get(key, 0),
        )
        for key in first.members.keys() | second.members.keys()
    }
    wrong = {key for key in stored if stored[key] != expected.get(key)}
    found = differences(run("verify", "--against", files[0]))
    assert [(one["granularity"], one["start_ts"]) for one in found] == sorted(
        wrong, key=lambda key: (GRANULARITIES.index(key[0]), key[1])
    )
    for one in found:
        key = one["granularity"], one["start_ts"]
        assert (one["expected_count"], one["expected_visits"]) == expected.get(key, (0, 0))
        assert (one["stored_count"], one["stored_visits"]) == stored[key]
        assert one["difference"] == ("different" if key in expected else "extra")
    only = differences(run("verify", "--against", files[0], "--by", "month", "--by", "week"))
    assert only == [one for one in found if one["granularity"] in ("week", "month")]


def test_formats_say_the_same(run: Run, files: list[str]) -> None:
    asked = ["verify", "--against", files[1], "--by", "month"]
    found = differences(run(*asked))
    assert json.loads(run(*asked, "--format", "json").stdout) == found
    rows = list(csv.DictReader(io.StringIO(run(*asked, "--format", "csv").stdout)))
    assert rows == [{name: str(value) for name, value in one.items()} for one in found]
    table = run(*asked, "--format", "table")
    shown = [line for line in table.stdout.splitlines() if line.startswith("month ")]
    assert len(shown) == len(found)
    assert all(f" {one['stored_visits']:,}" in line for line, one in zip(shown, found, strict=True))
    assert f"uniqdb: {len(found)} of {len(found)} buckets of the store ./visits.uniqdb differ from the" in table.stderr


def test_a_visit_that_the_store_lacks_is_missing(run: Run, files: list[str]) -> None:
    Path("more.jsonl").write_text('{"ts":1600000000,"uid":"new"}\n')
    found = differences(run("verify", "--against", *files, "more.jsonl"))
    assert {one["difference"] for one in found} == {"missing"}
    assert [one["granularity"] for one in found] == list(GRANULARITIES)
    assert {one["datetime"] for one in found if one["granularity"] == "day"} == {"2020-09-13T00:00:00+02:00"}


def test_a_file_counted_twice_differs_in_visits_only(run: Run, files: list[str]) -> None:
    run("ingest", files[0], "--again")
    for one in differences(run("verify", "--against", *files)):
        assert one["expected_count"] == one["stored_count"]
        assert one["expected_visits"] < one["stored_visits"]


def test_packed_files_and_standard_input(run: Run, files: list[str]) -> None:
    one, two = (Path(name).read_bytes() for name in files)
    half = one.index(b"\n", len(one) // 2) + 10  # in the middle of a line
    Path("one.jsonl.gz").write_bytes(gzip.compress(one[:half]) + gzip.compress(one[half:]) + bytes(100))
    assert run("verify", "--against", "one.jsonl.gz", "-", stdin=two).exit_code == 0
    assert run("verify", "--against", "-", "two.jsonl", stdin=gzip.compress(one)).exit_code == 0


def test_zstd(run: Run, files: list[str]) -> None:
    one = Path(files[0]).read_bytes()
    with_checksum = {zstd.CompressionParameter.checksum_flag: 1}
    packed = b"".join(zstd.compress(part, options=with_checksum) for part in (one[:5_000], one[5_000:]))
    Path("one.jsonl.zst").write_bytes(packed)
    assert run("verify", "--against", "one.jsonl.zst", files[1]).exit_code == 0
    for harmed in (packed[:-20], packed[:200] + bytes(50) + packed[250:]):
        Path("harmed.zst").write_bytes(harmed)
        done = run("verify", "--against", "harmed.zst", files[1])
        assert (done.exit_code, done.stdout) == (65, "")
        assert done.stderr.startswith("uniqdb: harmed.zst cannot be read to its end: ")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("harm", ["cut", "flipped", "plain"])
def test_a_damaged_gzip_is_65(run: Run, harm: str) -> None:
    packed = bytearray(gzip.compress(Path("one.jsonl").read_bytes()))
    if harm == "cut":
        del packed[-30:]
    elif harm == "flipped":
        packed[len(packed) // 2] ^= 255
    else:
        packed = bytearray(Path("one.jsonl").read_bytes())
    Path("harmed.gz").write_bytes(packed)
    done = run("verify", "--against", "harmed.gz")
    assert (done.exit_code, done.stdout) == (65, "")
    assert done.stderr.count("\n") == 1
    assert ("a gzip file but is none" if harm == "plain" else "cannot be read to its end") in done.stderr


def test_a_long_line_is_never_held_as_a_whole(here: Path) -> None:
    path = here / "long.jsonl"
    path.write_bytes(b"x" * 5_000_000 + b'\n{"ts":1468244384,"uid":"a"}\n' + b"y" * 70_000)
    lines = list(input_files.lines_of(str(path), 65_536))
    assert [line[:1] for line in lines] == [b"x", b"{", b"y"]
    assert max(map(len, lines)) < 2 * input_files.CHUNK_BYTES


def test_longer_records_are_visits_where_the_setting_says_so(run: Run) -> None:
    Path("long.jsonl").write_text(
        '{"ts":1468244384,"uid":"a","pad":"' + "p" * 70_000 + '"}\n{"ts":1468244384,"uid":"b"}\n'
    )
    assert run("ingest", "long.jsonl", "--line-bytes-max", "100000").exit_code == 0
    assert run("verify", "--against", "long.jsonl", "--line-bytes-max", "100000").exit_code == 0
    assert run("verify", "--against", "long.jsonl").exit_code == 1


def test_a_named_pipe_is_read_to_its_end(here: Path, run: Run, files: list[str]) -> None:
    os.mkfifo(here / "pipe")
    for pack in (bytes, gzip.compress):
        with ThreadPoolExecutor() as pool:
            written = pool.submit((here / "pipe").write_bytes, pack(Path(files[0]).read_bytes()))
            assert run("verify", "--against", "pipe", files[1]).exit_code == 0
            assert written.result(10)


@pytest.mark.usefixtures("files")
def test_a_file_counts_once_whatever_its_names(run: Run) -> None:
    Path("soft.jsonl").symlink_to("one.jsonl")
    Path("hard.jsonl").hardlink_to("one.jsonl")
    for other in ("soft.jsonl", "hard.jsonl", "../" + Path.cwd().name + "/one.jsonl"):
        done = run("verify", "--against", "one.jsonl", other)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith(f"uniqdb: {other} is named twice. ")
    Path("copy.jsonl").write_bytes(Path("one.jsonl").read_bytes())
    assert run("verify", "--against", "one.jsonl", "copy.jsonl").exit_code == 1


@pytest.mark.usefixtures("files")
def test_an_empty_file_does_not_have_wrong_field_names(run: Run) -> None:
    Path("empty.jsonl").write_text("")
    done = run("verify", "--against", "empty.jsonl", "--by", "year")
    assert done.exit_code == 1
    assert "--ts-field" not in done.stderr


def test_other_field_names(run: Run) -> None:
    Path("clicks.jsonl").write_text('{"at":1468244384000,"who":{"id":"ann"}}\n{"at":1468244384001,"who":{"id":7}}\n')
    flags = ["--ts-field", "at", "--ts-unit", "ms", "--uid-field", "who.id"]
    assert run("ingest", "clicks.jsonl", *flags).exit_code == 0
    assert run("verify", "--against", "clicks.jsonl", *flags).exit_code == 0
    done = run("verify", "--against", "clicks.jsonl")
    assert done.exit_code == 1
    assert "Give --ts-field, --uid-field, --ts-unit" in done.stderr


def test_an_empty_store_lacks_everything(run: Run) -> None:
    run("init")
    Path("v.jsonl").write_text('{"ts":1468244384,"uid":"a"}\n')
    assert len(differences(run("verify", "--against", "v.jsonl"))) == 6
    Path("v.jsonl").write_text("")
    assert run("verify", "--against", "v.jsonl").exit_code == 0


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        ([], 2, "nothing to compare with. Give --against FILE"),
        (["--against", "one.jsonl", "./one.jsonl"], 2, "./one.jsonl is named twice"),
        (["--against", "-", "-"], 2, "standard input is named twice"),
        (["--against", "one.jsonl", "--format", "value"], 2, "verify has no format value"),
        (["--against", "one.jsonl", "--ts-field", "uid"], 2, "two different names"),
        (["--against", "one.jsonl", "--by", "decade"], 2, "decade"),
        (["--against", "none.jsonl"], 66, "there is no file none.jsonl"),
        (["--against", "."], 66, ". is a directory"),
        (["--against", "one.jsonl/x"], 66, "cannot be read"),
        (["--against", "a\0b"], 66, "cannot be read"),
        (["--against", "one.jsonl", "--store", "no.uniqdb"], 66, "there is no store"),
    ],
)
def test_mistakes(run: Run, arguments: list[str], exit_code: int, says: str) -> None:
    done = run("verify", *arguments)
    assert (done.exit_code, done.stdout) == (exit_code, "")
    assert says in done.stderr
