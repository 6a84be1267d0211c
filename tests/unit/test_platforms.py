"""Windows is refused in one line, and before anything is imported that only POSIX has."""

import subprocess
import sys
from pathlib import Path

import pytest

from uniqdb.errors import PlatformUnsupported
from uniqdb.platforms import assert_supported

ROOT = Path(__file__).resolve().parents[2]
# Windows has none of these; a module that is None in sys.modules cannot be imported.
WITHOUT_POSIX = (
    "import sys\n"
    "sys.modules.update(dict.fromkeys(['fcntl', 'grp', 'pty', 'pwd', 'resource', 'termios', 'tty']))\n"
    f"sys.path[:0] = [{str(ROOT / 'engine')!r}, {str(ROOT / 'cli')!r}]\n"
)


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_POSIX + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("platform", ["linux", "darwin", "freebsd14"])
def test_supported(platform: str) -> None:
    assert_supported(platform)


def test_windows_is_not() -> None:
    with pytest.raises(PlatformUnsupported, match="Windows"):
        assert_supported("win32")


@pytest.mark.parametrize("arguments", [["--help"], ["ingest", "visits.jsonl"], []])
def test_the_command_line_on_windows(arguments: list[str]) -> None:
    done = run_python(f"sys.argv[1:] = {arguments!r}\nfrom uniqdb_cli.main import run\nrun('win32')")
    assert (done.returncode, done.stdout) == (71, "")
    assert done.stderr == (
        "uniqdb: uniqdb does not run on Windows itself. Use it inside WSL 2 or Docker, where it is on Linux.\n"
    )


def test_the_package_on_windows() -> None:
    done = run_python(
        "sys.platform = 'win32'\nimport uniqdb\ntry:\n    uniqdb.open('x.uniqdb')\n"
        "except uniqdb.PlatformUnsupported as error:\n    print(error.exit_code, error.hint)"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "71 use it inside WSL 2 or Docker, where it is on Linux\n"
