"""The file with the settings of the Kafka client: passed through, secrets from elsewhere, never shown."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from uniqdb.errors import NotFound, UniqdbError, UsageError
from uniqdb.stream.kafka_settings import KafkaSettings
from uniqdb_cli.kafka_config import client_settings
from uniqdb_cli.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SECRET = "pa%s#wörd = x; [y]"


def read(text: str) -> dict[str, str]:
    Path("kafka_config.ini").write_text(f"[kafka]\n{text}\n", "utf-8")
    return client_settings(Settings())


def test_settings_are_passed_through_as_they_are(here: Path) -> None:  # noqa: ARG001
    found = read(f"bootstrap.servers = a:1,b:2\nsasl.password = {SECRET}\nclient.id=MiXed")
    assert found == {"bootstrap.servers": "a:1,b:2", "sasl.password": SECRET, "client.id": "MiXed"}
    assert client_settings(Settings(bootstrap_servers="c:3"))["bootstrap.servers"] == "c:3"


def test_a_value_may_come_from_a_file_or_a_variable(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "secrets").mkdir()
    (here / "secrets" / "password").write_text(SECRET + "\r\n", "utf-8")
    monkeypatch.setenv("KAFKA_KEY_PASSWORD", "file:not twice")
    found = read("sasl.password = file:secrets/password\nssl.key.password = env:KAFKA_KEY_PASSWORD")
    assert (found["sasl.password"], found["ssl.key.password"]) == (SECRET, "file:not twice")
    assert read(f"sasl.password = file:{here}/secrets/password")["sasl.password"] == SECRET
    settings = KafkaSettings(found)
    assert SECRET not in repr(settings)
    assert settings.without_secrets(f"wrong: {SECRET}!") == "wrong: (hidden)!"


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ("file:missing", NotFound, "sasl.password is to be read from missing: No such file"),
        ("file:.", NotFound, "Is a directory"),
        ("file:binary", NotFound, "no text"),
        ("file:empty", UsageError, "which is empty"),
        ("env:NOT_SET_AT_ALL", UsageError, "the variable NOT_SET_AT_ALL, which is not set"),
    ],
)
def test_what_is_not_there_is_named(here: Path, value: str, kind: type[UniqdbError], words: str) -> None:
    (here / "empty").write_text("\n")
    (here / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(kind) as caught:
        read(f"sasl.password = {value}")
    assert words in caught.value.message


def test_the_example_for_tls_makes_a_client(run: Callable[..., Result], here: Path) -> None:
    pytest.importorskip("confluent_kafka")
    text = (ROOT / "config" / "kafka_config.sasl_ssl.ini").read_text("utf-8")
    assert "\nsasl.password = file:/run/secrets/kafka_password\n" in text
    (here / "password").write_text(SECRET, "utf-8")
    text = text.replace("/run/secrets/kafka_password", "password")
    (here / "example.ini").write_text(text, "utf-8")
    # A broker that is not there: the settings have passed.
    done = run("topics", "list", "--kafka-config", "example.ini", "--bootstrap-servers", "127.0.0.1:1")
    assert done.exit_code == 69
    (here / "example.ini").write_text(text.replace("sasl.mechanism =", "sasl.mechansim ="), "utf-8")
    done = run("topics", "list", "--kafka-config", "example.ini", "--bootstrap-servers", "127.0.0.1:1")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "sasl.mechansim" in done.stderr
    assert SECRET not in done.stderr
