"""The arrows of imports only go down, and some libraries have one door.

Imports inside functions and under TYPE_CHECKING count: a knot that is hidden is still a knot.
"""

import ast
from collections.abc import Iterable

import pytest

from tidy.house import modules, syntax

# Lowest first. A module imports from its own layer or from those before it; a new module is entered here.
LAYERS: tuple[tuple[str, frozenset[str]], ...] = (
    ("words", frozenset({"errors", "limits", "options", "platforms", "shard", "field_settings"})),
    (
        "pure",
        frozenset(
            {
                *(
                    "granularity",
                    "calendar_zone",
                    "window",
                    "visit",
                    "visit_decoder",
                    "plausibility",
                    "clock",
                    "record",
                    "look_back",
                    "format",
                ),
                *("batch", "uid_fragment", "uid_batch", "uid_probe", "uid_scan", "uid_cache", "uid_filter", "needles"),
                *("lmdb_pages", "mending"),
                *("recent_times", "held_visits", "dense_stretch"),
            }
        ),
    ),
    (
        "store",
        frozenset(
            {
                *("change_set", "manifest", "read_view", "generations", "map_room", "store", "commit_plan"),
                *("fresh_data", "new_place", "copying", "page_walk", "salvage", "salvaged_view"),
            }
        ),
    ),
    (
        "fragments",
        frozenset(
            {
                *("fragments", "handle_lock", "meta", "quarantine", "intake", "completeness", "outbox", "requests"),
                *("audit", "horizons", "lost_times", "upkeep_step"),
            }
        ),
    ),
    (
        "members",
        frozenset(
            {
                *(
                    "uid_lookup",
                    "uid_dictionary",
                    "uid_upkeep",
                    "small_buckets",
                    "bucket_members",
                    "closing",
                    "store_clock",
                ),
                *(
                    "trailing",
                    "told_again",
                    "uid_removal",
                    "dead_uids",
                    "lost_names",
                    "members_cache",
                    "whole_units",
                    "store_facts",
                    "seen_uids",
                ),
            }
        ),
    ),
    ("answers", frozenset({"uid_set", "answers", "visitor_questions", "cohorts", "stickiness"})),
    ("check", frozenset({"retention", "check"})),
    (
        "engine",
        frozenset(
            {
                *("engine", "creation", "info", "moments", "reading", "snapshot", "writer", "call_sources"),
                *("quarantine_review", "source_clocks", "request_handlers", "gauges"),
                *("compaction", "migration", "erasure", "forgetting", "pending_visits", "sweeping"),
                *("again", "standing", "backup", "restore"),
                *("repair", "rebuilt_buckets", "rebuilt_rows", "rebuilt_uids", "examination"),
                *("content", "sorted_uids", "uid_runs", "assembly", "dump_format", "dump", "dump_reading", "loading"),
                *("merging", "parts", "several_stores", "summing", "exporting"),
            }
        ),
    ),
)
# The package itself re-exports the engine, and the way of a file into a store.
STREAM, PACKAGE, COMMAND_LINE = range(len(LAYERS), len(LAYERS) + 3)
LAYER_NAMES = [name for name, _ in LAYERS] + ["stream", "package", "command line"]

# Library -> the modules that may import it.
DOORS = {
    "lmdb": {"uniqdb.store"},
    "confluent_kafka": {
        *("uniqdb.stream.kafka_source", "uniqdb.stream.kafka_topic", "uniqdb.stream.publisher"),
        *("uniqdb.stream.kafka_admin", "uniqdb.stream.record_producer", "uniqdb.stream.topic_watcher"),
        *("uniqdb.stream.offset_report", "uniqdb.stream.kafka_messages"),
    },
    "prometheus_client": {"uniqdb_cli.metrics_server"},
    "uvicorn": {"uniqdb_cli.web.server"},
    "starlette": {f"uniqdb_cli.web.{name}" for name in ("app", "gate", "responses", "server")},
    "plotly": {"uniqdb_cli.web.assets"},
    "pyarrow": {"uniqdb_cli.export_parquet"},
}

# Only what says how a source is read, and the command line, read the wall clock; everything else is given the time.
# A handle has its clock, by which visits of calls are judged, among its options. Requests have names that sort by age.
WALL_CLOCK_READERS = {
    *("uniqdb.stream.ingest_options", "uniqdb.stream.file_source", "uniqdb.stream.service_options"),
    *("uniqdb.options", "uniqdb.requests"),
}
WALL_CLOCK = {
    *("time.time", "time.time_ns", "time.localtime", "time.gmtime", "time.ctime", "time.clock_gettime"),
    *("datetime.now", "datetime.utcnow", "datetime.today", "date.today"),
    *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"),
}


def layer_of(module: str) -> int | None:
    """The index of the module's layer; None for a module that no layer names."""
    top, _, rest = module.partition(".")
    if top == "uniqdb_cli":
        return COMMAND_LINE
    if module == "uniqdb":
        return PACKAGE
    if rest == "stream" or rest.startswith("stream."):
        return STREAM
    return next((index for index, (_, names) in enumerate(LAYERS) if rest in names), None)


