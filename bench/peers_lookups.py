"""`check_if_uid_exists` against the stores that hold nothing but the same uids: LMDB, RocksDB, SQLite, Redis.

    .venv-bench/bin/python bench/peers_lookups.py [--uids 1000000] [--calls 200000] [--rounds 3]

Each is filled with the same uids of 20 bytes, then asked in processes of their own, by turns, pages in the system's
cache; figures are medians. *Hot* asks for a few thousand uids again and again, *cold* for uids in random order, each
once in the life of the process. All uids are there. p99 is of single cold calls, each timed by itself, which adds the
price of two looks at the clock. Batches have 1,000 uids; their figures are per uid.

uniqdb is asked in two states: compacted, and as 1,000-visit commits leave it; and in three ways: by a reader, which
looks at each call whether there is a newer commit, by the writing handle, and inside a snapshot.

On a machine that is busy with other things ``--clock cpu`` measures the processor time of the asking thread instead
(which says nothing about Redis: its server's is not in it).
"""

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import show, show_machine
from new_uids import uid_batch, uids_of
from peer_stores import ASKERS, PER_COMMIT, STORES, Asker, StoreKind
from processes import lacking, not_left_out, pin_to_two_cores, run_job, table

HERE = Path(__file__).resolve().parent
UID_BYTES = 20
HOT_UIDS = 2_000
BATCH = 1_000
CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.thread_time_ns}
FIGURES = ("hot_ns", "cold_ns", "p99_us", "batch_hot_ns", "batch_cold_ns")


def batches(uids: int) -> Iterator[list[str]]:
    for first in range(0, uids, PER_COMMIT):
        yield uid_batch(first, min(PER_COMMIT, uids - first), UID_BYTES)


