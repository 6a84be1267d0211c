"""Bugs that are put in on purpose are noticed: the tests that are to notice them do, and the bugs still apply."""

from pathlib import Path

import pytest

from planted.bugs import BUGS, Planted, caught_by, plant

QUICK = ("skip the offset fence", "off by one in the cover")
"""By unit tests of a second or two."""


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_can_be_planted(tmp_path: Path, bug: Planted) -> None:
    plant(bug, tmp_path, only_module=True)


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_noticed(tmp_path: Path, name: str) -> None:
    bug = next(one for one in BUGS if one.name == name)
    first = Planted(bug.name, bug.module, bug.changes, tuple(one for one in bug.caught_by if "/unit/" in one))
    assert len(caught_by(first, tmp_path)) == 1


@pytest.mark.soak
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_planted_bug_is_noticed_by_each_of_its_tests(tmp_path: Path, bug: Planted) -> None:
    found = caught_by(bug, tmp_path)
    print(bug.name, found, flush=True)
    assert len(found) == len(bug.caught_by)
