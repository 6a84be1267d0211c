"""Where the time of reading a file goes, stage by stage: what ``make profile`` runs.

    .venv/bin/python bench/profile_ingest.py [--records 1000000] [--record-bytes 300 2048] [--rounds 3]

The functions that a batch goes through are timed where they are called: a few calls per batch, so the measuring costs
next to nothing (``unmeasured_s`` is the same work without it). Each stage has what it took by the clock and in
processor time of the thread, without the stages inside it; where the first is much more than the second, the thread
waited: for the disk, another process, or a core. Processes that ingest starts are one line, for all they did.

Below stand limits of this machine for the same file: reading it, and nothing but decoding its records with msgspec.
"""

import argparse
import functools
import importlib
import json
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest import write_input
from machine import show, show_machine
from processes import pin_to_two_cores, run_job, table, warm

HERE = Path(__file__).resolve().parent
READ_BYTES = 2**20

# Stage -> the functions that are its own, as they are named where they are called.
STAGES: dict[str, tuple[str, ...]] = {
    "read, cut into lines": ("uniqdb.stream.file_source:FileSource.blocks",),
    "to and from another process": (
        "uniqdb.stream.decoding:Decoding.add",
        "uniqdb.stream.decoding:Decoding.rest",
        "uniqdb.stream.decoding:Decoding.close",
    ),
    "decode": ("uniqdb.visit_decoder:VisitDecoder.decode",),
    "judge": ("uniqdb.intake:Intake.take", "uniqdb.intake:Intake.cut", "uniqdb.intake:Intake.end"),
    "ordinals": ("uniqdb.uid_dictionary:UidDictionary.resolve", "uniqdb.uid_dictionary:UidDictionary.remember"),
    "new uids": ("uniqdb.uid_upkeep:DictionaryUpkeep.write_new",),
    "sets of the batch": ("uniqdb.writer:levels",),
    "sets of the buckets": (
        "uniqdb.bucket_members:BucketMembers.apply",
        "uniqdb.bucket_members:BucketMembers.remember",
        "uniqdb.bucket_members:BucketMembers.evict",
    ),
    "rest of a commit": ("uniqdb.writer:Writer.commit",),
    "LMDB, with its sync": ("uniqdb.store:Store.commit",),
}
REST = "opening, closing, rest"
OTHERS = "other processes"


@dataclass(slots=True)
class Stopwatch:
    """Time by stage, without the stages inside."""

    wall_s: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    _inner: list[list[float]] = field(default_factory=list)

    def call(self, stage: str, function: Callable[[], Any]) -> Any:
        """Call it and add what it took."""
        self._inner.append([0.0, 0.0])
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            return function()
        finally:
            took = time.perf_counter() - wall, time.thread_time() - cpu
            inner = self._inner.pop()
            self.wall_s[stage] = self.wall_s.get(stage, 0.0) + took[0] - inner[0]
            self.cpu_s[stage] = self.cpu_s.get(stage, 0.0) + took[1] - inner[1]
            if self._inner:
                self._inner[-1][0] += took[0]
                self._inner[-1][1] += took[1]

    def watch(self, stage: str, name: str) -> None:
        """Have all calls of the named function, ``module:Class.method``, timed. Raises AttributeError if it is gone."""
        module, _, path = name.partition(":")
        *outer, last = path.split(".")
        owner = functools.reduce(getattr, outer, importlib.import_module(module))
        function = getattr(owner, last)

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            answer = self.call(stage, lambda: function(*arguments, **named))
            return self._items(stage, answer) if isinstance(answer, Iterator) else answer

        setattr(owner, last, timed)

    def _items(self, stage: str, items: Iterator[Any]) -> Iterator[Any]:
        end = object()
        while (item := self.call(stage, lambda: next(items, end))) is not end:
            yield item


def ingest_once(path: Path, store: Path, *, watched: bool) -> dict[str, Any]:
    """What the process that is measured does."""
    import uniqdb
    from uniqdb.stream.driver import ingest_file

    watch = Stopwatch()
    if watched:
        for stage, names in STAGES.items():
            for name in names:
                watch.watch(stage, name)

    def work() -> int:
        with uniqdb.open(store) as db:
            return ingest_file(db, path).visits

    started = time.perf_counter()
    visits = watch.call(REST, work)
    elapsed_s = time.perf_counter() - started
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    watch.cpu_s[OTHERS] = children.ru_utime + children.ru_stime
    own = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "visits": visits,
        "elapsed_s": elapsed_s,
        "own_cpu_s": own.ru_utime + own.ru_stime,
        "wall_s": watch.wall_s,
        "cpu_s": watch.cpu_s,
    }


