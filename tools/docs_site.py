"""Build the site of the documents into build/site, strictly: a link or an anchor that leads nowhere is an error.

    make docs

The sources are laid out in build/site-source as they lie in the repository, as far as the pages link to them; so a
relative link means the same here, there, and where somebody reads the files in a repository's viewer. The navigation is
made of the sections and links of docs/README.md; pages that stand nowhere in it come last. The Python that runs this
needs no library; Sphinx runs in `.venv-docs`.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
PYTHON = ROOT / ".venv-docs" / "bin" / "python"
MAP = Path("docs/README.md")
FIRST_PAGE = Path("README.md")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
OUTSIDE = re.compile(r"[a-z]+:|#|//")
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
RECORDS = Path("docs/decisions")


# ---------------------------------------------------------------- sources
def links_of(page: Path) -> Iterator[tuple[str, Path]]:
    """(text, target below ROOT) of the relative links of a page, without those in code."""
    for text, target in LINK.findall(CODE.sub(_blank, (ROOT / page).read_text("utf-8"))):
        if not OUTSIDE.match(target):
            where = (ROOT / page.parent / target.partition("#")[0]).resolve()
            yield text, where.relative_to(ROOT)


def _blank(code: re.Match[str]) -> str:
    """A link whose text is code is one: only what looks like a link inside of code is taken out."""
    return code.group() if "](" not in code.group() else ""


def sources() -> list[Path]:
    """The first page, all of docs/, and what these link to, over as many steps as it takes."""
    found: set[Path] = set()
    waiting = [FIRST_PAGE, *(path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md"))]
    while waiting:
        path = waiting.pop()
        if path in found or not (ROOT / path).is_file():
            continue
        found.add(path)
        if path.suffix == ".md":
            waiting += [target for _, target in links_of(path)]
    return sorted(found)


# ---------------------------------------------------------------- navigation
def navigation() -> list[tuple[str, list[tuple[str, Path]]]]:
    """(section, [(title, page)]) as in the map; then the pages that it lacks."""
    found: list[tuple[str, list[tuple[str, Path]]]] = []
    listed = {FIRST_PAGE, MAP}
    for part in re.split(r"^## ", (ROOT / MAP).read_text("utf-8"), flags=re.MULTILINE)[1:]:
        pages = []
        for text, target in LINK.findall(part):
            if not OUTSIDE.match(target):
                path = (ROOT / MAP.parent / target.partition("#")[0]).resolve().relative_to(ROOT)
                if path.suffix == ".md" and path not in listed:
                    pages.append((text, path))
                    listed.add(path)
        found.append((part.partition("\n")[0].strip(), pages))
    rest = [path for path in sources() if path.suffix == ".md" and path not in listed and not _is_record(path)]
    return [*found, *([("Further pages", [(title_of(path), path) for path in rest])] if rest else [])]


def _is_record(path: Path) -> bool:
    return path.parent == RECORDS and path.name[0].isdigit()


def title_of(page: Path) -> str:
    title = TITLE.search((ROOT / page).read_text("utf-8"))
    return title.group(1) if title else page.stem


def contents(caption: str, pages: list[tuple[str, Path]]) -> str:
    """A hidden table of contents, of which the theme makes the navigation."""
    lines = ["", "```{toctree}", ":hidden:", *([f":caption: {caption}"] if caption else []), ""]
    lines += [f"{title} </{page.with_suffix('')}>" for title, page in pages]
    return "\n".join([*lines, "```", ""])


# ---------------------------------------------------------------- building
CONFIGURATION = """\
project = html_title = "uniqdb"
extensions = ["myst_parser"]
root_doc = "README"
# Headings have the anchors that GitHub gives them.
myst_heading_anchors = 4
html_theme = "furo"
# Quotes and dashes stay as they were typed.
smartquotes = False
html_copy_source = html_show_sourcelink = html_show_copyright = False
"""


def lay_out(folder: Path) -> None:
    """Copy the sources, as they lie in the repository, and add the navigation."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in sources():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / path)
    added = {FIRST_PAGE: contents("", [("All documents", MAP)])}
    added[FIRST_PAGE] += "".join(contents(section, pages) for section, pages in navigation() if pages)
    records = [path for path in sources() if _is_record(path)]
    added[RECORDS / "README.md"] = contents("", [(title_of(path), path) for path in records])
    for path, text in added.items():
        with (folder / path).open("a", encoding="utf-8") as file:
            file.write(text)
    (folder / "conf.py").write_text(CONFIGURATION, "utf-8")


# ---------------------------------------------------------------- what was built
class Loaded(HTMLParser):
    """What a browser fetches for a page by itself: scripts, styles, pictures, frames."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values: dict[str, Any] = dict(attrs)
        if tag in ("script", "img", "iframe", "audio", "video", "source", "embed"):
            self.found.append(values.get("src") or "")
        if tag == "link" and values.get("rel") != "canonical":
            self.found.append(values.get("href") or "")


def fetched_from_elsewhere(site: Path) -> list[str]:
    """Files of the site and what they would load from another host."""
    wrong = []
    for path in sorted(site.rglob("*.html")):
        page = Loaded()
        page.feed(path.read_text("utf-8"))
        wrong += [f"{path.relative_to(site)}: {one}" for one in page.found if re.match(r"(?:[a-z]+:)?//", one)]
    for path in sorted(site.rglob("*.css")):
        found = re.findall(r"(?:url\(|@import )[\"']?((?:[a-z]+:)?//[^\"')]+)", path.read_text("utf-8"))
        wrong += [f"{path.relative_to(site)}: {one}" for one in found]
    return wrong


def render(source: Path, site: Path) -> int:
    """Have Sphinx make a site of sources that were laid out; its exit code. What it complains of, it refuses."""
    shutil.rmtree(site, ignore_errors=True)
    command = [str(PYTHON), "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-d", f"{site}-trees"]
    return subprocess.run([*command, str(source), str(site)], cwd=ROOT, check=False).returncode


def main() -> int:
    source, site = BUILD / "site-source", BUILD / "site"
    lay_out(source)
    if (code := render(source, site)) != 0:
        return code
    # The first page by the name that a server, or somebody who looks into the folder, expects.
    shutil.copyfile(site / FIRST_PAGE.with_suffix(".html"), site / "index.html")
    if wrong := fetched_from_elsewhere(site):
        print("The site would load from elsewhere:", *wrong, sep="\n  ", file=sys.stderr)
        return 1
    print(f"{len(list(site.rglob('*.html')))} pages: {site.relative_to(ROOT)}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
