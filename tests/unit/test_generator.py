"""Generated visits: the same for ever, and as ordered."""

import hashlib
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniqdb.errors import UsageError
from uniqdb.field_settings import FieldSettings
from uniqdb.visit import Reason
from uniqdb.visit_decoder import VisitDecoder
from uniqdb_cli.generator import START_S, Faults, GeneratorSettings, generate_blocks, uids_of_users
from uniqdb_cli.splitmix import Draws, draw_at, draw_one


def output(one: GeneratorSettings) -> bytes:
    return b"".join(generate_blocks(one))


def records(one: GeneratorSettings) -> list[dict[str, object]]:
    return [json.loads(line) for line in output(one).splitlines()]


def test_splitmix_is_the_published_one() -> None:
    # The first outputs for the seed 1234567, as listed with several implementations of the algorithm.
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert [draw_one(1234567, number) for number in range(5)] == known
    assert draw_at(1234567, np.arange(5)).tolist() == known
    draws = Draws(1234567)
    assert [draws.below(2**64) for _ in range(5)] == known


@pytest.mark.parametrize(
    ("one", "digest"),
    [
        (GeneratorSettings(records=5_000), "84871686b0368f1a8b55860e2d89b3f527a0840c79878057a6a1eebd873158d2"),
        (
            GeneratorSettings(
                records=5_000,
                duration_s=864_000,
                users=100_000,
                seed=2**64 - 1,
                skew=1.1,
                daily_rhythm=True,
                record_bytes=97,
                faults=Faults(0.3, 60, 0.01, 0.02),
            ),
            "65b678e9b939e6ee091e84dc48c5f94856c96d003bfd084fd5638a4e7ef852ef",
        ),
    ],
)
def test_the_bytes_never_change(one: GeneratorSettings, digest: str) -> None:
    assert hashlib.sha256(output(one)).hexdigest() == digest


def test_another_seed_is_another_output() -> None:
    assert output(GeneratorSettings(records=10, seed=1)) != output(GeneratorSettings(records=10, seed=2))


def test_a_longer_output_of_the_same_rate_begins_with_the_shorter() -> None:
    short = output(GeneratorSettings(records=20_000, duration_s=20_000))
    assert output(GeneratorSettings(records=40_000, duration_s=40_000)).startswith(short)


@settings(max_examples=40)
@given(
    st.builds(
        GeneratorSettings,
        records=st.integers(0, 400),
        duration_s=st.integers(1, 10**8),
        users=st.integers(1, 2**32 - 1),
        start_s=st.integers(10**9, 4 * 10**9),
        seed=st.integers(0, 2**64 - 1),
        record_bytes=st.integers(64, 3_000),
        skew=st.floats(0, 8),
        daily_rhythm=st.booleans(),
    )
)
def test_every_line_is_a_visit_of_its_size_and_time(one: GeneratorSettings) -> None:
    lines = output(one).splitlines(keepends=True)
    assert len(lines) == one.records
    before = one.start_s
    for line in lines:
        record = json.loads(line)
        assert line.endswith(b"}\n")
        assert len(record["uid"]) in (19, 20)
        assert set(record["uid"]) <= set("0123456789abcdef")
        assert before <= record["ts"] <= one.start_s + one.duration_s
        before = record["ts"]
        # One byte less for a short uid; below 74 bytes there is no room for a note that fills the line.
        assert one.record_bytes - 12 <= len(line) <= one.record_bytes
        assert one.record_bytes < 80 or len(line) >= one.record_bytes - 1


def test_records_look_like_the_fields_own() -> None:
    found = records(GeneratorSettings(records=3_000))
    orders = {tuple(record).index("uid") < tuple(record).index("ts") for record in found}
    decoys = [value for record in found for value in record.values() if isinstance(value, dict) and "uid" in value]
    types = {type(value) for record in found for value in record.values()}
    assert orders == {True, False}
    assert len(decoys) > 100
    assert {str, int, float, bool, type(None), list, dict} <= types
    assert len({tuple(record) for record in found}) > 100


