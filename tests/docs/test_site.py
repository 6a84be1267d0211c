"""The site of the documents builds strictly: what leads nowhere is found, and nothing is loaded from elsewhere."""

import runpy
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs

ROOT = Path(__file__).resolve().parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "docs_site.py"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = tmp_path_factory.mktemp("site") / "source"
    TOOL["lay_out"](place)
    return place


def test_it_builds_and_loads_nothing_from_elsewhere(source: Path, tmp_path: Path) -> None:
    assert TOOL["render"](source, tmp_path / "site") == 0
    assert TOOL["fetched_from_elsewhere"](tmp_path / "site") == []
    # Every page that is navigated to is there, and the files that pages link to.
    pages = [page for _, listed in TOOL["navigation"]() for _, page in listed]
    assert len(pages) > 25
    assert [page for page in pages if not (tmp_path / "site" / page.with_suffix(".html")).exists()] == []
    assert list((tmp_path / "site" / "_downloads").rglob("uniqdb.toml"))
    assert (tmp_path / "site" / "searchindex.js").exists()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("[nowhere](no-such-page.md)", "no-such-page.md"),
        ("[no file](../config/no-such-file.toml)", "no-such-file.toml"),
        ("[no heading](glossary.md#no-such-heading)", "no-such-heading"),
        ("[none here](#no-such-heading)", "no-such-heading"),
    ],
)
def test_what_leads_nowhere_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], line: str, complaint: str
) -> None:
    source = tmp_path / "source"
    (source / "docs").mkdir(parents=True)
    (source / "conf.py").write_text(TOOL["CONFIGURATION"])
    (source / "README.md").write_text("# First\n\n```{toctree}\ndocs/page\ndocs/glossary\n```\n")
    (source / "docs" / "glossary.md").write_text("# Glossary\n\n## A heading\n")
    page = source / "docs" / "page.md"
    page.write_text("# Page\n\n[good](glossary.md#a-heading), [first](../README.md)\n")
    assert TOOL["render"](source, tmp_path / "site") == 0
    page.write_text(page.read_text() + f"\n{line}\n")
    assert TOOL["render"](source, tmp_path / "site") != 0
    assert complaint in capfd.readouterr().err


def test_a_page_that_is_not_listed_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs" / "decisions").mkdir(parents=True)
    (tmp_path / "README.md").write_text("# First\n\n[all](docs/README.md) [notes](NOTES.md)\n")
    (tmp_path / "NOTES.md").write_text("# Notes\n")
    (tmp_path / "docs" / "README.md").write_text("# All\n\n## One\n\n- [A page](a.md), and [again](a.md#x)\n")
    for name, title in (("a", "A"), ("b", "Bare"), ("decisions/0001-c", "Record")):
        (tmp_path / "docs" / f"{name}.md").write_text(f"# {title}\n")
    monkeypatch.setitem(TOOL["navigation"].__globals__, "ROOT", tmp_path)
    assert TOOL["navigation"]() == [
        ("One", [("A page", Path("docs/a.md"))]),
        ("Further pages", [("Notes", Path("NOTES.md")), ("Bare", Path("docs/b.md"))]),
    ]


def test_rule_loads_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<link rel="canonical" href="https://x.example"><a href="https://y.example">y</a><script src="a.js"></script>'
    )
    assert TOOL["fetched_from_elsewhere"](tmp_path) == []
    (tmp_path / "b.html").write_text('<img src="//cdn.example/x.png"><script src="https://cdn.example/x.js"></script>')
    (tmp_path / "c.css").write_text('@import "https://fonts.example/a"; a { background: url(data:image/png;base64,x) }')
    assert TOOL["fetched_from_elsewhere"](tmp_path) == [
        "b.html: //cdn.example/x.png",
        "b.html: https://cdn.example/x.js",
        "c.css: https://fonts.example/a",
    ]
