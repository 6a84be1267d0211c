"""A function fits a screen, a module can be read in one go, a call can be understood where it stands."""

import ast
from pathlib import Path

from tidy.house import functions, modules, syntax

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 400
PARAMETERS_MAX = 5


def long_functions(tree: ast.Module) -> list[str]:
    """Functions over the limit, from `def` (decorators apart) to the last line, docstring included."""
    return [
        f"{node.name}: {lines} lines"
        for node in functions(tree)
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]


def wide_functions(tree: ast.Module) -> list[str]:
    return [
        f"{node.name}: {count} parameters"
        for node in functions(tree)
        if (count := parameter_count(node)) > PARAMETERS_MAX
    ]


def parameter_count(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """All parameters, `*args` and `**kwargs` counting one each, without self and cls."""
    named = [*node.args.posonlyargs, *node.args.args]
    own = 1 if named and named[0].arg in {"self", "cls"} else 0
    others = [node.args.vararg, node.args.kwarg]
    return len(named) - own + len(node.args.kwonlyargs) + sum(other is not None for other in others)


def is_exempt_from_parameters(path: Path) -> bool:
    """Typer makes an option of each parameter of a command, so a command has as many as it has options."""
    return "uniqdb_cli" in path.parts


def test_functions_fit_a_screen() -> None:
    found = {name: long for name, path in modules().items() if (long := long_functions(syntax(path)))}
    assert found == {}


def test_modules_stay_small() -> None:
    lengths = {name: len(path.read_text("utf-8").splitlines()) for name, path in modules().items()}
    assert {name: lines for name, lines in lengths.items() if lines > MODULE_LINES_MAX} == {}


def test_functions_take_few_parameters() -> None:
    found = {
        name: wide
        for name, path in modules().items()
        if not is_exempt_from_parameters(path) and (wide := wide_functions(syntax(path)))
    }
    assert found == {}


def test_rule_function_lines() -> None:
    body = "    x = 1\n"
    assert long_functions(ast.parse("def f():\n" + body * (FUNCTION_LINES_MAX - 1))) == []
    assert long_functions(ast.parse("def f():\n" + body * FUNCTION_LINES_MAX)) == ["f: 71 lines"]
    assert long_functions(ast.parse("@d\nasync def f():\n" + body * FUNCTION_LINES_MAX)) == ["f: 71 lines"]


def test_rule_parameters() -> None:
    assert wide_functions(ast.parse("def f(a, b, c, d, e): ...")) == []
    assert wide_functions(ast.parse("class C:\n    def f(self, a, b, c, d, e): ...")) == []
    assert wide_functions(ast.parse("def f(a, b, /, c, d, *, e, g): ...")) == ["f: 6 parameters"]
    assert wide_functions(ast.parse("def f(a, b, c, d, *e, **g): ...")) == ["f: 6 parameters"]
