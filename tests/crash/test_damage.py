"""Bits flipped, files cut off, pages overwritten: right answers or an error, nobody ended, and most of it mended."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crash.test_kill import ENVIRONMENT, HERE

LIMIT_S = 3 * 3_600


def campaign(folder: Path, what: str, cases: int, *, seed: int = 1, repair_every: int = 1) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "damaging.py"), str(folder), what, str(cases), str(seed)]
    environment = ENVIRONMENT | {"UNIQDB_TEST_REPAIR_EVERY": str(repair_every)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    print(what, {part: counts for part, counts in found.items() if part != "complaints"})
    assert found["complaints"] == []
    return found


def test_a_flipped_bit_makes_no_wrong_answer(tmp_path: Path) -> None:
    found = campaign(tmp_path, "flips", 24, repair_every=4)
    assert sum(found["asked"].values()) == 24
    assert found["asked"]["refused"] > 3, "hardly any flip did harm: this shows nothing"
    # One bit is brought back, whatever it was part of, but for a commit that a meta page has lost.
    assert set(found["repaired"]) <= {"equal", "as before the last commit"}


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    found = campaign(tmp_path, "truncations", 6, seed=3, repair_every=3)
    assert found["asked"] == {"refused": 6}
    assert found["checked"] == {"damaged": 6}


def test_of_an_overwritten_page_the_rest_comes_back(tmp_path: Path) -> None:
    found = campaign(tmp_path, "pages", 6, seed=4, repair_every=2)
    assert found["asked"] == {"refused": 6}
    assert set(found["repaired"]) <= {"equal", "equal as far as it answers"}


@pytest.mark.soak
@pytest.mark.parametrize(
    ("what", "cases", "repair_every"), [("flips", 2_000, 4), ("truncations", 200, 2), ("pages", 200, 2)]
)
def test_damage_at_length(tmp_path: Path, what: str, cases: int, repair_every: int) -> None:
    campaign(tmp_path, what, cases, seed=77, repair_every=repair_every)
