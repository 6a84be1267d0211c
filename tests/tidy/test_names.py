"""A number that is a duration or a size says its unit in its name: `timeout_s`, not `timeout`."""

import ast
import re
from collections.abc import Iterator

import pytest

from tidy.house import modules, syntax

UNITLESS = re.compile(
    r"(?:^|_)(age|delay|duration|elapsed|interval|lateness|retention|size|timeout|ttl)"
    r"(?:_(?:max|min|limit))?$",
    re.IGNORECASE,
)
NUMBERS = {"int", "float", "np.int64", "np.uint64", "np.int32", "np.uint32", "np.float64"}


def is_number(annotation: ast.expr | None) -> bool:
    """Whether int or float is what the annotation says, alone or as one side of a union."""
    if annotation is None:
        return False
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return is_number(annotation.left) or is_number(annotation.right)
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return is_number(ast.parse(annotation.value, mode="eval").body)
    if isinstance(annotation, ast.Subscript):
        outer = ast.unparse(annotation.value).rsplit(".", 1)[-1]
        if outer in {"Final", "Annotated", "ClassVar", "Optional"}:
            inner = annotation.slice
            return is_number(inner.elts[0] if isinstance(inner, ast.Tuple) else inner)
        return False
    return ast.unparse(annotation) in NUMBERS


def numeric_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of everything that is annotated as a number or is a numeric constant in capitals."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and is_number(node.annotation):
            yield node.lineno, node.arg
        elif isinstance(node, ast.AnnAssign) and is_number(node.annotation):
            yield node.lineno, ast.unparse(node.target).rsplit(".", 1)[-1]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_number(node.returns):
            yield node.lineno, node.name
        elif isinstance(node, ast.Assign) and not isinstance(node.value, ast.Constant | ast.BinOp):
            continue
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from ((node.lineno, name) for name in names if name.isupper() and not is_text(node.value))


def is_text(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, str | bytes)


def without_unit(tree: ast.Module) -> list[tuple[int, str]]:
    return [(line, name) for line, name in numeric_names(tree) if UNITLESS.search(name)]


def test_durations_and_sizes_name_their_unit() -> None:
    found = [
        f"{module}, line {line}: {name}"
        for module, path in modules().items()
        for line, name in without_unit(syntax(path))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "def f(timeout: float): ...",
        "def f(*, poll_interval: int | None = None): ...",
        "class C:\n    map_size: int",
        "class C:\n    def __init__(self):\n        self.age: 'float' = 0.0",
        "def map_size() -> int: ...",
        "IDLE_TIMEOUT = 30",
        "BLOCK_SIZE = 64 * 1024",
        "BLOCK_SIZE_MAX: Final[int] = 3",
        "x: Annotated[int, 'help'] = 1\nlateness: Annotated[int, 'help'] = 5",
    ],
)
def test_rule_flags(text: str) -> None:
    assert len(without_unit(ast.parse(text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "def f(timeout_s: float, map_size_bytes: int, retention_days: int): ...",
        "def f(timeout: timedelta, interval: tuple[int, int]): ...",
        "def f(size_class: int, page: int, message: int): ...",
        "PERIOD = 'month'",
        "IDLE_TIMEOUT_S = 30",
    ],
)
def test_rule_leaves(text: str) -> None:
    assert without_unit(ast.parse(text)) == []
