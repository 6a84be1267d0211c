"""Write constraints.txt: exact versions and sha256 hashes of all that `make install` and `make test` install.

Run it with the Python of the environment (`.venv/bin/python tools/lock.py`) when a dependency changes. With the word
`bench` it writes bench/constraints.txt instead, the peers that `make bench-peers` installs: wheels only, and those that
a Python or platform has none of are left out there; with `fuzz` so tests/fuzz/constraints.txt. With the word `docs` it
writes docs/constraints.txt, what builds the site and runs the notebook (`make docs test-docs`).
It asks the ordinary pip client what it would install for each Python and platform below, and takes
versions and hashes from pip's report. Nothing is installed. Takes ten minutes or more, needs the network, and a Python
of 3.12 or newer: an older pip does not resolve for the newest Pythons.

A package with compiled wheels also gets the hash of its source archive, so that a platform or a Python
without a wheel can still build it.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
WHEELS_ONLY = {"bench": ROOT / "bench" / "constraints.txt", "fuzz": ROOT / "tests" / "fuzz" / "constraints.txt"}
DOCS = ROOT / "docs" / "constraints.txt"
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")


def _glibc(machine: str, minors: tuple[int, ...]) -> tuple[str, ...]:
    old_names = ("manylinux2014", "manylinux1") if machine == "x86_64" else ("manylinux2014",)
    return tuple(f"manylinux_2_{minor}_{machine}" for minor in minors) + tuple(
        f"{name}_{machine}" for name in old_names
    )


# Newest first within a platform, as pip prefers them. The second set of a machine stands for an older system,
# where pip may choose another file of the same version.
_NEW = (39, 38, 36, 35, 34, 31, 28, 27, 26, 24, 17, 12, 5)
PLATFORMS: dict[str, tuple[str, ...]] = {
    "Linux x86_64": _glibc("x86_64", _NEW),
    "Linux x86_64, glibc 2.28": _glibc("x86_64", _NEW[6:]),
    "Linux aarch64": _glibc("aarch64", _NEW),
    "Linux aarch64, glibc 2.28": _glibc("aarch64", _NEW[6:]),
    "Alpine x86_64": ("musllinux_1_2_x86_64", "musllinux_1_1_x86_64"),
    "Alpine aarch64": ("musllinux_1_2_aarch64", "musllinux_1_1_aarch64"),
    "macOS 15 arm64": ("macosx_15_0_arm64",),
    "macOS 11 arm64": ("macosx_11_0_arm64",),
    "macOS 15 x86_64": ("macosx_15_0_x86_64",),
    "macOS 11 x86_64": ("macosx_11_0_x86_64",),
}


PEER_PLATFORMS = ("Linux x86_64", "Linux aarch64", "macOS 15 arm64")


class Chosen(NamedTuple):
    """One file that pip would install."""

    name: str
    version: str
    sha256: str
    is_pure: bool


class Refused(Exception):
    """pip found no wheel for the named package."""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements() -> dict[str, list[str]]:
    """What each of the two sections asks for, from pyproject.toml."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = settings["project"]["optional-dependencies"]
    install = settings["project"]["dependencies"] + settings["build-system"]["requires"] + ["editables"]
    test = [line for extra in ("test", "lint", "dev") for line in extras[extra] if not line.startswith("uniqdb[")]
    return {"install": install, "test": test}


def asked_of(lines: list[str], python: str) -> list[str]:
    """The requirements that a Python has, without their markers: pip would judge those by the Python it runs on."""
    found = []
    for line in lines:
        requirement, _, condition = (part.strip() for part in line.partition(";"))
        bound = re.fullmatch(r"python_version < '3\.(\d+)'", condition)
        if condition and bound is None:
            sys.exit(f"lock.py does not know the marker {condition!r}")
        if bound is None or int(python.split(".")[1]) < int(bound.group(1)):
            found.append(requirement)
    return found


