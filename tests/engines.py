"""What tests do with an engine again and again."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import uniqdb
from model import GRANULARITIES, Rows
from uniqdb import CommitRule, DictionarySizes, OpenOptions

TINY = DictionarySizes(young_bytes=2_000, young_merge_bytes=600, partition_entries=64, partition_bytes=4_000)
"""A dictionary that drains, merges and splits all the time."""


def options(visits: int = 50_000, dictionary: DictionarySizes = TINY) -> OpenOptions:
    """Commits by number only, so that a test does the same on a slow machine; and it is late enough for any visit."""
    rule = CommitRule(visits=visits, interval_s=1e9)
    return OpenOptions(commit=rule, dictionary=dictionary, wall_clock=lambda: 253_370_764_800)


def rows_of(engine: uniqdb.Engine) -> Rows:
    """Every bucket row, in the form of `Model.rows`."""
    return {
        (kind, record.start_ts): (record.count, record.visits)
        for kind in GRANULARITIES
        for record in engine.series(kind)
    }


def digest(engine: uniqdb.Engine) -> str:
    """One number for all counts and visits."""
    return hashlib.sha256(repr(sorted(rows_of(engine).items())).encode()).hexdigest()


def assert_sound(path: Path) -> None:
    """`check` finds nothing. Every test with a store ends with it."""
    with uniqdb.open(path, read_only=True) as db:
        assert db.check().problems == []


OpenStore = Callable[..., uniqdb.Engine]
