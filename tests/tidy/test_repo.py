"""What is committed is text, small, and belongs there."""

from pathlib import Path

from tidy.house import ROOT, project_files

FILE_BYTES_MAX = 1_000_000

# Binary on purpose: stores of earlier format versions, which must open for ever.
BINARY_FOLDERS = (Path("tests/format/golden"),)
JUNK_NAMES = {".DS_Store", "Thumbs.db", "data.mdb", "lock.mdb", ".coverage"}
JUNK_ENDINGS = (".pyc", ".orig", ".rej", ".swp", "~")


def is_binary(content: bytes) -> bool:
    """Not UTF-8 text, or text with a zero byte."""
    try:
        return "\0" in content.decode("utf-8")
    except UnicodeDecodeError:
        return True


def is_junk(path: Path) -> bool:
    return path.name in JUNK_NAMES or path.name.endswith(JUNK_ENDINGS)


def may_be_binary(path: Path) -> bool:
    return any(folder in path.parents for folder in BINARY_FOLDERS)


def test_files_are_small() -> None:
    sizes = {path.as_posix(): (ROOT / path).stat().st_size for path in project_files()}
    assert {name: size_bytes for name, size_bytes in sizes.items() if size_bytes > FILE_BYTES_MAX} == {}


def test_files_are_text() -> None:
    text_files = [path for path in project_files() if not may_be_binary(path)]
    assert [path.as_posix() for path in text_files if is_binary((ROOT / path).read_bytes())] == []


def test_no_junk() -> None:
    files = [path for path in project_files() if not may_be_binary(path)]
    assert [path.as_posix() for path in files if is_junk(path)] == []


def test_text_ends_with_one_newline_and_has_no_carriage_returns() -> None:
    found = []
    for path in project_files():
        content = (ROOT / path).read_bytes()
        # Notebooks and data are written by programs with habits of their own; ruff looks after Python.
        if path.suffix not in {".md", ".toml", ".sh", ".yaml", ".yml", ".txt", ".ini"} or not content:
            continue
        if b"\r" in content or not content.endswith(b"\n") or content.endswith(b"\n\n"):
            found.append(path.as_posix())
    assert found == []


def test_rules() -> None:
    assert is_binary(b"a\0b")
    assert is_binary(b"\xff\xfe")
    assert not is_binary("Zürich\n".encode())
    assert is_junk(Path("a/data.mdb"))
    assert is_junk(Path("x.orig"))
    assert not is_junk(Path("data/x.json"))
    assert may_be_binary(Path("tests/format/golden/v1/data.mdb"))
    assert not may_be_binary(Path("data/data.mdb"))


def test_the_list_of_files_is_not_empty() -> None:
    assert {Path("pyproject.toml"), Path("Makefile"), Path("tests/tidy/test_repo.py")} <= set(project_files())
