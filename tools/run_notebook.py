"""Run a notebook from start to end and write it with its outputs: run_notebook.py NOTEBOOK OUTPUT

Run it with `.venv-docs/bin/python`, which has a kernel. A cell that fails ends it with that cell's traceback.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

CELL_TIMEOUT_S = 120


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    notebook = nbformat.read(source, as_version=4)
    nbformat.validate(notebook)
    where = {"metadata": {"path": str(source.resolve().parent)}}
    NotebookClient(notebook, timeout=CELL_TIMEOUT_S, kernel_name="python3", resources=where).execute()
    nbformat.write(notebook, target)


if __name__ == "__main__":
    main()
