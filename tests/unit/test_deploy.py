"""The files to deploy with: they fit each other and the program, and are run where there is what runs them."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from uniqdb_cli.kafka_packages import KAFKA_VERSION
from uniqdb_cli.main import app
from uniqdb_cli.settings import KEYS

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
UNIT = ROOT / "deploy" / "uniqdb.service"
HTTP_UNIT = ROOT / "deploy" / "uniqdb-http.service"


def parse(text: str) -> Any:
    """The part of YAML that our file is written in: maps by indentation, lists in one line or of texts, plain texts."""
    lines = [(len(raw) - len(raw.lstrip()), raw.strip()) for raw in text.splitlines() if raw.split("#")[0].strip()]

    def scalar(word: str) -> Any:
        if word.startswith("["):
            return re.findall(r'"([^"]*)"', word)
        return word[1:-1] if word.startswith('"') else word

    def block(at: int, depth: int) -> tuple[Any, int]:
        if at == len(lines) or lines[at][0] < depth:
            return None, at
        if lines[at][1].startswith("- "):
            found_list = []
            while at < len(lines) and lines[at][0] == depth and lines[at][1].startswith("- "):
                found_list.append(scalar(lines[at][1][2:]))
                at += 1
            return found_list, at
        found: dict[str, Any] = {}
        while at < len(lines) and lines[at][0] == depth:
            key, _, rest = lines[at][1].partition(":")
            assert key not in found, f"{key} twice"
            if rest.strip():
                found[key], at = scalar(rest.strip()), at + 1
            else:
                deeper = lines[at + 1][0] if at + 1 < len(lines) else 0
                found[key], at = block(at + 1, deeper) if deeper > depth else (None, at + 1)
        return found, at

    found, end = block(0, 0)
    assert end == len(lines), lines[end]
    return found


def commands_of(text: str) -> list[str]:
    return re.findall(r"\buniqdb ((?:[a-z-]+ ?)+)", text)


def test_compose_is_what_it_should_be() -> None:
    made = parse(COMPOSE.read_text("utf-8"))
    services = made["services"]
    assert set(services) == {"broker", "topic", "uniqdb", "producer"}
    broker = services["broker"]
    assert broker["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert set(broker["healthcheck"]) == {"test", "interval", "timeout", "retries", "start_period"}
    inside = next(one for one in broker["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",") if "INSIDE" in one)
    address = inside.removeprefix("INSIDE://")
    assert address in broker["healthcheck"]["test"]
    for name in ("topic", "uniqdb", "producer"):
        service = services[name]
        assert service["build"] == "."
        assert service["environment"]["UNIQDB_BOOTSTRAP_SERVERS"] == address
        assert {key.removeprefix("UNIQDB_").lower() for key in service["environment"]} <= set(KEYS)
        assert set(service["depends_on"]) <= set(services)
    used = [one.split(":")[0] for service in services.values() for one in service.get("volumes", [])]
    assert sorted(used) == sorted(made["volumes"])


def test_the_commands_in_the_files_exist() -> None:
    group: Any = typer.main.get_command(app)
    compose = parse(COMPOSE.read_text("utf-8"))["services"]
    named = [compose["topic"]["command"][0], compose["uniqdb"]["command"][0]]
    named += [words.split()[0] for words in commands_of(compose["producer"]["command"][0])]
    assert named == ["topics", "serve-stream", "generate", "produce"]
    named += re.findall(r"bin/uniqdb ([a-z-]+)", UNIT.read_text("utf-8"))
    named += re.findall(r"bin/uniqdb ([a-z-]+)", HTTP_UNIT.read_text("utf-8"))
    named += re.findall(r"bin/uniqdb ([a-z-]+)", (ROOT / "deploy" / "uniqdb.cron").read_text("utf-8"))
    assert named[4:] == ["serve-stream", "serve-http", "publish-trailing"]
    assert set(named) <= set(group.commands)


def test_the_image_is_made_of_what_is_there() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()]
    allowed = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / name).exists() for name in copied)
    assert text.index("\nUSER uniqdb") < text.index("\nENTRYPOINT")
    # The pins that its shell makes of constraints.txt.
    script = re.search(r"(sed -n .*?) > /tmp/pins", text)
    assert script is not None
    command = ["/bin/sh", "-c", script[1]]
    pins = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert all(re.fullmatch(r"[a-z0-9.-]+==[0-9][^ ]*( ; .*[^ \\])?", pin) for pin in pins)
    names = {pin.partition("==")[0] for pin in pins}
    assert {"lmdb", "msgspec", "numpy", "confluent-kafka", "typer"} <= names


@pytest.mark.parametrize(("place", "watchdog_s"), [(UNIT, 120), (HTTP_UNIT, 60)])
def test_the_unit_is_one(tmp_path: Path, place: Path, watchdog_s: int) -> None:
    text = place.read_text("utf-8")
    for line in ("Type=notify", f"WatchdogSec={watchdog_s}", "Restart=on-failure", "User=uniqdb"):
        assert f"\n{line}\n" in text
    assert "\nNoNewPrivileges=true\n" in text
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze here")
    unit = tmp_path / place.name
    unit.write_text(text.replace("/opt/uniqdb/.venv/bin/uniqdb", "/bin/true"), "utf-8")
    done = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True, timeout=120, check=False)
    assert place.name not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


def test_compose_runs_where_there_is_docker() -> None:
    program = shutil.which("docker")
    if program is None or subprocess.run([program, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker compose here")
    checked = subprocess.run([program, "compose", "config", "--quiet"], cwd=ROOT, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    if subprocess.run([program, "info"], capture_output=True, timeout=120, check=False).returncode:
        pytest.skip("no Docker daemon here")
    compose = [program, "compose", "--project-name", "uniqdb-test"]
    try:
        subprocess.run([*compose, "up", "--build", "--detach"], cwd=ROOT, check=True, timeout=900)
        look = ["exec", "-T", "uniqdb", "uniqdb", "subscribe", "visits_per_hour", "--from-beginning", "--max", "1"]
        done = subprocess.run([*compose, *look], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
        assert '"granularity":"hour"' in done.stdout, done.stderr
    finally:
        subprocess.run([*compose, "down", "--volumes"], cwd=ROOT, check=True, timeout=180)
