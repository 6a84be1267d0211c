"""The sum of stores that share nobody answers what one store with everything answers; any other sum is refused."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

import uniqdb
from engines import assert_sound, options
from uniqdb.options import Retention
from uniqdb.sweeping import sweep
from uniqdb_cli.address import parse_address
from uniqdb_cli.web import shapes
from uniqdb_cli.web.adding import RULES, added
from uniqdb_cli.web.endpoints import ENDPOINTS
from uniqdb_cli.web.proofs import Proofs, prove
from web.test_api import QUESTIONS, WRONG, faults
from web.web_server import DAY_S, ROOT, Served, T, Writer, served, served_sum

Visits = Sequence[tuple[int, str]]
NUMBERS = {"commit", "epoch", "revision"}
"""What says which commit an answer is of."""
OF_EACH = {"stores", "sources"}


def write(path: Path, zone: str, visits: Visits, sourced: Visits = ()) -> Path:
    """A store of these visits, by 500; then of those of a source, which has a clock."""
    with uniqdb.open(path, timezone=zone, options=options(visits=500)) as db:
        for first in range(0, len(visits), 500):
            db.add_many(*_columns(visits[first : first + 500]))
        db.commit()
        if sourced:
            db.add_many(*_columns(sourced), source="web")
    assert_sound(path)
    return path


def _columns(visits: Visits) -> tuple[list[int], list[str]]:
    return [ts for ts, _ in visits], [uid for _, uid in visits]


def split(folder: Path, zone: str, visits: Visits, sourced: Visits = ()) -> tuple[Path, list[Path]]:
    """A store of everything, and three with a part of the visitors each."""
    folder.mkdir(exist_ok=True)
    parts = [
        write(
            folder / f"part{ends}", zone, *([one for one in each if one[1][-1] in ends] for each in (visits, sourced))
        )
        for ends in ("012", "3456", "789")
    ]
    return write(folder / "whole", zone, visits, sourced), parts


def some_visits(seed: int) -> tuple[Visits, Visits]:
    """Seventy days, and those of a source: many at the end, then somebody late.

    In the first second and in the last one visitors of each store come, so that the stores have the same times and
    clocks, and so the same words for what is complete and final.
    """
    rng = Random(seed)
    first_s = T - 70 * DAY_S
    visits = sorted(
        (first_s + rng.randrange(1, 70 * DAY_S), f"v{rng.randrange(40 + day)}") for day in range(70) for _ in range(40)
    )
    last = [(T, f"last{number}") for number in range(100)]
    first = [(first_s, f"first{number}") for number in range(10)]
    return [*first, *visits], [*last, (T - 80_000, "late1"), (T - 80_000, "late8")]


def told(answer: Any, leave_out: Iterable[str]) -> Any:
    """The answer without what may differ."""
    if isinstance(answer, dict):
        return {name: told(value, leave_out) for name, value in answer.items() if name not in leave_out}
    return [told(one, leave_out) for one in answer] if isinstance(answer, list) else answer


def assert_alike(whole: Served, several: Served, questions: Iterable[str], leave_out: set[str]) -> None:
    for question in questions:
        expected, found = whole.get(question), several.get(question)
        assert (question, found.status) == (question, expected.status), found.body
        assert told(found.json, leave_out) == told(expected.json, leave_out), question


@pytest.mark.parametrize(("seed", "zone"), [(1, "UTC"), (2, "Europe/Zurich"), (3, "America/St_Johns")])
def test_every_answer_is_that_of_one_store(tmp_path: Path, seed: int, zone: str) -> None:
    whole, parts = split(tmp_path, zone, *some_visits(seed))
    with served(whole) as one, served_sum(parts) as several:
        more = [f"/api/exists?uid={uid}" for uid in ("v7", "late1", "first9", "nobody")]
        assert_alike(one, several, [*QUESTIONS, *more, *WRONG], NUMBERS | OF_EACH)
        for question in ("/api/series?by=day", "/api/trailing", "/api/returning?by=week", "/api/cohorts?by=month"):
            asked = f"{question}{'&' if '?' in question else '?'}format=csv"
            assert several.get(asked).body.count(b"\r\n") == one.get(asked).body.count(b"\r\n") > 2
        document = several.json("/api/openapi.json")
        for question in QUESTIONS:
            rule = document["paths"][question.partition("?")[0]]["get"]["responses"]["200"]["content"]
            schema = rule["application/json"]["schema"]
            assert list(faults(document, schema, several.json(question), question)) == []
        assert {row["status"] for row in several.json("/api/series?by=day")["records"]} == {
            *("final", "amended", "provisional")
        }, "the test has all of them"


@pytest.mark.parametrize("seed", [1, 2])
def test_stores_that_begin_and_end_at_other_times(tmp_path: Path, seed: int) -> None:
    rng = Random(seed)
    visits = sorted((T + rng.randrange(-50 * DAY_S, 0), f"v{rng.choice((0, 1, 2, 7, 10, 11, 21))}") for _ in range(60))
    whole, parts = split(tmp_path, "Europe/Zurich", visits)
    as_of = "as_of=2016-07-04"
    questions = [
        *(f"/api/series?by={by}" for by in ("hour", "day", "week", "month", "year")),
        *("/api/series?by=minute&from=2016-07-01&to=2016-07-05", "/api/series?by=week&compare=yes&fill=yes"),
        *(f"/api/trailing?{as_of}", "/api/count", "/api/returning?by=day", "/api/returning?by=week&before=9d"),
        *(f"/api/returning?by=day&last=30d&before=14d&{as_of}", f"/api/overlap?window=20d&with=previous&{as_of}"),
        *("/api/cohorts?by=day&from=2016-06-01&to=2016-07-04", f"/api/stickiness?last=30d&{as_of}", "/api/quarantine"),
    ]
    with served(whole) as one, served_sum(parts) as several:
        # A store without a visit has no clock, and may lack what came before its first: that is said in the sum.
        assert_alike(one, several, questions, NUMBERS | {"status", "complete", "change", "days_averaged"})
        clocks = [row["newest_visit_ts"] for row in several.json("/api/status")["stores"]]
        assert None in clocks
        last_s = min(at for at in clocks if at is not None)
        found = {row["current"]["as_of"] for row in several.json("/api/trailing")["windows"]}
        assert found == {one.json(f"/api/trailing?as_of={last_s}")["windows"][0]["current"]["as_of"]}
        assert not any(row["complete"] for row in several.json("/api/series?by=day")["records"])


def test_stores_without_visits_and_a_store_that_was_swept(tmp_path: Path) -> None:
    _, parts = split(tmp_path / "empty", "UTC", [])
    with served_sum(parts) as site:
        assert [site.get(path).status for path in ("/api/trailing", "/api/count", "/healthz")] == [404, 404, 200]
        assert site.json("/api/series?by=day&fill=yes")["records"] == []
        assert site.json("/api/status")["clock_ts"] is None
    _, parts = split(tmp_path / "swept", "UTC", *some_visits(4))
    kept = Retention(minute_days=1, hour_days=1, day_days=9, week_days=14, month_days=40)
    with uniqdb.open(parts[1], options=replace(options(), retention=kept)) as db:
        sweep(db, T + 365 * DAY_S, forced=True)
    with served_sum(parts) as site:
        gone = site.get("/api/count?window=30d")
        assert (gone.status, gone.json["type"]) == (410, "urn:uniqdb:WindowNotKept")
        windows = {one["window"]: one for one in site.json("/api/trailing")["windows"]}
        assert windows["30d"]["refused"]["status"] == 410
        status = site.json("/api/status")
        assert T - 10 * DAY_S < status["kept_from_ts"]["day"] < T


def test_status_tells_of_each_store(tmp_path: Path) -> None:
    each = some_visits(5)
    _, parts = split(tmp_path, "UTC", *each)
    visits = [*each[0], *each[1]]
    with served_sum(parts) as site:
        found = site.json("/api/status")
        assert [one["name"] for one in found["stores"]] == [str(one) for one in parts]
        assert sum(one["visits"] for one in found["stores"]) == found["visits"] == len(visits)
        assert sum(one["visitors"] for one in found["stores"]) == found["visitors"] == len({uid for _, uid in visits})
        assert sum(one["commit"] for one in found["stores"]) == found["commit"]
        assert len(found["sources"]) == 3
    with served(parts[0]) as site:
        assert "stores" not in site.json("/api/status")


def test_a_writer_goes_on(tmp_path: Path) -> None:
    _, parts = split(tmp_path, "UTC", *some_visits(6))
    with served_sum(parts) as site:
        before = site.get("/api/count")
        etag = before.headers["etag"]
        assert site.get("/api/count", If_None_Match=etag).status == 304
        Writer(parts[2]).add([T, T + 60], ["new8", "new9"])
        after = site.get("/api/count", If_None_Match=etag)
        assert after.status == 200
        assert after.headers["etag"] != etag
        assert after.json["count"] == before.json["count"] + 2
        Writer(parts[0]).compact()
        site.json("/api/series?by=day")
        deadline = time.monotonic() + 30
        while site.get("/api/count", If_None_Match=after.headers["etag"]).status == 304:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert site.json("/api/count")["count"] == before.json["count"] + 2


# ---------------------------------------------------------------- the proof
def test_a_shared_visitor_is_refused_at_the_start(tmp_path: Path) -> None:
    one = write(tmp_path / "one", "UTC", [(T, "zoe"), (T, "ben")])
    other = write(tmp_path / "other", "UTC", [(T + DAY_S, "ben")])
    with pytest.raises(uniqdb.SharedVisitors, match="1 visitor is in more than one"), served_sum([one, other]):
        pass


def test_a_shared_visitor_who_comes_later_ends_the_answers(tmp_path: Path) -> None:
    one = write(tmp_path / "one", "UTC", [(T, "zoe")])
    other = write(tmp_path / "other", "UTC", [(T, "ben")])
    log: list[str] = []
    with served_sum([one, other], log, every_s=0.0) as site:
        assert site.json("/api/count")["count"] == 2
        Writer(other).add([T], ["zoe"])
        deadline = time.monotonic() + 60
        while (got := site.get("/api/count")).status == 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert (got.status, got.json["type"]) == (409, "urn:uniqdb:SharedVisitors")
        assert site.get("/healthz").status == 409
        assert "zoe" not in got.json["detail"].replace(str(tmp_path), "")
        Writer(other).forget("zoe")
        while (got := site.get("/api/count")).status == 409:
            assert time.monotonic() < deadline + 60
            time.sleep(0.1)
        assert got.json["count"] == 2
    assert len(log) == 2
    assert log[0].startswith("Nothing is answered any more: 1 visitor is in more than one of")


def test_it_is_proved_again_when_somebody_is_new_and_time_has_passed(tmp_path: Path) -> None:
    stores = [str(write(tmp_path / name, "UTC", [(T, name)])) for name in ("one", "two")]
    now_s = [0.0]
    log: list[str] = []
    proofs = Proofs(stores, prove(stores, str(tmp_path)), log.append, clock=lambda: now_s[0], every_s=900)

    def is_begun(uids: list[int]) -> bool:
        proofs.keep_up(uids)
        found = proofs._running is not None
        proofs.close()
        return found

    assert not is_begun([1, 2]), "it is too soon"
    now_s[0] = 900.0
    assert not is_begun([1, 1]), "nobody is new"
    assert is_begun([1, 2])
    proofs.keep_up([1, 2])
    running = proofs._running
    assert running is not None
    running.process.kill()
    running.process.join()
    now_s[0] += 100.0
    proofs.keep_up([1, 2])
    assert "could not be proved again" in log[0]
    proofs.assert_proved()  # what was proved last still stands
    now_s[0] += 999.0
    assert not is_begun([1, 2]), "no more than a tenth of the time"
    now_s[0] += 1.0
    assert is_begun([1, 2])


def command(*stores: Path) -> list[str]:
    named = [part for one in stores for part in ("--store", str(one))]
    return [sys.executable, "-m", "uniqdb_cli", "serve-http", "--port", "0", *named]


def test_the_command_serves_several_or_says_why_not(tmp_path: Path) -> None:
    one, other, third = (
        write(tmp_path / name, "UTC", [(T, who)]) for name, who in (("one", "zoe"), ("two", "ben"), ("three", "zoe"))
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("engine", "cli"))}
    refused = subprocess.run(
        command(one, other, third), capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert (refused.returncode, refused.stdout) == (65, "")
    assert "1 visitor is in more than one of" in refused.stderr
    twice = subprocess.run(command(one, one), capture_output=True, env=environment, timeout=60, check=False)
    assert twice.returncode == 2
    with subprocess.Popen(command(one, other), stderr=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stderr is not None
        said = server.stderr.readline()
        assert f"shows the sum of {one}, {other}." in said
        address = parse_address(said.partition("http://")[2].partition("/")[0])
        assert Served(address).json("/api/count")["count"] == 2
        server.terminate()
        assert server.wait(30) == 0


# ---------------------------------------------------------------- the rules
def test_every_shape_has_rules_for_fields_that_it_has() -> None:
    for kind, rules in RULES.items():
        assert set(rules) <= set(kind.__struct_fields__), kind
    known = {*RULES, shapes.Compared, uniqdb.CountRecord}
    assert {one.answer for one in ENDPOINTS} <= known


def test_what_has_no_rule_must_be_the_same() -> None:
    one = shapes.Existence(True, "7d", 1)
    assert added([one, msgspec.structs.replace(one, exists=False)]) == shapes.Existence(True, "7d", 2)
    with pytest.raises(AssertionError, match="do not speak of the same"):
        added([one, msgspec.structs.replace(one, within="8d")])
