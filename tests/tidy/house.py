"""What the tidy tests share: which files belong to the project, and which modules they make."""

import ast
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = (ROOT / "engine", ROOT / "cli")

# Without git (a source archive) the tree is walked instead, and these are what git would leave out.
_IGNORED_FOLDERS = {".git", "uniqdb-demo", "dist", "build", "htmlcov", "__pycache__"}
_IGNORED_ENDINGS = ("_cache", ".uniqdb", ".egg-info", ".hypothesis", ".benchmarks")


@cache
def project_files() -> tuple[Path, ...]:
    """Every file that is or would be committed, as a path below ROOT."""
    # The tree may belong to another user than the one who tests (a container): git refuses that unless told.
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files"]
    command += ["-z", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists():
        try:
            run = subprocess.run(command, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return tuple(sorted(_walk()))
        names = {os.fsdecode(name) for name in run.stdout.split(b"\0") if name}
        return tuple(sorted(Path(name) for name in names if (ROOT / name).is_file()))
    return tuple(sorted(_walk()))


def _walk() -> Iterator[Path]:
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not _is_ignored(name)]
        for name in files:
            if not name.endswith((".pyc", ".coverage", ".venv.lock")):
                yield (Path(folder) / name).relative_to(ROOT)


def _is_ignored(name: str) -> bool:
    return name in _IGNORED_FOLDERS or name.startswith(".venv") or name.endswith(_IGNORED_ENDINGS)


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the engine and the command line."""
    found = {}
    for root in SOURCE_ROOTS:
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method, nested ones included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
