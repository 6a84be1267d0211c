"""Counts a topic of visits with Apache Flink, in one process on this machine, from packages alone.

    .venv/bin/python flink/run.py --timezone Europe/Zurich
    .venv/bin/python flink/run.py --until-caught-up        # end where the topic ends now
    .venv/bin/python flink/run.py --bundle out             # SQL and connector, for a cluster

The first run on a machine fetches Flink, 160 MB.
"""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from flink_job import Job
from flink_local import Process, run, write_bundle

from uniqdb.errors import UniqdbError
from uniqdb_cli.jar_cache import report_on_stderr


def _end(number: int, _: object) -> None:
    raise SystemExit(128 + number)  # what is open is closed on the way


def main(
    bootstrap_servers: Annotated[str, typer.Option(help="Kafka's brokers.")] = "localhost:9092",
    input_topic: Annotated[str, typer.Option(help="The topic of visits.")] = "website_visits",
    output_prefix: Annotated[str, typer.Option(help="Of the six output topics.")] = "flink_visits_per_",
    timezone: Annotated[str, typer.Option(help="IANA time zone of the buckets.")] = "UTC",
    until_caught_up: Annotated[bool, typer.Option("--until-caught-up", help="End where the topic ends now.")] = False,
    epoch: Annotated[int, typer.Option(min=1, help="Raise it to count anew what was published before.")] = 1,
    state_ttl_days: Annotated[int, typer.Option(min=0, help="Forget buckets without a visit after; 0: never.")] = 0,
    parallelism: Annotated[int, typer.Option(min=1, help="Threads of each step.")] = 1,
    memory_mb: Annotated[int, typer.Option(min=512, help="Java's heap.")] = 2_048,
    checkpoints: Annotated[Path | None, typer.Option(help="Write checkpoints there, every 10 s.")] = None,
    jvm_option: Annotated[list[str] | None, typer.Option(help="One more option for Java.")] = None,
    time_limit_s: Annotated[float | None, typer.Option(help="End it after so long, as failed.")] = None,
    log: Annotated[Path | None, typer.Option(help="Where Flink's log goes (default: nowhere).")] = None,
    print_sql: Annotated[bool, typer.Option("--print", help="Print the statements and end.")] = False,
    bundle: Annotated[Path | None, typer.Option(help="Write statements and connector there, and end.")] = None,
) -> None:
    """Count a topic of visits with Apache Flink on this machine."""
    job = Job(
        brokers=bootstrap_servers,
        input_topic=input_topic,
        output_prefix=output_prefix,
        timezone=timezone,
        is_bounded=until_caught_up,
        state_ttl_days=state_ttl_days,
        epoch=epoch,
    )
    signal.signal(signal.SIGTERM, _end)
    try:
        if print_sql:
            sys.stdout.write(job.sql())
        elif bundle is not None:
            write_bundle(job, bundle)
        else:
            options = tuple(jvm_option or ())
            run(job, Process(parallelism, memory_mb, checkpoints, options, time_limit_s, log))
    except UniqdbError as error:
        report_on_stderr(str(error))
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    typer.run(main)
