"""`uniqdb migrate`, and that no command touches a store of a newer format."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import Result

from format.golden import answers, lay_out, recorded
from uniqdb.format import FORMAT_VERSION
from uniqdb.manifest import Manifest, WriterLock, read_manifest, write_manifest
from uniqdb_cli.main import app

Run = Callable[..., Result]
ARGUMENTS = {
    "ingest": ["v.jsonl"],
    "exists": ["a"],
    "members": ["--period", "2016"],
    "top": ["--once"],
    "verify": ["--against", "v.jsonl"],
    "sweep": ["--force", "--yes"],
    "forget": ["a", "--yes"],
    "backup": ["copy.uniqdb"],
    "restore": ["backup.uniqdb", "--yes"],
    "dump": ["d.tar"],
    "load": ["d.tar"],
    "quarantine accept": ["--all"],
    "quarantine discard": ["--all"],
    "clock reset": ["web", "--end"],
    "export counts": ["--by", "day"],
    "export members": ["--by", "day"],
    "export sets": ["--by", "day", "--output", "copy.uniqdb"],
}
"""What else a command needs to be carried out."""
OTHERS = {"config show": 0, "init": 2, "load": 73}
"""Commands that do not open a store, with their exit codes: the last two make one where there is none."""


def commands() -> Iterator[str]:
    """Every command that has ``--store``."""

    def walk(command: typer.core.TyperCommand | typer.core.TyperGroup, words: list[str]) -> Iterator[str]:
        if isinstance(command, typer.core.TyperGroup):
            for name, one in command.commands.items():
                yield from walk(one, [*words, name])  # type: ignore[arg-type]  # these are all ours
        elif any("--store" in parameter.opts for parameter in command.params):
            yield " ".join(words)

    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return walk(group, [])


def tree(path: Path) -> dict[str, bytes | None]:
    return {str(one): one.read_bytes() if one.is_file() else None for one in sorted(path.rglob("*"))}


@pytest.fixture
def newer(here: Path) -> Path:
    """A store of the format after this one, a store, an archive and a file of visits beside it."""
    path = here / "visits.uniqdb"
    lay_out(path, "v2")
    lay_out(here / "backup.uniqdb", "v2")
    write_manifest(path, Manifest(read_manifest(path).store_uuid, format_version=FORMAT_VERSION + 1))
    (here / "v.jsonl").write_text('{"ts":1468195200,"uid":"a"}\n')
    (here / "d.tar").write_bytes(b"")
    return path


@pytest.mark.parametrize("command", list(commands()))
def test_a_newer_format_is_refused_before_a_byte_changes(run: Run, newer: Path, command: str) -> None:
    before, backup = tree(newer), tree(newer.with_name("backup.uniqdb") / "g1")
    done = run(*command.split(), *ARGUMENTS.get(command, []), "--store", str(newer))
    assert tree(newer) == before
    assert tree(newer.with_name("backup.uniqdb") / "g1").keys() >= backup.keys()
    if command in OTHERS:
        assert done.exit_code == OTHERS[command]
        return
    assert done.exit_code == 74, done.stderr
    assert f"has format {FORMAT_VERSION + 1}, this uniqdb reads" in done.stderr
    assert not newer.with_name("copy.uniqdb").exists()


def test_a_newer_format_is_not_merged(run: Run, newer: Path) -> None:
    before = tree(newer)
    assert run("merge", "backup.uniqdb", str(newer), "--into", "all.uniqdb").exit_code == 74
    assert tree(newer) == before
    assert not Path("all.uniqdb").exists()


def test_migrate(run: Run, here: Path) -> None:
    path = here / "visits.uniqdb"
    lay_out(path, "v1")
    before = tree(path / "g1")
    assert "has format 1 and would be written anew in format 2" in run("migrate", "--dry-run").stderr
    assert read_manifest(path).format_version == 1
    assert tree(path / "g1").keys() >= before.keys()
    done = run("migrate")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "The store has format 2 now; it had 1." in done.stderr
    assert answers(path) == recorded("v1")
    whole = tree(path)
    for arguments in ([], ["--dry-run"]):
        done = run("migrate", *arguments)
        assert done.exit_code == 0
        assert "has format 2, which is the newest" in done.stderr
        changed = {name for name, content in tree(path).items() if whole.get(name) != content}
        assert changed <= {str(path / "g2" / "lock.mdb")}


def test_migrate_waits_for_no_writer(run_process: Callable[..., subprocess.CompletedProcess[str]], here: Path) -> None:
    lay_out(here / "visits.uniqdb", "v1")
    lock = WriterLock(here / "visits.uniqdb")
    try:
        assert run_process("migrate").returncode == 75
    finally:
        lock.release()
    assert run_process("migrate").returncode == 0
    assert run_process("migrate", "--store", "nothing.uniqdb").returncode == 66
