"""Different uids per minute of a topic with Bytewax, in memory: a peer of `bench/stream.py`.

    python -m venv .bytewax && .bytewax/bin/pip install bytewax confluent-kafka
    .bytewax/bin/python bench/bytewax_minutes.py SERVERS TOPIC

Prints `stream.digest` of the counts.
"""

import hashlib
import json
import sys

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, run_main


def decode(messages: list) -> list[tuple[str, str]]:
    """(minute, uid) of a batch: one call of Python per batch, not per message."""
    found = []
    for message in messages:
        record = json.loads(message.value)
        found.append((str(int(record["ts"]) // 60 * 60), record["uid"]))
    return found


def add(uids: set[str], uid: str) -> set[str]:
    uids.add(uid)
    return uids


def main() -> None:
    servers, topic = sys.argv[1:]
    found: list[tuple[str, set[str]]] = []
    flow = Dataflow("minutes")
    messages = op.input("visits", flow, KafkaSource([servers], [topic], tail=False, batch_size=10_000))
    minutes = op.fold_final("uids", op.flat_map_batch("decode", messages, decode), set, add)
    op.output("counts", minutes, TestingSink(found))
    run_main(flow)
    counts = {int(minute): len(uids) for minute, uids in found}
    print(hashlib.sha256(repr(sorted(counts.items())).encode()).hexdigest())


if __name__ == "__main__":
    main()
