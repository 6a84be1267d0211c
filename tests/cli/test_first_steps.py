"""Who has a file of another shape gets along with the README's first commands and what the program says to them."""

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

from model import Model

ROOT = Path(__file__).resolve().parents[2]
RunProcess = Callable[..., subprocess.CompletedProcess[str]]
TRIES = 5


def first_commands() -> list[list[str]]:
    """The words of the first commands that the README shows; without those that make its own file."""
    block = re.search(r"^```console\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert block is not None
    words = [shlex.split(line[2:]) for line in block.group(1).splitlines() if line.startswith("$ ")]
    return [one[1:] for one in words if one[1] != "generate"]


def flags_of(advice: str) -> list[str]:
    """What the program says to try, as it would be typed; nothing but what was printed."""
    tried = re.search(r"\btry (--.*?);", advice)
    assert tried is not None, advice
    return shlex.split(tried.group(1))


def write_foreign_file(path: Path) -> Model:
    """Another tool's log: other keys, milliseconds, other things around them; and its sets per bucket."""
    model = Model()
    with path.open("w") as file:
        for number in range(1500):
            time_ms, user = 1_468_244_384_123 + number * 977_321, f"user-{number * number % 311}"
            record = {"page": "/a", "timestamp": time_ms, "user_id": user, "agent": {"name": "x", "version": 3}}
            file.write(json.dumps(record) + "\n")
            model.add([time_ms // 1000], [user])
    return model


def test_the_first_commands_on_a_file_they_were_not_written_for(run_process: RunProcess, here: Path) -> None:
    model = write_foreign_file(here / "access.log")
    ingest, query = first_commands()
    ingest = ["access.log" if word == "visits.jsonl" else word for word in ingest]
    assert ingest == ["ingest", "access.log"]

    done, tries = run_process(*ingest), 1
    while done.returncode == 65 and tries < TRIES:
        assert "keys seen: " in done.stderr.lower()
        assert not (here / "visits.uniqdb").exists()
        ingest += flags_of(done.stderr)
        done, tries = run_process(*ingest), tries + 1
    assert done.returncode == 0, done.stderr
    assert tries == 2, "one advice has all that is needed"

    rows = model.rows()
    for granularity in ("minute", "hour", "day", "week", "month", "year"):
        answer = run_process("query", "--by", granularity, "--format", "jsonl").stdout.splitlines()
        counted = {(one["start_ts"]): (one["count"], one["visits"]) for one in map(json.loads, answer)}
        assert counted == {start_s: row for (kind, start_s), row in rows.items() if kind == granularity}

    shown = run_process(*query)
    assert shown.returncode == 0, shown.stderr
    end_s = max(start_s for kind, start_s in rows if kind == "day") + 86_400
    for window, days in (("7d", 7), ("30d", 30)):
        expected = model.union(end_s - days * 86_400, end_s)
        (line,) = [line.split() for line in shown.stdout.splitlines() if line.startswith(f"{window} ")]
        assert int(line[4].replace(",", "")) == len(expected)
