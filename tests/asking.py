"""A process that has a store open for reading, and answers as long as it is asked: what it remembers must stay true.

LMDB's files are never opened twice in one process, so a reader beside a writer is another process. Both sides speak in
lines of JSON.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import uniqdb
from uniqdb.errors import UniqdbError, WindowNotKept

Answers: TypeAlias = dict[str, Any]
WINDOWS = ("3d", "20d")
PATH = os.pathsep.join(str(Path(__file__).resolve().parents[1] / part) for part in ("engine", "tests"))


def count(reader: "uniqdb.Engine | uniqdb.Snapshot", window: str) -> int | None:
    """None: not all of it is kept."""
    try:
        return reader.count(window).count
    except WindowNotKept:
        return None


def answers(reader: "uniqdb.Engine | uniqdb.Snapshot", uids: list[str]) -> Answers:
    """Who was seen, asked in every way, and counts; everything twice: the second time much of it is remembered."""
    found: list[Answers] = []
    for _ in range(2):
        found.append(
            {
                "one by one": [reader.check_if_uid_exists(uid) for uid in uids],
                "together": reader.check_many(uids),
                "few": reader.check_many(uids[:3]),
                "lately": [reader.check_if_uid_exists(uid, "3d") for uid in uids[::5]],
                "lately, together": reader.check_many(uids[::5], "3d"),
                "counts": {window: count(reader, window) for window in WINDOWS},
                "all": count(reader, "1000d"),
            }
        )
    assert found[0] == found[1]
    return found[0]


class Asked:
    """The other process. Not to be used by two tests at a time."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self._child = child

    def __call__(self, what: str, detail: object = None) -> Any:
        """``open`` a store (a path), ``close`` it, take a ``snapshot`` and ask that, or the handle ``now``, or the
        ``old`` snapshot for uids; ``look`` for a new data file with the next question.
        """
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        print(json.dumps([what, detail]), file=self._child.stdin, flush=True)
        answer = self._child.stdout.readline()
        assert answer, "the reader has ended"
        return json.loads(answer)


@contextmanager
def asked_process() -> Iterator[Asked]:
    """A process that waits for questions; it ends with the block."""
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": PATH},
    ) as child:
        yield Asked(child)
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait() == 0


def main() -> None:
    """Answer until the input ends."""
    db: uniqdb.Engine | None = None
    snapshot: uniqdb.Snapshot | None = None
    for line in sys.stdin:
        what, detail = json.loads(line)
        found: Answers | None = None
        if what == "open":
            db = uniqdb.open(detail, read_only=True)
        assert db is not None
        if what in ("snapshot", "close") and snapshot is not None:
            snapshot.close()
            snapshot = None
        if what == "snapshot":
            snapshot = db.snapshot()
        if what == "look":
            db._store._looked_at_s = -1e9
        if what == "close":
            db.close()
        elif what not in ("open", "look"):
            found = _try(db if what == "now" else snapshot, detail)
        print(json.dumps(found), flush=True)


def _try(reader: "uniqdb.Engine | uniqdb.Snapshot | None", uids: list[str]) -> Answers:
    """The answers, or what went wrong: the process must live on for the next test."""
    assert reader is not None
    try:
        return answers(reader, uids)
    except (AssertionError, UniqdbError, ValueError, IndexError):
        return {"failed": traceback.format_exc()}


if __name__ == "__main__":
    main()
