"""A few cases of each fuzz target; the campaign is `tests/fuzz/run.py`. And what it has found."""

import pytest

from fuzz.run import SHARES, Job, run_job
from uniqdb.bucket_members import decode_members
from uniqdb.errors import StoreCorrupt
from uniqdb.format import (
    Database,
    DictionaryRow,
    Directory,
    FragmentEntry,
    FragmentId,
    parse_bucket_key,
)
from uniqdb.uid_fragment import UidColumns

CASES = 2
"""Times the target's share of 300."""


@pytest.mark.parametrize("name", SHARES)
def test_nothing_but_documented_errors(name: str) -> None:
    _, complaints = run_job(Job(name, 1, CASES * SHARES[name]))
    assert complaints == []


@pytest.mark.parametrize(("name", "seed"), [("crafted stores", 60_003), ("settings", 70_405)])
def test_what_was_found(name: str, seed: int) -> None:
    assert run_job(Job(name, seed, 1))[1] == []


@pytest.mark.soak
@pytest.mark.parametrize("name", SHARES)
def test_nothing_but_documented_errors_at_length(name: str) -> None:
    _, complaints = run_job(Job(name, 1_000_000, 100 * SHARES[name]))
    assert complaints == []


def test_values_with_right_checksums_that_make_no_sense_are_refused() -> None:
    """They ended in errors of struct, numpy and enum: somebody who makes a store by hand is told that it is damaged."""
    entry = FragmentEntry(FragmentId(1, 0), 3, 0)
    for read in (
        lambda: decode_members(Database.DAY, b"\3", entry, b""),
        lambda: Directory.unpack(b"\3", b"\0\1"),
        lambda: DictionaryRow.unpack(b"short"),
        lambda: DictionaryRow.unpack(b"\xff" * 32),
        lambda: parse_bucket_key(b"\0" * 9),
        lambda: parse_bucket_key(b"\3"),
        lambda: UidColumns.parse(b"\xff\0\0\0\xff\0\0\0" + b"\0" * 20),
    ):
        with pytest.raises(StoreCorrupt):
            read()
