"""The different visitors of a trailing year: uniqdb against DuckDB and ClickHouse with tables of their own.

    .venv-bench/bin/python bench/peers_windows.py [--days 365] [--uids 2000000] [--visits-per-day 200000] [--rounds 5]

Each is asked in fresh processes, by turns, pages in the system's cache, its store already open; figures are medians.
*Cold* is the first answer of a process, *repeated* the median of the next ones. *After a commit*, for uniqdb, is the
first answer after 1,000 visits of the last day were committed: by the handle itself, and, for a reader, by another
process. All must give the count that numpy gives. `--stores uniqdb --uids 50000000` is a size that one is asked alone.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from machine import show, show_machine
from new_uids import uids_of
from processes import lacking, not_left_out, pin_to_two_cores, run_job, size_bytes, table
from window_stores import WINDOW_STORES, Ask
from windows import DAY_S, START_S, UID_BYTES, Extent

import uniqdb

HERE = Path(__file__).resolve().parent
REPEATED, REPEATED_MS_MAX = 9, 5_000
COMMITS = 9
COMMIT_VISITS = 1_000


def true_count(extent: Extent) -> int:
    seen = np.zeros(extent.uids, np.bool_)
    for day in range(extent.days):
        seen[extent.visitors(day)] = True
    return int(seen.sum())


# ---------------------------------------------------------------- in a process of its own
def ask(name: str, path: Path, extent: Extent) -> dict[str, float]:
    with WINDOW_STORES[name].ask(path, extent) as count:
        first_ms, found = timed_ms(count)
        others = [timed_ms(count)]
        while len(others) < REPEATED and sum(ms for ms, _ in others) < REPEATED_MS_MAX:
            others.append(timed_ms(count))
        assert {one for _, one in others} == {found}
    return {"cold_ms": first_ms, "repeated_ms": statistics.median(ms for ms, _ in others), "count": found}


def timed_ms(count: Ask) -> tuple[float, int]:
    started = time.perf_counter()
    found = count()
    return (time.perf_counter() - started) * 1e3, found


def ask_after_commits(path: Path, extent: Extent) -> dict[str, float]:
    """The handle that writes answers after each of its commits. Nobody new comes, so the count stays."""
    with uniqdb.open(path) as db:
        return {"writer_after_commit_ms": after_each(commits_of(db, extent), lambda: db.count(f"{extent.days}d").count)}


def ask_beside_commits(path: Path, extent: Extent) -> dict[str, float]:
    """A reader answers after each commit of another process."""
    words = [sys.executable, __file__, *words_of(extent), "--commit", str(path)]
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as writer,
        uniqdb.open(path, read_only=True) as db,
    ):
        assert writer.stdin is not None
        assert writer.stdout is not None

        def commit() -> None:
            writer.stdin.write(b"\n")
            assert writer.stdout.readline() == b"done\n"

        answer = {"reader_after_commit_ms": after_each(commit, lambda: db.count(f"{extent.days}d").count)}
        writer.stdin.close()
    return answer


def after_each(commit: Callable[[], None], count: Ask) -> float:
    """Median milliseconds of the answer that follows a commit."""
    before, times_ms = count(), []
    for _ in range(COMMITS):
        commit()
        elapsed_ms, found = timed_ms(count)
        assert found == before
        times_ms.append(elapsed_ms)
    return statistics.median(times_ms)


def commits_of(db: uniqdb.Engine, extent: Extent) -> Callable[[], None]:
    """A function that commits visits of the last day by visitors whom it had already."""
    last = extent.days - 1
    numbers = np.array(extent.visitors(last)[-COMMIT_VISITS:], np.uint64)
    uids, end_s = uids_of(numbers, UID_BYTES), START_S + extent.days * DAY_S

    def commit() -> None:
        db.add_many([end_s - 1] * len(uids), uids)
        db.commit()

    return commit


def commit_on_request(path: Path, extent: Extent) -> None:
    """A commit for each line of standard input."""
    with uniqdb.open(path) as db:
        commit = commits_of(db, extent)
        for _ in sys.stdin:
            commit()
            print("done", flush=True)


# ---------------------------------------------------------------- the comparison
def words_of(extent: Extent) -> list[str]:
    return [f"--days={extent.days}", f"--uids={extent.uids}", f"--visits-per-day={extent.visits_per_day}"]


def run(names: Sequence[str], folder: Path, extent: Extent, rounds: int) -> dict[str, dict[str, float]]:
    """Medians over fresh processes; the first of each warms the page cache and is not counted."""
    asked = [*names, *(("writer", "reader") if "uniqdb" in names else ())]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in asked}
    for _ in range(rounds + 1):
        for name in asked:
            path = folder / (name if name in WINDOW_STORES else "uniqdb")
            found[name].append(
                dict(run_job(HERE / "peers_windows.py", *words_of(extent), "--ask", name, f"--dir={path}").result)
            )
    figures = {
        name: {figure: statistics.median(one[figure] for one in answers[1:]) for figure in answers[0]}
        for name, answers in found.items()
    }
    for name in asked[len(names) :]:
        figures["uniqdb"] |= figures.pop(name)
    return figures


def rows_of(figures: dict[str, dict[str, float]], folder: Path) -> Iterable[list[str]]:
    for name, found in figures.items():
        after = [found.get(f"{who}_after_commit_ms") for who in ("writer", "reader")]
        yield [
            WINDOW_STORES[name].title,
            f"{found['cold_ms']:,.1f} ms",
            f"{found['repeated_ms']:,.3f} ms",
            "" if after[0] is None else f"{after[0]:,.3f} ms; {after[1]:,.3f} ms",
            f"{size_bytes(folder / name) / 1e6:,.0f} MB",
        ]


def compare(options: argparse.Namespace, names: Sequence[str], folder: Path) -> None:
    extent = Extent(options.days, options.uids, options.visits_per_day)
    for name in names:
        if not (folder / name).exists():
            started = time.perf_counter()
            WINDOW_STORES[name].fill(folder / name, extent)
            print(f"# {name}: filled in {time.perf_counter() - started:,.0f} s", flush=True)
    truth = true_count(extent)
    figures = run(names, folder, extent, options.rounds)
    for name, found in figures.items():
        for figure, value in found.items():
            if figure != "count":
                show(f"{name}_{figure}", value)
    wrong = [name for name, found in figures.items() if found["count"] != truth]
    show("count", truth)
    show("results_agree", int(not wrong))
    visits = extent.days * extent.visits_per_day
    print(f"\n{extent.days} days, {visits:,} visits, {extent.uids:,} uids:\n")
    print(table(("", "cold", "repeated", "after a commit: writer; reader", "on disk"), list(rows_of(figures, folder))))
    if wrong:
        sys.exit(f"not what numpy counts: {', '.join(wrong)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--uids", type=int, default=2_000_000)
    parser.add_argument("--visits-per-day", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stores", nargs="+", choices=WINDOW_STORES, default=list(WINDOW_STORES))
    parser.add_argument("--dir", default=None, help="stores are made here and kept; those that are there are asked")
    parser.add_argument("--ask", choices=[*WINDOW_STORES, "writer", "reader"], help=argparse.SUPPRESS)
    parser.add_argument("--commit", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    extent = Extent(options.days, options.uids, options.visits_per_day)
    if options.commit:
        commit_on_request(options.commit, extent)
    elif options.ask:
        path = Path(options.dir)
        own = {"writer": ask_after_commits, "reader": ask_beside_commits}
        found = own[options.ask](path, extent) if options.ask in own else ask(options.ask, path, extent)
        print(json.dumps(found))
    else:
        show_machine()
        pin_to_two_cores()
        stores = {name: WINDOW_STORES[name] for name in options.stores}
        names = not_left_out((name, one.title, lacking(one.modules)) for name, one in stores.items())
        with tempfile.TemporaryDirectory() as temporary:
            compare(options, names, Path(options.dir or temporary))


if __name__ == "__main__":
    main()
