"""The page in a real browser: it shows the store's numbers, asks nobody else, and nobody is kept out."""

from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

import uniqdb
from engines import options
from model import Model
from uniqdb_cli.web.reader import StoreReader
from web.looking import Page
from web.web_server import DAY_S, Served, T, Writer, served, served_sum

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser: Any, site: Served) -> Page:
    opened = Page(browser, site)
    opened.open()
    return opened


def percent(part: float) -> str:
    """As the page writes a share in English."""
    rounded = (Decimal(part) * 100).quantize(Decimal("0.1"), ROUND_HALF_UP)
    return f"{rounded}%".replace(".0%", "%")


def shown(page: Page, question: str) -> None:
    """Wait until the chart shows the answer to this question."""
    page.until(lambda: question in page.run("return document.getElementById('series-chart').dataset.shown ?? ''"))


def test_the_numbers_are_those_of_the_store(page: Page, model: Model) -> None:
    found = page.site.json("/api/trailing")["windows"]
    assert page.counts() == {one["window"]: one["current"]["count"] for one in found}
    first = model.midnight(model.day_of(page.site.json("/api/status")["clock_ts"]))
    assert page.counts()["1d"] == len(model.union(first, first + DAY_S))
    change = next(one["change"] for one in found if one["window"] == "7d")
    assert f"{abs(change):.1%}".replace(".0%", "%") in page.text("#windows li[data-window='7d'] .against")
    assert "provisional" in page.text("#windows li[data-window='1d']")
    assert "nothing before it" in page.text("#windows li[data-window='365d']")


def test_the_charts_are_those_of_the_store(page: Page) -> None:
    found = page.site.json("/api/series?by=day&last=30d&fill=yes&compare=yes")
    settled = [one["count"] for one in found["records"] if one["status"] != "provisional"]
    assert page.trace("series-chart", "visitors") == settled
    assert page.trace("series-chart", "period before") == [one["count"] for one in found["before"]]
    assert page.trace("series-chart", "provisional")[1:] == [one["count"] for one in found["records"][len(settled) :]]
    split = page.site.json("/api/returning?by=day&last=30d")
    assert page.trace("split-chart", "new") == [one["new"] for one in split["buckets"]]
    assert page.trace("split-chart", "returning") == [one["returning"] for one in split["buckets"]]
    minutes = page.site.json(page.link("live-csv").partition("&format")[0])["records"]
    drawn = page.trace("live-chart", "final") + page.trace("live-chart", "provisional")
    assert sum(drawn) == sum(one["count"] for one in minutes)


def test_the_tables_are_those_of_the_store(page: Page) -> None:
    found = page.site.json("/api/series?by=day&last=30d&fill=yes&compare=yes")
    rows = [
        [one["datetime"][:10], f"{one['count']:,}", f"{one['visits']:,}", one["status"], f"{before['count']:,}"]
        for one, before in zip(found["records"], found["before"], strict=True)
    ]
    assert page.table("series-table") == rows
    assert len(page.table("split-table")) == 30
    assert len(page.table("live-table")) == 60
    assert page.table("sources")[0][0] == "web"


def test_who_comes_back_is_what_the_store_says(page: Page) -> None:
    sticky = page.site.json("/api/stickiness?last=30d")
    assert page.parts("sticky-chart", "of 30 days") == [one["dau_mau"] for one in sticky["days"]]
    assert page.parts("sticky-chart", "of 7 days") == [one["dau_wau"] for one in sticky["days"]]
    assert f"On an average day {percent(sticky['dau_mau'])} of" in page.text("#sticky-summary")
    assert f"over {sticky['days_averaged']} days)" in page.text("#sticky-summary")
    assert [row[1:4] for row in page.table("sticky-table")] == [
        [f"{one[name]:,}" for name in ("dau", "wau", "mau")] for one in sticky["days"]
    ]
    split = page.site.json("/api/returning?by=day&last=30d")
    both = page.site.json(f"/api/overlap?from={split['start_ts']}&to={split['end_ts']}&with=previous")
    assert page.text("#overlap-summary").startswith(f"{both['both']:,} ({percent(both['both'] / both['count'])}) were")


