"""`make profile` runs, and its stages are what ingest really goes through."""

import json
from pathlib import Path

import pytest

from bench_programs import BENCH, load, run, write_visits

ONLY_WITH_MANY = {"to and from another process"}
"""Stages that a small file does not have."""


def test_profile_runs() -> None:
    out = run(BENCH / "profile_ingest.py", "--records", "3000", "--record-bytes", "300", "--rounds", "1")
    assert "| LMDB, with its sync | " in out
    assert "limit_decode_mb_per_s" in out


@pytest.mark.usefixtures("programs")
def test_every_stage_is_called_and_none_counts_twice(tmp_path: Path) -> None:
    profile, path = load("profile_ingest"), tmp_path / "visits.jsonl"
    visits = write_visits(path)
    found = json.loads(run(BENCH / "profile_ingest.py", "--once", path, tmp_path / "bench.uniqdb"))
    assert found["visits"] == len(visits)
    assert set(found["wall_s"]) | ONLY_WITH_MANY == {*profile.STAGES, profile.REST}
    assert sum(found["wall_s"].values()) <= found["elapsed_s"]
    plain = json.loads(run(BENCH / "profile_ingest.py", "--unmeasured", path, tmp_path / "plain.uniqdb"))
    assert set(plain["wall_s"]) == {profile.REST}


@pytest.mark.usefixtures("programs")
def test_a_stage_that_is_gone_is_an_error() -> None:
    watch = load("profile_ingest").Stopwatch()
    with pytest.raises(AttributeError):
        watch.watch("decode", "uniqdb.visit_decoder:VisitDecoder.no_such_thing")


@pytest.mark.usefixtures("programs")
def test_what_is_inside_a_stage_is_not_its_own() -> None:
    watch = load("profile_ingest").Stopwatch()

    def outer() -> list[int]:
        return [watch.call("inner", number.__index__) for number in range(3)]

    assert watch.call("outer", outer) == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        watch.call("outer", lambda: watch.call("inner", lambda: 1 // 0))
    assert set(watch.wall_s) == {"outer", "inner"}
    assert min(watch.wall_s.values()) > 0
