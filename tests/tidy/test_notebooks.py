"""Notebooks are kept without outputs, and their links are good."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tidy.house import ROOT, project_files

NOTEBOOKS = [path for path in project_files() if path.suffix == ".ipynb"]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def leftovers(notebook: dict[str, Any]) -> list[str]:
    """Ids of cells that hold what running them left behind."""
    return [
        cell["id"]
        for cell in notebook["cells"]
        if cell.get("outputs") or cell.get("execution_count") is not None or cell["metadata"]
    ]


def links(notebook: dict[str, Any]) -> list[str]:
    text = "".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    return [link for link in LINK.findall(text) if "://" not in link]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=str)
def test_a_notebook_holds_no_outputs(path: Path) -> None:
    notebook = json.loads((ROOT / path).read_text("utf-8"))
    assert leftovers(notebook) == [], "clear all outputs before committing"
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=str)
def test_its_links_are_good(path: Path) -> None:
    found = links(json.loads((ROOT / path).read_text("utf-8")))
    assert found
    assert [link for link in found if not (ROOT / path.parent / link.partition("#")[0]).exists()] == []


def test_there_is_one() -> None:
    assert Path("notebooks/walkthrough.ipynb") in NOTEBOOKS


def test_rules() -> None:
    clean = {"id": "a", "cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": []}
    text = {"id": "b", "cell_type": "markdown", "metadata": {}, "source": ["see [x](y.md) and [z](https://z)"]}
    assert leftovers({"cells": [clean, text]}) == []
    assert leftovers({"cells": [clean | {"outputs": [{}]}, clean | {"execution_count": 1}]}) == ["a", "a"]
    assert links({"cells": [clean, text]}) == ["y.md"]
