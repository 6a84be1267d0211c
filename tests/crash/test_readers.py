"""Readers in other processes while a writer ingests: every answer is one committed state."""

import os
import subprocess
import sys
from pathlib import Path

import uniqdb
from engines import options

HERE = Path(__file__).resolve().parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(str(HERE.parents[1] / part) for part in ("engine", "tests")),
}
T = 1_468_244_340
PER_COMMIT, COMMITS = 60, 120

# Commit n adds PER_COMMIT new visitors, one visit each, to n's minute and day: every answer of one committed state is
# a multiple, and all of them agree.
READER = f"""
import sys, uniqdb
db = uniqdb.open(sys.argv[1], read_only=True)
print("ready", flush=True)
last = answers = 0
while last < {PER_COMMIT * COMMITS}:
    with db.snapshot() as snapshot:
        minutes = list(snapshot.series("minute"))
        total = sum(record.count for record in minutes)
        assert total % {PER_COMMIT} == 0 and total >= last, (last, total)
        assert all(record.count == record.visits for record in minutes)
        for kind in ("hour", "day", "week", "month", "year"):
            records = list(snapshot.series(kind))
            assert sum(record.visits for record in records) == total, (kind, total)
            assert sum(record.count for record in records) == total
        if total:
            assert snapshot.count().count == len(list(snapshot.window("365d"))) == total
            assert snapshot.check_if_uid_exists("u0") and not snapshot.check_if_uid_exists(f"u{{total}}")
    if total:
        assert db.count("365d").count >= total
    last, answers = total, answers + 1
print(answers, flush=True)
"""


def test_two_readers_see_only_committed_states(store_path: Path) -> None:
    with uniqdb.open(store_path, options=options()) as db:
        readers = [
            subprocess.Popen(
                [sys.executable, "-c", READER, str(store_path)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
            )
            for _ in range(2)
        ]
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
        for commit in range(COMMITS):
            first = commit * PER_COMMIT
            db.add_many([T + commit * 700] * PER_COMMIT, [f"u{first + number}" for number in range(PER_COMMIT)])
            db.commit()
        for reader in readers:
            answers, _ = reader.communicate(timeout=60)
            assert reader.returncode == 0
            assert int(answers) > 5
