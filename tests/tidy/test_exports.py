"""The exported names are one sorted list, and each can be imported."""

import importlib
import types

import pytest

from tidy.house import modules

PACKAGES = [name for name, path in modules().items() if name == "uniqdb" and path.name == "__init__.py"]


def misplaced(module: types.ModuleType) -> list[str]:
    """What is wrong with the export list of the module; nothing when all is well."""
    names = getattr(module, "__all__", None)
    if names is None:
        return ["no __all__"]
    found = [f"not sorted: {names}"] if list(names) != sorted(names) else []
    found += [f"twice: {name}" for name in sorted(set(names)) if names.count(name) > 1]
    found += [f"missing: {name}" for name in names if not hasattr(module, name)]
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    } - {"TYPE_CHECKING"}
    return found + [f"public but not exported: {name}" for name in sorted(public - set(names))]


@pytest.mark.parametrize("name", PACKAGES)
def test_exports(name: str) -> None:
    assert misplaced(importlib.import_module(name)) == []


def test_rule() -> None:
    module = types.ModuleType("sample")
    assert misplaced(module) == ["no __all__"]
    module.__dict__.update(__all__=["b", "a", "c"], a=1, b=2, d=4, _e=5)
    assert misplaced(module) == [
        "not sorted: ['b', 'a', 'c']",
        "missing: c",
        "public but not exported: d",
    ]
    module.__dict__.update(__all__=["a", "b", "d"])
    assert misplaced(module) == []
