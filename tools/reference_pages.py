"""Write the pages of reference that are made of the project itself: docs/api.md, docs/settings.md, docs/records.md.

Run it with the Python of the environment when a docstring, a setting or a schema changes:
`.venv/bin/python tools/reference_pages.py`. (docs/cli.md is written by tools/cli_reference.py.)
"""

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uniqdb
from uniqdb_cli import settings

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
LINE_CHARS_MAX = 88
WRITTEN = "`tools/reference_pages.py` writes this page"


# ---------------------------------------------------------------- Python
API_HEAD = f"""\
# Python

What `import uniqdb` offers, in the words of the docstrings. Event times are Unix seconds; intervals are `[start, end)`;
a `Moment` is Unix seconds, an aware datetime, a date, or a text such as `2016-07-11`. {WRITTEN}.

"""
FIRST = (
    "open",
    "create",
    "ingest",
    "Engine",
    "Snapshot",
    "UidSet",
    "CountRecord",
    "Verdict",
    "Granularity",
    "OpenOptions",
)
"""In this order; then the other names by the alphabet, the errors last."""
INSIDE = {
    "Engine": {"write", "change", "mark_live", "wait_for", "leave", "close_due", "now_s", "zone"},
    "IngestOptions": {"source_options"},
    "Snapshot": {"seen", "is_seen", "find_out", "seen_between", "span"},
}
"""Methods that the ingest driver, the service and the upkeep of a store use; no promise is made about them."""


def module_of(name: str) -> ast.Module:
    home = uniqdb._HOMES.get(name, "errors")
    return ast.parse((ROOT / "engine" / "uniqdb" / f"{home.replace('.', '/')}.py").read_text("utf-8"))


def definition_of(name: str) -> ast.ClassDef | ast.FunctionDef:
    for node in module_of(name).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node
    raise LookupError(name)


def bases_of(node: ast.ClassDef) -> list[str]:
    return [ast.unparse(base) for base in node.bases]


def methods_of(node: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    """Public methods, those of a base in the same module first; an overriding one stands for both."""
    own = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef) and not one.name.startswith("_")}
    above: dict[str, ast.FunctionDef] = {}
    for base in bases_of(node):
        for other in module_of(node.name).body:
            if isinstance(other, ast.ClassDef) and other.name == base:
                above |= {one.name: one for one in methods_of(other)}
    # What overrides says only what is different about it; the promise is the base's.
    for name, method in {**own, **above}.items():
        if name not in INSIDE.get(node.name, ()):
            yield method


def signature(node: ast.FunctionDef, prefix: str = "") -> str:
    """As it is called; one that is too long for a line has a line for each argument."""
    if any(ast.unparse(one) == "property" for one in node.decorator_list):
        return f"{node.name}: {_type(node.returns)}"
    arguments = list(_arguments(node.args))
    line = f"{prefix}{node.name}({', '.join(arguments)}) -> {_type(node.returns)}"
    if len(line) <= LINE_CHARS_MAX:
        return line
    return "\n".join([f"{prefix}{node.name}(", *(f"    {one}," for one in arguments), f") -> {_type(node.returns)}"])


def _arguments(given: ast.arguments) -> Iterator[str]:
    """Each argument with its type and default, without `self`."""
    defaults: list[ast.expr | None] = [None] * (len(given.args) - len(given.defaults)) + list(given.defaults)
    for one, default in zip(given.args, defaults, strict=True):
        if one.arg not in ("self", "cls"):
            yield _argument(one, default)
    if given.kwonlyargs:
        yield "*"
    for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield _argument(one, default)


def _argument(one: ast.arg, default: ast.expr | None) -> str:
    words = f"{one.arg}: {_type(one.annotation)}" if one.annotation else one.arg
    return words if default is None else f"{words} = {ast.unparse(default)}"


def _type(node: ast.expr | None) -> str:
    return ast.unparse(node).strip("'\"") if node is not None else "None"


