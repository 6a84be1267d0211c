"""The API answers what a dict of sets says, in the shapes that its own description has."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import uniqdb
from asked_sets import days_back, periods, sticky, told_apart, triangle
from engines import options
from model import GRANULARITIES, Model
from uniqdb.options import Retention
from uniqdb.sweeping import sweep
from uniqdb_cli.web import limits
from uniqdb_cli.web.endpoints import ENDPOINTS
from uniqdb_cli.web.parameters import AS_OF, FORMAT, UID, WINDOWS, BadQuery, parse_query
from web.web_server import DAY_S, Served, T, Writer, served

KINDS = {"string": str, "integer": int, "number": float, "boolean": bool, "object": dict, "array": list}
Schema = dict[str, Any]


# ---------------------------------------------------------------- the description
def faults(document: Schema, rule: Schema, value: Any, where: str) -> Iterator[str]:
    """What is wrong with a value by those words of JSON Schema that the description uses."""
    if "$ref" in rule:
        named = document["components"]["schemas"][rule["$ref"].rpartition("/")[2]]
        yield from faults(document, named, value, where)
    elif "anyOf" in rule:
        tried = [list(faults(document, one, value, where)) for one in rule["anyOf"]]
        if all(tried):
            yield f"{where} is none of what it may be"
    elif rule.get("type") == "null":
        if value is not None:
            yield f"{where} is not null"
    else:
        known = {"$ref", "title", "description", "type", "properties", "required", "items", "additionalProperties"}
        assert set(rule) <= known | {"default"}, f"words that this does not judge: {rule}"
        kind = KINDS[rule["type"]]
        if type(value) is not kind and not (kind is float and type(value) is int):
            yield f"{where} is no {rule['type']}"
        elif kind is list:
            for at, one in enumerate(value):
                yield from faults(document, rule["items"], one, f"{where}[{at}]")
        elif kind is dict:
            properties = rule.get("properties", {})
            yield from (f"{where}.{name} is missing" for name in rule.get("required", []) if name not in value)
            for name, one in value.items():
                below = properties.get(name) or rule.get("additionalProperties")
                if below is None:
                    yield f"{where}.{name} is not described"
                else:
                    yield from faults(document, below, one, f"{where}.{name}")


QUESTIONS = [
    *("/api/count", "/api/count?window=30d", "/api/count?period=2016-07", "/api/count?from=2016-06-01&to=2016-06-10"),
    *("/api/series?by=day&last=7d", "/api/series?by=week&compare=yes&fill=yes", "/api/trailing?window=7d&window=24h"),
    *("/api/trailing", "/api/returning?by=day&last=30d", "/api/exists?uid=v1&window=7d", "/api/quarantine"),
    *("/api/returning?by=day&last=30d&before=14d", "/api/overlap?window=30d&with=previous", "/api/cohorts?by=week"),
    *("/api/overlap?from=2016-06-01&to=2016-06-10&with=2016-05", "/api/cohorts?by=month&from=2001&to=2001-02"),
    *("/api/stickiness", "/api/stickiness?last=90d", "/api/stickiness?from=2001&to=2001-01", "/api/cohorts?by=day"),
    *("/api/trailing?window=36600d&window=52704000m", "/api/series?by=year&from=1999&to=9999&compare=yes"),
    *(
        "/api/trailing?as_of=9999-12-31",
        "/api/returning?by=week&last=36600d&as_of=1999-01-05",
        "/api/status",
        "/healthz",
    ),
]
WRONG = {
    "/api/count?window=seven": 422,
    "/api/count?window=7d&as_of=1990-01-05": 422,
    "/api/count?windows=7d": 400,
    "/api/count?window=7d&period=2016": 400,
    "/api/count?as_of=2016-07-11": 400,
    "/api/count?from=2016": 400,
    "/api/count?from=2016-07&to=2016-06": 422,
    "/api/count?window=7d&window=8d": 400,
    "/api/count?period=2016-13": 422,
    "/api/count?window=": 400,
    "/api/count?window=%ff": 400,
    "/api/series": 400,
    "/api/series?by=second": 400,
    "/api/series?by=day&last=7d&from=2016": 400,
    "/api/series?by=minute&from=2000&to=2016": 422,
    "/api/series?by=day&last=7d&format=xml": 400,
    "/api/returning?by=minute&last=7d": 422,
    "/api/returning?by=day&last=7d&before=2016": 422,
    "/api/overlap": 400,
    "/api/overlap?with=previous": 400,
    "/api/overlap?window=7d": 400,
    "/api/overlap?window=7d&with=later": 422,
    "/api/overlap?window=7d&period=2016&with=previous": 400,
    "/api/overlap?from=2016&with=previous": 400,
    "/api/overlap?period=1970&with=previous": 422,
    "/api/cohorts": 400,
    "/api/cohorts?by=year": 400,
    "/api/cohorts?by=day&from=2016-01-01": 422,
    "/api/cohorts?by=day&from=1970": 422,
    "/api/cohorts?by=week&from=2016-07-11&to=2016-07-04": 422,
    "/api/cohorts?by=week&last=90d": 400,
    "/api/stickiness?from=2010": 422,
    "/api/stickiness?last=7d&from=2016": 400,
    "/api/stickiness?as_of=2016-07-11": 400,
    "/api/trailing?" + "&".join(["window=7d"] * (limits.WINDOWS_MAX + 1)): 400,
    "/api/exists": 400,
    "/api/exists?uid=v1&window=7d&period=2016": 400,
    "/api/status?verbose=1": 400,
    "/api": 404,
    "/api/": 404,
    "/api/count/": 404,
    "/index.html": 404,
}


@pytest.mark.usefixtures("model")
def test_every_answer_is_as_it_is_described(site: Served) -> None:
    document = site.json("/api/openapi.json")
    assert set(document["paths"]) == {path.partition("?")[0] for path in QUESTIONS}
    for question in QUESTIONS:
        described = document["paths"][question.partition("?")[0]]["get"]
        rule = described["responses"]["200"]["content"]["application/json"]["schema"]
        assert list(faults(document, rule, site.json(question), question)) == []
        names = {one["name"] for one in described["parameters"]}
        assert set(re.findall(r"[?&](\w+)=", question)) <= names


def test_every_refusal_is_a_problem(site: Served) -> None:
    document = site.json("/api/openapi.json")
    for question, status in WRONG.items():
        got = site.get(question)
        assert (question, got.status) == (question, status)
        assert got.headers["content-type"] == "application/problem+json"
        assert got.headers["cache-control"] == "no-store"
        assert list(faults(document, {"$ref": "/Problem"}, got.json, question)) == []
        assert got.json["status"] == status
        assert str(status) in document["components"]["responses"]


def test_rule_of_the_description(site: Served) -> None:
    document = site.json("/api/openapi.json")
    good = site.json("/api/count")
    rule = {"$ref": "/CountRecord"}
    assert list(faults(document, rule, good, "x")) == []
    assert list(faults(document, rule, {**good, "count": "1"}, "x")) == ["x.count is no integer"]
    assert list(faults(document, rule, {**good, "more": 1}, "x")) == ["x.more is not described"]
    del good["status"]
    assert list(faults(document, rule, good, "x")) == ["x.status is missing"]


# ---------------------------------------------------------------- the numbers
def test_series_are_the_sets(site: Served, model: Model) -> None:
    for kind in GRANULARITIES:
        answer = "/api/series?from=2016-07-01&to=2016-07-31&by=" if kind == "minute" else "/api/series?by="
        found = site.json(answer + kind)["records"]
        expected = {at: one for (word, at), one in model.rows().items() if word == kind}
        if kind == "minute":
            expected = {at: one for at, one in expected.items() if at >= model.midnight(date(2016, 7, 1))}
        assert {one["start_ts"]: (one["count"], one["visits"]) for one in found} == expected
        assert len(found) > 2 or kind in ("month", "year")


def days_of(model: Model, first: date, days: int) -> set[str]:
    return model.union(model.midnight(first), model.midnight(first + timedelta(days)))


def test_trailing_windows_and_those_before_them(site: Served, model: Model) -> None:
    today = model.day_of(site.json("/api/status")["clock_ts"])
    for one in site.json("/api/trailing")["windows"]:
        days = int(one["window"][:-1])
        first = today - timedelta(days - 1)
        now, before = days_of(model, first, days), days_of(model, first - timedelta(days), days)
        assert one["current"]["count"] == len(now)
        assert one["current"]["as_of"] == today.isoformat()
        assert one["before"]["count"] == len(before)
        if days <= 30:
            assert one["change"] == pytest.approx(len(now) / len(before) - 1)
        else:
            assert one["change"] is None, "it begins before the first visit"


@pytest.mark.parametrize(("by", "last"), [("day", "10d"), ("hour", "24h"), ("week", "30d"), ("day", "90d")])
def test_new_and_returning_are_the_sets(site: Served, model: Model, by: str, last: str) -> None:
    found = site.json(f"/api/returning?by={by}&last={last}")
    assert found["end_ts"] > T - DAY_S
    seen = model.union(0, found["start_ts"])
    everyone: set[str] = set()
    for one in found["buckets"]:
        here = model.union(one["start_ts"], one["end_ts"])
        assert (one["count"], one["new"], one["returning"]) == (len(here), len(here - seen), len(here & seen))
        seen |= here
        everyone |= here
    assert found["count"] == len(everyone)
    assert found["new"] == len(everyone - model.union(0, found["start_ts"]))
    assert found["new"] + found["returning"] == found["count"]


@pytest.mark.parametrize("before", [1, 9, 365])
def test_new_by_a_look_back_of_its_own(site: Served, model: Model, before: int) -> None:
    found = site.json(f"/api/returning?by=day&last=10d&before={before}d")
    for one in (found, *found["buckets"]):
        edges_s = one["start_ts"], one["end_ts"]
        new, returning = told_apart(model, edges_s, days_back(model, edges_s[0], before))
        assert (one["count"], one["new"], one["returning"]) == (len(new | returning), len(new), len(returning))


@pytest.mark.parametrize(
    ("asked", "here", "other"),
    [
        ("window=7d&as_of=2016-07-10", (date(2016, 7, 4), date(2016, 7, 11)), (date(2016, 6, 27), date(2016, 7, 4))),
        ("period=2016-06", (date(2016, 6, 1), date(2016, 7, 1)), (date(2016, 5, 1), date(2016, 6, 1))),
        (
            "from=2016-06-20&to=2016-06-22",
            (date(2016, 6, 20), date(2016, 6, 23)),
            (date(2016, 6, 17), date(2016, 6, 20)),
        ),
    ],
)
def test_overlaps_are_the_sets(
    site: Served, model: Model, asked: str, here: tuple[date, date], other: tuple[date, date]
) -> None:
    found = site.json(f"/api/overlap?{asked}&with=previous")
    mine, others = (model.union(model.midnight(one), model.midnight(last)) for one, last in (here, other))
    assert (found["start_ts"], found["other_start_ts"]) == (model.midnight(here[0]), model.midnight(other[0]))
    assert (found["count"], found["other_count"]) == (len(mine), len(others))
    assert (found["both"], found["either"]) == (len(mine & others), len(mine | others))


@pytest.mark.parametrize(
    ("by", "first"), [("day", date(2016, 6, 30)), ("week", date(2016, 5, 2)), ("month", date(2016, 5, 1))]
)
def test_cohorts_are_the_triangle_of_the_sets(site: Served, model: Model, by: str, first: date) -> None:
    found = site.json(f"/api/cohorts?by={by}")
    asked = periods(model, by, first, date(2016, 7, 11))
    assert [(one["start_ts"], one["end_ts"]) for one in found["periods"]] == asked
    assert [one["returned"] for one in found["periods"]] == triangle(model, asked)
    rows = list(csv.DictReader(io.StringIO(site.get(f"/api/cohorts?by={by}&format=csv").body.decode())))
    assert [int(row["count"]) for row in rows] == [one for row in triangle(model, asked) for one in row]
    assert {row["complete"] for row in rows} == {"true", "false"}


def test_stickiness_is_of_the_sets(site: Served, model: Model) -> None:
    found = site.json("/api/stickiness?last=10d")
    expected = [sticky(model, date(2016, 7, 2) + timedelta(number)) for number in range(10)]
    assert [(one["dau"], one["wau"], one["mau"]) for one in found["days"]] == expected
    assert found["days_averaged"] == 9
    assert found["dau_mau"] == pytest.approx(sum(dau / mau for dau, _, mau in expected[:9]) / 9, abs=1e-6)
    assert len(site.json("/api/stickiness")["days"]) == 30
    rows = list(csv.DictReader(io.StringIO(site.get("/api/stickiness?last=10d&format=csv").body.decode())))
    assert [(int(row["dau"]), int(row["wau"]), int(row["mau"])) for row in rows] == expected


def test_the_range_before_has_as_many_days(site: Served, model: Model) -> None:
    """Also over the night in which the clocks change: 2016-03-27 had 23 hours in Zurich."""
    found = site.json("/api/series?by=day&from=2016-05-20&to=2016-06-18&fill=yes&compare=yes")
    assert len(found["records"]) == len(found["before"]) == 30
    assert found["before"][-1]["end_ts"] == found["start_ts"] == model.midnight(date(2016, 5, 20))
    around = site.json("/api/series?by=day&from=2016-03-28&to=2016-04-03&fill=yes&compare=yes")
    assert around["before"][0]["start_ts"] == model.midnight(date(2016, 3, 21))


def test_hours_that_have_not_begun_are_no_zeroes(site: Served) -> None:
    clock_s = site.json("/api/status")["clock_ts"]
    records = site.json("/api/series?by=hour&last=1d&fill=yes")["records"]
    assert records[-1]["start_ts"] <= clock_s < records[-1]["end_ts"]
    assert records[-1]["status"] == "provisional"
    assert len(site.json("/api/series?by=hour&last=1d&fill=yes&compare=yes")["before"]) == 24


def test_exists_and_what_is_not_counted(site: Served, model: Model) -> None:
    assert site.json("/api/exists?uid=v1")["exists"]
    assert site.json("/api/exists?uid=somebody%20who%20comes%20late&window=7d") == {
        "exists": True,
        "within": "7d",
        "commit": site.json("/healthz")["commit"],
    }
    assert not site.json("/api/exists?uid=nobody")["exists"]
    status = site.json("/api/status")
    assert status["visits"] == sum(visits for (kind, _), (_, visits) in model.rows().items() if kind == "year")
    assert status["visitors"] == site.json("/api/count")["count"] == len(model.union(0, T + DAY_S))
    assert status["late"] == {"minute": 1, "hour": 1, "day": 1, "week": 1}
    assert status["quarantined"] == 2
    reasons = site.json("/api/quarantine")["reasons"]
    assert {one["reason"]: one["count"] for one in reasons} == {"bad_ts": 1, "bad_uid": 1}


def test_csv_is_the_same(site: Served) -> None:
    got = site.get("/api/series?by=day&last=30d&compare=yes&format=csv")
    assert got.headers["content-type"] == "text/csv; charset=utf-8"
    assert got.headers["content-disposition"] == 'attachment; filename="uniqdb-series.csv"'
    rows = list(csv.DictReader(io.StringIO(got.body.decode())))
    found = site.json("/api/series?by=day&last=30d&compare=yes")
    expected = [*found["before"], *found["records"]]
    assert [(int(row["start_ts"]), int(row["count"]), row["status"]) for row in rows] == [
        (one["start_ts"], one["count"], one["status"]) for one in expected
    ]
    windows = list(csv.DictReader(io.StringIO(site.get("/api/trailing?format=csv").body.decode())))
    assert len(windows) == 12
    assert windows[1]["window"] == "1d"
    split = list(csv.DictReader(io.StringIO(site.get("/api/returning?by=day&last=7d&format=csv").body.decode())))
    assert [int(row["new"]) for row in split] == [
        one["new"] for one in site.json("/api/returning?by=day&last=7d")["buckets"]
    ]
    assert site.get("/api/quarantine?format=csv").body == b"reason,count,discarded\r\nbad_ts,1,0\r\nbad_uid,1,0\r\n"


# ---------------------------------------------------------------- a store that changes
def test_a_commit_changes_the_tag_and_nothing_else_does(site: Served, store_path: Path) -> None:
    first, writer = site.get("/api/trailing"), Writer(store_path)
    assert site.get("/api/trailing", If_None_Match=first.headers["etag"]).status == 304
    again = site.get("/api/trailing", If_None_Match=f'"x", W/{first.headers["etag"]}')
    assert (again.status, again.body) == (304, b"")
    writer.add([T], ["one more"])
    changed = site.get("/api/trailing", If_None_Match=first.headers["etag"])
    assert changed.status == 200
    assert changed.json["commit"] == first.json["commit"] + 1
    assert changed.headers["etag"] != first.headers["etag"]
    assert site.get("/api/exists?uid=v1").headers["cache-control"] == "no-store"
    assert "etag" not in site.get("/api/exists?uid=v1", If_None_Match=changed.headers["etag"]).headers


def test_answers_that_are_kept_are_those_of_the_newest_commit(site: Served, store_path: Path, model: Model) -> None:
    rng, writer, july_s = Random(4), Writer(store_path), model.midnight(date(2016, 7, 1))
    for _ in range(5):
        times = [T - rng.randrange(3 * DAY_S) for _ in range(5)]
        uids = [f"v{rng.randrange(300)}" for _ in times]
        writer.add(times, uids)
        model.add(times, uids)
        for _ in range(2):
            found = site.json("/api/series?by=day&from=2016-07-01&to=2016-07-31")["records"]
            expected = {at: one for (word, at), one in model.rows().items() if word == "day" and at >= july_s}
            assert {one["start_ts"]: (one["count"], one["visits"]) for one in found} == expected


def test_the_data_file_is_replaced_meanwhile(
    site: Served, store_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uniqdb.store.GENERATION_LOOK_S", 0.0)
    before = site.get("/api/trailing")
    Writer(store_path).compact()
    after = site.get("/api/trailing", If_None_Match=before.headers["etag"])
    assert after.status == 200
    assert after.headers["etag"] != before.headers["etag"]
    assert after.json["windows"] == before.json["windows"]
    Writer(store_path).add([T], ["one more"])
    model.add([T], ["one more"])
    assert site.json("/api/count")["count"] == len(model.union(0, T + DAY_S))


def test_an_empty_store_says_so(store_path: Path) -> None:
    with uniqdb.open(store_path):
        pass
    with served(store_path) as site:
        for path in (
            *("/api/trailing", "/api/count", "/api/count?window=7d", "/api/series?by=day&last=7d"),
            *("/api/overlap?window=7d&with=previous", "/api/cohorts?by=week", "/api/stickiness"),
        ):
            assert site.get(path).status == 404
        assert site.json("/api/series?by=day")["records"] == []
        assert site.json("/api/returning?by=day")["buckets"] == []
        assert site.json("/api/status")["visits"] == 0
        assert site.json("/healthz") == {"commit": 0}


@pytest.mark.usefixtures("model")
def test_what_was_swept_is_gone(store_path: Path) -> None:
    kept = Retention(minute_days=1, hour_days=1, day_days=9, week_days=14, month_days=40)
    with uniqdb.open(store_path, options=replace(options(), retention=kept)) as db:
        sweep(db, T + 365 * DAY_S, forced=True)
    with served(store_path) as site:
        gone = site.get("/api/count?window=30d")
        assert (gone.status, gone.json["type"]) == (410, "urn:uniqdb:WindowNotKept")
        for path in ("/api/stickiness", "/api/cohorts?by=day&from=2016-06-20", "/api/overlap?window=7d&with=30d"):
            assert site.get(path).status == 410
        windows = {one["window"]: one for one in site.json("/api/trailing")["windows"]}
        assert windows["7d"]["current"]["count"] > 0
        assert windows["30d"]["current"] is None
        assert windows["30d"]["refused"]["status"] == 410


# ---------------------------------------------------------------- the query itself
@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_query_is_read_or_refused(raw: bytes) -> None:
    for endpoint in ENDPOINTS:
        try:
            query = parse_query(raw, endpoint.parameters)
        except BadQuery:
            continue
        assert set(query.values) <= {one.name for one in endpoint.parameters}


def test_a_refusal_never_repeats_what_was_sent() -> None:
    secret = "0123456789abcdef"
    for raw in (f"uid={secret}&uid={secret}", f"{secret}=1", f"uid={secret * 100}", f"uid={secret}&format={secret}"):
        with pytest.raises(BadQuery) as caught:
            parse_query(raw.encode(), (UID, AS_OF, FORMAT))
        assert secret not in str(caught.value)


def test_the_same_question_is_one_question() -> None:
    one = parse_query(b"window=7d&as_of=2016-07-11&window=30d", (WINDOWS, AS_OF))
    other = parse_query(b"as_of=2016%2d07-11&window=7d&window=30d", (WINDOWS, AS_OF))
    assert one.text == other.text
    assert one.text != parse_query(b"window=30d&as_of=2016-07-11&window=7d", (WINDOWS, AS_OF)).text
