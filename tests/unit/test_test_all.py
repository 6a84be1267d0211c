"""`make test-all` finds the Pythons of this machine: the newest of each version, and none that does not work."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "test_all.py"))
ANSWER = '#!/bin/sh\necho "{implementation} {version} $0"\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes programs that say they are some Python; nothing else is looked at."""
    search = TOOL["folders"].__globals__
    monkeypatch.setitem(search, "FOLDERS", ())
    monkeypatch.setitem(search, "PLACES", (("PYENV_ROOT", "/nowhere", "versions/*/bin"),))

    def put(name: str, version: str, implementation: str = "cpython") -> Path:
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(ANSWER.format(implementation=implementation, version=version))
        program.chmod(0o755)
        return program

    return put


def found(tmp_path: Path) -> dict[str, str]:
    environment = {"PATH": str(tmp_path / "bin"), "PYENV_ROOT": str(tmp_path / "pyenv")}
    return {one.name: one.program for one in TOOL["pythons"](environment)}


def test_the_newest_of_each_version(place: Any, tmp_path: Path) -> None:
    place("bin/python3", "3 11 2")
    newest = place("pyenv/versions/3.11.7/bin/python3.11", "3 11 7")
    place("pyenv/versions/3.11.4/bin/python3.11", "3 11 4")
    other = place("pyenv/versions/3.13.0/bin/python3", "3 13 0")
    assert found(tmp_path) == {"3.11": str(newest), "3.13": str(other)}


def test_what_is_not_taken(place: Any, tmp_path: Path) -> None:
    place("bin/python3.10", "3 10 9")
    place("bin/python3.12", "3 12 1", "pypy")
    place("bin/python3.14t", "3 14 0", "free-threaded")
    place("bin/python3-config", "3 12 0")
    (tmp_path / "bin" / "python3.13").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "bin" / "python3.13").chmod(0o755)
    (tmp_path / "bin" / "python3.14").symlink_to("/nowhere")
    # An environment of some project.
    place("pyenv/versions/mine/bin/python3.12", "3 12 5")
    (tmp_path / "pyenv/versions/mine/pyvenv.cfg").touch()
    assert found(tmp_path) == {}


def test_this_python_answers() -> None:
    answer = TOOL["asked"](Path(sys.executable))
    assert answer.version == sys.version_info[:3]


def test_each_has_an_environment_of_its_own_that_git_does_not_see_and_clean_removes() -> None:
    maker = runpy.run_path(str(ROOT / "tools" / "make_venv.py"))
    place = maker["venv_of"]("own")
    assert place == ROOT / f".venv-{sys.version_info.major}.{sys.version_info.minor}"
    assert len({maker["venv_of"](section) for section in maker["SECTIONS"]}) == 5
    assert maker["locked"]("own") == maker["locked"]("test")
    assert ".venv-*/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()
    clean = (ROOT / "Makefile").read_text("utf-8").partition("\nclean:")[2]
    assert {".venv-3.*", ".venv-docs", ".venv-bench"} <= set(clean.split())
