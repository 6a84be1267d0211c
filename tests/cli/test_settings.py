"""Where a setting comes from, and what happens to one that does not exist."""

import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest

from uniqdb.errors import NotFound, UsageError
from uniqdb_cli.settings import KEYS, Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]


def write_settings(place: Path, text: str) -> Path:
    place.parent.mkdir(exist_ok=True)
    place.write_text(text)
    return place


def test_defaults(here: Path) -> None:  # noqa: ARG001
    numbers = 65_536, 600, 86_400, 5, 50_000, 1_000_000
    assert load_settings() == Settings("./visits.uniqdb", None, "ts", "uid", "s", *numbers)


def test_the_place_of_the_cache_is_no_setting_and_no_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setenv("UNIQDB_CACHE", "/somewhere")
    assert load_settings() == Settings()
    monkeypatch.setenv("UNIQDB_CACHES", "/somewhere")
    with pytest.raises(UsageError, match="did you mean UNIQDB_CACHE"):
        load_settings()


def test_each_place_comes_before_the_next(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_settings(here / "uniqdb.toml", 'store = "fifth"')
    assert load_settings().store == "fifth"
    write_settings(here / "config" / "uniqdb.toml", 'store = "fourth"')
    assert load_settings().store == "fourth"
    monkeypatch.setenv("UNIQDB_CONFIG", str(write_settings(here / "third.toml", 'store = "third"')))
    assert load_settings().store == "third"
    named = write_settings(here / "named.toml", 'store = "second"')
    assert load_settings(named).store == "second"
    monkeypatch.setenv("UNIQDB_STORE", "first")
    assert load_settings(named).store == "first"
    assert load_settings(named, store="flag").store == "flag"
    assert load_settings(named, store=None).store == "first"


def test_places_are_put_together_key_by_key(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_settings(here / "uniqdb.toml", 'store = "file"\nts_field = "file"\ncommit_visits = 7')
    monkeypatch.setenv("UNIQDB_TS_FIELD", "environment")
    monkeypatch.setenv("UNIQDB_FORMAT", "csv")
    monkeypatch.setenv("UNIQDB_UID_FIELD", "")
    found = load_settings(ts_unit="ms")
    assert found == Settings(
        "file", None, "environment", "uid", "ms", 65_536, 600, 86_400, 5, 7, 1_000_000, format="csv"
    )


def test_numbers_in_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setenv("UNIQDB_COMMIT_VISITS", "123")
    assert load_settings().commit_visits == 123


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('stroe = "x"', "config/uniqdb.toml: there is no setting 'stroe'", "did you mean store?"),
        ("qqq = 1", "config/uniqdb.toml: there is no setting 'qqq'", "the settings are store, timezone, "),
        ("[store]\npath = 1", "config/uniqdb.toml: store: {'path': 1} is not a text", "write it as"),
        ("store = 5", "config/uniqdb.toml: store: 5 is not a text", "write it as"),
        ('ts_unit = "hours"', "config/uniqdb.toml: ts_unit: 'hours' is not known", "use one of s, ms, us, ns, iso8601"),
        ("commit_visits = 0", "config/uniqdb.toml: commit_visits: 0 is no number of visits", "give 1 to 1,000,000"),
        ("commit_visits = true", "config/uniqdb.toml: commit_visits: True is no number", "give 1 to"),
        ('commit_visits = "9"', "config/uniqdb.toml: commit_visits: '9' is no number", "give 1 to"),
        ("store = ", "the settings file config/uniqdb.toml is not TOML", "correct that line"),
    ],
)
def test_a_wrong_file_is_an_error(here: Path, text: str, message: str, hint: str) -> None:
    write_settings(here / "config" / "uniqdb.toml", text)
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert caught.value.message.startswith(message)
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("UNIQDB_STROE", "x", "the environment sets UNIQDB_STROE, which is no setting"),
        ("UNIQDB_FORMAT", "xml", "UNIQDB_FORMAT: 'xml' is not known"),
        ("UNIQDB_COMMIT_VISITS", "many", "UNIQDB_COMMIT_VISITS: 'many' is no number of visits"),
        ("UNIQDB_COMMIT_VISITS", "²", "UNIQDB_COMMIT_VISITS: '²' is no number of visits"),
        ("UNIQDB_COMMIT_VISITS", "1000001", "UNIQDB_COMMIT_VISITS: 1000001 is no number of visits"),
    ],
)
def test_a_wrong_environment_is_an_error(
    here: Path,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    message: str,
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert caught.value.message == message


def test_a_file_that_was_named_must_be_there(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound):
        load_settings(here / "missing.toml")
    monkeypatch.setenv("UNIQDB_CONFIG", "missing.toml")
    with pytest.raises(NotFound):
        load_settings()


def test_the_project_s_file_shows_every_key_at_its_default() -> None:
    lines = (ROOT / "config" / "uniqdb.toml").read_text("utf-8").splitlines()
    assert tomllib.loads("\n".join(lines)) == {}
    shown = tomllib.loads("\n".join(line[2:] for line in lines if line.startswith("# ") and " = " in line))
    shown_as = {"timezone": "UTC", "format": "table", "bootstrap_servers": "localhost:9092"}
    shown_as |= {"metrics_address": "127.0.0.1:9464", "http_token_file": "/etc/uniqdb/token"}
    expected = {**asdict(Settings()), **shown_as, "kafka_config": "config/kafka_config.ini"}
    assert shown == expected
    assert tuple(shown) == KEYS
