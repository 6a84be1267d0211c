"""A child process whose disk is full again and again: by a limit on the size of its files, or a file that fills it."""

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

import uniqdb
from engines import options, rows_of
from model import Model
from uniqdb import DictionarySizes
from uniqdb.stream.kafka_settings import KafkaHooks
from uniqdb.stream.room import PatientCommits
from uniqdb.writer import Commit

T = 1_468_244_340


class Disk:
    """Full, or not."""

    def __init__(self, kind: str, store: Path) -> None:
        self._kind, self._filler = kind, store.parent / "filler"
        self._data = store / "g1" / "data.mdb"
        self.is_full = False

    def fill(self) -> None:
        self.is_full = True
        if self._kind == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._data.stat().st_size, resource.RLIM_INFINITY))
            return
        with self._filler.open("wb", buffering=0) as file:
            for size_bytes in (1 << 20, 4_096):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size_bytes))

    def free(self) -> None:
        self.is_full = False
        if self._kind == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        else:
            self._filler.unlink(missing_ok=True)


def main(kind: str, store: Path, cycles: int) -> None:
    said: list[str] = []
    model, looks, refused = Model(), 0, 0
    with uniqdb.open(store, options=options(dictionary=DictionarySizes())) as db:
        disk = Disk(kind, store)

        def meanwhile() -> None:
            nonlocal looks
            looks += 1
            if not disk.is_full:  # it looks again when its pause is over
                assert looks < 1_000, "there is no room although the disk was freed: it is too small"
                return
            assert db.count("2016").visits == sum(model.visits[b] for b in model.visits if b[0] == "year") - pending
            if looks % 3 == 0:
                disk.free()

        commits = PatientCommits(db, KafkaHooks(said.append), meanwhile)
        number = pending = 0
        commits.write(Commit(np.array([T], np.int64), ["first"]))
        model.add([T], ["first"])
        for cycle in range(cycles):
            disk.fill()
            while disk.is_full:  # until a commit was refused, and written when there was room
                times = [T + 61 * number + at for at in range(300)]
                uids = [f"cycle {cycle} {number} {at}" for at in range(300)]
                number, pending = number + 1, 300
                model.add(times, uids)
                commits.write(Commit(np.array(times, np.int64), uids))
                pending = 0
            refused, looks = refused + 1, 0
        assert rows_of(db) == model.rows()
    pauses = sum("reading pauses" in line for line in said)
    resumed = sum("There is room again" in line for line in said)
    print(f"{refused} {pauses} {resumed}", flush=True)


if __name__ == "__main__":
    os.umask(0o077)
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
