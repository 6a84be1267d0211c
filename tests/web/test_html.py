"""The files of the page, read as text: they fit each other, name nobody else, and need neither a mouse nor eyes."""

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from uniqdb_cli.web.assets import PLOTLY, load_assets
from uniqdb_cli.web.endpoints import ENDPOINTS
from uniqdb_cli.web.parameters import Parameter
from web.web_server import ROOT

PAGE = ROOT / "cli" / "uniqdb_cli" / "web" / "page"
SCRIPTS = sorted(PAGE.glob("*.js"))
FILE_LINES_MAX = 400
VOID = {"meta", "link", "input", "br", "img", "hr"}


class Tree(HTMLParser):
    """Tags in the order of the page, each with its attributes and those that it stands in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str], tuple[str, ...]]] = []
        self._open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(text)
        self.unbalanced += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}, tuple(self._open)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(tag)

    def every(self, *names: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes, _ in self.tags if tag in names]


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree((PAGE / "index.html").read_text("utf-8"))


def text_of(path: Path) -> str:
    return path.read_text("utf-8")


def test_the_page_is_balanced_and_says_what_it_is(tree: Tree) -> None:
    assert tree.unbalanced == []
    assert tree.every("html")[0]["lang"] == "en"
    assert len(tree.every("title", "h1")) == 2
    assert {"charset": "utf-8"} in tree.every("meta")
    assert any(one.get("name") == "viewport" and "user-scalable" not in one["content"] for one in tree.every("meta"))
    ids = [attributes["id"] for _, attributes, _ in tree.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_headings_go_down_one_by_one(tree: Tree) -> None:
    levels = [int(tag[1]) for tag, _, _ in tree.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    sections = tree.every("section")
    ids = {attributes.get("id") for tag, attributes, _ in tree.tags if tag == "h2"}
    assert {one["aria-labelledby"] for one in sections} == ids


def test_every_field_has_a_label(tree: Tree) -> None:
    fields = [(attributes, inside) for tag, attributes, inside in tree.tags if tag in ("select", "input")]
    assert len(fields) >= 6
    assert all("label" in inside for _, inside in fields)
    assert not [one for _, one, _ in tree.tags if "tabindex" in one and int(one["tabindex"]) > 0]


def test_every_chart_has_words_and_a_table(tree: Tree) -> None:
    charts = [one for one in tree.every("div") if one.get("role") == "img"]
    assert len(charts) == 4
    tables = {one["id"] for one in tree.every("details")}
    ids = {attributes.get("id") for _, attributes, _ in tree.tags}
    for chart in charts:
        assert chart["aria-labelledby"] in ids
        assert chart["id"].replace("-chart", "-table") in tables


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(tree: Tree) -> None:
    for tag, attributes, _ in tree.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("href", "src"):
            assert attributes.get(name, "/")[0] in "/#", attributes
            assert not attributes.get(name, "/").startswith("//")
        assert tag != "style"
        assert tag != "script" or "src" in attributes
    for path in PAGE.iterdir():
        found = set(re.findall(r"https?://[\w.]+", text_of(path)))
        assert found <= {"http://www.w3.org"}, path  # the name of SVG, which nobody fetches


def test_scripts_set_text_only_as_text_and_run_none() -> None:
    for path in SCRIPTS:
        assert not re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text_of(path)
        )


def test_ids_that_scripts_look_for_are_there(tree: Tree) -> None:
    ids = {attributes.get("id") for _, attributes, _ in tree.tags}
    found = set()
    for path in SCRIPTS:
        found |= set(re.findall(r'(?:find|getElementById|showTable)\("([\w-]+)"', text_of(path)))
    assert len(found) > 15
    assert found <= ids


def test_assets_that_are_named_are_served(tree: Tree) -> None:
    assets = load_assets()
    named = {one["href"] for one in tree.every("link")} | {one["src"] for one in tree.every("script")}
    for path in SCRIPTS:
        named |= {f"/assets/{name}" for name in re.findall(r'from "\./([\w.]+)"', text_of(path))}
    assert named | {"/", f"/assets/{PLOTLY}"} == set(assets)
    assert all(len(text_of(path).splitlines()) <= FILE_LINES_MAX for path in PAGE.iterdir())
    assert b"<!-- what" not in assets["/"].body


def test_questions_of_the_page_are_questions_of_the_api(tree: Tree) -> None:
    known: dict[str, dict[str, Parameter]] = {one.path: {p.name: p for p in one.parameters} for one in ENDPOINTS}
    links = [one["href"] for one in tree.every("a") if one["href"].startswith("/api/")]
    for link in links:
        path, _, query = link.partition("?")
        assert path in known or path == "/api/openapi.json"
        assert {pair.partition("=")[0] for pair in query.split("&") if pair} <= set(known.get(path, {}))
    for path in SCRIPTS:
        asked = set(re.findall(r'"(/(?:api/\w+|healthz))"', text_of(path)))
        assert asked <= set(known)


def test_colours_are_the_same_in_both_sets() -> None:
    css = text_of(PAGE / "page.css")
    light, dark = (set(re.findall(r"(--[\w-]+):", block)) for block in re.findall(r":root[^{]*\{([^}]*)\}", css))
    assert light == dark
    used = set(re.findall(r"var\((--[\w-]+)\)", css))
    used |= {f"--{name}" for name in re.findall(r'colour\("([\w-]+)"\)', text_of(PAGE / "charts.js"))}
    assert used == light


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_words_and_lines_can_be_told_from_their_ground() -> None:
    """By the figures of WCAG 2: 4.5 for words, 3 for what is drawn."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    css = text_of(PAGE / "page.css")
    for block in re.findall(r":root[^{]*\{([^}]*)\}", css):
        colours = dict(re.findall(r"--([\w-]+): (#\w{6});", block))
        for ground in ("paper", "panel"):
            for word in ("ink", "quiet", "first", "good", "bad"):
                assert contrast(colours[word], colours[ground]) >= 4.5, (word, ground)
            for line in ("first", "second", "before"):
                assert contrast(colours[line], colours[ground]) >= 3, (line, ground)
        assert contrast(colours["mark"], colours["mark-paper"]) >= 4.5
