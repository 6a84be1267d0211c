"""The Flink job as text: the SQL of visits.sql with its parameters, and the settings of the process that runs it."""

import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from uniqdb.errors import UsageError

GRANULARITIES = ("minute", "hour", "day", "week", "month", "year")
CONNECTOR_JAR = "flink-sql-connector-kafka-5.0.0-2.2.jar"
FLINK_VERSION = "2.3.0"
_SQL = Path(__file__).with_name("visits.sql")
# What a broker list, a topic and a zone are made of; a quote could end the text that it stands in.
_PLAIN = re.compile(r"[A-Za-z0-9._:,/+-]+")


@dataclass(frozen=True, slots=True)
class Job:
    """What is counted, and where the counts go. All of it changes results."""

    brokers: str = "localhost:9092"
    input_topic: str = "website_visits"
    output_prefix: str = "flink_visits_per_"
    """Of the six output topics; the granularity is added. Not that of a uniqdb that counts the same topic."""
    timezone: str = "UTC"
    is_bounded: bool = False
    """End where the topic ends at the start."""
    ahead_limit_s: int = 86_400
    """By how much a visit's time may be later than its record's; what is later does not count."""
    state_ttl_days: int = 0
    """After how many days without a visit a bucket and its visitors are forgotten. 0: never."""
    epoch: int = 1
    """Of two records of a key readers take that with the larger (epoch, revision): raise it for a run from scratch."""

    def output_topics(self) -> list[str]:
        """Those of the granularities, the finest first."""
        return [self.output_prefix + one for one in GRANULARITIES]

    def sql(self) -> str:
        """The statements for Flink. Raises UsageError for a parameter that cannot stand in them."""
        for name, value in (
            *(("brokers", self.brokers), ("input topic", self.input_topic)),
            *(("output prefix", self.output_prefix), ("time zone", self.timezone)),
        ):
            if not _PLAIN.fullmatch(value):
                raise UsageError(f"{value!r} cannot be the {name}", hint="letters, digits and . _ : , / + - only")
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise UsageError(f"there is no time zone {self.timezone!r}", hint="name one as Europe/Zurich") from error
        return Template(_SQL.read_text("utf-8")).substitute(
            brokers=self.brokers,
            input_topic=self.input_topic,
            output_prefix=self.output_prefix,
            output_topics=";".join(self.output_topics()),
            timezone=self.timezone,
            bounded_mode="latest-offset" if self.is_bounded else "unbounded",
            ahead_limit_s=self.ahead_limit_s,
            state_ttl=f"{self.state_ttl_days} d",
            epoch=self.epoch,
        )


def local_config(folder: Path, parallelism: int, checkpoints: Path | None) -> str:
    """Flink's config.yaml for a cluster of one process. ``folder`` takes its temporary files."""
    settings = {
        "execution.target": "local",
        "execution.attached": "true",
        "parallelism.default": str(parallelism),
        # Its page is for this machine only, and takes no programs.
        "rest.bind-port": "0",
        "rest.bind-address": "localhost",
        "web.submit.enable": "false",
        "io.tmp.dirs": str(folder),
        # A job that fails is to be seen to fail: by default one with checkpoints is started again for ever.
        "restart-strategy.type": "none",
        "state.backend.type": "hashmap",
    }
    if checkpoints is not None:
        settings |= {
            "execution.checkpointing.interval": "10 s",
            # Else they go into the memory of the JobManager, 5 MB at most.
            "execution.checkpointing.storage": "filesystem",
            "execution.checkpointing.dir": checkpoints.absolute().as_uri(),
        }
    return "".join(f"{name}: '{value}'\n" for name, value in settings.items())
