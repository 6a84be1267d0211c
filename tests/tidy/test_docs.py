"""The documents are complete: code early on, every command named, every link good, every page found."""

import re
from pathlib import Path

import typer

from tidy.house import ROOT, project_files
from uniqdb_cli.main import app

FIRST_CODE_LINE_MAX = 20
MAP = Path("docs/README.md")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
OUTSIDE = ("https://", "http://", "mailto:", "#")


def pages() -> list[Path]:
    return [path for path in project_files() if path.suffix == ".md"]


def links_of(page: Path) -> list[str]:
    """Relative targets, as they stand in the text."""
    text = CODE.sub("", (ROOT / page).read_text("utf-8"))
    return [target for target in LINK.findall(text) if not target.startswith(OUTSIDE)]


def target_of(page: Path, link: str) -> Path:
    return (ROOT / page).parent.joinpath(link.partition("#")[0]).resolve()


def command_names() -> list[str]:
    return sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # it is a group


def test_readme_starts_with_code() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    first = next(number for number, line in enumerate(lines, start=1) if line.startswith("```"))
    assert first <= FIRST_CODE_LINE_MAX


def test_every_command_is_mentioned() -> None:
    text = "\n".join((ROOT / page).read_text("utf-8") for page in pages() if page.parts[0] in ("README.md", "docs"))
    names = command_names()
    assert len(names) >= 8
    assert [name for name in names if not re.search(rf"\buniqdb {name}\b", text)] == []


def test_relative_links_resolve() -> None:
    broken = [
        (page.as_posix(), link) for page in pages() for link in links_of(page) if not target_of(page, link).exists()
    ]
    assert broken == []


def test_links_stay_inside() -> None:
    assert [link for page in pages() for link in links_of(page) if not target_of(page, link).is_relative_to(ROOT)] == []


def test_every_page_is_found_from_the_readme() -> None:
    """Those of docs/ in one step, or in two by the list of all documents; decision records through their own list."""
    from_readme = {target_of(page, link) for page in (Path("README.md"), MAP) for link in links_of(page)}
    assert ROOT / MAP in from_readme
    records = Path("docs/decisions/README.md")
    from_records = {target_of(records, link) for link in links_of(records)}
    for page in pages():
        if page.parts[0] == "docs":
            known = from_records if page.parent == records.parent and page != records else from_readme
            assert ROOT / page in known, f"{page} is not linked"


def test_rules() -> None:
    assert LINK.findall("see [a](b.md) and [c](d/e.md#f), not ![x](y.png)") == ["b.md", "d/e.md#f"]
    assert CODE.sub("", "`[a](b)` [c](d)\n```sh\n[e](f)\n```\n").strip() == "[c](d)"
