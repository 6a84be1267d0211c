"""The page of a store that holds a year: how soon the numbers stand, how soon another range, what it costs the writer.

    .venv/bin/python bench/page.py [--days 365] [--uids 2000000] [--visits-per-day 200000] [--store PATH]

The store is that of windows.py (`--keep` there builds it, eight minutes). The browser is the system's Chromium,
headless, with an empty profile and cache for each load. First numbers: from the start of the navigation until the frame
after the big numbers, of a server that was just started, and of one that was asked before. Another range: from a choice
until the frame after the chart of the new range, then until new and returning stand, too; ten choices, of which some
come again.

Then a writer in a process of its own commits 5,000 visits of the newest day at a time, as fast as it can, while another
process asks for nothing, or ten times a second for what the page asks, in turn; by turns, so that what else the machine
does meets both. It prints Markdown.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from machine import show_machine
from new_uids import uid_batch
from windows import DAY_S, START_S, UID_BYTES, Extent, build

import uniqdb
from uniqdb import CacheSizes, CommitRule, OpenOptions

ROOT = Path(__file__).resolve().parent.parent
CHOICES = ("7d", "90d", "365d", "24h", "180d", "30d", "90d", "7d", "365d", "30d")
ASKED = (
    *("/api/status", "/api/trailing", "/api/quarantine", "/api/series?by=day&last=30d&fill=yes&compare=yes"),
    *("/api/returning?by=day&last=30d", "/api/series?by=minute&last=60m&fill=yes"),
    *("/api/overlap?window=30d&with=previous", "/api/stickiness?last=30d", "/api/cohorts?by=week"),
)
BATCH_VISITS = 5_000
CHANGE = """
const [range, done] = arguments, began = performance.now();
const field = document.getElementById("range"), charts = ["series-chart", "split-chart"].map((id) =>
  document.getElementById(id));
for (const chart of charts) delete chart.dataset.shown;
field.value = range;
field.dispatchEvent(new Event("change", { bubbles: true }));
const times = charts.map((chart) => new Promise((resolve) => {
  const stands = () => resolve(performance.now() - began);
  const look = () => (chart.dataset.shown ? requestAnimationFrame(() => setTimeout(stands)) : setTimeout(look, 2));
  look();
}));
Promise.all(times).then(done);
"""


# ---------------------------------------------------------------- the browser
@contextmanager
def serving(store: Path) -> Iterator[tuple[str, int]]:
    """The server as a process; the URL of the page, and the process."""
    command = [sys.executable, "-m", "uniqdb_cli", "serve-http", "--store", str(store), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stderr is not None
            yield "http://" + child.stderr.readline().split("http://")[1].split("/")[0], child.pid
        finally:
            child.terminate()


def look(store: Path, loads: int) -> dict[str, float] | None:
    """Milliseconds; None without a browser."""
    sys.path[:0] = [str(ROOT / "tests")]
    from web.browsers import BROWSERS, DRIVERS, first_of
    from web.looking import chromium_driver

    program, driver = first_of(BROWSERS), first_of(DRIVERS)
    if program is None or driver is None:
        return None
    found: dict[str, list[float]] = {name: [] for name in ("cold", "warm", "range", "both")}
    for load in range(loads):
        with (
            serving(store) as (url, _),
            tempfile.TemporaryDirectory() as folder,
            chromium_driver(program, driver, Path(folder) / "profile") as browser,
        ):
            for kind in ("cold", "warm"):
                browser.execute_cdp_cmd("Network.clearBrowserCache", {})
                browser.get(url + "/")
                ready = "return performance.getEntriesByName('numbers')[0]?.startTime"
                while (at_ms := browser.execute_script(ready)) is None:
                    time.sleep(0.02)
                found[kind].append(at_ms)
            drawn = (
                "return [...document.querySelectorAll('.chart')].every((one) => one.dataset.shown || one.id[0] == 'l')"
            )
            while not browser.execute_script(drawn):
                time.sleep(0.05)
            if load == 0:
                for choice in CHOICES:
                    chart_ms, split_ms = browser.execute_async_script(CHANGE, choice)
                    found["range"].append(chart_ms)
                    found["both"].append(max(chart_ms, split_ms))
    return {name: statistics.median(values) for name, values in found.items()}


# ---------------------------------------------------------------- the writer
def processor_s(process: int) -> float:
    """What a process has used so far; 0 where /proc does not say."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def write(store: Path, extent: Extent, seconds: float) -> None:
    """As fast as it can for so long; prints visits, and seconds of the clock and of the processor."""
    uids = uid_batch(0, extent.uids, UID_BYTES)
    options = OpenOptions(commit=CommitRule(visits=10**9, interval_s=10**9), caches=CacheSizes(2 * extent.uids))
    first_s, visits, batch = START_S + (extent.days - 1) * DAY_S, 0, 0
    with uniqdb.open(store, options=options) as db:
        db.add_many([first_s] * extent.uids, uids)  # so that all rounds find the same in memory
        db.commit()
        print("ready", flush=True)
        sys.stdin.readline()
        began_s, used_s = time.perf_counter(), time.process_time()
        while time.perf_counter() - began_s < seconds:
            at = batch * BATCH_VISITS % extent.uids
            chosen = uids[at : at + BATCH_VISITS]
            db.add_many([first_s + (batch * 7 + number) % DAY_S for number in range(len(chosen))], chosen)
            db.commit()
            visits, batch = visits + len(chosen), batch + 1
        print(json.dumps([visits, time.perf_counter() - began_s, time.process_time() - used_s]), flush=True)


