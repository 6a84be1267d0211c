"""Six granularities of exact different uids from the same file: uniqdb, durable, against other engines and plain sets.

    .venv-bench/bin/python bench/peers_ingest.py [--visits 1000000] [--uids 100000] [--record-bytes 300] [--rounds 3]

Each peer is a process of its own, timed as a whole, by turns, all on the same two cores, the file in the page cache;
figures are medians. The counts and visits of every bucket must equal those of `oracle_rows`, which takes another way.
A peer that is not installed is left out, in words. See `bench/peer_jobs.py` for what each of them does.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine import show, show_machine
from naive import buckets_of, digest_of, start_s_of
from peer_jobs import PEERS, Row
from processes import Ran, lacking, not_left_out, pin_to_two_cores, run_job, table, warm

from uniqdb_cli.generator import GeneratorSettings, generate_blocks

HERE = Path(__file__).resolve().parent
RATE = 100
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Input:
    """What is generated: visits in the order of time, 100 for each second."""

    visits: int
    uids: int
    record_bytes: int

    def write(self, path: Path) -> None:
        settings = GeneratorSettings(
            records=self.visits,
            duration_s=max(self.visits // RATE, 1),
            users=self.uids,
            record_bytes=self.record_bytes,
        )
        with path.open("wb") as file:
            for block in generate_blocks(settings):
                file.write(block)


def oracle_rows(path: Path) -> Iterator[Row]:
    """(granularity, start_s, count, visits) of every bucket, by numbering the uids and sorting pairs of numbers."""
    numbers: dict[str, int] = {}
    times, uids = array("q"), array("q")
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            times.append(record["ts"])
            uids.append(numbers.setdefault(record["uid"], len(numbers)))
    at_s, uid = np.array(times, np.int64), np.array(uids, np.int64)
    for word, starts in (("minute", at_s // 60 * 60), ("hour", at_s // 3_600 * 3_600), ("day", at_s // DAY_S * DAY_S)):
        yield from _rows_of(word, starts, uid)
    days, day_of = np.unique(at_s // DAY_S * DAY_S, return_inverse=True)
    for word in ("week", "month", "year"):
        starts = [start_s_of(bucket) for day in days.tolist() for bucket in buckets_of(day) if bucket[0] == word]
        yield from _rows_of(word, np.array(starts, np.int64)[day_of], uid)


def _rows_of(word: str, starts: np.ndarray, uid: np.ndarray) -> Iterator[Row]:
    order = np.lexsort((uid, starts))
    starts, uid = starts[order], uid[order]
    is_new = np.ones(len(starts), np.bool_)
    is_new[1:] = (starts[1:] != starts[:-1]) | (uid[1:] != uid[:-1])
    at, visits = np.unique(starts, return_counts=True)
    counts = np.unique(starts[is_new], return_counts=True)[1]
    yield from zip([word] * len(at), at.tolist(), counts.tolist(), visits.tolist(), strict=True)


def run(path: Path, names: Sequence[str], rounds: int, truth: str) -> tuple[dict[str, list[Ran]], list[str]]:
    """Every peer's rounds, and the names of those who were ever wrong."""
    ran: dict[str, list[Ran]] = {name: [] for name in names}
    wrong: list[str] = []
    for _ in range(rounds):
        for name in names:
            folder = path.parent / name
            folder.mkdir()
            warm(path)
            ran[name].append(run_job(HERE / "peer_jobs.py", name, path, folder))
            shutil.rmtree(folder)
            if ran[name][-1].result["digest"] != truth:
                wrong.append(name)
    return ran, wrong


def rows_of(ran: dict[str, list[Ran]], visits: int) -> Iterable[list[str]]:
    """The table's rows, fastest first."""
    elapsed_s = {name: statistics.median(one.elapsed_s for one in found) for name, found in ran.items()}
    for name in sorted(ran, key=elapsed_s.__getitem__):
        found = ran[name]
        work_s = statistics.median(one.result["work_s"] for one in found)
        disk_bytes = found[-1].result["disk_bytes"]
        yield [
            PEERS[name].title,
            f"{visits / elapsed_s[name]:,.0f}",
            f"{elapsed_s[name] / elapsed_s['uniqdb']:.2f}" if "uniqdb" in ran else "",
            f"{visits / work_s:,.0f}",
            f"{statistics.median(one.cpu_s for one in found):.2f} s",
            f"{max(one.peak_bytes for one in found) / 1e6:,.0f} MB",
            f"{disk_bytes / 1e6:,.1f} MB: {PEERS[name].keeps}" if disk_bytes else "nothing",
        ]


HEAD = (
    "",
    "visits/s",
    "uniqdb over it",
    "visits/s without imports",
    "processor time",
    "peak memory",
    "on disk",
)


def compare(wanted: Input, names: Sequence[str], rounds: int, directory: str | None) -> None:
    """One size: prints figures and the table. Exits with a message if anybody's counts are wrong."""
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        path = Path(folder) / "visits.jsonl"
        wanted.write(path)
        truth = run_job(HERE / "peers_ingest.py", "--oracle", path).result["digest"]
        ran, wrong = run(path, names, rounds, truth)
    medians_s = {name: statistics.median(one.elapsed_s for one in found) for name, found in ran.items()}
    for name, elapsed_s in medians_s.items():
        show(f"{name}_visits_per_s", round(wanted.visits / elapsed_s))
    others_s = {name: elapsed_s for name, elapsed_s in medians_s.items() if not name.startswith("uniqdb")}
    at = f"at_{wanted.record_bytes}_bytes"
    if "uniqdb" in medians_s and others_s:
        show(f"uniqdb_over_best_peer_{at}", min(others_s.values()) / medians_s["uniqdb"])
        if "duckdb" in others_s:
            show(f"uniqdb_over_duckdb_{at}", others_s["duckdb"] / medians_s["uniqdb"])
        show(f"uniqdb_peak_mb_{at}", max(one.peak_bytes for one in ran["uniqdb"]) / 1e6)
    show("results_agree", int(not wrong))
    print(f"\n{wanted.visits:,} visits, {wanted.uids:,} uids, records of {wanted.record_bytes:,} bytes:\n")
    print(table(HEAD, list(rows_of(ran, wanted.visits))), flush=True)
    if wrong:
        sys.exit(f"not what the oracle counts: {', '.join(sorted(set(wrong)))}")


def installed(names: Iterable[str]) -> list[str]:
    """Those that can be run here; says why the others cannot."""
    return not_left_out((name, PEERS[name].title, lacking(PEERS[name].modules)) for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=1_000_000)
    parser.add_argument("--uids", type=int, default=0, help="different visitors (default: a tenth of the visits)")
    parser.add_argument("--record-bytes", type=int, nargs="+", default=[300, 2_048])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--dir", default=None, help="where input and stores are made (default: a temporary directory)")
    parser.add_argument("--oracle", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.oracle:
        print(json.dumps({"digest": digest_of(oracle_rows(options.oracle))}))
        return
    show_machine()
    pin_to_two_cores()
    names = installed(options.peers)
    for record_bytes in options.record_bytes:
        show("visits", options.visits)
        show("record_bytes", record_bytes)
        wanted = Input(options.visits, options.uids or max(options.visits // 10, 1), record_bytes)
        compare(wanted, names, options.rounds, options.dir)


if __name__ == "__main__":
    main()
