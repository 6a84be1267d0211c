"""Streams of event times written as files and ingested, and what the store must then hold by the oracle."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uniqdb
from engines import options
from event_time_oracle import Oracle
from event_time_streams import Stream
from model import GRANULARITIES, Model
from uniqdb.quarantine import read_quarantine
from uniqdb.stream.driver import ingest_file
from uniqdb.stream.ingest_options import IngestOptions, IngestSummary

Counted = dict[tuple[str, int], tuple[int, int, str]]
FIXED_S = {"minute": 60, "hour": 3_600, "day": 86_400, "week": 7 * 86_400}
VISITORS = 37


@dataclass(frozen=True)
class Held:
    """What a store holds of a source: count, visits and status per bucket, and what was refused, each with its line."""

    buckets: Counted
    refused: list[tuple[str, int, int, str]]


def write_stream(path: Path, stream: Stream) -> None:
    """One JSON line for each visit; the visitor of line n is ``v<n % 37>``."""
    times = stream.times_s.tolist()
    path.write_text("".join(json.dumps({"ts": t, "uid": f"v{n % VISITORS}"}) + "\n" for n, t in enumerate(times)))


def ingest_stream(
    store: Path, source: Path, stream: Stream, batch: int, restart: Callable[[int], bool] = lambda _: False
) -> IngestSummary:
    """Ingest in commits of ``batch``; ``restart``: whether to close and reopen the store after the n-th block."""
    block = 0

    def should_stop() -> bool:
        nonlocal block
        block += 1
        return restart(block)

    while True:
        with uniqdb.open(store, options=options()) as db:
            how = IngestOptions(commit_visits=batch, wall_clock=lambda: stream.reference_s)
            summary = ingest_file(db, source, how, should_stop=should_stop)
        if not summary.interrupted:
            return summary


def held_by(store: Path) -> Held:
    """What the store holds."""
    with uniqdb.open(store, read_only=True) as db, db.snapshot() as snapshot:
        buckets = {
            (kind, one.start_ts): (one.count, one.visits, one.status)
            for kind in GRANULARITIES
            for one in snapshot.series(kind)
        }
        refused = [
            (row.reason, row.line, row.event_time_s or 0, row.uid or "")
            for _, row in read_quarantine(snapshot.answers.view)
        ]
    return Held(buckets, sorted(refused, key=lambda one: one[1]))


def end_of(kind: str, start_s: int) -> int:
    """The end of a bucket in UTC."""
    if kind in FIXED_S:
        return start_s + FIXED_S[kind]
    start = datetime.fromtimestamp(start_s, UTC)
    after = (start + timedelta(32 if kind == "month" else 367)).replace(day=1)
    return int((after if kind == "month" else after.replace(month=1)).timestamp())


def expected(stream: Stream, lateness_s: int = 5) -> Held:
    """By the oracle, one visit after the other: which count, which bucket each amends, what is closed at the end."""
    oracle = Oracle()
    for time_s in stream.times_s.tolist():
        oracle.visit(time_s, stream.reference_s)
    oracle.end()
    peaks, peak = [], -(2**62)
    for before, _ in oracle.clocks:
        peak = max(peak, -(2**62) if before is None else before)
        peaks.append(peak)
    last = max([peak, *(clock for _, clock in oracle.clocks if clock is not None)])
    counted_at = list(range(len(peaks)))
    plausible = [index for index, verdict in enumerate(oracle.verdicts) if verdict != "implausible"]
    for ticket, _, at in oracle.releases:
        counted_at[plausible[ticket - 1]] = at
    model = Model()
    amended: set[tuple[str, int]] = set()
    refused = []
    for index, (time_s, verdict) in enumerate(zip(stream.times_s.tolist(), oracle.verdicts, strict=True)):
        uid = f"v{index % VISITORS}"
        if verdict != "accepted":
            refused.append((verdict, index + 1, time_s, uid))
            continue
        model.add([time_s], [uid])
        at = counted_at[index]
        reached = (last if at < 0 else peaks[at]) - lateness_s
        for kind in GRANULARITIES:
            start_s = model.start(kind, time_s)
            if end_of(kind, start_s) <= reached:
                amended.add((kind, start_s))
    through = max(last, oracle.clock or last) - lateness_s
    buckets = {}
    for (kind, start_s), (count, visits) in model.rows().items():
        closed = "final" if end_of(kind, start_s) <= through else "provisional"
        buckets[kind, start_s] = count, visits, "amended" if (kind, start_s) in amended else closed
    return Held(buckets, refused)
