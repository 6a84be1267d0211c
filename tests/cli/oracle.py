"""What is in a file of visits, judged by plain Python."""

import json
import time
from pathlib import Path

from event_time_oracle import Oracle
from model import Model


def visits_of(path: Path) -> list[tuple[int, str]]:
    """(event time, uid) of each line that is a visit."""
    visits = []
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if not isinstance(record, dict):
            continue
        ts, uid = record.get("ts"), record.get("uid")
        if type(ts) is int and 946_684_800 <= ts < 253_370_764_800 and isinstance(uid, str) and uid:
            visits.append((ts, uid))
    return visits


def counted_of(path: Path) -> list[tuple[int, str]]:
    """Those of the visits that count, by the rules of event time."""
    visits, judge = visits_of(path), Oracle()
    for time_s, _ in visits:
        judge.visit(time_s, int(time.time()))
    judge.end()
    return [visit for visit, verdict in zip(visits, judge.verdicts, strict=True) if verdict == "accepted"]


def model_of(path: Path, zone: str = "UTC") -> Model:
    """Its sets per bucket."""
    model = Model(zone)
    visits = counted_of(path)
    model.add([time_s for time_s, _ in visits], [uid for _, uid in visits])
    return model
