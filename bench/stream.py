"""From a real Kafka topic: `uniqdb serve-stream --until-caught-up` against the loop that everybody writes first.

    .venv/bin/python bench/stream.py [--records 2000000] [--record-bytes 300] [--rounds 3] [--bytewax-python PYTHON]

The loop polls message by message, decodes with `json` and keeps a set per minute, in memory: no other granularity,
nothing durable, nothing published; so does Bytewax, where a Python that has it is named. uniqdb counts six
granularities, durably, and publishes every count. All run on the same broker and topic of two partitions, one after the
other by turns, each in a process of its own that is timed as a whole; medians. The counts of all minutes must agree.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from machine import show, show_machine

import uniqdb
from uniqdb_cli.generator import GeneratorSettings, generate_blocks
from uniqdb_cli.local_broker import BrokerOptions, LocalBroker, local_broker

HERE = Path(__file__).resolve().parent
TOPIC, PARTITIONS = "visits", 2
RATE = 100


def fill(broker: LocalBroker, records: int, record_bytes: int) -> None:
    """The topic, made anew and filled in the order of time."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap, "linger.ms": 50, "compression.type": "lz4", "batch.size": 1_000_000}
    )
    settings = GeneratorSettings(
        records=records, duration_s=records // RATE, users=records // 10, record_bytes=record_bytes
    )
    number = 0
    for block in generate_blocks(settings):
        for line in block.splitlines():
            while True:
                try:
                    producer.produce(TOPIC, line, partition=number % PARTITIONS)
                    break
                except BufferError:
                    producer.poll(0.05)
            number += 1
        producer.poll(0)
    assert producer.flush(120) == 0


def digest(minutes: dict[int, int]) -> str:
    return hashlib.sha256(repr(sorted(minutes.items())).encode()).hexdigest()


def loop_once(servers: str, records: int) -> str:
    """The loop that everybody writes first."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "loop", "enable.auto.commit": False})
    consumer.assign([TopicPartition(TOPIC, one, 0) for one in range(PARTITIONS)])
    minutes: dict[int, set[str]] = {}
    seen = 0
    while seen < records:
        message = consumer.poll(1.0)
        if message is None or message.error() is not None:
            continue
        record = json.loads(message.value() or b"")
        minutes.setdefault(int(record["ts"]) // 60 * 60, set()).add(record["uid"])
        seen += 1
    consumer.close()
    return digest({at: len(uids) for at, uids in minutes.items()})


def ours_once(servers: str, store: Path) -> str:
    """The service, as a user starts it."""
    command = [sys.executable, "-m", "uniqdb_cli", "serve-stream", "--until-caught-up", "--store", str(store)]
    command += ["--bootstrap-servers", servers, "--input-topic", TOPIC]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UNIQDB_")}
    # Output topics of its own for each round.
    names = ("minute", "hour", "day", "week", "month", "year", "trailing", "quarantine")
    environment |= {f"UNIQDB_TOPIC_{name.upper()}": f"{store.name}-{name}" for name in names}
    subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
    with uniqdb.open(store, read_only=True) as db:
        return digest({one.start_ts: one.count for one in db.series("minute")})


def timed(kind: str, broker: LocalBroker, records: int, store: Path, bytewax_python: Path | None) -> tuple[float, str]:
    """(seconds, digest) of one process."""
    begun_s = time.perf_counter()
    if kind == "uniqdb":
        found = ours_once(broker.bootstrap, store)
    else:
        command = [sys.executable, str(HERE / "stream.py"), "--once", kind, broker.bootstrap, str(records)]
        if kind == "bytewax":
            command = [str(bytewax_python), str(HERE / "bytewax_minutes.py"), broker.bootstrap, TOPIC]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
    return time.perf_counter() - begun_s, found


def run(records: int, record_bytes: int, rounds: int, bytewax_python: Path | None = None) -> dict[str, Any]:
    kinds = ["loop", "uniqdb", *(["bytewax"] if bytewax_python else [])]
    speeds: dict[str, list[float]] = {kind: [] for kind in kinds}
    digests: set[str] = set()
    with local_broker(BrokerOptions(jvm_options=("-Xmx512m",))) as broker, tempfile.TemporaryDirectory() as folder:
        fill(broker, records, record_bytes)
        for number in range(rounds):
            for kind in kinds:
                store = Path(folder) / f"round{number}"
                seconds, found = timed(kind, broker, records, store, bytewax_python)
                speeds[kind].append(records / seconds)
                digests.add(found)
                shutil.rmtree(store, ignore_errors=True)
    medians = {f"{kind}_records_per_s": statistics.median(found) for kind, found in speeds.items()}
    ratios = {
        f"uniqdb_over_{kind}": medians["uniqdb_records_per_s"] / medians[f"{kind}_records_per_s"] for kind in kinds
    }
    del ratios["uniqdb_over_uniqdb"]
    return {**medians, **ratios, "results_agree": int(len(digests) == 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--record-bytes", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bytewax-python", type=Path, help="a Python that has bytewax and confluent-kafka")
    parser.add_argument("--once", nargs=3, metavar=("KIND", "SERVERS", "RECORDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        _, servers, records = options.once
        print(loop_once(servers, int(records)))
        return
    show_machine()
    show("records", options.records)
    show("record_bytes", options.record_bytes)
    for name, value in run(options.records, options.record_bytes, options.rounds, options.bytewax_python).items():
        show(name, value)


if __name__ == "__main__":
    main()