def test_all_users_come_alike_without_skew() -> None:
    seen = Counter(record["uid"] for record in records(GeneratorSettings(records=20_000, users=20)))
    assert len(seen) == 20
    # 1,000 each; the standard deviation is about 31.
    assert 850 < min(seen.values()) <= max(seen.values()) < 1_150
    assert {len(str(uid)) for uid in seen} == {19, 20}


def test_skew_follows_the_zipf_law() -> None:
    one = GeneratorSettings(records=50_000, users=1_000, skew=1.0)
    seen = Counter(record["uid"] for record in records(one))
    first, second, tenth = (seen[uid.decode()] for uid in uids_of_users(one, [0, 1, 9]))
    expected = 50_000 / sum(1 / rank for rank in range(1, 1_001))
    assert first == pytest.approx(expected, rel=0.1)
    assert second == pytest.approx(expected / 2, rel=0.1)
    assert tenth == pytest.approx(expected / 10, rel=0.2)
    assert 500 < len(seen) <= 1_000


def test_uids_of_different_users_differ() -> None:
    one = GeneratorSettings()
    assert len(set(uids_of_users(one, range(100_000)))) == 100_000


def test_daily_rhythm() -> None:
    found = records(GeneratorSettings(records=24_000, duration_s=10 * 86_400, daily_rhythm=True, record_bytes=64))
    hours = Counter((int(str(record["ts"])) - START_S) // 3600 % 24 for record in found)
    assert hours[3] < 200 < 1_500 < hours[19]
    days = Counter((int(str(record["ts"])) - START_S) // 86_400 for record in found)
    assert set(days.values()) == {2_400}


def test_faults_come_in_the_shares_that_were_ordered() -> None:
    plain = GeneratorSettings(records=20_000, duration_s=200_000, users=100, record_bytes=100)
    late = replace(plain, faults=Faults(late_share=0.25, late_s_max=7))
    times = [int(str(record["ts"])) for record in records(plain)]
    moved = [before - int(str(record["ts"])) for before, record in zip(times, records(late), strict=True)]
    assert set(moved[10:]) == set(range(8))
    assert sum(1 for by in moved if by) == pytest.approx(5_000, rel=0.1)

    flipped = replace(plain, faults=Faults(flipped_share=0.05))
    bits = [before ^ int(str(record["ts"])) for before, record in zip(times, records(flipped), strict=True)]
    changed = [one for one in bits if one]
    assert all(one.bit_count() == 1 and one < 2**63 for one in changed)
    assert len(changed) == pytest.approx(1_000, rel=0.15)
    assert len(set(changed)) == 63


def test_malformed_lines_are_no_visits_for_many_reasons() -> None:
    one = GeneratorSettings(records=5_000, record_bytes=100, faults=Faults(malformed_share=0.1))
    visits = VisitDecoder(FieldSettings()).decode(output(one))
    assert visits.records == 5_000
    assert len(visits.refused) == pytest.approx(500, rel=0.2)
    reasons = {refused.reason for refused in visits.refused}
    assert reasons >= {
        Reason.MALFORMED,
        Reason.NOT_AN_OBJECT,
        Reason.NO_TS,
        Reason.NO_UID,
        Reason.BAD_TS,
        Reason.BAD_UID,
    }
    all_bad = VisitDecoder(FieldSettings()).decode(output(replace(one, faults=Faults(malformed_share=1.0))))
    assert len(all_bad) == 0
    assert len(all_bad.refused) == 5_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"records": -1},
        {"users": 0},
        {"users": 2**32},
        {"seed": -1},
        {"seed": 2**64},
        {"record_bytes": 63},
        {"record_bytes": 65_536},
        {"skew": -0.1},
        {"skew": float("nan")},
        {"duration_s": 0},
        {"records": 10**12, "duration_s": 10**10},
    ],
)
def test_what_is_out_of_range_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        GeneratorSettings(**wrong)


@pytest.mark.parametrize("wrong", [{"late_share": 1.5}, {"flipped_share": -0.1}, {"late_s_max": 0}])
def test_faults_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Faults(**wrong)  # type: ignore[arg-type]
