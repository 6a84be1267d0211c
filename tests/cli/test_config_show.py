"""`uniqdb config show`: every setting, its value, and where it was set."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from uniqdb_cli.settings import KEYS, REDACTED, Settings, redacted

Run = Callable[..., Result]


def shown(run: Run, *arguments: str) -> dict[str, tuple[Any, str, str | None]]:
    done = run("config", "show", *arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["setting"] for one in records] == list(KEYS)
    return {one["setting"]: (one["value"], one["origin"], one["place"]) for one in records}


def test_defaults(run: Run) -> None:
    assert shown(run) == {key: (value, "default", None) for key, value in asdict(Settings()).items()}


def test_each_value_says_where_it_was_set(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("uniqdb.toml").write_text('store = "file"\nts_field = "file"\nuid_field = "file"\ncommit_visits = 7\n')
    monkeypatch.setenv("UNIQDB_TS_FIELD", "variable")
    monkeypatch.setenv("UNIQDB_UID_FIELD", "variable")
    monkeypatch.setenv("UNIQDB_FORMAT", "")
    found = shown(run, "--uid-field", "flag", "--ts-unit", "ms")
    assert found["store"] == ("file", "file", "uniqdb.toml")
    assert found["commit_visits"] == (7, "file", "uniqdb.toml")
    assert found["ts_field"] == ("variable", "environment", "UNIQDB_TS_FIELD")
    assert found["uid_field"] == ("flag", "flag", "--uid-field")
    assert found["ts_unit"] == ("ms", "flag", "--ts-unit")
    assert found["format"] == (None, "default", None)
    Path("other.toml").write_text('store = "other"\n')
    assert shown(run, "--config", "other.toml")["store"] == ("other", "file", "other.toml")
    monkeypatch.setenv("UNIQDB_CONFIG", "other.toml")
    assert shown(run)["store"] == ("other", "file", "other.toml")


def test_formats_say_the_same(run: Run) -> None:
    records = [json.loads(line) for line in run("config", "show", "--format", "jsonl").stdout.splitlines()]
    assert json.loads(run("config", "show", "--format", "json").stdout) == records
    table = run("config", "show", "--format", "table", "--store", "x\ny").stdout
    assert [line.split()[0] for line in table.splitlines()[4:]] == list(KEYS)
    assert "x\\ny" in table
    assert "none: UTC" in table


def test_the_format_of_this_command_is_not_the_setting(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIQDB_FORMAT", "csv")
    assert shown(run)["format"] == ("csv", "environment", "UNIQDB_FORMAT")
    assert shown(run, "--format", "jsonl")["format"] == ("csv", "environment", "UNIQDB_FORMAT")


def test_a_path_that_is_no_utf_8(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIQDB_STORE", "bad\udcff")
    assert shown(run)["store"] == ("bad\\udcff", "environment", "UNIQDB_STORE")


@pytest.mark.parametrize(
    ("text", "arguments", "exit_code"),
    [
        ('stroe = "x"', [], 2),
        ("commit_visits = 0", [], 2),
        ("store = ", [], 2),
        ("", ["--format", "csv"], 2),
        ("", ["--config", "missing.toml"], 66),
    ],
)
def test_mistakes_are_one_line(run: Run, text: str, arguments: list[str], exit_code: int) -> None:
    Path("uniqdb.toml").write_text(text)
    done = run("config", "show", *arguments)
    assert (done.exit_code, done.stdout) == (exit_code, "")
    assert done.stderr.startswith("uniqdb: ")
    assert done.stderr.count("\n") == 1


def test_an_unknown_key_is_refused_without_its_value(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("uniqdb.toml").write_text('"sasl.password" = "hunter2"\n')
    assert "hunter2" not in run("config", "show").stderr
    Path("uniqdb.toml").unlink()
    monkeypatch.setenv("UNIQDB_PASSWORD", "hunter2")
    done = run("config", "show")
    assert done.exit_code == 2
    assert "UNIQDB_PASSWORD" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    "key",
    ["sasl.password", "SSL_KEY_PASSWORD", "oauth.client.secret", "ssl.key.pem", "api_token", "sasl.jaas.config"],
)
def test_a_secret_is_never_shown(key: str) -> None:
    assert redacted(key, "hunter2") == REDACTED
    assert redacted(key, None) is None


def test_what_is_no_secret_is_shown() -> None:
    assert [redacted(key, "shown") for key in KEYS] == ["shown"] * len(KEYS)


def test_without_a_command_it_shows_the_help(run: Run) -> None:
    done = run("config")
    assert "show" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
