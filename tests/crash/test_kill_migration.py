"""kill -9 while a store is migrated: the old one, untouched, or the new one, whole."""

import random
import shutil
import signal
from pathlib import Path

import pytest
from msgspec import structs

from crash.compacting import STEPS
from crash.test_kill_compaction import WHOLE, assert_whole, content, entries, fill, kill, run_s, start
from format.golden import answers, lay_out, recorded
from uniqdb.format import FORMAT_VERSION
from uniqdb.manifest import read_manifest, write_manifest
from uniqdb.migration import migrate


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of format 1, as far as MANIFEST says, large enough to be killed in the midst of it."""
    path = tmp_path_factory.mktemp("template") / "template.uniqdb"
    fill(path)
    write_manifest(path, structs.replace(read_manifest(path), format_version=1))
    return path


def assert_old_or_new(path: Path, template: Path, before: str) -> str:
    """Which of the two is there; nothing else is, once the next writer was there."""
    manifest = read_manifest(path)
    is_old = manifest == read_manifest(template)
    if is_old:
        assert (path / "g1" / "data.mdb").read_bytes() == (template / "g1" / "data.mdb").read_bytes()
    else:
        assert (manifest.generation, manifest.format_version) == (2, FORMAT_VERSION)
    assert content(path) == before
    assert not is_old or read_manifest(path).format_version == 1, "a reader leaves it as it is"
    assert assert_whole(path, before) == (1 if is_old else 2)
    return "old" if is_old else "new"


def migrations(folder: Path, template: Path, kills: int) -> dict[str, int]:
    path, before = folder / "killed.uniqdb", content(template)
    shutil.copytree(template, path)
    whole_s = run_s(path, "migrate")
    rng, seen = random.Random(3), {"kills": 0, "old": 0, "new": 0, "half": 0}
    while seen["kills"] < kills:
        shutil.rmtree(path)
        shutil.copytree(template, path)
        if not kill(path, "migrate", rng.uniform(0, whole_s * 1.1)):
            whole_s *= 0.8  # the machine has become faster: most waits should end within a run
            continue
        seen["half"] += entries(path) not in WHOLE
        seen[assert_old_or_new(path, template, before)] += 1
        seen["kills"] += 1
    return seen


def test_ten_kills_of_a_migration(tmp_path: Path, template: Path) -> None:
    assert migrations(tmp_path, template, 10)["kills"] == 10


@pytest.mark.soak
def test_many_kills_of_a_migration(tmp_path: Path, template: Path) -> None:
    seen = migrations(tmp_path, template, 100)
    print(seen, flush=True)
    assert seen["half"] > 20, "too few in the midst of it"


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step(tmp_path: Path, step: str) -> None:
    path = tmp_path / "killed.uniqdb"
    lay_out(path, "v1")
    with start(path, "migrate", step) as child:
        assert child.wait() == -signal.SIGKILL
    is_old = STEPS.index(step) < 2
    assert entries(path) not in WHOLE
    assert read_manifest(path).format_version == (1 if is_old else FORMAT_VERSION)
    assert answers(path) == recorded("v1")
    done = migrate(path)
    assert (done.is_needed, done.generation) == (is_old, 2)
    assert answers(path) == recorded("v1")