@pytest.mark.parametrize("by", ["day", "week", "month"])
def test_the_triangle_is_that_of_the_store(page: Page, by: str) -> None:
    page.choose(**{"cohorts-by": by})
    page.until(lambda: page.run("return document.getElementById('cohorts').dataset.shown") == by)
    periods = page.site.json(f"/api/cohorts?by={by}")["periods"]
    expected = [
        [one["datetime"][:10], f"{one['new']:,}"]
        + [percent(count / one["new"]) if one["new"] else "\u2013" for count in one["returned"][1:]]
        for one in periods
    ]
    rows = page.run(
        "return [...document.querySelectorAll('#cohorts tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert rows == expected
    open_cells = page.run("return document.querySelectorAll('#cohorts .open').length")
    assert open_cells == len(periods) - 1, "the newest period's, of each cohort before it"
    assert f"{periods[-1]['datetime'][:10]} is not over" in page.text("#cohorts-summary")
    assert page.complaints() == []


def test_what_is_not_counted_is_said(page: Page) -> None:
    facts = page.text("#facts")
    assert "minute 1, hour 1, day 1, week 1" in facts
    assert "2: bad_ts 1, bad_uid 1" in facts
    assert "Europe/Zurich" in facts
    assert "Amended by late visits: 1." in page.text("#series-summary")


def test_every_range_and_granularity(page: Page) -> None:
    for last, by in (("24h", "hour"), ("7d", "hour"), ("90d", "day"), ("365d", "week"), ("180d", "month"), ("30d", "")):
        page.choose(range=last)
        page.choose(by=by)
        asked = by or "day"
        shown(page, f'"by":"{asked}","last":"{last}"')
        found = page.site.json(f"/api/series?by={asked}&last={last}&fill=yes")["records"]
        settled = [one["count"] for one in found if one["status"] != "provisional"]
        assert page.trace("series-chart", "visitors") == settled
    page.choose(range="dates")
    page.choose(**{"from": "2016-06-01", "to": "2016-06-10"})
    shown(page, '"from":"2016-06-01","to":"2016-06-10"')
    assert len(page.trace("series-chart", "visitors")) == 10
    page.choose(compare=False)
    shown(page, '"compare":""')
    assert page.trace("series-chart", "period before") == []
    assert page.run("return document.getElementById('series-summary').ariaLive") == "polite"
    page.choose(range="365d", by="minute")
    shown(page, '"by":"day","last":"365d"')
    assert page.complaints() == []


def test_the_csv_is_what_is_shown(page: Page) -> None:
    for link in ("windows-csv", "series-csv", "split-csv", "sticky-csv", "cohorts-csv", "live-csv"):
        got = page.site.get(page.link(link))
        assert (got.status, got.headers["content-type"]) == (200, "text/csv; charset=utf-8")
        if link == "series-csv":
            assert got.body.count(b"\r\n") == 61


def test_it_asks_nobody_else_and_complains_of_nothing(page: Page) -> None:
    page.choose(theme="dark")
    page.choose(range="7d")
    shown(page, '"last":"7d"')
    asked = page.requests()
    assert len(asked) > 15
    assert [url for url in asked if not url.startswith((page.site.url + "/", "data:", "about:"))] == []
    assert page.complaints() == []


@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 1280), (False, 360), (True, 390)])
def test_nobody_is_kept_out(page: Page, dark: bool, width: int) -> None:
    page.emulate(dark=dark, width=width)
    page.until(lambda: page.run("return document.documentElement.dataset.theme") == ("dark" if dark else "light"))
    for table in ("series-table", "split-table", "sticky-table", "live-table", "sources"):
        page.table(table)
    assert page.barriers() == []
    wide, screen = page.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= screen == width, "nobody scrolls sideways"


def test_rule_barriers_are_seen(page: Page) -> None:
    page.run("document.getElementById('range').parentElement.replaceWith(document.getElementById('range'))")
    assert [one.partition(":")[0] for one in page.barriers()] == ["select-name"]


