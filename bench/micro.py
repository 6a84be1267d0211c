"""Single operations, timed by pytest-benchmark. The column OPS is operations per second.

    .venv/bin/python -m pytest bench/micro.py          (BENCH_UIDS=2000000 for another size)

The store that is asked holds BENCH_UIDS visitors (default 200,000), each with three visits spread over 60 days, and is
open for reading only. What is written goes to a second store, with everything durable: ``add_new_data`` includes the
commits that fall due meanwhile, ``commit`` is one of 50,000 visits, one in ten by a new visitor.
"""

import os
import random
from collections.abc import Iterator
from itertools import count, cycle
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import uniqdb
from uniqdb import CommitRule, OpenOptions

UIDS = int(os.environ.get("BENCH_UIDS", "200000"))
COMMIT_VISITS = min(50_000, UIDS)
START_S = 1_467_331_200
"""2016-07-01T00:00:00Z."""
DAYS, DAY_S = 60, 86_400
NEVER = OpenOptions(commit=CommitRule(visits=10**9, interval_s=10**9))


def uid_of(number: int) -> str:
    """20 characters, in no order that helps."""
    return f"{(number + 1) * 0x9E3779B97F4A7C15 % 2**64:020x}"


def visits(first: int, number: int) -> tuple[list[int], list[str]]:
    """So many visits of the made-up traffic: visit n is by uid n modulo UIDS."""
    numbers = range(first, first + number)
    times = [START_S + one * DAYS * DAY_S // (3 * UIDS) for one in numbers]
    return times, [uid_of(one % UIDS) for one in numbers]


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[uniqdb.Engine]:
    path = tmp_path_factory.mktemp("asked") / "bench.uniqdb"
    with uniqdb.open(path, options=NEVER) as db:
        for first in range(0, 3 * UIDS, 50_000):
            db.add_many(*visits(first, min(50_000, 3 * UIDS - first)))
            db.commit()
    with uniqdb.open(path, read_only=True) as db:
        yield db


@pytest.fixture
def written(tmp_path: Path) -> Iterator[uniqdb.Engine]:
    with uniqdb.open(tmp_path / "bench.uniqdb") as db:
        yield db


@pytest.fixture(scope="session")
def seen() -> list[str]:
    return [uid_of(number) for number in random.Random(1).choices(range(UIDS), k=10_000)]


def test_check_if_uid_exists_hit(benchmark: BenchmarkFixture, asked: uniqdb.Engine, seen: list[str]) -> None:
    uids = cycle(seen)
    assert benchmark(lambda: asked.check_if_uid_exists(next(uids)))


def test_check_if_uid_exists_miss(benchmark: BenchmarkFixture, asked: uniqdb.Engine) -> None:
    uids = cycle([uid_of(UIDS + number) for number in range(10_000)])
    assert not benchmark(lambda: asked.check_if_uid_exists(next(uids)))


def test_check_if_uid_exists_windowed(benchmark: BenchmarkFixture, asked: uniqdb.Engine, seen: list[str]) -> None:
    uids = cycle(seen)
    assert benchmark(lambda: asked.check_if_uid_exists(next(uids), window="30d")) in (True, False)


def test_check_many_of_10_000(benchmark: BenchmarkFixture, asked: uniqdb.Engine, seen: list[str]) -> None:
    assert all(benchmark(asked.check_many, seen))


def test_count_of_a_period(benchmark: BenchmarkFixture, asked: uniqdb.Engine) -> None:
    assert benchmark(asked.count, "2016-07").count > 0


def test_count_of_a_window(benchmark: BenchmarkFixture, asked: uniqdb.Engine) -> None:
    assert benchmark(asked.count, "45d").count > 0


def test_add_new_data(benchmark: BenchmarkFixture, written: uniqdb.Engine) -> None:
    numbers, uids = count(), [uid_of(number) for number in range(UIDS)]

    def add() -> uniqdb.Verdict:
        number = next(numbers)
        return written.add_new_data(START_S + number // 1_000, uids[number % UIDS])

    assert benchmark(add) is uniqdb.Verdict.ACCEPTED


def test_commit_of_50_000(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    with uniqdb.open(tmp_path / "bench.uniqdb", options=NEVER) as db:
        commits = count(1)

        def prepare() -> None:
            """Visits by every number up to a bound that rises by a tenth of a commit: the rest is known."""
            commit = next(commits)
            new = COMMIT_VISITS * commit // 10
            numbers = range(max(new - COMMIT_VISITS, 0), new)
            uids = [uid_of(numbers[at % len(numbers)]) for at in range(COMMIT_VISITS)]
            times = [START_S + commit * 50 + at // 1_000 for at in range(COMMIT_VISITS)]
            db.add_many(times, uids)

        benchmark.pedantic(db.commit, setup=prepare, rounds=20, warmup_rounds=10)
        assert db.info().visits % COMMIT_VISITS == 0