def report(wanted: list[str], python: str, platforms: tuple[str, ...], *, resolve: bool) -> list[Chosen]:
    """The files pip would install; Refused names a package without a fitting wheel."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", str(answer)]
        command += ["--target", folder, "--only-binary", ":all:", "--implementation", "cp"]
        command += ["--python-version", python]
        command += [word for name in platforms for word in ("--platform", name)]
        command += ["--ignore-installed"] + ([] if resolve else ["--no-deps"]) + wanted
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            missing = re.search(r"No matching distribution found for ([A-Za-z0-9._-]+?)(?=[<>=!~;\s]|$)", run.stderr)
            if missing is None:
                sys.exit(f"pip failed:\n{run.stderr}")
            raise Refused(canonical(missing.group(1)))
        return [_chosen(item) for item in json.loads(answer.read_text("utf-8"))["install"]]


def _chosen(item: dict[str, Any]) -> Chosen:
    file = item["download_info"]["url"].rsplit("/", 1)[1].split("#")[0]
    return Chosen(
        canonical(item["metadata"]["name"]),
        item["metadata"]["version"],
        item["download_info"]["archive_info"]["hashes"]["sha256"],
        file.endswith("-none-any.whl"),
    )


def report_without_refused(
    wanted: list[str], python: str, platforms: tuple[str, ...], *, resolve: bool
) -> tuple[list[Chosen], list[str]]:
    """The report for all that have a wheel, and the names of the rest."""
    refused: list[str] = []
    while True:
        left = [line for line in wanted if canonical(re.split(r"[<>=!~;\s\[]", line)[0]) not in refused]
        try:
            return report(left, python, platforms, resolve=resolve), refused
        except Refused as error:
            if str(error) in refused:
                sys.exit(f"{error} is needed by another package and has no wheel for Python {python}")
            refused.append(str(error))


def _has_wheel(requirement: str, python: str, platforms: tuple[str, ...]) -> bool:
    """Whether it and all that it needs can be had as wheels."""
    try:
        report([requirement], python, platforms, resolve="==" not in requirement)
    except Refused:
        return False
    return True


def source_sha256(name: str, version: str) -> str | None:
    """The hash of the source archive, read from pip's refusal of a wrong one; None: there is no archive."""
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "asked.txt"
        asked.write_text(f"{name}=={version} --hash=sha256:{'0' * 64}\n", "utf-8")
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--no-cache-dir",
            "--no-binary",
            ":all:",
        ]
        command += ["--ignore-requires-python"]
        command += ["--dest", folder, "--require-hashes", "-r", str(asked)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        got = re.search(r"Got\s+([0-9a-f]{64})", run.stderr + run.stdout)
        return got.group(1) if got else None


class Lock:
    """Versions by Python and hashes by version, gathered from pip's reports."""

    def __init__(self) -> None:
        self.versions: dict[str, dict[str, str]] = {}
        self.hashes: dict[tuple[str, str], set[str]] = {}
        self.compiled: set[tuple[str, str]] = set()

    def gather(self, wanted: list[str], python: str, pins: list[str] | None = None) -> None:
        """For each platform. ``pins`` are installed beside it by another lock: they bind, but are not listed."""
        beside = pins or []
        pinned = {canonical(pin.partition("==")[0]) for pin in beside}
        for index, (platform, tags) in enumerate(PLATFORMS.items()):
            is_first = index == 0
            asked = [*wanted, *beside] if is_first else self.pins(python)
            files, without = report_without_refused(asked, python, tags, resolve=is_first)
            refused = [name for name in without if name not in pinned]
            for file in files:
                if file.name in pinned:
                    continue
                if is_first:
                    self.versions.setdefault(file.name, {})[python] = file.version
                self.hashes.setdefault((file.name, file.version), set()).add(file.sha256)
                if not file.is_pure:
                    self.compiled.add((file.name, file.version))
            for name in refused:
                self.compiled.add((name, self._version_without_wheel(name, python)))
            lacking = f"; built from source: {', '.join(refused)}" if refused else ""
            print(f"Python {python}, {platform}: {len(files)} wheels{lacking}", flush=True)

    def _version_without_wheel(self, name: str, python: str) -> str:
        known = self.versions.get(name)
        if not known:
            sys.exit(f"{name} has no wheel for Python {python}")
        return known.setdefault(python, known[max(known, key=PYTHONS.index)])

    def pins(self, python: str) -> list[str]:
        return [f"{name}=={by[python]}" for name, by in sorted(self.versions.items()) if python in by]

    def gather_peers(self, peers: list[str], pins: list[str], python: str) -> None:
        """As `gather`, beside the pinned packages, and without what has no wheel."""
        for platform in PEER_PLATFORMS:
            tags, is_first = PLATFORMS[platform], platform == PEER_PLATFORMS[0]
            asked = [one for one in (peers if is_first else self.pins(python)) if _has_wheel(one, python, tags)]
            found = report_without_refused([*asked, *pins], python, tags, resolve=True)[0] if is_first else []
            found = found or [file for one in asked for file in report([one], python, tags, resolve=False)]
            for file in found:
                if not any(pin.startswith(f"{file.name}==") for pin in pins):
                    if is_first:
                        self.versions.setdefault(file.name, {})[python] = file.version
                    self.hashes.setdefault((file.name, file.version), set()).add(file.sha256)
            print(f"Python {python}, {platform}: {', '.join(asked)}", flush=True)

    def add_sources(self) -> None:
        for name, version in sorted(self.compiled):
            sha256 = source_sha256(name, version)
            print(f"source of {name} {version}: {sha256 or 'none'}", flush=True)
            if sha256 is not None:
                self.hashes[name, version].add(sha256)

    def lines(self, name: str) -> list[str]:
        """The requirement lines of one package: one line for each of its versions."""
        by_python = self.versions[name]
        lines = []
        for version in dict.fromkeys(by_python[python] for python in PYTHONS if python in by_python):
            used = [python for python in PYTHONS if by_python.get(python) == version]
            head = f"{name}=={version}{marker(used)}"
            hashes = [f"    --hash=sha256:{value}" for value in sorted(self.hashes[name, version])]
            lines.append(" \\\n".join([head, *hashes]))
        return lines


def marker(used: list[str]) -> str:
    """The environment marker for a run of Pythons; open towards the newest, none where all agree."""
    limits = []
    if used[0] != PYTHONS[0]:
        limits.append(f'python_version >= "{used[0]}"')
    if used[-1] != PYTHONS[-1]:
        limits.append(f'python_version < "{PYTHONS[PYTHONS.index(used[-1]) + 1]}"')
    return " ; " + " and ".join(limits) if limits else ""


HEADER = """\
# Exact versions with sha256 hashes of everything that `make install` and `make test` install.
# Written by tools/lock.py; do not edit by hand. Use as: pip install --require-hashes -r constraints.txt
# Wheels: CPython {pythons}, on
{platforms}
# Compiled packages carry the hash of their source archive as well, for every other Python and platform.
"""


PEERS_HEADER = """\
# Exact versions with sha256 hashes of what `make {target}` installs beside section [install] of constraints.txt.
# Written by `tools/lock.py {extra}`; do not edit by hand. Wheels only: CPython {pythons}, on
{platforms}
# They stand apart from constraints.txt, whose packages every supported Python and platform must have.
"""


DOCS_HEADER = """\
# Exact versions with sha256 hashes of what `make docs` and `make test-docs` install beside section [install] of
# constraints.txt. Written by `tools/lock.py docs`; do not edit by hand. Wheels: CPython {pythons}, on
{platforms}
# Compiled packages carry the hash of their source archive as well, for every other Python and platform.
"""


def _extras() -> dict[str, list[str]]:
    found: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    return found


def _installed_pins(python: str) -> list[str]:
    """What section [install] of constraints.txt pins for a Python."""
    install = CONSTRAINTS.read_text("utf-8").partition("# [install]")[2].partition("# [test]")[0]
    pinned = [line.removesuffix(" \\") for line in install.splitlines() if "==" in line and line[0] != " "]
    return _pins_for(pinned, python)


def lock_docs() -> None:
    """Write docs/constraints.txt."""
    extras, lock = _extras(), Lock()
    for python in PYTHONS:
        lock.gather(asked_of(extras["docs"] + extras["notebook"], python), python, _installed_pins(python))
    lock.add_sources()
    head = DOCS_HEADER.format(pythons=", ".join(PYTHONS), platforms="\n".join(f"#   {name}" for name in PLATFORMS))
    DOCS.write_text("\n".join([head, *(line for name in sorted(lock.versions) for line in lock.lines(name)), ""]))
    print(f"wrote {DOCS.relative_to(ROOT)}: {len(lock.versions)} packages")


def lock_wheels(extra: str) -> None:
    """Write the lock of an extra of which a package without a wheel is left out."""
    lock, path = Lock(), WHEELS_ONLY[extra]
    for python in PYTHONS:
        lock.gather_peers(asked_of(_extras()[extra], python), _installed_pins(python), python)
    head = PEERS_HEADER.format(
        target={"bench": "bench-peers"}.get(extra, extra),
        extra=extra,
        pythons=", ".join(PYTHONS),
        platforms="\n".join(f"#   {name}" for name in PEER_PLATFORMS),
    )
    path.write_text("\n".join([head, *(line for name in sorted(lock.versions) for line in lock.lines(name)), ""]))
    print(f"wrote {path.relative_to(ROOT)}: {len(lock.versions)} packages")


def _pins_for(lines: list[str], python: str) -> list[str]:
    """The pins of a Python, of lines with markers as `marker` writes them."""
    minor, found = int(python.split(".")[1]), []
    for line in lines:
        pin, _, condition = line.partition(" ; ")
        bounds = re.findall(r'python_version (<|>=) "3\.(\d+)"', condition)
        if all(minor < int(bound) if sign == "<" else minor >= int(bound) for sign, bound in bounds):
            found.append(pin)
    return found


def main() -> None:
    if len(sys.argv) == 2 and sys.argv[1] in WHEELS_ONLY:
        lock_wheels(sys.argv[1])
        return
    if sys.argv[1:] == ["docs"]:
        lock_docs()
        return
    wanted = requirements()
    lock = Lock()
    for python in PYTHONS:
        lock.gather(asked_of(wanted["install"] + wanted["test"], python), python)
    lock.add_sources()
    install: set[str] = set()
    for python in PYTHONS:
        files, refused = report_without_refused(
            asked_of(wanted["install"], python), python, PLATFORMS["Linux x86_64"], resolve=True
        )
        install |= {file.name for file in files} | set(refused)
    parts = [HEADER.format(pythons=", ".join(PYTHONS), platforms="\n".join(f"#   {name}" for name in PLATFORMS))]
    for section, names in (("install", install), ("test", set(lock.versions) - install)):
        parts.append("\n".join([f"# [{section}]", *(line for name in sorted(names) for line in lock.lines(name)), ""]))
    CONSTRAINTS.write_text("\n".join(parts), "utf-8")
    print(f"wrote {CONSTRAINTS.name}: {len(lock.versions)} packages")


if __name__ == "__main__":
    main()
