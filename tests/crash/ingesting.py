"""A child process that ingests a file into a store, for tests that kill it."""

import sys
from pathlib import Path

import uniqdb
from engines import options  # with a tiny dictionary, which merges, drains and splits all the time
from uniqdb.stream.driver import ingest_file
from uniqdb.stream.ingest_options import IngestOptions

WALL_S = 1_500_000_000


def main(store: str, source: str, commit_visits: int, sizes: str) -> None:
    with uniqdb.open(store, options=options() if sizes == "tiny" else None) as db:
        print("open", flush=True)
        # The wall clock stands: what is implausible is the same in every run.
        ingest_file(db, Path(source), IngestOptions(commit_visits=commit_visits, wall_clock=lambda: WALL_S))
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