def imported(module: str, tree: ast.Module, known: Iterable[str], *, is_package: bool) -> set[str]:
    """Dotted names that the module imports: our own modules exactly, of others the whole name."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                package = package[: len(package) - node.level + 1]
                base = ".".join([*package, base] if base else package)
            # `from package import name`: an import of the submodule where there is one.
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names}
    return found - {module}


def import_graph() -> dict[str, set[str]]:
    known = modules()
    return {
        name: imported(name, syntax(path), known, is_package=path.name == "__init__.py") for name, path in known.items()
    }


def upward_arrows(graph: dict[str, set[str]]) -> list[str]:
    found = []
    for module, targets in sorted(graph.items()):
        here = layer_of(module)
        for target in sorted(targets & graph.keys()):
            there = layer_of(target)
            if here is not None and there is not None and there > here:
                found.append(f"{module} ({LAYER_NAMES[here]}) imports {target} ({LAYER_NAMES[there]})")
    return found


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """One import cycle as a path of modules, or nothing."""
    finished: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in finished:
            return []
        for target in sorted(graph[module] & graph.keys()):
            if found := visit(target, [*path, module]):
                return found
        finished.add(module)
        return []

    return next((found for module in sorted(graph) if (found := visit(module, []))), [])


def outside_door(graph: dict[str, set[str]]) -> list[str]:
    return [
        f"{module} imports {library}"
        for module, targets in sorted(graph.items())
        for library, doors in DOORS.items()
        if module not in doors and any(t == library or t.startswith(library + ".") for t in targets)
    ]


def wall_clock_reads(tree: ast.Module) -> list[str]:
    """Places that name a function reading the wall clock, under whatever name it was imported."""
    alias = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            alias |= {name.asname: name.name for name in node.names if name.asname}
        elif isinstance(node, ast.ImportFrom) and node.module in {"time", "datetime"}:
            alias |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            first, _, rest = ast.unparse(node).partition(".")
            name = ".".join(filter(None, (alias.get(first, first), rest)))
            if name in WALL_CLOCK:
                found.append(f"line {node.lineno}: {name}")
    return found


def test_every_module_has_a_layer() -> None:
    assert [name for name in modules() if layer_of(name) is None] == [], "enter the module in LAYERS"


def test_imports_only_go_down() -> None:
    assert upward_arrows(import_graph()) == []


def test_no_import_cycle() -> None:
    assert cycle(import_graph()) == []


def test_libraries_have_one_door() -> None:
    assert outside_door(import_graph()) == []


def test_only_the_driver_and_the_command_line_read_the_wall_clock() -> None:
    found = {
        name: reads
        for name, path in modules().items()
        if name not in WALL_CLOCK_READERS and layer_of(name) != COMMAND_LINE
        if (reads := wall_clock_reads(syntax(path)))
    }
    assert found == {}


# The rules themselves, on small sources that break them.


def graph_of(**sources: str) -> dict[str, set[str]]:
    named = {name.replace("__", "."): ast.parse(text) for name, text in sources.items()}
    return {name: imported(name, tree, named, is_package=name == "uniqdb") for name, tree in named.items()}


@pytest.mark.parametrize(
    "text",
    [
        "import uniqdb.engine",
        "from uniqdb import engine",
        "from uniqdb.engine import Engine",
        "from .engine import Engine",
        "from . import engine",
        "def f():\n    from uniqdb.engine import Engine",
    ],
)
def test_rule_upward_arrow(text: str) -> None:
    graph = graph_of(uniqdb="", uniqdb__engine="", uniqdb__format=text)
    assert upward_arrows(graph) == ["uniqdb.format (pure) imports uniqdb.engine (engine)"]


def test_rule_layers_above_the_engine() -> None:
    graph = graph_of(
        uniqdb__engine="import uniqdb.stream.driver", uniqdb__stream__driver="import uniqdb_cli.main"
    ) | graph_of(uniqdb_cli__main="import uniqdb.engine")
    assert [line.split()[0] for line in upward_arrows(graph)] == ["uniqdb.engine", "uniqdb.stream.driver"]
    assert upward_arrows({"uniqdb_cli.main": {"uniqdb.engine"}, "uniqdb.engine": {"uniqdb_cli.main"}}) == [
        "uniqdb.engine (engine) imports uniqdb_cli.main (command line)"
    ]


def test_rule_root_package_is_not_for_the_inside() -> None:
    graph = graph_of(
        uniqdb="from uniqdb.engine import open", uniqdb__engine="", uniqdb__store="from uniqdb import open"
    )
    assert upward_arrows(graph) == ["uniqdb.store (store) imports uniqdb (package)"]


def test_rule_cycle() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_rule_one_door() -> None:
    graph = graph_of(uniqdb__store="import lmdb", uniqdb__check="import lmdb", uniqdb__engine="import confluent_kafka")
    assert outside_door(graph) == ["uniqdb.check imports lmdb", "uniqdb.engine imports confluent_kafka"]


@pytest.mark.parametrize(
    "text",
    [
        "import time\nx = time.time()",
        "import time as t\nx = t.time_ns()",
        "from time import time\nx = time()",
        "from time import time as now\nf(clock=now)",
        "from datetime import datetime\nx = datetime.now()",
        "import datetime as dt\nx = dt.datetime.now(dt.UTC)",
        "from datetime import date as d\nx = d.today()",
    ],
)
def test_rule_wall_clock(text: str) -> None:
    assert len(wall_clock_reads(ast.parse(text))) == 1


def test_rule_wall_clock_leaves_other_clocks() -> None:
    text = "import time\nfrom datetime import datetime\na = time.monotonic()\nb = datetime.fromtimestamp(0)"
    assert wall_clock_reads(ast.parse(text)) == []