def fields_of(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """(declaration, what the text under it says) of the fields of a class, and of the members of an enumeration."""
    for one, following in zip(node.body, [*node.body[1:], ast.Pass()], strict=True):
        text = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = str(following.value.value)
        name = one.targets[0] if isinstance(one, ast.Assign) else one.target if isinstance(one, ast.AnnAssign) else None
        if isinstance(name, ast.Name) and not name.id.startswith("_"):
            yield ast.unparse(one), text


def prose(text: str | None) -> str:
    """A docstring as Markdown."""
    lines: list[str] = []
    is_example = False
    for line in (text or "").splitlines():
        starts = line.startswith(">>>")
        if starts and not is_example:
            lines.append("```pycon")
            is_example = True
        elif is_example and not line.strip():
            lines.append("```")
            is_example = False
        lines.append(line)
    if is_example:
        lines.append("```")
    return re.sub(r"(?<!`)``([^`]+)``(?!`)", r"`\1`", "\n".join(lines)).strip()


ERRORS = [name for name in uniqdb.__all__ if name not in uniqdb._HOMES]


def entry(name: str) -> str:
    """The section of one exported name that is no error."""
    node = definition_of(name)
    if isinstance(node, ast.FunctionDef):
        called = signature(node, "uniqdb.")
        return f"## {name}\n\n```text\n{called}\n```\n\n{prose(ast.get_docstring(node))}\n"
    parts = [f"## {name}\n\n{prose(ast.get_docstring(node))}\n"]
    for declaration, text in fields_of(node):
        parts.append(f"- `{declaration}`" + (f": {' '.join(prose(text).split())}" if text else ""))
    if parts[-1].startswith("- "):
        parts.append("")
    for method in methods_of(node):
        what = prose(ast.get_docstring(method))
        parts.append(f"### {name}.{method.name}\n\n```text\n{signature(method)}\n```\n\n{what}\n")
    return "\n".join(parts)


def errors_table() -> str:
    """Every error with the exit code of the command line and the error that it is a kind of."""
    rows = ["| error | a kind of | exit code | meaning |", "|---|---|---|---|"]
    for name in ["UniqdbError", *(one for one in ERRORS if one != "UniqdbError")]:
        node = definition_of(name)
        assert isinstance(node, ast.ClassDef)
        summary = prose(ast.get_docstring(node)).split("\n\n")[0].replace("\n", " ")
        rows.append(f"| `{name}` | `{bases_of(node)[0]}` | {getattr(uniqdb, name).exit_code} | {summary} |")
    return "\n".join(rows)


def api_page() -> str:
    names = [*FIRST, *(name for name in uniqdb.__all__ if name in uniqdb._HOMES and name not in FIRST)]
    words = "Every error has a `message`, its cause, and a `hint`, its remedy; each is one line.\n\n"
    return API_HEAD + "\n".join(map(entry, names)) + f"\n## Errors\n\n{words}{errors_table()}\n"


# ---------------------------------------------------------------- settings
SETTINGS_HEAD = f"""\
# Settings

Every setting of the `uniqdb` command, as [config/uniqdb.toml](../config/uniqdb.toml) explains it. A flag comes first,
then the variable of the environment, then the file: `--config FILE`, else `UNIQDB_CONFIG`, else `./config/uniqdb.toml`,
else `./uniqdb.toml`. A key that does not exist is an error, wherever it stands. `uniqdb config show` tells each value
and where it was set. Those of the Kafka client are passed through: [Kafka](kafka.md). {WRITTEN}.
"""
KEY_LINE = re.compile(r"^# ([a-z_0-9]+) = (.+)$")


def setting_blocks(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(explanation, {key: value shown}) of each block of the example file."""
    words: list[str] = []
    keys: dict[str, str] = {}
    for line in [*text.splitlines(), ""]:
        found = KEY_LINE.match(line)
        if found and found.group(1) in settings.KEYS:
            keys[found.group(1)] = found.group(2)
            continue
        if keys:
            yield " ".join(words), keys
            words, keys = [], {}
        if line.startswith("# "):
            words.append(line[2:])
        else:
            words = []


def values_of(key: str) -> str:
    """What a setting may be."""
    if key in settings._NUMBERS:
        least, most, unit = settings._NUMBERS[key]
        return f"{least} to {most:,} {unit}" if unit != "a port" else f"{least} to {most}"
    choices = settings._CHOICES.get(key, ())
    return ", ".join(f"`{one}`" for one in choices) or "text"


def settings_page() -> str:
    defaults = settings.Settings()
    parts = [SETTINGS_HEAD]
    for words, keys in setting_blocks((ROOT / "config" / "uniqdb.toml").read_text("utf-8")):
        names = [f"`{key}`" for key in keys]
        heading = ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")
        rows = ["| key | variable | default | values |", "|---|---|---|---|"]
        for key in keys:
            default = getattr(defaults, key)
            shown = "not set" if default is None else f"`{json.dumps(default)}`"
            rows.append(f"| `{key}` | `{settings.PREFIX}{key.upper()}` | {shown} | {values_of(key)} |")
        parts.append("\n".join([f"## {heading}", "", words, "", *rows, ""]))
    return "\n".join(parts)


# ---------------------------------------------------------------- records
RECORDS_HEAD = f"""\
# Records

What the topics hold, what `--format json` and `jsonl` print, and what the API and Python give. Readers should ignore
fields that they do not know. {WRITTEN}, from the schemas.
"""
SCHEMAS = {
    "record.schema.json": "Every count. Of two records with one key, the larger (`epoch`, `revision`) counts.",
    "dead_letter.schema.json": "A refused record, in the topic of dead letters; its key is the id.",
}


def type_of(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{one}`" for one in field["enum"])
    kinds = field.get("type", "")
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)


def records_page() -> str:
    parts = [RECORDS_HEAD]
    for name, words in SCHEMAS.items():
        schema = json.loads((DOCS / name).read_text("utf-8"))
        rows = ["| field | type | always there | meaning |", "|---|---|---|---|"]
        for field, about in schema["properties"].items():
            always = "yes" if field in schema.get("required", ()) else "no"
            rows.append(f"| `{field}` | {type_of(about)} | {always} | {about.get('description', '')} |")
        parts.append("\n".join([f"## {schema['title']}", "", f"{words} Schema: [{name}]({name}).", "", *rows, ""]))
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    "api.md": api_page,
    "settings.md": settings_page,
    "records.md": records_page,
}


def main() -> None:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page().rstrip("\n") + "\n", "utf-8")


if __name__ == "__main__":
    main()
