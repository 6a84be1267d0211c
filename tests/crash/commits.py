"""A process that makes commits of every kind, and tells after each what the store holds then.

python tests/crash/commits.py STORE SEED COMMITS

Under `shim.c` each commit that has returned is a note in the log. At the end a line of JSON: a digest for each note.
"""

import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import xxhash

import uniqdb
from crash.shimmed import Shim
from engines import options
from swept import BRIEF, DAY_S, T, at_clock
from uniqdb.compaction import compact
from uniqdb.forgetting import forget
from uniqdb.format import Database
from uniqdb.store import Store
from uniqdb.sweeping import SweepRun
from uniqdb.writer import nothing


def content_of(view: Any) -> str:
    """A digest of every row."""
    digest = xxhash.xxh3_128()
    for database in Database:
        for key, value in view.raw_rows(database):
            digest.update(bytes((database,)) + len(key).to_bytes(4, "little") + key + value)
    return digest.hexdigest()


class Teller:
    """Notes each commit of any store."""

    def __init__(self) -> None:
        self.digests: list[str] = []
        self._shim = Shim()

    def tell(self, store: Store) -> None:
        view = store.pin()
        self.digests.append(content_of(view))
        view.end()
        self._shim.note(len(self.digests))


def main(path: Path, seed: int, commits: int) -> list[str]:
    teller, rng, commit = Teller(), random.Random(seed), Store.commit

    def told(store: Store, *arguments: Any, **named: Any) -> None:
        commit(store, *arguments, **named)
        teller.tell(store)

    Store.commit = told  # type: ignore[method-assign]  # in this process alone
    small = replace(options(), map_bytes=256 * 1024, retention=BRIEF)
    db = uniqdb.open(path, options=small)
    teller.tell(db._store)
    now_s = T
    while len(teller.digests) < commits:
        what = rng.random()
        if what < 0.7:
            visits = rng.choice([1, 5, 60, 400])
            times = [now_s - rng.randrange(3 * DAY_S if rng.random() < 0.1 else 3_000) for _ in range(visits)]
            db.add_many(times, [f"visitor-{rng.randrange(3_000)}" for _ in times])
            db.add_new_data("noon", "refused")
            db.commit()
        elif what < 0.8:
            now_s += rng.choice([3_600, DAY_S])
            db.write(at_clock(nothing(), now_s))
        elif what < 0.88:
            run = SweepRun(db, now_s, forced=True)
            for _ in range(6):
                run.step()
        elif what < 0.96:
            forget(db, [f"visitor-{rng.randrange(3_000)}" for _ in range(9)], keep_counts=rng.random() < 0.5)
        else:
            db.close()
            compact(path, small, renumber=rng.random() < 0.5)
            db = uniqdb.open(path, options=small)
            teller.tell(db._store)
    db.close()
    return teller.digests


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
