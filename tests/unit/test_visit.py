"""Which records are visits, and why others are not; the fast way and the slow way agree."""

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniqdb.errors import UsageError
from uniqdb.field_settings import DEFAULT_FIELDS, FieldSettings
from uniqdb.visit import Reason, check_one
from uniqdb.visit_decoder import VisitDecoder, line_ends

T = 1_468_244_384
GOOD = b'{"ts":1468244384,"uid":"a"}'

GOOD_RECORDS = [
    (b'{"uid":"a","ts":1468244384}', "a"),
    (b'{"ts":"1468244384","uid":"a"}', "a"),
    (b'{"ts":1468244384.0,"uid":"a"}', "a"),
    (b'{"ts":1.468244384e9,"uid":"a"}', "a"),
    (b'{"ts":1468244384.9,"uid":"a"}', "a"),
    (b'{"ts":1468244384,"uid":42}', "42"),
    (b'{"ts":1468244384,"uid":-42}', "-42"),
    (b'{"ts":1468244384,"uid":123456789012345678901234567890}', "123456789012345678901234567890"),
    (b'{"ts":1468244384,"uid":"a\\u0000b"}', "a\0b"),
    (b'{"ts":1468244384,"uid":"\xd0\x9d\xd0\xb5"}', "\u041d\u0435"),
    (b'{"ts":1,"uid":"b","ts":1468244384,"uid":"a"}', "a"),
    (b'{"x":{"ts":1,"uid":"decoy"},"ts":1468244384,"uid":"a","y":[{"uid":"decoy"}]}', "a"),
    (b'{"ts":1468244384,"uid":"a","other":"\xff\xfe"}', "a"),
    (b'{"ts":1468244384,"uid":"a"}\r', "a"),
    (b'  {"ts" : 1468244384 , "uid" : "a"}  ', "a"),
    (b'{"ts":1468244384,"uid":"' + b"x" * 1024 + b'"}', "x" * 1024),
]
BAD_RECORDS = [
    (b'{"ts":1468244384,"uid":"a"', Reason.MALFORMED),
    (b"\xef\xbb\xbf" + GOOD, Reason.MALFORMED),
    (b"not json", Reason.MALFORMED),
    (b'{"ts":NaN,"uid":"a"}', Reason.MALFORMED),
    (GOOD + b" " + GOOD, Reason.MALFORMED),
    (GOOD + b"\0", Reason.MALFORMED),
    (b'[1468244384,"a"]', Reason.NOT_AN_OBJECT),
    (b'"text"', Reason.NOT_AN_OBJECT),
    (b"null", Reason.NOT_AN_OBJECT),
    (b'{"uid":"a"}', Reason.NO_TS),
    (b'{"ts":1468244384}', Reason.NO_UID),
    (b'{"ts":null,"uid":"a"}', Reason.BAD_TS),
    (b'{"ts":true,"uid":"a"}', Reason.BAD_TS),
    (b'{"ts":"","uid":"a"}', Reason.BAD_TS),
    (b'{"ts":"12x","uid":"a"}', Reason.BAD_TS),
    (b'{"ts":"1468244384.5","uid":"a"}', Reason.BAD_TS),
    (b'{"ts":{},"uid":"a"}', Reason.BAD_TS),
    (b'{"ts":18446744073709551616,"uid":"a"}', Reason.IMPLAUSIBLE),
    (b'{"ts":-1,"uid":"a"}', Reason.IMPLAUSIBLE),
    (b'{"ts":946684799,"uid":"a"}', Reason.IMPLAUSIBLE),
    (b'{"ts":1468244384000,"uid":"a"}', Reason.IMPLAUSIBLE),
    (b'{"ts":1468244384,"uid":""}', Reason.BAD_UID),
    (b'{"ts":1468244384,"uid":null}', Reason.BAD_UID),
    (b'{"ts":1468244384,"uid":1.5}', Reason.BAD_UID),
    (b'{"ts":1468244384,"uid":["a"]}', Reason.BAD_UID),
    (b'{"ts":1468244384,"uid":"' + b"x" * 1025 + b'"}', Reason.BAD_UID),
    (b'{"ts":1468244384,"uid":"\xff"}', Reason.BAD_UID),
    (b'{"ts":1468244384,"uid":"a","x":"' + b"y" * 70_000 + b'"}', Reason.TOO_LONG),
    (b'{"ts":1468244384,"uid":"a","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}", Reason.TOO_DEEP),
]


@pytest.mark.parametrize(("record", "uid"), GOOD_RECORDS)
def test_a_visit(record: bytes, uid: str) -> None:
    visits = VisitDecoder(DEFAULT_FIELDS).decode(record + b"\n")
    assert (visits.event_times_s.tolist(), list(visits.uids), visits.refused) == ([T], [uid], [])


@pytest.mark.parametrize(("record", "reason"), BAD_RECORDS)
def test_a_refused_record(record: bytes, reason: Reason) -> None:
    visits = VisitDecoder(DEFAULT_FIELDS).decode(GOOD + b"\n" + record + b"\n" + GOOD + b"\n")
    assert [(one.line, one.start, one.record, one.reason) for one in visits.refused] == [(1, 28, record, reason)]
    assert list(visits.uids) == ["a", "a"]
    assert visits.records == 3


def test_lines_that_only_look_whole_are_not_joined_or_split() -> None:
    """Two records on one line and one record on two lines: as many lines as records, all three lines bad."""
    block = (
        GOOD + GOOD + b"\n" + b'{"ts":1468244384,\n' + b'"uid":"a"}\n' + b'{"x":[{}\n{}],"ts":1468244384,"uid":"b"}\n'
    )
    visits = VisitDecoder(DEFAULT_FIELDS).decode(block)
    assert len(visits) == 0
    assert [one.line for one in visits.refused] == [0, 1, 2, 3, 4]


@given(st.lists(st.sampled_from([record for record, _ in GOOD_RECORDS + BAD_RECORDS[:-2]] + [b"", b"  ", b"\r"])))
def test_the_whole_block_is_decoded_as_line_by_line(records: list[bytes]) -> None:
    decoder = VisitDecoder(DEFAULT_FIELDS)
    visits = decoder.decode(b"".join(record + b"\n" for record in records))
    one_by_one = [decoder.decode_one(record) for record in records if record.strip()]
    times = zip(visits.event_times_s.tolist(), visits.uids, strict=True)
    assert list(times) == [one for one in one_by_one if not isinstance(one, Reason)]
    assert [one.reason for one in visits.refused] == [one for one in one_by_one if isinstance(one, Reason)]


@pytest.mark.parametrize(
    ("unit", "ts"), [("s", T), ("ms", T * 1_000 + 999), ("us", T * 10**6 + 7), ("ns", T * 10**9 + 1), ("iso8601", None)]
)
def test_units_of_time(unit: str, ts: int | None) -> None:
    value: object = "2016-07-11T15:39:44.5+02:00" if ts is None else ts
    lines = [json.dumps({"ts": value, "uid": str(number)}).encode() for number in range(5)]
    visits = VisitDecoder(FieldSettings(ts_unit=unit)).decode(b"\n".join(lines) + b"\n")
    assert visits.event_times_s.tolist() == [T] * 5
    assert visits.refused == []
    with pytest.raises(UsageError):
        FieldSettings(ts_unit="minutes")


def test_iso_times_without_an_offset_are_utc() -> None:
    assert check_one("2016-07-11T13:39:44", "a", "iso8601") == (T, "a")
    assert check_one("2016-13-11", "a", "iso8601") is Reason.BAD_TS


def test_fields_by_key_and_by_path() -> None:
    fields = FieldSettings(ts_field="event.time", uid_field="user.id")
    decoder = VisitDecoder(fields)
    assert decoder.decode_one(b'{"event":{"time":1468244384},"user":{"id":"a"}}') == (T, "a")
    literal = b'{"event.time":1468244384,"event":{"time":1},"user.id":"b","user":{"id":"a"}}'
    assert decoder.decode_one(literal) == (T, "b")
    assert decoder.decode_one(b'{"event":5,"user":{"id":"a"}}') is Reason.NO_TS
    other = VisitDecoder(FieldSettings(ts_field="t", uid_field="visitor"))
    assert list(other.decode(b'{"t":1468244384,"visitor":"a","ts":1,"uid":"x"}\n').uids) == ["a"]


def test_a_record_never_raises_whatever_its_bytes() -> None:
    rng = random.Random(3)
    decoder = VisitDecoder(DEFAULT_FIELDS)
    for _ in range(3_000):
        raw = bytearray(rng.choice(GOOD_RECORDS)[0])
        for _ in range(rng.randrange(4)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        visits = decoder.decode(bytes(raw).replace(b"\n", b" ") + b"\n")
        assert len(visits) + len(visits.refused) == visits.records <= 1


@pytest.mark.parametrize("ts", [np.int64(T), np.int32(T), np.float64(T), float(T), str(T)])
def test_times_of_other_types_in_calls(ts: object) -> None:
    assert check_one(ts, "a", "s") == (T, "a")


@pytest.mark.parametrize("uid", ["", None, 1.0, True, b"bytes", "\ud800", "é" * 513, 10**1_100])
def test_uids_that_are_refused_in_calls(uid: object) -> None:
    assert check_one(T, uid, "s") is Reason.BAD_UID


@given(st.lists(st.sampled_from([b"\n", b"a", b"bcdefgh", b"\x01\x00", b"x" * 40 + b"\n"])).map(b"".join))
def test_each_line_break_is_found(block: bytes) -> None:
    assert line_ends(block).tolist() == [at for at, byte in enumerate(block) if byte == 10]