def ask(asker: Asker, uids: int, calls: int, clock: Callable[[], int] = time.perf_counter_ns) -> dict[str, float]:
    """All figures of one process; the cold ones first, before anything is warm."""
    numbers = np.random.default_rng(7).permutation(uids)
    parts = np.array_split(numbers[: 3 * calls], 3)
    single, timed, batched = ([asker.key(uid) for uid in uids_of(part, UID_BYTES)] for part in parts)
    hot = single[:HOT_UIDS]
    repeated = (hot * (calls // len(hot) + 1))[:calls]
    gc.collect()
    gc.disable()
    figures = {"cold_ns": per_call_ns(asker.one, single, clock)}
    figures["p99_us"] = float(np.percentile(each_ns(asker.one, timed, clock), 99)) / 1e3
    figures["batch_cold_ns"] = per_uid_ns(asker.many, batched, clock)
    per_call_ns(asker.one, hot, clock)
    figures["hot_ns"] = per_call_ns(asker.one, repeated, clock)
    figures["batch_hot_ns"] = per_uid_ns(asker.many, repeated, clock)
    return figures


def per_call_ns(call: Callable[[Any], object], keys: Sequence[Any], clock: Callable[[], int]) -> float:
    found = 0
    started = clock()
    for key in keys:
        if call(key):
            found += 1
    elapsed_ns = clock() - started
    assert found == len(keys), f"{found} of {len(keys)} uids found"
    return elapsed_ns / len(keys)


def each_ns(call: Callable[[Any], object], keys: Sequence[Any], clock: Callable[[], int]) -> list[int]:
    found = []
    for key in keys:
        started = clock()
        call(key)
        found.append(clock() - started)
    return found


def per_uid_ns(call: Callable[[list[Any]], Sequence[object]], keys: list[Any], clock: Callable[[], int]) -> float:
    answers, started = [], clock()
    for first in range(0, len(keys), BATCH):
        answers.append(call(keys[first : first + BATCH]))
    elapsed_ns = clock() - started
    # Some bindings answer with one row for each different uid that they have.
    whole = [keys[first : first + BATCH] for first in range(0, len(keys), BATCH)]
    for asked, answer in zip(whole, answers, strict=True):
        assert sum(map(bool, answer)) in (len(asked), len(set(asked)))
    return elapsed_ns / len(keys)


def run(names: Sequence[str], folder: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians over fresh processes; the first of each warms the page cache and is not counted."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(options.rounds + 1):
        for name in names:
            words = [f"--uids={options.uids}", f"--calls={options.calls}", f"--clock={options.clock}"]
            words += [f"--dir={folder}", f"--ask={name}"]
            found[name].append(dict(run_job(HERE / "peers_lookups.py", *words).result))
    return {
        name: {figure: statistics.median(one[figure] for one in rounds[1:]) for figure in FIGURES}
        for name, rounds in found.items()
    }


def rows_of(figures: dict[str, dict[str, float]]) -> Iterable[list[str]]:
    lmdb = figures.get("lmdb")
    for name, found in figures.items():
        row = [ASKERS[name].title]
        for figure in FIGURES:
            ratio = f" ({lmdb[figure] / found[figure]:.2f})" if lmdb and figure != "p99_us" else ""
            row.append(f"{found[figure]:,.1f}" if figure == "p99_us" else f"{found[figure]:,.0f}{ratio}")
        yield row


def show_ratios(figures: dict[str, dict[str, float]]) -> None:
    """Speed of uniqdb over the others: above 1 it is faster."""
    wanted = [
        ("cold_compacted_over_lmdb", "compacted_reader", "lmdb", "cold_ns"),
        ("cold_ladder_over_lmdb", "ladder_reader", "lmdb", "cold_ns"),
        ("hot_reader_over_lmdb", "compacted_reader", "lmdb", "hot_ns"),
        ("hot_writer_over_lmdb", "compacted_writer", "lmdb", "hot_ns"),
        ("hot_snapshot_over_lmdb", "compacted_snapshot", "lmdb", "hot_ns"),
        ("batch_over_lmdb", "compacted_reader", "lmdb", "batch_cold_ns"),
        ("batch_hot_over_lmdb", "compacted_reader", "lmdb", "batch_hot_ns"),
        # Fresh answers against fresh answers, those of one commit against those of one transaction.
        ("cold_over_sqlite", "compacted_reader", "sqlite_each", "cold_ns"),
        ("hot_over_sqlite", "compacted_reader", "sqlite_each", "hot_ns"),
        ("cold_snapshot_over_held_sqlite", "compacted_snapshot", "sqlite", "cold_ns"),
        ("hot_snapshot_over_held_sqlite", "compacted_snapshot", "sqlite", "hot_ns"),
        ("cold_over_rocksdb", "compacted_reader", "rocksdb", "cold_ns"),
        ("hot_over_rocksdb", "compacted_reader", "rocksdb", "hot_ns"),
        ("cold_over_redis", "compacted_reader", "redis", "cold_ns"),
    ]
    for name, ours, theirs, figure in wanted:
        if ours in figures and theirs in figures:
            show(name, figures[theirs][figure] / figures[ours][figure])
    for name, found in figures.items():
        show(f"{name}_p99_us", found["p99_us"])


def available(kinds: dict[str, StoreKind], asked: Sequence[str]) -> list[str]:
    """Askers whose stores can be had here; says why the others cannot."""
    stores = {name: kinds[ASKERS[name].store] for name in asked}
    return not_left_out(
        (name, ASKERS[name].title, lacking(kind.modules) or kind.lacks()) for name, kind in stores.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uids", type=int, default=1_000_000)
    parser.add_argument(
        "--calls", type=int, default=200_000, help="single calls of each kind, at most a third of the uids"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--askers", nargs="+", choices=ASKERS, default=list(ASKERS))
    parser.add_argument("--dir", default=None, help="stores are made here and kept; those that are there are asked")
    parser.add_argument("--ask", choices=ASKERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.calls = min(options.calls, options.uids // 3)
    if options.ask:
        kind = ASKERS[options.ask]
        with kind.ask(Path(options.dir) / kind.store) as asker:
            print(json.dumps(ask(asker, options.uids, options.calls, CLOCKS[options.clock])))
        return
    show_machine()
    pin_to_two_cores()
    names = available(STORES, options.askers)
    if not names:
        sys.exit("nobody is left to be asked")
    show("uids", options.uids)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.dir or temporary)
        for store in dict.fromkeys(ASKERS[name].store for name in names):
            if not (folder / store).exists():
                started = time.perf_counter()
                STORES[store].fill(folder / store, batches(options.uids))
                print(f"# {store}: filled in {time.perf_counter() - started:,.0f} s", flush=True)
        figures = run(names, folder, options)
    show_ratios(figures)
    print(f"\n{options.uids:,} uids, {options.calls:,} calls of each kind (in brackets: lmdb's time over it):\n")
    head = ("", "hot, ns", "cold, ns", "p99, us", "batch hot, ns a uid", "batch cold, ns a uid")
    print(table(head, list(rows_of(figures))))


if __name__ == "__main__":
    main()