def ask_until(child: "subprocess.Popen[str]", url: str, per_s: float) -> tuple[int, float]:
    """Ask so often until the child says something; how many answers, and their median in milliseconds."""
    host = url.removeprefix("http://")
    times_ms, began_s, number = [], time.perf_counter(), 0
    assert child.stdout is not None
    os.set_blocking(child.stdout.fileno(), False)
    while not (said := child.stdout.readline()):
        if per_s and time.perf_counter() - began_s >= number / per_s:
            at_s = time.perf_counter()
            connection = HTTPConnection(host, timeout=60)
            connection.request("GET", ASKED[number % len(ASKED)])
            assert connection.getresponse().read()
            connection.close()
            times_ms.append((time.perf_counter() - at_s) * 1e3)
            number += 1
        else:
            time.sleep(0.005)
    child.said = said  # type: ignore[attr-defined]  # what the round is judged by
    return number, statistics.median(times_ms) if times_ms else 0.0


def slow_down(store: Path, extent: Extent, rounds: int, seconds: float) -> dict[str, float]:
    """By turns without and with requests; medians."""
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    answers, times_ms = 0, []
    used_s = wall_s = 0.0
    with serving(store) as (url, server):
        for number in range(2 * rounds):
            is_asked = number % 2 == 1
            command = [sys.executable, __file__, "--write", str(seconds), "--store", str(store)]
            command += [f"--days={extent.days}", f"--uids={extent.uids}"]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdin is not None
                assert child.stdout is not None
                assert child.stdout.readline() == "ready\n"
                child.stdin.write("\n")
                child.stdin.flush()
                before_s = processor_s(server)
                asked, took_ms = ask_until(child, url, 10 if is_asked else 0)
                visits, round_s, cpu_s = json.loads(child.said)  # type: ignore[attr-defined]  # as above
            if is_asked:
                used_s, wall_s = used_s + processor_s(server) - before_s, wall_s + round_s
            found[is_asked].append((visits / round_s, cpu_s / visits * 1e6))
            answers += asked
            times_ms += [took_ms] if is_asked else []
    (alone, alone_us), (beside, beside_us) = (
        tuple(statistics.median(column) for column in zip(*found[kind], strict=True)) for kind in (False, True)
    )
    return {
        "alone": alone,
        "beside": beside,
        "slower": 1 - beside / alone,
        "cpu": beside_us / alone_us - 1,
        "server": used_s / wall_s,
        "answers": answers,
        "answer_ms": statistics.median(times_ms),
    }


def report(seen: dict[str, float] | None, cost: dict[str, float]) -> Iterator[str]:
    """A table in Markdown."""
    yield "| figure | reached | target |"
    yield "|---|---|---|"
    if seen is None:
        yield "| in a browser | none here: install chromium and chromium-driver | |"
    else:
        yield f"| first numbers on the screen, server just started | {seen['cold']:,.0f} ms | under 1,000 ms |"
        yield f"| the same, asked before | {seen['warm']:,.0f} ms | under 1,000 ms |"
        yield f"| another range, median of {len(CHOICES)} | {seen['range']:,.0f} ms | under 300 ms |"
        yield f"| the same, new and returning as well | {seen['both']:,.0f} ms | |"
    yield f"| writer alone | {cost['alone']:,.0f} visits/s | |"
    yield f"| writer at 10 requests/s | {cost['beside']:,.0f} visits/s, {cost['slower']:.1%} slower | under 5 % |"
    yield f"| its processor time per visit | {cost['cpu']:+.1%} | |"
    yield f"| the server's processor time, of one core | {cost['server']:.1%} | |"
    yield f"| answers beside the writer | {cost['answers']:,.0f}, median {cost['answer_ms']:,.1f} ms | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--uids", type=int, default=2_000_000)
    parser.add_argument("--visits-per-day", type=int, default=200_000)
    parser.add_argument(
        "--loads", type=int, default=5, help="servers and browsers that are started for the first numbers"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of the writer, without and with requests each")
    parser.add_argument("--seconds", type=float, default=10, help="of each")
    parser.add_argument("--dir", default=None, help="where stores are made (default: a temporary directory)")
    parser.add_argument("--store", type=Path, default=None, help="a store that windows.py kept; it stays as it is")
    parser.add_argument("--write", type=float, default=None, help="be the writer for so many seconds")
    options = parser.parse_args()
    extent = Extent(options.days, options.uids, options.visits_per_day)
    if options.write is not None:
        write(options.store, extent, options.write)
        return
    show_machine()
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        path = options.store or Path(directory) / "bench.uniqdb"
        if options.store is None:
            build(path, extent)
        seen = look(path, options.loads)
        copy = Path(directory) / "written.uniqdb"
        shutil.copytree(path, copy)
        cost = slow_down(copy, extent, options.rounds, options.seconds)
    print("\n".join(report(seen, cost)))


if __name__ == "__main__":
    main()
