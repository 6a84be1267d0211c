"""What an installation weighs: the wheel, and what the engine and the command line need beside it."""

import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

from uniqdb import __version__

ROOT = Path(__file__).resolve().parents[2]
WHEEL_BYTES_MAX = 1_000_000
CORE_BYTES_MAX = 125_000_000


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(name: str) -> set[str]:
    """The installed distributions that one needs without extras, itself left out."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for line in metadata.distribution(waiting.pop()).requires or ():
            requirement, _, condition = line.partition(";")
            other = canonical(re.split(r"[<>=!~\s\[(]", requirement.strip(), maxsplit=1)[0])
            # Whether a condition of Python or system holds shows in whether it is installed.
            if "extra ==" not in condition and other not in found and is_installed(other):
                found.add(other)
                waiting.append(other)
    return found


def is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def installed_bytes(name: str) -> int:
    """What its files weigh, compiled Python included where pip has written it."""
    files = {Path(str(file.locate())) for file in metadata.distribution(name).files or ()}
    return sum(path.stat().st_size for path in files if path.is_file())


def test_the_wheel_is_small_and_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"uniqdb-{__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < WHEEL_BYTES_MAX
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {
        path.relative_to(root).as_posix()
        for root in (ROOT / "engine", ROOT / "cli")
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.endswith(".pyc")
    }
    assert {name for name in names if ".dist-info/" not in name} == sources
    assert f"uniqdb-{__version__}.dist-info/licenses/LICENSE" in names


def test_what_it_needs_is_no_mountain() -> None:
    names = needed("uniqdb")
    assert {"lmdb", "msgspec", "numpy", "pyroaring", "typer", "xxhash"} <= names
    assert "confluent-kafka" not in names
    sizes = {name: installed_bytes(name) for name in names}
    assert sum(sizes.values()) < CORE_BYTES_MAX, sizes
