"""Three brokers that keep three copies of everything, two of which are enough to go on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from uniqdb_cli.jar_cache import report_on_stderr
from uniqdb_cli.kafka_packages import kafka_packages
from uniqdb_cli.local_broker import HOST, BrokerOptions, LocalBroker, free_port, kafka_uuid, prepare

COPIES = 3
_SHARED = {
    "default.replication.factor": str(COPIES),
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": str(COPIES),
    "transaction.state.log.replication.factor": str(COPIES),
    "transaction.state.log.min.isr": "2",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "300",
    # One that comes back is in sync again soon.
    "replica.lag.time.max.ms": "2000",
    "replica.fetch.wait.max.ms": "100",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
}


class ThreeBrokers:
    """All three, running; the records of a topic are on each of them."""

    def __init__(self, folder: Path) -> None:
        packages = kafka_packages(report_on_stderr)
        prepare(packages, report_on_stderr)
        ports = [(free_port(), free_port()) for _ in range(COPIES)]
        voters = ",".join(f"{node}@{HOST}:{control}" for node, (_, control) in enumerate(ports, start=1))
        cluster_id = kafka_uuid()
        self.brokers: list[LocalBroker] = []
        for node, (port, control) in enumerate(ports, start=1):
            properties = _SHARED | {
                "node.id": str(node),
                "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{control}",
                "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
                "controller.quorum.voters": voters,
            }
            options = BrokerOptions(folder / f"node{node}", port, properties, cluster_id=cluster_id)
            self.brokers.append(LocalBroker(packages, options))

    @property
    def bootstrap(self) -> str:
        """Clients are told all of them: any may be away."""
        return ",".join(one.bootstrap for one in self.brokers)

    @contextmanager
    def running(self) -> Iterator["ThreeBrokers"]:
        """Started together, for none is ready before two of them are there."""
        try:
            with ThreadPoolExecutor(COPIES) as pool:
                list(pool.map(LocalBroker.start, self.brokers))
            yield self
        finally:
            for one in self.brokers:
                one.close()
