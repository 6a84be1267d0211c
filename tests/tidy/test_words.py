"""What no file may hold: hosts of package registries, and talk about how the project was written."""

import re
from collections.abc import Iterator

import pytest

from tidy.house import ROOT, project_files

# Put together from pieces, so that this file may hold them, too.
REGISTRY_HOSTS = [
    *(
        "py" + "pi.org",
        "python" + "hosted.org",
        "py" + "pi.python",
        "conda.ana" + "conda",
        "npm" + "js.",
        "yarn" + "pkg.com",
    ),
    *(
        "repo1.ma" + "ven",
        "repo.ma" + "ven",
        "crates" + ".io",
        "proxy.go" + "lang",
        "rubygems" + ".org",
        "jitpack" + ".io",
    ),
    *("docker" + ".io", "ghcr" + ".io", "quay" + ".io", "gcr" + ".io", "pkg" + ".dev", "artifact" + "ory"),
]
# An index option with an address carries a host of somebody's own.
INDEX_OPTION = r"--(?:extra-)?" + r"index-url|--trusted" + r"-host|--find" + r"-links"
WORK_TALK = [
    *(
        r"session\s+" + r"log",
        r"(?:this|previous|next|coding)\s+" + r"session\b",
        r"helper\s+" + r"agent",
        r"sub" + r"agent",
    ),
    *(
        r"issue\s*#" + r"\d",
        r"\bissues?\s+" + r"\d",
        r"language\s+" + r"model",
        r"\bAI[- ](?:assist|generated|written)",
    ),
    *(r"\b(?:chat" + r"gpt|clau" + r"de|cop" + r"ilot|cod" + r"ex|anth" + r"ropic|open" + r"ai)\b",),
    *(r"/work/(?:main|sha" + r"red)", r"/tmp/" + r"w/"),
]
FORBIDDEN = re.compile(
    "|".join([*(re.escape(host) for host in REGISTRY_HOSTS), INDEX_OPTION, *WORK_TALK]), re.IGNORECASE
)


def forbidden_words(text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        for match in FORBIDDEN.finditer(line):
            yield f"line {number}: {match.group()}"


def test_no_file_holds_them() -> None:
    found = {}
    for path in project_files():
        text = (ROOT / path).read_bytes().decode("utf-8", errors="replace")
        if words := [*forbidden_words(text), *(f"path: {word}" for word in forbidden_words(path.as_posix()))]:
            found[path.as_posix()] = words
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "url = 'https://files.python" + "hosted.org/x'",
        "https://Py" + "Pi.org/simple",
        "image: ghcr" + ".io/x/y",
        "pip install --index" + "-url http://x",
        "see issue " + "#12",
        "as in issue " + "3",
        "this " + "session",
        "written in an earlier session " + "log",
    ],
)
def test_rule_flags(text: str) -> None:
    assert len(list(forbidden_words(text))) == 1


@pytest.mark.parametrize("text", ["session analysis", "this issues a warning", "pip install uniqdb", "a model of time"])
def test_rule_leaves(text: str) -> None:
    assert list(forbidden_words(text)) == []
