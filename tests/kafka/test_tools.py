"""`uniqdb topics`, `produce` and `subscribe` against a real broker, and what users get wrong with them."""

import gzip
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kafka.cluster import Cluster, until
from uniqdb.errors import KafkaUnreachable
from uniqdb.stream.kafka_admin import TopicAdmin
from uniqdb.stream.record_producer import RecordProducer
from uniqdb_cli.main import app

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., Result]
PROVISIONAL = {
    **{"granularity": "day", "datetime": "2016-07-11T00:00:00+00:00", "count": 1234, "visits": 5678},
    **{"start_ts": 1468195200, "end_ts": 1468281600, "timezone": "UTC", "status": "provisional"},
    **{"complete": False, "revision": 3, "epoch": 1},
}
FINAL = {**PROVISIONAL, "status": "final", "complete": True, "revision": 4}


@pytest.fixture
def environment(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """No setting but the broker, in an empty directory."""
    for name in [name for name in os.environ if name.startswith("UNIQDB_") and name != "UNIQDB_CACHE"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UNIQDB_BOOTSTRAP_SERVERS", cluster.broker.bootstrap)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "engine"), str(ROOT / "cli")]))
    monkeypatch.chdir(tmp_path)
    return dict(os.environ)


@pytest.fixture
def run(environment: dict[str, str]) -> Run:  # noqa: ARG001 - it sets the environment
    def call(*arguments: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=stdin, catch_exceptions=False)

    return call


def process(environment: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "uniqdb_cli", *arguments]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)


def one_line(said: str, exit_code: int, wanted: int, *words: str) -> None:
    assert exit_code == wanted, said
    assert said.count("\n") == 1, said
    assert said.startswith("uniqdb: ")
    for word in words:
        assert word in said


def test_the_life_of_a_topic(run: Run, topic: str, cluster: Cluster) -> None:
    done = run("topics", "create", topic, "--partitions", "3", "--replication", "1", "--compact")
    assert (done.exit_code, done.stderr) == (0, f"Created the topic {topic}, 3 partitions.\n")
    assert cluster.facts(topic) == (3, "compact")
    done = run("topics", "create", topic)
    one_line(done.stderr, done.exit_code, 65, f"has a topic {topic} already")
    assert run("topics", "create", topic, "--if-missing").exit_code == 0

    cluster.write(topic, [b"1", b"2"], partition=1, key=b"k")
    rows = [json.loads(line) for line in run("topics", "list").stdout.splitlines()]
    assert {"topic": topic, "partitions": 3, "copies": 1} in rows
    assert not any(row["topic"].startswith("__") for row in rows)
    found = [json.loads(line) for line in run("topics", "describe", topic).stdout.splitlines()]
    assert [(one["partition"], one["first_offset"], one["end_offset"]) for one in found] == [
        *((0, 0, 0), (1, 0, 2), (2, 0, 0))
    ]
    table = run("topics", "describe", topic, "--format", "table").stdout
    assert "cleanup.policy=compact" in table

    done = run("topics", "delete", topic)
    one_line(done.stderr, done.exit_code, 2, "--yes")
    assert run("topics", "delete", topic, "--yes").exit_code == 0
    assert topic not in cluster.topics()
    done = run("topics", "describe", topic)
    one_line(done.stderr, done.exit_code, 66, f"Kafka has no topic {topic}", f"uniqdb topics create {topic}")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (["topics", "create", "a/b"], 2, "no topic can be named 'a/b'"),
        (["topics", "describe", "a b"], 2, "no topic can be named"),
        (["topics", "create", "copies", "--replication", "3"], 2, "Kafka does not take this"),
        (["topics", "delete", "nope", "--yes"], 66, "Kafka has no topic nope"),
        (["produce", "-", "--topic", "nope"], 66, "Kafka has no topic nope"),
        (["produce", "-", "--topic", "no,pe"], 2, "no topic can be named"),
        (["produce", "-", "--rate", "0"], 2, "--rate 0.0 is out of range"),
        (["produce", "missing.jsonl"], 66, "there is no file missing.jsonl"),
        (["subscribe", "nope"], 66, "Kafka has no topic nope"),
        (["subscribe", "no pe"], 2, "no topic can be named"),
        (["topics", "list", "--kafka-config", "missing.ini"], 66, "missing.ini cannot be read"),
    ],
)
def test_a_mistake_is_one_line(run: Run, arguments: list[str], exit_code: int, words: str) -> None:
    done = run(*arguments, stdin="")
    one_line(done.stderr, done.exit_code, exit_code, words)
    assert done.stdout == ""


