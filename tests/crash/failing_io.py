"""A process in which the N-th write or sync of the store fails, for every N, each time in a child of its own.

python tests/crash/failing_io.py FOLDER EVERY SEED        under `shim.c`

A child makes the same commits on a copy of the same store. While a call fails it may raise `UniqdbError`, and nothing
else. Then nothing fails any more, and what was not committed is committed: in the same handle, or in another one where
that says so. In the end the store holds exactly what it holds without a failure, or that is a complaint. The last line
is JSON: how many cases, and what came of them.
"""

import errno
import json
import os
import random
import shutil
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import uniqdb
from crash.shimmed import SYNCS, WRITES, Shim
from engines import options, rows_of
from model import Rows
from swept import BRIEF, DAY_S, T, at_clock, brief_options
from uniqdb import creation
from uniqdb.errors import CommitFailed, UniqdbError
from uniqdb.forgetting import forget
from uniqdb.sweeping import SweepRun
from uniqdb.writer import nothing

PARTS = 5


class Job:
    """What a child does: parts, each of which is done again if it is not known to be done; that changes nothing."""

    def __init__(self, path: Path, seed: int) -> None:
        rng = random.Random(seed)
        self.path, self.db = path, None
        self.visits = [
            [(T + 4 * DAY_S + rng.randrange(9_000), f"visitor-{part}-{number % 90}") for number in range(200)]
            for part in range(PARTS)
        ]
        self.raised: Counter[str] = Counter()
        self.handles = 0

    def open(self) -> uniqdb.Engine:
        if self.db is None:
            self.db = uniqdb.open(self.path, options=brief_options())
            self.handles += 1
        return self.db

    def part(self, number: int) -> None:
        """One part, in an open handle."""
        db = self.open()
        if number == PARTS:
            forget(db, [f"visitor-1-{number}" for number in range(30)])
        elif number == PARTS + 1:
            SweepRun(db, T + 9 * DAY_S, forced=True).to_the_end()
        elif number == PARTS + 2:
            db.close()
            self.db = None
        else:
            times, uids = zip(*self.visits[number], strict=True)
            if db.count("2016").visits < 600 + 200 * (number + 1):
                if not db._pending:
                    db.add_many(list(times), list(uids))
                db.commit()

    def attempt(self, number: int) -> bool:
        """Whether the part is done."""
        try:
            self.part(number)
        except UniqdbError as error:
            self.raised[type(error).__name__] += 1
            if not isinstance(error, CommitFailed) or "reopen" in error.hint:
                self._leave()
            return False
        return True

    def _leave(self) -> None:
        """The handle is of no use any more."""
        if self.db is not None:
            try:
                self.db.close()
            except UniqdbError as error:
                self.raised[f"close {type(error).__name__}"] += 1
        self.db = None

    def all(self, shim: Shim) -> None:
        for number in range(PARTS + 3):
            if not self.attempt(number):
                shim.quiet()
                for _ in range(3):
                    if self.attempt(number):
                        break
                else:
                    raise AssertionError(f"part {number} does not come to its end: {dict(self.raised)}")


def build(path: Path) -> None:
    creation.new_hash_seed = lambda: 5  # each time the same store
    with uniqdb.open(path, options=brief_options()) as db:
        rng = random.Random(3)
        times = [T + rng.randrange(4 * DAY_S) for _ in range(600)]
        db.add_many(times, [f"old-{rng.randrange(150)}" for _ in times])
        db.write(at_clock(nothing(), T + 9 * DAY_S))


def content(path: Path) -> tuple[Rows, list[bool]]:
    with uniqdb.open(path, read_only=True, options=options()) as db:
        assert db.check().problems == []
        names = [f"visitor-{part}-{number}" for part in range(PARTS) for number in range(90)]
        return rows_of(db), db.check_many([*names, *(f"old-{number}" for number in range(150))])


def in_child(path: Path, seed: int, failure: tuple[int, int, int, bool] | None) -> dict[str, Any]:
    """What one child says."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        shim, job = Shim(), Job(path, seed)
        said: dict[str, Any] = {}
        try:
            if failure is None:
                shim.count(seed)  # of a run without failures the seed says what is counted
                Job(path, 1).all(shim)
                said["calls"] = shim.calls
            else:
                what, number, error, forever = failure
                shim.fail(what, number, error, forever=forever)
                job.all(shim)
                shim.quiet()
            said |= {"raised": dict(job.raised), "handles": job.handles}
            said["content"] = str(content(path))
        except BaseException:
            said = {"complaint": traceback.format_exc()}
        with os.fdopen(writer, "w") as stream:
            json.dump(said, stream)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) or not text:
        return {"complaint": f"it ended with signal {os.WTERMSIG(status)}"}
    found: dict[str, Any] = json.loads(text)
    return found


def main(folder: Path, every: int, seed: int) -> dict[str, Any]:
    template, copy = folder / "template.uniqdb", folder / "copy.uniqdb"
    build(template)

    def fresh() -> Path:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(template, copy)
        return copy

    seen: Counter[str] = Counter()
    complaints: list[str] = []
    for what, word in ((WRITES, "write"), (SYNCS, "sync")):
        whole = in_child(fresh(), what, None)
        seen[f"{word}s of a run"] = whole["calls"]
        for number in range(1 + seed % every, whole["calls"] + 1, every):
            for error in (errno.EIO, errno.ENOSPC):
                for forever in (False, True):
                    said = in_child(fresh(), 1, (what, number, error, forever))
                    seen["cases"] += 1
                    where = f"{word} {number} of {whole['calls']}, {errno.errorcode[error]}, forever {forever}"
                    if "complaint" in said:
                        complaints.append(f"{where}: {said['complaint'][-1_500:]}")
                    elif said["content"] != whole["content"]:
                        complaints.append(f"{where}: the store holds something else")
                    else:
                        seen["noticed" if said["raised"] else "unnoticed"] += 1
                        seen["reopened"] += said["handles"] > 1
                        seen.update({f"raised {name}": count for name, count in said["raised"].items()})
    return {"seen": dict(seen), "complaints": complaints}


if __name__ == "__main__":
    assert BRIEF
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
