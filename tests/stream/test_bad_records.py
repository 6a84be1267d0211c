"""A corpus with one bad line in a hundred, of every kind: the good ones count, the bad ones are kept with their reason.

Each kind comes with what the rules say about it; the expected positions are worked out while the file is written.
"""

import gzip
import json
import random
from collections import Counter
from pathlib import Path

import pytest

import uniqdb
from engines import options, rows_of
from model import Model
from uniqdb.field_settings import FieldSettings
from uniqdb.quarantine import read_counted, read_quarantine
from uniqdb.stream.driver import ingest_file
from uniqdb.stream.ingest_options import IngestOptions

T = 1_468_244_340
DEEP = b"[" * 10_000 + b"]" * 10_000

BAD: dict[str, tuple[bytes, str]] = {
    "truncated": (b'{"ts":1468244384,"uid":"a', "malformed"),
    "truncated in a key": (b'{"ts":1468244384,"ui', "malformed"),
    "no closing brace": (b'{"ts":1468244384,"uid":"a"', "malformed"),
    "BOM": (b'\xef\xbb\xbf{"ts":1468244384,"uid":"a"}', "malformed"),
    "UTF-16": ('{"ts":1468244384,"uid":"a"}'.encode("utf-16-le"), "malformed"),
    "trailing bytes": (b'{"ts":1468244384,"uid":"a"} x', "malformed"),
    "two records": (b'{"ts":1468244384,"uid":"a"}{"ts":1468244384,"uid":"b"}', "malformed"),
    "single quotes": (b"{'ts':1468244384,'uid':'a'}", "malformed"),
    "NaN": (b'{"ts":NaN,"uid":"a"}', "malformed"),
    "Infinity": (b'{"ts":Infinity,"uid":"a"}', "malformed"),
    "leading zero": (b'{"ts":01468244384,"uid":"a"}', "malformed"),
    "text": (b"no JSON at all", "malformed"),
    "a NUL byte": (b'{"ts":1468244384,\0"uid":"a"}', "malformed"),
    "raw control character in the uid": (b'{"ts":1468244384,"uid":"a\x01"}', "malformed"),
    "nested 10,000 deep": (b'{"x":' + DEEP + b',"ts":1468244384,"uid":"a"}', "too_deep"),
    "5 MB": (b'{"x":"' + b"y" * 5_000_000 + b'","ts":1468244384,"uid":"a"}', "too_long"),
    "64 KiB and a byte": (b'{"ts":1468244384,"uid":"a","x":"' + b"y" * 65_503 + b'"}', "too_long"),
    "an array": (b'[1468244384,"a"]', "not_an_object"),
    "a number": (b"1468244384", "not_an_object"),
    "null": (b"null", "not_an_object"),
    "no ts": (b'{"uid":"a"}', "no_ts"),
    "ts only nested": (b'{"x":{"ts":1468244384},"uid":"a"}', "no_ts"),
    "no uid": (b'{"ts":1468244384}', "no_uid"),
    "uid only nested": (b'{"ts":1468244384,"x":{"uid":"a"}}', "no_uid"),
    "ts null": (b'{"ts":null,"uid":"a"}', "bad_ts"),
    "ts true": (b'{"ts":true,"uid":"a"}', "bad_ts"),
    "ts an object": (b'{"ts":{"a":1},"uid":"a"}', "bad_ts"),
    "ts words": (b'{"ts":"noon","uid":"a"}', "bad_ts"),
    "ts empty": (b'{"ts":"","uid":"a"}', "bad_ts"),
    "ts with a fraction as text": (b'{"ts":"1468244384.5","uid":"a"}', "bad_ts"),
    "ts 2^64": (b'{"ts":18446744073709551616,"uid":"a"}', "implausible"),
    "ts 2^63": (b'{"ts":9223372036854775808,"uid":"a"}', "implausible"),
    "ts negative": (b'{"ts":-1,"uid":"a"}', "implausible"),
    "ts zero": (b'{"ts":0,"uid":"a"}', "implausible"),
    "ts of 1999": (b'{"ts":946684799,"uid":"a"}', "implausible"),
    "ts in milliseconds": (b'{"ts":1468244384000,"uid":"a"}', "implausible"),
    "uid empty": (b'{"ts":1468244384,"uid":""}', "bad_uid"),
    "uid of 1,025 bytes": (b'{"ts":1468244384,"uid":"' + b"u" * 1_025 + b'"}', "bad_uid"),
    "uid of 342 wide characters": (
        b'{"ts":1468244384,"uid":"' + "\N{EURO SIGN}".encode() * 342 + b'"}',
        "bad_uid",
    ),
    "uid null": (b'{"ts":1468244384,"uid":null}', "bad_uid"),
    "uid false": (b'{"ts":1468244384,"uid":false}', "bad_uid"),
    "uid a float": (b'{"ts":1468244384,"uid":1.5}', "bad_uid"),
    "uid a list": (b'{"ts":1468244384,"uid":["a"]}', "bad_uid"),
    "uid a lone surrogate": (b'{"ts":1468244384,"uid":"\\ud800"}', "malformed"),
    "uid invalid UTF-8": (b'{"ts":1468244384,"uid":"a\xff"}', "bad_uid"),
}
GOOD: dict[str, tuple[bytes, tuple[int, str]]] = {
    "CRLF": (b'{"ts":1468244384,"uid":"a"}\r', (1_468_244_384, "a")),
    "spaces around": (b' \t{"ts" : 1468244384 , "uid" : "a"} ', (1_468_244_384, "a")),
    "NUL in the uid": (b'{"ts":1468244384,"uid":"a\\u0000"}', (1_468_244_384, "a\0")),
    "duplicate keys": (b'{"ts":1,"uid":"x","ts":1468244384,"uid":"a"}', (1_468_244_384, "a")),
    "decoys": (b'{"o":{"ts":5,"uid":"x"},"ts":1468244384,"l":[{"uid":"y"}],"uid":"a"}', (1_468_244_384, "a")),
    "invalid UTF-8 elsewhere": (b'{"x":"\xff\xfe","ts":1468244384,"uid":"a"}', (1_468_244_384, "a")),
    "ts as text": (b'{"ts":"1468244384","uid":"a"}', (1_468_244_384, "a")),
    "ts a float": (b'{"ts":1468244384.0,"uid":"a"}', (1_468_244_384, "a")),
    "ts with a fraction": (b'{"ts":1468244384.9,"uid":"a"}', (1_468_244_384, "a")),
    "uid a number": (b'{"ts":1468244384,"uid":42}', (1_468_244_384, "42")),
    "uid of 1,024 bytes": (b'{"ts":1468244384,"uid":"' + b"u" * 1_024 + b'"}', (1_468_244_384, "u" * 1_024)),
    "64 KiB": (b'{"ts":1468244384,"uid":"a","x":"' + b"y" * 65_502 + b'"}', (1_468_244_384, "a")),
    "nested 500 deep": (b'{"x":' + b"[" * 500 + b"]" * 500 + b',"ts":1468244384,"uid":"a"}', (1_468_244_384, "a")),
    "not normalised": ('{"ts":1468244384,"uid":"e\u0301"}'.encode(), (1_468_244_384, "e\u0301")),
}


