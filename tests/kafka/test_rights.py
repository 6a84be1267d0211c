"""The least rights of docs/kafka.md, with a broker that asks for a password and allows only what was granted."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from kafka.cluster import Cluster
from kafka.serving import NAMES, line
from uniqdb_cli.local_broker import HOST, BrokerOptions, LocalBroker, free_port, local_broker

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "open sesame = # %"
RIGHTS = re.compile(r"^\| `(topic|group|transactional id) ([^`]+)` \| ([A-Z, ]+) \|", re.MULTILINE)
KINDS = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "transactional id": ResourceType.TRANSACTIONAL_ID}


@pytest.fixture
def guarded(broker: LocalBroker) -> Iterator[tuple[LocalBroker, str]]:  # noqa: ARG001 - whoever has no broker has no packages
    """A broker, and where it asks for passwords; on its usual port it knows only its administrator."""
    port, controller, clients = (free_port() for _ in range(3))
    jaas = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_uniqdb="{PASSWORD}";'
    properties = {
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller},CLIENTS://{HOST}:{clients}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port},CLIENTS://{HOST}:{clients}",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,CLIENTS:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.clients.plain.sasl.jaas.config": jaas,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with local_broker(BrokerOptions(port=port, properties=properties)) as made:
        yield made, f"{HOST}:{clients}"


def listed_rights() -> list[tuple[str, str, list[str]]]:
    page = (ROOT / "docs" / "kafka.md").read_text("utf-8")
    return [(kind, name, operations.split(", ")) for kind, name, operations in RIGHTS.findall(page)]


def grant(broker: LocalBroker, rights: list[tuple[str, str, list[str]]]) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    bindings = [
        AclBinding(
            KINDS[kind],
            name,
            ResourcePatternType.LITERAL,
            "User:uniqdb",
            "*",
            AclOperation[operation],
            AclPermissionType.ALLOW,
        )
        for kind, name, operations in rights
        for operation in operations
    ]
    for future in admin.create_acls(bindings).values():
        future.result(30)


def uniqdb(*arguments: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("UNIQDB_")}
    sources = os.pathsep.join([str(ROOT / "engine"), str(ROOT / "cli")])
    environment = {**kept, "PYTHONPATH": sources, "KAFKA_USER": "uniqdb"}
    command = [sys.executable, "-m", "uniqdb_cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def serve(address: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    (folder / "password").write_text(PASSWORD + "\n")
    settings = folder / "kafka.ini"
    settings.write_text(
        f"[kafka]\nbootstrap.servers = {address}\nsecurity.protocol = SASL_PLAINTEXT\nsasl.mechanism = PLAIN\n"
        "sasl.username = env:KAFKA_USER\nsasl.password = file:password\n"
    )
    store = str(folder / "s.uniqdb")
    return uniqdb("serve-stream", "--until-caught-up", "--store", store, "--kafka-config", str(settings))


def test_the_listed_rights_are_enough(guarded: tuple[LocalBroker, str], tmp_path: Path) -> None:
    broker, address = guarded
    rights = listed_rights()
    outputs = [name for kind, name, _ in rights if kind == "topic" and name != "website_visits"]
    assert len(outputs) == len(NAMES)
    grant(broker, rights)
    cluster = Cluster(broker)
    cluster.create("website_visits", 2)
    cluster.write("website_visits", [line(1468195200 + number, f"u{number % 7}") for number in range(300)])
    done = serve(address, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "300 visits" in done.stderr
    assert {"visits_per_minute", "unique_visitors_trailing"} <= cluster.topics()

    (tmp_path / "password").write_text("guessed at random")
    wrong = uniqdb("topics", "list", "--kafka-config", str(tmp_path / "kafka.ini"))
    assert wrong.returncode == 69
    assert wrong.stderr.count("\n") == 1
    assert "Check user, password, certificates and rights." in wrong.stderr
    assert "guessed" not in wrong.stderr
