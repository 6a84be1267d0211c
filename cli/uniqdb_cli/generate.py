"""``uniqdb generate``: made-up visits."""

import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uniqdb.errors import CannotWrite, UsageError
from uniqdb_cli.output import say

if TYPE_CHECKING:
    from uniqdb_cli.generator import GeneratorSettings

VISITS_DEFAULT = 10_000
RATE_DEFAULT = 1.0
START_DEFAULT = "2016-07-11"
LIVE_MAX = 10**12
"""As good as without an end."""
DAY_S = 86_400


def generate(
    visits: Annotated[
        int | None, typer.Option(metavar="N", min=0, help=f"How many [default: {VISITS_DEFAULT:,}].")
    ] = None,
    days: Annotated[
        float | None, typer.Option(metavar="D", help="Over how many days [default: what visits and rate make].")
    ] = None,
    rate: Annotated[float | None, typer.Option(metavar="R", help="Visits per second, on average [default: 1].")] = None,
    users: Annotated[int, typer.Option(metavar="U", help="Different visitors at most.")] = 1_000,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help=f"First event time, UTC [default: {START_DEFAULT}].")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same bytes.")] = 1,
    lateness: Annotated[
        tuple[float, int],
        typer.Option(
            metavar="SHARE SECONDS", help="Share of late visits, and by at most how much.", show_default=False
        ),
    ] = (0.0, 5),
    flipped_bits: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of visits with one random bit of ts flipped.")
    ] = 0.0,
    malformed: Annotated[float, typer.Option(metavar="SHARE", help="Share of lines that are no visits.")] = 0.0,
    record_bytes: Annotated[int, typer.Option(metavar="BYTES", help="Length of a line.")] = 300,
    skew: Annotated[
        float, typer.Option(metavar="S", help="Exponent of a Zipf-like law of who comes how often; 0: all alike.")
    ] = 0.0,
    live: Annotated[
        bool, typer.Option("--live", help="Visits of now, at the rate, until stopped or so many were made.")
    ] = False,
    daily_rhythm: Annotated[bool, typer.Option("--daily-rhythm", help="Quiet nights and busy evenings (UTC).")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to [default: standard output].")
    ] = None,
) -> None:
    """Make up visits, as JSON lines.

    To try things out and to measure them. Two of visits, days and rate make the third; with --live the visits happen
    now, at the rate.

    \b
      uniqdb generate --visits 5
      uniqdb generate --days 40 --rate 0.5 --users 20000 --skew 1 --daily-rhythm -o visits.jsonl
      uniqdb generate --visits 100000 --lateness 0.3 5 --malformed 0.001 | uniqdb ingest -
      uniqdb generate --live --rate 100 | uniqdb produce -
    """
    _assert_no_times(live, daily_rhythm or days is not None or start is not None)
    count, duration_s = (LIVE_MAX if visits is None else visits, 1) if live else _extent(visits, days, rate)
    from uniqdb_cli.generator import Faults, GeneratorSettings, generate_blocks

    settings = GeneratorSettings(
        records=count,
        duration_s=duration_s,
        users=users,
        start_s=0 if live else _start_s(START_DEFAULT if start is None else start),
        seed=seed,
        record_bytes=record_bytes,
        skew=skew,
        daily_rhythm=daily_rhythm,
        faults=Faults(*lateness, flipped_bits, malformed),
    )
    blocks = _live_blocks(settings, rate) if live else generate_blocks(settings)
    if output is not None:
        size_bytes = _write_file(output, blocks)
        say(f"Wrote {count:,} lines ({size_bytes:,} bytes) to {output}.")
        return
    sys.stdout.flush()
    for block in blocks:
        sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()  # a block is as large as it can be, or somebody waits for it


def _assert_no_times(live: bool, has_times: bool) -> None:
    if live and has_times:
        raise UsageError("live visits happen now", hint="leave out --start, --days and --daily-rhythm")


def _live_blocks(settings: "GeneratorSettings", rate: float | None) -> Iterable[bytes]:
    from uniqdb_cli.live_generator import generate_live

    wanted = RATE_DEFAULT if rate is None else rate
    if not 0 < wanted <= 10**7:
        raise UsageError(f"--rate {wanted} is out of range", hint="give more than 0")
    return generate_live(settings, wanted)


def _extent(visits: int | None, days: float | None, rate: float | None) -> tuple[int, int]:
    """(visits, seconds) from two of the three; one alone goes with the default rate."""
    if visits is not None and days is not None and rate is not None:
        raise UsageError("visits, days and rate are one too many", hint="leave one out: two make the third")
    for name, value in (("--days", days), ("--rate", rate)):
        if value is not None and not 0 < value <= 10**9:
            raise UsageError(f"{name} {value} is out of range", hint="give more than 0")
    if visits is None and days is not None:
        visits = round(days * DAY_S * (rate or RATE_DEFAULT))
    count = VISITS_DEFAULT if visits is None else visits
    duration = days * DAY_S if days is not None else count / (rate or RATE_DEFAULT)
    return count, max(1, math.ceil(duration))


def _start_s(text: str) -> int:
    """A date, a time (UTC unless it has an offset) or Unix seconds."""
    import datetime

    if text.isascii() and text.isdigit() and len(text) > 8:
        return int(text[:20])
    try:
        moment = datetime.datetime.fromisoformat(text)
        return math.floor((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp())
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is no time", hint="write it like 2016-07-11 or 2016-07-11T13:39") from None


def _write_file(path: Path, blocks: Iterable[bytes]) -> int:
    size_bytes = 0
    try:
        with path.open("wb") as file:
            for block in blocks:
                size_bytes += file.write(block)
    except OSError as error:
        raise CannotWrite(
            f"cannot write {path}: {error.strerror}", hint="check the path, its permissions and the space on the disk"
        ) from None
    return size_bytes