def write_corpus(path: Path, model: Model, final_newline: bool) -> list[tuple[str, int, int, bytes]]:
    """The file; (reason, position, line, record) of every line that must be refused."""
    rng = random.Random(6)
    lines: list[bytes] = []
    for number in range(len(BAD) * 100):
        time_s, uid = T + number * 7, f"u{rng.randrange(300)}"
        lines.append(json.dumps({"uid": uid, "page": "p" * rng.randrange(20), "ts": time_s}).encode())
        model.add([time_s], [uid])
    odd = [(line, reason) for line, reason in BAD.values()]
    for line, (time_s, uid) in GOOD.values():
        odd.append((line, ""))
        model.add([time_s], [uid])
    odd += [(b"", ""), (b"   \t", ""), (b"\r", "")]
    reasons = {}
    for line, reason in odd:
        at = rng.randrange(1, len(lines))
        lines.insert(at, line)
        if reason:
            reasons[line] = reason
    expected, position = [], 0
    for number, line in enumerate(lines, 1):
        if line in reasons:
            expected.append((reasons[line], position, number, line))
        position += len(line) + 1
    path.write_bytes(b"\n".join(lines) + (b"\n" if final_newline else b""))
    return expected


@pytest.mark.parametrize(("commit_visits", "packed"), [(13, False), (50_000, False), (50_000, True)])
def test_every_good_line_counts_and_every_bad_one_is_kept(
    store_path: Path, tmp_path: Path, commit_visits: int, packed: bool
) -> None:
    model = Model()
    path = tmp_path / "corpus.jsonl"
    expected = write_corpus(path, model, final_newline=packed)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert len(expected) == len(BAD) >= 30
    with uniqdb.open(store_path, options=options()) as db:
        summary = ingest_file(db, path, IngestOptions(commit_visits=commit_visits))
        assert summary.refused == Counter(reason for reason, *_ in expected)
        assert rows_of(db) == model.rows()
        with db.snapshot() as snapshot:
            rows = [row for _, row in read_quarantine(snapshot.answers.view)]
        assert [(row.reason, row.position, row.line) for row in rows] == [one[:3] for one in expected]
        for row, (*_, record) in zip(rows, expected, strict=True):
            if row.event_time_s is None or row.uid is None:
                assert row.record == record[:1_024]
            else:
                assert row.reason == "implausible"


