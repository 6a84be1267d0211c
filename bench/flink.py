"""uniqdb against the Flink job of flink/, on the same Kafka topic: visits per second and memory, as whole processes.

    .venv/bin/python bench/flink.py [--visits 2000000] [--record-bytes 298] [--rounds 1] [--parallelism 1 2]

Both count six granularities and publish every count to a real Kafka: uniqdb by `serve-stream --until-caught-up`,
durably; Flink by `flink/run.py --until-caught-up`, with its state on the heap and without checkpoints, which is its
fastest way. They run one after the other by turns, on the same broker and topic of two partitions; medians. The time
is that of the whole process, its start included; the memory is that of all its processes. The counts of all buckets,
read from the topics, must agree.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition
from machine import show, show_machine
from processes import Ran, run_measured, size_bytes

from stream import TOPIC, fill
from uniqdb_cli.local_broker import BrokerOptions, local_broker

ROOT = Path(__file__).resolve().parents[1]
GRANULARITIES = ("minute", "hour", "day", "week", "month", "year")
TARGET_RATIO, TARGET_MB = 8.0, 400
Buckets = dict[tuple[str, int], tuple[int, int]]


def published(servers: str, prefix: str) -> Buckets:
    """Count and visits of every bucket: of each key the record with the highest revision."""
    best: dict[tuple[str, int], tuple[int, int, int]] = {}
    for granularity in GRANULARITIES:
        settings = {"bootstrap.servers": servers, "group.id": "bench", "enable.partition.eof": True}
        consumer = Consumer({**settings, "isolation.level": "read_committed", "enable.auto.commit": False})
        consumer.assign([TopicPartition(prefix + granularity, 0, 0)])
        is_ended = False
        while not is_ended:
            for message in consumer.consume(1_000, 1.0):
                error = message.error()
                if error is not None:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    is_ended = True
                    continue
                one = json.loads(message.value() or b"")
                found = one["revision"], one["count"], one["visits"]
                key = one["granularity"], one["start_ts"]
                best[key] = max(best.get(key, found), found)
        consumer.close()
    return {key: (count, visits) for key, (_, count, visits) in best.items()}


def uniqdb_once(servers: str, prefix: str, folder: Path) -> Ran:
    """The service, as a user starts it."""
    store = folder / "store.uniqdb"
    command = [sys.executable, "-m", "uniqdb_cli", "serve-stream", "--until-caught-up", "--store", str(store)]
    command += ["--bootstrap-servers", servers, "--input-topic", TOPIC, "--timezone", "Europe/Berlin"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UNIQDB_")}
    names = (*GRANULARITIES, "trailing", "quarantine")
    environment |= {f"UNIQDB_TOPIC_{name.upper()}": f"{prefix}{name}" for name in names}
    ran = run_measured(command, environment)[1]
    shutil.rmtree(store)
    return ran


def flink_command(servers: str, prefix: str, parallelism: int, memory_mb: int) -> list[str]:
    """The Flink job, as a user starts it."""
    command = [sys.executable, str(ROOT / "flink" / "run.py"), "--bootstrap-servers", servers]
    command += ["--input-topic", TOPIC, "--output-prefix", prefix, "--timezone", "Europe/Berlin"]
    return [*command, "--parallelism", str(parallelism), "--memory-mb", str(memory_mb), "--time-limit-s", "1200"]


def checkpoint_bytes(command: list[str], folder: Path, is_counted: Callable[[], bool]) -> int:
    """Size of the first checkpoint that begins when the whole topic is counted."""
    process = subprocess.Popen([*command, "--checkpoints", str(folder)], stderr=subprocess.DEVNULL)
    try:
        while not folder.exists() or not is_counted():
            assert process.poll() is None, "the Flink job has ended"
            time.sleep(1)
        known = set(folder.glob("*/chk-*"))
        # One that has begun already may lack the end of the topic.
        while len(whole := sorted({one.parent for one in folder.glob("*/chk-*/_metadata")} - known)) == 0:
            assert process.poll() is None, "the Flink job has ended"
            time.sleep(0.2)
        return size_bytes(whole[0])
    finally:
        process.terminate()
        process.wait()


def run(options: argparse.Namespace) -> dict[str, Any]:
    visits, memory_mb = options.visits, options.memory_mb
    parallel = {f"flink_{threads}": threads for threads in options.parallelism}
    ran: dict[str, list[Ran]] = {"uniqdb": [], **{name: [] for name in parallel}}
    counts: list[Buckets] = []
    with local_broker(BrokerOptions(jvm_options=("-Xmx512m",))) as broker, tempfile.TemporaryDirectory() as folder:
        servers = broker.bootstrap
        fill(broker, visits, options.record_bytes)
        for number in range(options.rounds):
            ran["uniqdb"].append(uniqdb_once(servers, f"uniqdb{number}-", Path(folder)))
            for name, threads in parallel.items():
                command = flink_command(servers, f"{name}{number}-", threads, memory_mb)
                ran[name].append(run_measured([*command, "--until-caught-up"])[1])
            counts += [published(servers, f"{name}{number}-") for name in ran]
        members = sum(count for count, _ in counts[0].values())
        state = {}
        if options.state:
            command = flink_command(servers, "state-", options.parallelism[-1], memory_mb)
            found_bytes = checkpoint_bytes(
                command, Path(folder) / "checkpoints", lambda: published(servers, "state-") == counts[0]
            )
            state = {"checkpoint_mb": found_bytes / 1e6, "checkpoint_bytes_per_member": found_bytes / members}
    speeds = {name: statistics.median(visits / one.elapsed_s for one in found) for name, found in ran.items()}
    peaks = {name: max(one.peak_bytes for one in found) / 1e6 for name, found in ran.items()}
    processor = {name: statistics.median(one.cpu_s for one in found) for name, found in ran.items()}
    ratio = speeds["uniqdb"] / max(speeds[name] for name in parallel)
    return {
        **{f"{name}_visits_per_s": round(value) for name, value in speeds.items()},
        "uniqdb_over_fastest_flink": ratio,
        **{f"{name}_peak_mb": round(value) for name, value in peaks.items()},
        **{f"{name}_cpu_s": value for name, value in processor.items()},
        "buckets": len(counts[0]),
        "members": members,
        "flink_peak_bytes_per_member": min(peaks[name] for name in parallel) * 1e6 / members,
        **state,
        "results_agree": int(all(one == counts[0] for one in counts)),
        "target_reached": int(ratio >= TARGET_RATIO and peaks["uniqdb"] <= TARGET_MB),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=2_000_000)
    parser.add_argument("--record-bytes", type=int, default=298)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--parallelism", type=int, nargs="+", default=[1, 2], help="of the Flink job; each is a row")
    parser.add_argument("--memory-mb", type=int, default=3_072, help="heap of the Flink job")
    parser.add_argument("--state", action="store_true", help="run it once more, for the size of a checkpoint")
    options = parser.parse_args()
    show_machine()
    show("visits", options.visits)
    show("record_bytes", options.record_bytes)
    for name, value in run(options).items():
        show(name, value)


if __name__ == "__main__":
    main()
