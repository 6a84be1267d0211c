"""The benchmark programs still run, and what they compare and judge, they compare and judge rightly.

Their figures at these sizes mean nothing and are not looked at.
"""

import json
from pathlib import Path

import pytest

import uniqdb
from bench_programs import BENCH, TIMES_S, load, run, write_visits
from model import Model


def test_bench_runs() -> None:
    out = run(BENCH / "run.py", "--quick")
    assert out.count("== ") == 4
    assert "help_s  " in out
    assert "results_agree                  1" in out
    assert "8 passed" in out


def test_soak_runs_and_leaves_its_figures(tmp_path: Path) -> None:
    figures = tmp_path / "figures.txt"
    figures.write_text("an earlier campaign\n")
    out = run(BENCH / "soak.py", "--quick", "--output", figures)
    text = figures.read_text()
    assert text.startswith("an earlier campaign\n")
    assert text.strip() in "an earlier campaign\n" + out
    judged = text[text.index("\nprogram ") :].splitlines()[2:]
    assert len(judged) == 26
    assert [line for line in judged if " none" in line] == []
    assert [line for line in judged if "agree" in line and "MISSED" in line] == []
    assert [line for line in judged if "problems" in line and "MISSED" in line] == []


def test_exports_are_measured_and_agree() -> None:
    sizes = ["--days=40", "--uids=60", "--visits-per-day=30", "--rounds=2"]
    out = run(BENCH / "exports.py", *sizes)
    assert "results_agree                  1" in out
    assert sum(line.startswith("| ") for line in out.splitlines()) in (6, 9), "with and without Parquet"


@pytest.mark.usefixtures("programs")
def test_naive_program_agrees_with_the_oracle(tmp_path: Path) -> None:
    naive, path, model = load("naive"), tmp_path / "visits.jsonl", Model()
    for ts, uid in write_visits(path):
        model.add([ts], [uid])
    counted = naive.rows_of({bucket: len(uids) for bucket, uids in naive.count_visitors(path).items()})
    visits = {(kind, at): number for kind, at, number in naive.rows_of(naive.count_visits(path))}
    assert {(kind, at): (number, visits[kind, at]) for kind, at, number in counted} == model.rows()


def test_the_two_programs_agree_and_a_lost_visit_shows(tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    write_visits(path)
    naive = json.loads(run(BENCH / "naive.py", path, "--with-visits"))
    ours = json.loads(run(BENCH / "ingest.py", "--once", path, tmp_path / "one.uniqdb"))
    assert (naive["counts"], naive["visits"]) == (ours["counts"], ours["visits"])
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    fewer = json.loads(run(BENCH / "ingest.py", "--once", path, tmp_path / "two.uniqdb"))
    assert fewer["visits"] != naive["visits"]


@pytest.mark.usefixtures("programs")
def test_fragment_counts_see_every_unit(store_path: Path) -> None:
    many_commits = load("many_commits")
    with uniqdb.open(store_path) as db:
        for commit in range(3):
            db.add_many([TIMES_S[-1]] * 70, [f"{commit} {number}" for number in range(70)])
            db.commit()
        # Six buckets and the young unit have a fragment of each commit, the only partition has none yet.
        assert sorted(many_commits.fragment_counts(db)) == [0] + [3] * 7
        assert sorted(many_commits.fragment_counts(db, uniqdb.Granularity.YEAR)) == [0, 3, 3]


@pytest.mark.usefixtures("programs")
def test_figures_are_read_as_they_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    machine = load("machine")
    for value in (0.5, 1234567.25, 3, 12_345_678, -1):
        machine.show("some_figure_s", value)
        assert machine.figure_of(capsys.readouterr().out) == ("some_figure_s", value)
    for line in ("# 5,000 commits, 3 uids", "by_size {1: 2}", "== a title: python x.py", "", "8 passed in 1.85s"):
        assert machine.figure_of(line) is None


@pytest.mark.usefixtures("programs")
def test_targets_are_judged() -> None:
    soak = load("soak")
    at_most, at_least = soak.Target("p", "a", 4), soak.Target("p", "b", 0.5, at_least=True)
    assert soak.missed([at_most, at_least], {("p", "a"): 4, ("p", "b"): 0.5}) == []
    assert soak.missed([at_most, at_least], {("p", "a"): 4.001, ("p", "b"): 0.499}) == [at_most, at_least]
    assert soak.missed([at_most], {("another", "a"): 1}) == [at_most]
    assert "MISSED" in soak.table([at_most], {})[1]
    assert {target.program for target in soak.TARGETS} == {program.title for program in soak.PROGRAMS}


def test_event_time() -> None:
    assert "dense_1_a_s_us" in run(BENCH / "event_time.py", "--visits", "3000", "--rounds", "1")


def test_retention_agrees_with_the_sets() -> None:
    out = run(BENCH / "retention.py", "--visits", "2000", "--uids", "300", "--days", "12")
    figures = dict(
        line.split()[:2] for line in out.splitlines() if line.startswith(("wrong_", "problems", "sweep_runs"))
    )
    assert figures == {"wrong_buckets": "0", "problems": "0", "sweep_runs": "48"}