@pytest.mark.parametrize("kind", BAD)
def test_each_bad_kind_alone_and_with_dotted_fields(tmp_path: Path, kind: str) -> None:
    record, reason = BAD[kind]
    good = b'{"ts":1468244384,"uid":"good"}\n'
    path = tmp_path / "visits.jsonl"
    path.write_bytes(good + record + b"\n" + good)
    with uniqdb.open(tmp_path / "plain", options=options()) as db:
        assert ingest_file(db, path).refused == {reason: 1}
        assert db.count().visits == 2
    if record.startswith(b'{"ts":') and record.endswith(b"}") and reason not in {"malformed", "too_long"}:
        path.write_bytes(b'{"d":%s}\n{"d":%s,"x":"\xff"}\n{"d":%s}\n' % (good[:-1], record, good[:-1]))
        with uniqdb.open(tmp_path / "dotted", options=options()) as db:
            dotted = ingest_file(db, path, IngestOptions(FieldSettings("d.ts", "d.uid")))
            assert dotted.refused == {reason: 1}
            assert dotted.visits == 2


@pytest.mark.parametrize("kind", GOOD)
def test_each_odd_but_good_kind_alone(tmp_path: Path, kind: str) -> None:
    record, (time_s, uid) = GOOD[kind]
    path = tmp_path / "visits.jsonl"
    path.write_bytes(record)
    with uniqdb.open(tmp_path / "store", options=options()) as db:
        assert ingest_file(db, path).visits == 1
        assert list(db.members("minute", time_s)) == [uid]


def test_longer_records_when_asked_for(store_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    path.write_bytes(BAD["5 MB"][0] + b"\n" + BAD["64 KiB and a byte"][0] + b"\n")
    with uniqdb.open(store_path, options=options()) as db:
        summary = ingest_file(db, path, IngestOptions(FieldSettings(line_bytes_max=100_000)))
        assert (summary.visits, summary.refused) == (1, {"too_long": 1})
        with pytest.raises(uniqdb.InputRefused, match="--line-bytes-max 100000, not 65536"):
            ingest_file(db, path)


def test_quarantine_is_bounded_and_says_what_it_no_longer_keeps(store_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    lines = [b'{"ts":1468244384,"uid":"a"}'] + [b"{bad"] * 30 + [b'{"uid":"a"}'] * 20 + [b"{bad"] * 10
    path.write_bytes(b"\n".join(lines) + b"\n")
    bounded = uniqdb.OpenOptions(commit=options().commit, dictionary=options().dictionary, quarantine_max_rows=12)
    for commit_visits in (7, 7):
        with uniqdb.open(store_path, options=bounded) as db:
            ingest_file(db, path, IngestOptions(commit_visits=commit_visits))
            assert db.info().quarantined == {"malformed": 40, "no_ts": 20}
            assert db.info().quarantine_beyond == 48
            with db.snapshot() as snapshot:
                view = snapshot.answers.view
                assert len(list(read_quarantine(view))) == 12
                counted = {one.reason: one for one in read_counted(view)}
    assert {reason: one.count for reason, one in counted.items()} == {"malformed": 28, "no_ts": 20}
    assert (counted["malformed"].first_line, counted["malformed"].last_line) == (14, 61)
    assert (counted["no_ts"].first_line, counted["no_ts"].last_line) == (32, 51)
    assert counted["no_ts"].first_position == len(b"\n".join(lines[:31])) + 1