def test_the_keyboard_reaches_everything(page: Page) -> None:
    reached = set()
    for _ in range(50):
        page.browser.switch_to.active_element.send_keys(Keys.TAB)
        found = page.run("const one = document.activeElement; return one.id || one.parentElement.id || one.className")
        reached.add(found)
    fields = {"theme", "range", "by", "compare", "cohorts-by", "follow"}
    links = {"skip", "series-csv", "split-csv", "sticky-csv", "cohorts-csv", "live-csv"}
    assert reached >= fields | links | {"series-table", "split-table", "sticky-table", "cohorts", "sources"}
    page.run("document.getElementById('range').focus()")
    page.browser.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    shown(page, '"last":"90d"')


def test_a_choice_of_colours_is_kept(page: Page) -> None:
    before = page.run("return getComputedStyle(document.body).backgroundColor")
    page.choose(theme="dark")
    page.browser.refresh()
    page.until(page.is_drawn)
    assert page.run("return document.getElementById('theme').value") == "dark"
    assert page.run("return getComputedStyle(document.body).backgroundColor") != before
    page.choose(theme="light")
    assert page.run("return getComputedStyle(document.body).backgroundColor") == before


def test_a_commit_is_followed(page: Page, store_path: Path) -> None:
    """Without a reload; and only the charts of the newest question are shown."""
    page.run("window.mine = true")
    before = page.counts()["1d"]
    clock_s = page.site.json("/api/status")["clock_ts"]
    Writer(store_path).add([clock_s] * 3, ["new 1", "new 2", "new 3"])
    page.until(lambda: page.counts()["1d"] == before + 3)
    page.until(lambda: page.trace("live-chart", "provisional")[-1:] >= [3])
    assert page.run("return window.mine")
    page.choose(follow=False)
    Writer(store_path).add([clock_s], ["new 4"])
    commit = page.site.json("/healthz")["commit"]
    page.choose(follow=True)
    page.until(lambda: f"commit {commit}." in page.text("#version"))


def test_a_server_that_is_away_is_said_and_come_back_to(
    browser: Any, site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(browser, site)
    page.open()
    with monkeypatch.context() as patched:

        async def none(*_: object) -> None:
            raise uniqdb.StoreBusy("it is busy", hint="wait")

        patched.setattr(StoreReader, "answer", none)
        assert "it is busy" in page.until(lambda: page.text("#trouble"))
        assert page.counts(), "what was shown still stands"
    page.until(lambda: page.run("return document.getElementById('trouble').hidden"))
    assert all("503" in one for one in page.complaints())


def test_an_empty_store_is_waited_for(browser: Any, store_path: Path) -> None:
    with uniqdb.open(store_path):
        pass
    with served(store_path) as site:
        page = Page(browser, site)
        browser.get(site.url + "/")
        page.until(lambda: "no visits yet" in page.text("#trouble"))
        Writer(store_path).add([T, T + 60], ["ann", "ben"])
        page.until(page.is_drawn)
        assert page.counts()["7d"] == 2
        assert page.run("return document.getElementById('trouble').hidden")


def test_a_token_is_asked_for_once(browser: Any, store_path: Path) -> None:
    with uniqdb.open(store_path, options=options()) as db:
        db.add_many([T], ["ann"])
    token = "0123456789abcdef"
    with served(store_path, token=token) as site:
        browser.get(site.url.replace("http://", f"http://anybody:{token}@") + "/")
        page = Page(browser, site)
        page.until(page.is_drawn)
        assert page.counts()["1d"] == 1
        assert page.complaints() == []


def test_several_stores_are_shown_as_one(browser: Any, tmp_path: Path) -> None:
    stores = [tmp_path / "one", tmp_path / "two"]
    for store, uids in zip(stores, (["ann", "ben"], ["cem", "dana", "eli"]), strict=True):
        with uniqdb.open(store, options=options()) as db:
            db.add_many([T - DAY_S * number for number in range(len(uids))], uids)
    with served_sum(stores) as site:
        page = Page(browser, site)
        page.open()
        assert page.counts()["7d"] == 5
        assert page.counts()["1d"] == 2
        assert len(page.table("split-table")) == 3
        Writer(stores[1]).add([T], ["fay"])
        page.until(lambda: page.counts()["1d"] == 3)
        assert page.complaints() == []
