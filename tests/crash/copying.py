"""A child process that backs up, restores, dumps, loads or merges stores, for tests that kill it.

python tests/crash/copying.py backup|restore|replace|dump|load|merge FROM TO
"""

import sys
from pathlib import Path

from engines import TINY
from uniqdb.backup import backup
from uniqdb.dump import dump
from uniqdb.loading import Loading, load
from uniqdb.merging import Merging, merge_stores
from uniqdb.restore import Restoring, restore

NOW_S = 1_800_000_000


def main(what: str, origin: str, target: str) -> None:
    print("ready", flush=True)
    if what == "backup":
        backup(origin, target)
    elif what == "dump":
        dump(origin, target)
    elif what == "load":
        with Path(origin).open("rb") as stream:
            load(stream, target, Loading(NOW_S, sizes=TINY))
    elif what == "merge":
        merge_stores(origin.split(","), target, Merging(NOW_S, sizes=TINY))
    else:
        restore(origin, target, Restoring(NOW_S, replace=what == "replace"))
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
