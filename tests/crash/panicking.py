"""A process in which the meta page of a commit cannot be written, after which LMDB gives up.

python tests/crash/panicking.py STORE        under `shim.c`. Prints what a handle says then, and what the next one has.
"""

import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path

import uniqdb
from crash.shimmed import WRITES, Shim
from engines import options
from uniqdb.errors import UniqdbError

T = 1_468_244_340


def said(ask: Callable[[], object]) -> str:
    try:
        ask()
    except UniqdbError as error:
        return f"{type(error).__name__} {error.exit_code}"
    return "nothing"


def main(path: Path) -> list[object]:
    shim = Shim()
    db = uniqdb.open(path, options=options())
    db.add_many([T], ["ann"])
    db.commit()
    visits = 1
    for number in range(200):  # now and then the fourth write of a commit is its last, that of the meta page
        db.add_many([T], [f"visitor-{number}"])
        shim.fail(WRITES, 4, errno.EIO, forever=False)
        first = said(db.commit)
        shim.quiet()
        if "CannotWrite" in said(db.snapshot):
            break
        visits += 1  # it was written by `snapshot`, or before
    heard = [first, said(lambda: db.count("2016")), said(db.commit), said(db.snapshot), said(db.close)]
    with uniqdb.open(path, options=options()) as again:
        return [*heard, again.count("2016").visits - visits, again.check_many(["ann", f"visitor-{number}"])]


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