def test_without_a_broker_it_ends_soon(environment: dict[str, str]) -> None:
    away = {**environment, "UNIQDB_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    started_at_s = time.monotonic()
    commands = (["topics", "list"], ["topics", "create", "x"], ["produce", "-"], ["subscribe", "x"])
    children = [process(away, *arguments) for arguments in commands]
    for child in children:
        out, said = child.communicate("{}\n", timeout=60)
        one_line(said, child.returncode, 69, "127.0.0.1:1", "Check that it runs")
        assert out == ""
    # Two seconds, were the machine for us alone.
    assert time.monotonic() - started_at_s < 40


def java_partition(key: bytes, partitions: int) -> int:
    """Where a Java client sends a key: murmur2 with its seed, the sign taken off."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(key)) & mask
    for at in range(0, len(key) - len(key) % 4, 4):
        k = int.from_bytes(key[at : at + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    rest = key[len(key) - len(key) % 4 :]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return ((h ^ h >> 15) & 0x7FFFFFFF) % partitions


def test_produce_keys_records_by_their_uid(run: Run, topic: str, cluster: Cluster) -> None:
    cluster.create(topic, 4)
    good = [json.dumps({"at": number, "who": {"id": f"visitor {number % 40} é"}}) for number in range(400)]
    odd = ['{"at":"noon","who":{"id":7}}', "{bad", '{"at":1}', '{"at":1,"who":{"id":null}}']
    Path("v.jsonl.gz").write_bytes(gzip.compress("\n".join(["", *good, "  ", *odd]).encode()))
    done = run("produce", "v.jsonl.gz", "--topic", topic, "--uid-field", "who.id")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.startswith(f"Sent 404 records to {topic} in ")
    assert done.stderr.endswith(", 3 without a readable uid and so without a key.\n")
    found = cluster.read_all(topic)
    assert sorted(one.value().decode() for one in found) == sorted([*good, *odd])
    for one in found:
        if one.key() is None:
            assert one.value().decode() in odd[1:]
        else:
            assert one.key().decode() == str(json.loads(one.value())["who"]["id"])
            assert one.partition() == java_partition(one.key(), 4)


def test_produce_reports_what_did_not_arrive(run: Run, topic: str, cluster: Cluster) -> None:
    cluster.create(topic, max_message_bytes=2_000)
    # What cannot be compressed: the first is refused by the client itself, the other one by the broker.
    for size, reason in ((1_000_000, "message size"), (3_000, "Message size too large")):
        large = json.dumps({"uid": "b", "more": os.urandom(size).hex()})
        records = ['{"uid":"a"}', large, '{"uid":"c"}', '{"uid":"d"}']
        started_at_s = time.monotonic()
        # Slow enough for each to be sent by itself: what is refused takes along what is sent with it.
        done = run("produce", "-", "--topic", topic, "--rate", "5", stdin="\n".join(records))
        assert time.monotonic() - started_at_s > 3 / 5
        assert done.exit_code == 73
        sent = int(re.match(r"Sent (\d) records", done.stderr)[1])  # type: ignore[index]  # it is there
        assert f"uniqdb: {4 - sent} of 4 records were not delivered to {topic}: " in done.stderr
        assert reason.lower() in done.stderr.lower()
        assert large not in [one.value().decode() for one in cluster.read_all(topic)]


def test_records_that_a_frozen_broker_does_not_take_are_known(topic: str, cluster: Cluster) -> None:
    cluster.create(topic)
    settings = cluster.settings()
    short = type(settings)({**settings.client, "message.timeout.ms": 3_000, "socket.timeout.ms": 3_000})
    producer = RecordProducer(short, topic)
    producer.send(b"1", None)
    assert producer.wait(10) == 0
    cluster.broker.pause()
    try:
        producer.send(b"2", None)
        producer.wait(10)
        failure = producer.failure()
        producer.close()
    finally:
        cluster.broker.resume()
    assert (producer.sent, producer.delivered, producer.failed) == (2, 1, 1)
    assert isinstance(failure, KafkaUnreachable)
    assert failure.message.startswith(f"1 of 2 records were not delivered to {topic}: Kafka at ")


def test_produce_delivers_what_it_had_accepted_when_interrupted(
    environment: dict[str, str], topic: str, cluster: Cluster
) -> None:
    cluster.create(topic)
    with process(environment, "produce", "-", "--topic", topic) as child:
        assert child.stdin is not None
        assert child.stderr is not None
        child.stdin.write('{"uid":"a"}\n{"uid":"b"}\n{"uid":"cut o')
        child.stdin.flush()
        until(lambda: len(cluster.read_all(topic)) == 2)
        child.send_signal(signal.SIGINT)
        # Its input is still open: it ends all the same.
        assert child.wait(60) == 130
        said = child.stderr.read()
    assert said.startswith(f"Sent 2 records to {topic} in ")
    assert said.endswith("Stopped before the end.\n")


def test_live_visits_come_now(environment: dict[str, str], run: Run, topic: str, cluster: Cluster) -> None:
    cluster.create(topic)
    command = [sys.executable, "-m", "uniqdb_cli", "produce", "-", "--topic", topic]
    admin, began_at_s = TopicAdmin(cluster.settings()), time.time()
    with (
        process(environment, "generate", "--live", "--rate", "40", "--record-bytes", "80") as generator,
        subprocess.Popen(
            command, stdin=generator.stdout, stderr=subprocess.PIPE, text=True, env=environment
        ) as producer,
    ):
        until(lambda: admin.ranges(topic, 1)[0][1] > 20)
        generator.send_signal(signal.SIGINT)
        assert generator.wait(60) == 130
        assert producer.communicate(timeout=60)[1].startswith("Sent ")
        assert producer.returncode == 0
    times_s = [json.loads(one.value())["ts"] for one in cluster.read_all(topic)]
    assert times_s == sorted(times_s)
    assert began_at_s - 5 < times_s[0] <= times_s[-1] <= time.time()

    done = run("generate", "--live", "--days", "3")
    one_line(done.stderr, done.exit_code, 2, "live visits happen now")


def test_subscribe_shows_counts_and_everything_else(run: Run, topic: str, cluster: Cluster) -> None:
    cluster.create(topic)
    window = {**FINAL, "granularity": "window", "window": "30d", "as_of": "2016-07-11"}
    values = [json.dumps(one).encode() for one in (PROVISIONAL, FINAL, window)]
    values += [None, b'{"other":\n "\xc3\xa9"}', b"\x1b[31m\xff"]
    cluster.write_in_transaction(topic, values[:1])
    cluster.write_in_transaction(topic, [b"undone"], commits=False)
    cluster.write(topic, values[1:], key=b"k")
    done = run("subscribe", topic, "--from-beginning", "--max", "6")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [json.loads(line) for line in lines[:3]] == [PROVISIONAL, FINAL, window]
    assert lines[3:] == ["null", '{"other":"é"}', "\\x1b[31m\\udcff"]

    done = run("subscribe", topic, "--from-beginning", "--max", "5", "--final", "--format", "pretty")
    head, final, trailing, *others = done.stdout.splitlines()
    assert head.split() == ["from", "unique", "visitors", "visits", "status", "revision"]
    assert final.split() == ["day", "2016-07-11T00:00:00+00:00", "1,234", "5,678", "final", "4"]
    assert trailing.split() == ["30d", "as", "of", "2016-07-11", "1,234", "5,678", "final", "4"]
    assert [line.split("  ", 1)[1] for line in others] == [
        "k  (no value)",
        'k  {"other":\\n "é"}',
        "k  \\x1b[31m\\udcff",
    ]


def test_subscribe_shows_what_comes_until_it_is_stopped(
    environment: dict[str, str], topic: str, cluster: Cluster
) -> None:
    cluster.create(topic)
    cluster.write(topic, [b'"before"'])
    with process(environment, "subscribe", topic) as stopped, process(environment, "subscribe", topic) as left:
        for child in (stopped, left):
            assert child.stdout is not None
        numbers = iter(range(10_000))

        def has_come() -> bool:
            """Written again and again: nobody says from when on it listens."""
            cluster.write(topic, [b"%d" % next(numbers)])
            return bool(select_all(stopped) and select_all(left))

        until(has_come)
        assert stopped.stdout.readline() != '"before"\n'
        stopped.send_signal(signal.SIGINT)
        assert stopped.wait(60) == 130
        left.stdout.close()

        def has_left() -> bool:
            cluster.write(topic, [b"more"])
            return left.poll() is not None

        until(has_left)
        assert left.returncode == 0
        assert stopped.stderr.read() == left.stderr.read() == ""


def select_all(child: "subprocess.Popen[str]") -> bool:

    return bool(select.select([child.stdout], [], [], 0.05)[0])


def test_subscribe_ends_when_its_topic_is_deleted(environment: dict[str, str], topic: str, cluster: Cluster) -> None:
    cluster.create(topic)
    cluster.write(topic, [b"1"])
    with process(environment, "subscribe", topic, "--from-beginning") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "1\n"
        cluster.delete(topic)
        out, said = child.communicate(timeout=60)
    assert (child.returncode, out) == (66, "")
    assert said.splitlines()[-1].startswith(f"uniqdb: Kafka has no topic {topic}.")
