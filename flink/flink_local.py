"""Flink from packages alone, and the one process that runs a job: client, JobManager and TaskManager in one."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from flink_job import CONNECTOR_JAR, FLINK_VERSION, Job, local_config

from uniqdb.errors import InputRefused, NotFetched, NotFound, UniqdbError
from uniqdb.stream.kafka_admin import TopicAdmin
from uniqdb.stream.kafka_settings import KafkaSettings
from uniqdb_cli import broker_process
from uniqdb_cli.jar_cache import JarSet, fetched_jars, java_runtime, missing_packages, report_on_stderr
from uniqdb_cli.local_broker import LOG4J

FLINK_JARS = JarSet(
    title=f"Apache Flink {FLINK_VERSION}",
    folder_name=f"flink-{FLINK_VERSION}",
    coordinates=(
        f"org.apache.flink:flink-sql-gateway:{FLINK_VERSION}",
        f"org.apache.flink:flink-table-planner-loader:{FLINK_VERSION}",
        f"org.apache.flink:flink-table-runtime:{FLINK_VERSION}",
        f"org.apache.flink:flink-connector-base:{FLINK_VERSION}",
        f"org.apache.flink:flink-json:{FLINK_VERSION}",
        f"org.apache.flink:flink-csv:{FLINK_VERSION}",
        # Made for Flink 2.2; there is none for 2.3 yet.
        "org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2",
        # For topics that are compressed by it; the connector brings none.
        "com.github.luben:zstd-jni:1.5.6-10",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
    ),
    pins_path=Path(__file__).with_name("flink_jars.txt"),
    megabytes=160,
)
ZSTD_JAR = "zstd-jni-1.5.6-10.jar"
RUNNER_JAR = f"flink-sql-gateway-{FLINK_VERSION}.jar"
RUNNER_CLASS = "org.apache.flink.table.runtime.application.SqlDriver"
"""Runs a script of SQL as a job of its own, here as on a cluster."""
PROGRESS_INTERVAL_S = 10.0

# Flink looks into Java's own classes; these are the packages that its start script opens, too.
_OPENED = (
    *("java.lang", "java.lang.reflect", "java.net", "java.io", "java.nio", "java.text", "java.time", "java.util"),
    *("java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks", "sun.nio.ch"),
)
_JVM_OPTIONS = (
    *(f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in _OPENED),
    # Java 24 and newer warn of what Flink's libraries do without being asked to.
    *("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"),
    *("-XX:+UseParallelGC", "-XX:-UsePerfData"),
)


@dataclass(frozen=True, slots=True)
class Process:
    """How the job is run; nothing of it changes results."""

    parallelism: int = 1
    memory_mb: int = 2_048
    checkpoints: Path | None = None
    jvm_options: tuple[str, ...] = ()
    time_limit_s: float | None = None
    log: Path | None = None


def flink_folder() -> Path:
    """Where Flink's ``jars/`` are, fetched on the first call. Raises as `fetched_jars` does."""
    if missing := missing_packages():
        raise NotFetched(
            f"Flink needs the Python package {' and '.join(missing)}", hint="install uniqdb with its extra `broker`"
        )
    return fetched_jars(FLINK_JARS)


def create_topics(job: Job) -> None:
    """Make the output topics that are missing: Flink would wait for them in silence. Raises NotFound without input."""
    admin = TopicAdmin(KafkaSettings(client={"bootstrap.servers": job.brokers}))
    admin.partition_count(job.input_topic)
    for topic in job.output_topics():
        try:
            admin.partition_count(topic)
        except NotFound:
            with contextlib.suppress(InputRefused):  # somebody else has just made it
                admin.create(topic, None, None, is_compacted=True)


def run(job: Job, process: Process) -> None:
    """Run the job until it ends, which it does by itself only if it is bounded. Raises UniqdbError if it fails."""
    script, jars = job.sql(), flink_folder() / "jars"
    create_topics(job)
    with tempfile.TemporaryDirectory(prefix="uniqdb-flink-") as name:
        work = Path(name)
        log = (process.log or work / "flink.log").absolute()
        (work / "visits.sql").write_text(script, "utf-8")
        (work / "config.yaml").write_text(local_config(work, process.parallelism, process.checkpoints), "utf-8")
        (work / "log4j2.properties").write_text(LOG4J, "utf-8")
        class_path = [str(jars / jar) for jar in sorted(FLINK_JARS.pins()) if jar != RUNNER_JAR]
        java = [str(java_runtime()[0]), *_JVM_OPTIONS, f"-Xmx{process.memory_mb}m", *process.jvm_options]
        java += [f"-Djava.io.tmpdir={work}", f"-Duniqdb.log={log}"]
        java += [f"-Dlog4j2.configurationFile={work / 'log4j2.properties'}", "-Dlog4j2.disableJmx=true"]
        java += ["-cp", os.pathsep.join(class_path), "org.apache.flink.client.cli.CliFrontend", "run", "--target"]
        java += ["local", "-c", RUNNER_CLASS, str(jars / RUNNER_JAR), "--scriptUri", (work / "visits.sql").as_uri()]
        # It dies with this process, however that ends.
        mortal = [sys.executable, "-I", "-S", str(Path(broker_process.__file__)), "exec", str(os.getpid())]
        environment = os.environ | {"FLINK_CONF_DIR": str(work)}
        with (work / "stdout.log").open("wb") as said:
            child = subprocess.Popen(
                [*mortal, *java], stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment, cwd=work
            )
            try:
                if not job.is_bounded:
                    report_on_stderr("the Flink job begins; Ctrl-C ends it")
                code = _wait(child, process.time_limit_s, is_telling=job.is_bounded)
            finally:
                child.kill()
                child.wait()
        if code:
            words = _last_words(work / "stdout.log") or f"it ended with code {code}"
            raise UniqdbError(f"the Flink job failed: {words}", hint="--log FILE keeps what Flink has to say")


def _wait(child: "subprocess.Popen[bytes]", time_limit_s: float | None, *, is_telling: bool) -> int:
    begun_at_s = time.monotonic()
    while True:
        try:
            return child.wait(PROGRESS_INTERVAL_S)
        except subprocess.TimeoutExpired:
            elapsed_s = time.monotonic() - begun_at_s
            if time_limit_s is not None and elapsed_s > time_limit_s:
                raise UniqdbError(
                    f"the Flink job was not done after {elapsed_s:.0f} s and was ended", hint="raise --time-limit-s"
                ) from None
            if is_telling:
                report_on_stderr(f"the Flink job runs, {elapsed_s:.0f} s")


def _last_words(path: Path) -> str:
    """The innermost causes of a Java stack trace, else the last lines."""
    lines = path.read_text("utf-8", errors="replace").splitlines()
    causes = [line.strip() for line in lines if "Caused by:" in line or "Exception: " in line]
    shown = (causes or [line.strip() for line in lines if line.strip()])[-3:]
    return " / ".join(dict.fromkeys(one.removeprefix("Caused by: ")[:300] for one in shown))


def write_bundle(job: Job, folder: Path) -> None:
    """What a cluster with Flink's own image lacks: the statements and the connector."""
    script, jars = job.sql(), flink_folder() / "jars"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "visits.sql").write_text(script, "utf-8")
    for jar in (CONNECTOR_JAR, ZSTD_JAR):
        shutil.copyfile(jars / jar, folder / jar)
