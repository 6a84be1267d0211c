"""A process of its own that damages a store again and again, and watches what others make of it.

python tests/crash/damaging.py FOLDER flips|truncations|pages CASES SEED

Every question is asked in a forked child: if what is damaged ends a process by a signal, it is that of the child, and
counted. Each case is a fresh copy of one store. Of what the children say one line of JSON is printed at the end:

    asked    right | as before the last commit | refused | wrong | signal | died: a user's process that opens the store
    written  the same for one that writes to it
    checked  sound | damaged: what `examine` says; `unnoticed` if a refused answer had no problem found
    repaired equal to the undamaged store | equal as far as it answers | hopeless | wrong | unsound | died
"""

import json
import os
import pickle
import random
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uniqdb
from engines import options
from model import GRANULARITIES
from swept import DAY_S, T, brief_options, set_clock
from uniqdb.errors import InputRefused, StoreCorrupt, WindowNotKept
from uniqdb.examination import examine
from uniqdb.forgetting import forget
from uniqdb.lmdb_pages import BIG_DATA, PAGE_BYTES, PageFile, Walk, branch_nodes, free_pages, sub_trees
from uniqdb.options import Retention
from uniqdb.repair import repair
from uniqdb.sweeping import SweepRun

ALARM_S = 120
VISITORS = 3_000
KEPT = Retention(minute_days=10, hour_days=20, day_days=400, week_days=400, month_days=800, year_days=800)
LATE_VISITS = ([T + 39 * DAY_S + 7, T + 39 * DAY_S + 8], ["visitor-1", "somebody new"])
Answers = dict[Any, Any]


def build(path: Path, earlier: Path) -> tuple[Answers, Answers]:
    """A store with something of everything, and what it was before its last commit; the answers of both."""
    rng = random.Random(11)
    with uniqdb.open(path, timezone="Europe/Zurich", options=brief_options(KEPT, 400)) as db:
        for day in range(40):
            # Some days are busy: their sets are Roaring sets on pages of their own.
            visits = 2_000 if day % 13 == 0 else 150
            times = sorted(T + day * DAY_S + rng.randrange(DAY_S if day % 2 else 5_000) for _ in range(visits))
            db.add_many(times, [f"visitor-{rng.randrange(VISITORS)}" for _ in times])
        db.add_many([1, -5, T], ["x", "y", ""])  # refused
        set_clock(db, T + 40 * DAY_S)
        SweepRun(db, T + 40 * DAY_S, forced=True).to_the_end()
        forget(db, ["visitor-7", "visitor-8", "nobody"])
    shutil.copytree(path, earlier)
    before = asked(answers, path)
    with uniqdb.open(path, options=options(1_000)) as db:
        db.add_many([T + 39 * DAY_S + 100], ["the last"])
    return asked(answers, path), before


def answers(path: Path) -> Answers:
    """Everything that a store is asked; what it cannot answer any more is an exception's name."""
    found: Answers = {}

    def ask(name: Any, question: Callable[[], Any]) -> None:
        try:
            found[name] = question()
        except WindowNotKept:
            found[name] = "not kept"

    with uniqdb.open(path, read_only=True) as db:
        for kind in GRANULARITIES:
            for record in db.series(kind):
                found[kind, record.start_ts] = (record.count, record.visits)
        for window in ("7d", "30d", "90d"):
            ask(window, lambda window=window: db.count(window).count)
        for number in range(0, VISITORS, 41):
            ask(number, lambda number=number: db.check_if_uid_exists(f"visitor-{number}"))
        for day in (13, 26, 39):
            ask(
                ("members", day),
                lambda day=day: sorted(db.members("day", db.zone.bucket_at(3, T + day * DAY_S).start_s)),
            )
        found["quarantine"] = sum(db.info().quarantined.values())
    return found


def written(path: Path) -> Answers:
    """The answers after two more visits."""
    with uniqdb.open(path, options=options(1_000)) as db:
        db.add_many(*LATE_VISITS)
    return answers(path)


def examined(path: Path) -> list[str]:
    return examine(path).problems


