"""The page about faults names tests: each of them exists, every fault has a row, and each planted bug stands there."""

import ast
import re

from planted.bugs import BUGS
from tidy.house import ROOT

PAGE = ROOT / "docs" / "reliability.md"
NAMED = re.compile(r"tests/[\w/]+\.py(?:::\w+)?")


def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def missing(name: str) -> bool:
    path, _, function = name.partition("::")
    return not (ROOT / path).is_file() or (bool(function) and function not in functions_of(path))


def test_every_named_test_exists() -> None:
    names = sorted(set(NAMED.findall(PAGE.read_text("utf-8"))))
    assert len(names) > 40
    assert [name for name in names if missing(name)] == []


def test_every_fault_has_a_row_that_names_a_test() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if re.match(r"\| F\d+ \|", line)]
    assert [int(line.split("|")[1].strip(" F")) for line in rows] == list(range(1, 31))
    assert [line[:40] for line in rows if not NAMED.search(line)] == []


def test_the_planted_bugs_stand_there_with_tests_that_exist() -> None:
    text = PAGE.read_text("utf-8")
    table = text[text.index("## Planted bugs") : text.index("## What these found")]
    assert table.count("\n| ") - 1 == len(BUGS)
    assert [name for bug in BUGS for name in bug.caught_by if missing(name)] == []


def test_rule() -> None:
    assert missing("tests/tidy/test_nothing.py")
    assert missing("tests/tidy/test_reliability.py::test_nothing")
    assert not missing("tests/tidy/test_reliability.py::test_rule")