def limits_of(path: Path) -> dict[str, float]:
    """Seconds on one core for what nobody who reads such a file can do without."""
    import msgspec

    decoder = msgspec.json.Decoder(msgspec.defstruct("Visit", [("ts", int), ("uid", str)], gc=False))
    started = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.read(READ_BYTES):
            pass
    read_s, decode_s = time.perf_counter() - started, 0.0
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            block += file.readline()
            started = time.thread_time()
            decoder.decode_lines(block)
            decode_s += time.thread_time() - started
    return {"read_s": read_s, "decode_s": decode_s}


def median_of(rounds: list[dict[str, Any]], kind: str, stage: str) -> float:
    return statistics.median(one[kind].get(stage, 0.0) for one in rounds)


def rows_of(rounds: list[dict[str, Any]], visits: int) -> list[list[str]]:
    elapsed_s = statistics.median(one["elapsed_s"] for one in rounds)
    rows = []
    for stage in (*STAGES, REST, OTHERS):
        wall_s, cpu_s = median_of(rounds, "wall_s", stage), median_of(rounds, "cpu_s", stage)
        is_other = stage == OTHERS
        rows.append(
            [
                stage,
                "" if is_other else f"{wall_s:.3f}",
                f"{cpu_s:.3f}",
                f"{(cpu_s if is_other else wall_s) / visits * 1e6:.3f}",
                "" if is_other else f"{wall_s / elapsed_s:.0%}",
            ]
        )
    return rows


def profile(path: Path, records: int, rounds: int) -> None:
    """Prints figures and the table of one file."""
    found: dict[str, list[dict[str, Any]]] = {"--once": [], "--unmeasured": []}
    for _ in range(rounds):
        for mode, results in found.items():
            store = path.with_suffix(".uniqdb")
            warm(path)
            results.append(dict(run_job(HERE / "profile_ingest.py", mode, path, store).result))
            shutil.rmtree(store)
            if results[-1]["visits"] != records:
                sys.exit(f"{results[-1]['visits']:,} of {records:,} visits were counted")
    limits = [limits_of(path) for _ in range(rounds)]
    for name, mode in (("measured", "--once"), ("unmeasured", "--unmeasured")):
        elapsed_s = statistics.median(one["elapsed_s"] for one in found[mode])
        show(f"{name}_s", elapsed_s)
        show(f"{name}_visits_per_s", round(records / elapsed_s))
    show("own_cpu_s", statistics.median(one["own_cpu_s"] for one in found["--unmeasured"]))
    show("other_processes_cpu_s", median_of(found["--unmeasured"], "cpu_s", OTHERS))
    for name in ("read_s", "decode_s"):
        limit_s = statistics.median(one[name] for one in limits)
        show(f"limit_{name}", limit_s)
        show(f"limit_{name.removesuffix('_s')}_mb_per_s", path.stat().st_size / 1e6 / limit_s)
    print(f"\n{records:,} visits, {path.stat().st_size / records:,.0f} bytes a record:\n")
    head = ("stage", "seconds", "processor seconds", "us a visit", "share")
    print(table(head, rows_of(found["--once"], records)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--record-bytes", type=int, nargs="+", default=[300, 2_048])
    parser.add_argument("--rate", type=int, default=100, help="visits per second of event time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", default=None, help="where input and store are made (default: a temporary directory)")
    for mode in ("--once", "--unmeasured"):
        parser.add_argument(mode, nargs=2, type=Path, metavar=("FILE", "STORE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if asked := options.once or options.unmeasured:
        print(json.dumps(ingest_once(*asked, watched=bool(options.once))))
        return
    show_machine()
    pin_to_two_cores()
    for record_bytes in options.record_bytes:
        with tempfile.TemporaryDirectory(dir=options.dir) as folder:
            path = Path(folder) / "visits.jsonl"
            write_input(path, options.records, record_bytes, options.rate)
            show("record_bytes", record_bytes)
            profile(path, options.records, options.rounds)


if __name__ == "__main__":
    main()