def repaired(path: Path) -> tuple[list[str], Answers]:
    repair(path, 2_000_000_000)
    return examine(path).problems, answers(path)


class Refused(Exception):
    """The store said that it is damaged."""


class Died(Exception):
    """A process ended as none should."""


def asked(question: Callable[[Path], Any], path: Path) -> Any:
    """The result of a function in a child of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        signal.alarm(ALARM_S)
        result: tuple[str, Any]
        try:
            result = ("done", question(path))
        except (StoreCorrupt, InputRefused) as error:
            result = ("refused", error.message)
        except BaseException:
            result = ("died", traceback.format_exc())
        with os.fdopen(writer, "wb") as stream:
            pickle.dump(result, stream)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        said = stream.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        raise Died(f"signal {os.WTERMSIG(status)}")
    kind, result = pickle.loads(said)
    if kind == "refused":
        raise Refused(result)
    if kind == "died":
        raise Died(result)
    return result


class Pages:
    """Which page is what in the undamaged file."""

    def __init__(self, path: Path) -> None:
        file = PageFile(path)
        meta = file.newest_meta()
        self.metas = [0, 1]
        self.trees: list[int] = []
        self.branches: list[int] = []
        self.large: list[int] = []
        before: set[int] = set()
        walk = Walk(file, meta.last_page, lambda _text: None)

        def news() -> list[int]:
            now = {number for number in range(len(walk.used)) if walk.used[number]}
            found = sorted(now - before)
            before.update(now)
            return found

        news()
        free_pages(walk, file, meta)
        self.free_list = news()
        for nodes in walk.leaves(meta.main, "main"):
            for name, tree in sub_trees(nodes):
                for leaf in walk.leaves(tree, name):
                    self.large += [node.big_page for node in leaf if node.flags & BIG_DATA]
        for number in news():
            page = file.page(number)
            kind = int.from_bytes(page[10:12], "little")
            if kind == 1:
                self.branches.append(number)
                branch_nodes(page, number)
            elif kind == 2:
                self.trees.append(number)
        file.close()

    def bit(self, rng: random.Random, size_bytes: int) -> int:
        """Where to flip: anywhere, or where it hurts."""
        kind = rng.randrange(8)
        if kind == 0:
            return rng.choice(self.metas) * PAGE_BYTES * 8 + rng.randrange(160 * 8)
        if kind == 1 and self.branches:
            return rng.choice(self.branches) * PAGE_BYTES * 8 + rng.randrange(PAGE_BYTES * 8)
        if kind == 2:
            return rng.choice(self.trees) * PAGE_BYTES * 8 + rng.randrange(200 * 8)
        if kind == 3 and self.large:
            return rng.choice(self.large) * PAGE_BYTES * 8 + rng.randrange(64 * 8)
        if kind == 4 and self.free_list:
            page = rng.choice(self.free_list) * PAGE_BYTES * 8
            return page + (rng.randrange(64 * 8) if rng.random() < 0.5 else rng.randrange(PAGE_BYTES * 8))
        if kind == 5:
            return rng.choice(self.trees) * PAGE_BYTES * 8 + rng.randrange(PAGE_BYTES * 8)
        return rng.randrange(size_bytes * 8)


def damage(data: Path, what: str, rng: random.Random, pages: Pages) -> str:
    """One damage; says where."""
    size_bytes = data.stat().st_size
    if what == "truncations":
        at = rng.randrange(size_bytes)
        os.truncate(data, at)
        return f"cut at {at}"
    with data.open("r+b") as file:
        if what == "pages":
            number = rng.choice(pages.trees + pages.branches + pages.large)
            file.seek(number * PAGE_BYTES)
            file.write(rng.randbytes(PAGE_BYTES) if rng.random() < 0.5 else bytes(PAGE_BYTES))
            return f"page {number} overwritten"
        bit = pages.bit(rng, size_bytes)
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes((byte ^ (1 << (bit % 8)),)))
        return f"page {bit // 8 // PAGE_BYTES} byte {bit // 8 % PAGE_BYTES} bit {bit % 8}"


def against(found: Answers, expected: Answers) -> str:
    """How answers compare; a missing or refused one is not wrong."""
    if found == expected:
        return "equal"
    wrong = {name: value for name, value in found.items() if value != "not kept" and expected.get(name) != value}
    return f"wrong: {str(wrong)[:300]}" if wrong else "equal as far as it answers"


class Campaign:
    """Damage, asked about, written to, checked, repaired."""

    def __init__(self, folder: Path) -> None:
        self.template, self.copy = folder / "template.uniqdb", folder / "copy.uniqdb"
        self.expected, self.before = build(self.template, self.copy)
        self.after_before = asked(written, self.copy)
        self.pages = Pages(self.template / "g1" / "data.mdb")
        self.counts: dict[str, Counter[str]] = {one: Counter() for one in ("asked", "written", "checked", "repaired")}
        self.complaints: list[str] = []
        self._fresh()
        self.after = asked(written, self.copy)

    def _fresh(self) -> None:
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.template, self.copy)

    def _damaged(self, what: str, seed: int) -> str:
        self._fresh()
        return damage(self.copy / "g1" / "data.mdb", what, random.Random(seed), self.pages)

    def _note(self, part: str, outcome: str, where: str, detail: str = "") -> None:
        self.counts[part][outcome] += 1
        if outcome in ("wrong", "signal", "died", "unnoticed", "unsound"):
            self.complaints.append(f"{part} {outcome}, {where}: {detail[-600:]}")

    def case(self, what: str, number: int, seed: int) -> None:
        where = self._damaged(what, seed)
        is_refused = self._ask(where)
        try:
            problems = asked(examined, self.copy)
            self._note("checked", "damaged" if problems else "unnoticed" if is_refused else "sound", where)
        except (Died, Refused) as error:
            problems = [str(error)]
            self._note("checked", "died", where, str(error))
        if problems and number % REPAIR_EVERY == 0:
            self._repair(where)
        if number % WRITE_EVERY == 0:
            self._damaged(what, seed)
            self._write(where)

    def _ask(self, where: str) -> bool:
        try:
            found = asked(answers, self.copy)
        except Refused:
            self._note("asked", "refused", where)
            return True
        except Died as error:
            self._note("asked", "signal" if str(error).startswith("signal") else "died", where, str(error))
            return True
        if found == self.expected:
            self._note("asked", "right", where)
        elif found == self.before:
            self._note("asked", "as before the last commit", where)
        else:
            self._note("asked", "wrong", where, against(found, self.expected))
        return False

    def _write(self, where: str) -> None:
        try:
            found = asked(written, self.copy)
            how = against(found, self.after)
            if found == self.after_before:  # a damaged meta page may have taken the last commit along
                self._note("written", "as before the last commit", where)
            else:
                self._note("written", "right" if how == "equal" else "wrong", where, how)
        except Refused:
            self._note("written", "refused", where)
        except Died as error:
            self._note("written", "signal" if str(error).startswith("signal") else "died", where, str(error))

    def _repair(self, where: str) -> None:
        try:
            problems, found = asked(repaired, self.copy)
        except Refused as error:
            self._note("repaired", "hopeless", where, str(error))
            return
        except Died as error:
            self._note("repaired", "died", where, str(error))
            return
        how = against(found, self.expected)
        if how.startswith("wrong") and against(found, self.before) == "equal":
            how = "as before the last commit"
        self._note("repaired", "unsound" if problems else how.partition(":")[0], where, f"{problems[:5]} {how}")


REPAIR_EVERY = int(os.environ.get("UNIQDB_TEST_REPAIR_EVERY", "1"))
WRITE_EVERY = 3


def main(folder: str, what: str, cases: str, seed: str) -> None:
    campaign = Campaign(Path(folder))
    for number in range(int(cases)):
        campaign.case(what, number, 1_000_003 * int(seed) + number)
        if number % 20 == 19:
            print(number + 1, {part: dict(counts) for part, counts in campaign.counts.items()}, file=sys.stderr)
    print(json.dumps({"complaints": campaign.complaints, **campaign.counts}))


if __name__ == "__main__":
    main(*sys.argv[1:])
