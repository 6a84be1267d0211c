"""A child process that compacts or migrates a store or forgets visitors, for tests that kill it, or at a step itself.

python tests/crash/compacting.py STORE compact|renumber|migrate|forget [STEP]
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uniqdb
from engines import options
from uniqdb import compaction, forgetting, generations, migration

STEPS = ("before the sync", "before MANIFEST", "after MANIFEST", "before the removal", "in the removal")
FORGOTTEN = [f"visitor-{number:04}" for number in range(0, 4_000, 4)]
PER_COMMIT = 125


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def then_die(function: Callable[..., Any]) -> Callable[..., None]:
    def called(*arguments: Any, **named: Any) -> None:
        function(*arguments, **named)
        die()

    return called


def arm(step: str) -> None:
    if step == "before the sync":
        generations._make_durable = die
    elif step == "before MANIFEST":
        generations.write_manifest = die
    elif step == "after MANIFEST":
        generations.write_manifest = then_die(generations.write_manifest)
    elif step == "before the removal":
        compaction.remove_others = die
    elif step == "in the removal":
        compaction.remove_others = with_half_a_removal
    else:
        raise ValueError(step)


def with_half_a_removal(*arguments: Any) -> list[str]:
    def half(path: Path, **_: Any) -> None:
        (path / "lock.mdb").unlink()
        die()

    generations.shutil.rmtree = half  # type: ignore[assignment]  # in this process alone
    return generations.remove_others(*arguments)


def main(store: str, what: str, step: str = "") -> None:
    if step:
        arm(step)
    print("ready", flush=True)
    if what == "forget":
        forgetting.UIDS_PER_COMMIT = PER_COMMIT
        with uniqdb.open(store, options=options()) as db:
            forgetting.forget(db, FORGOTTEN)
    elif what == "migrate":
        migration.migrate(Path(store), options())
    else:
        compaction.compact(Path(store), options(), renumber=what == "renumber")
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
