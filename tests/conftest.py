"""What every test shares: the ways Hypothesis runs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from engines import assert_sound

# No deadline: on a busy machine a slow example says nothing about the code.
settings.register_profile("dev", deadline=None, print_blob=True)
# The same examples on each run, so that a red build can be repeated and a green one means the same each time.
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True, database=None)
# Many more examples, for `HYPOTHESIS_PROFILE=soak make test`.
settings.register_profile("soak", parent=settings.get_profile("dev"), max_examples=2_000)

settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


@pytest.fixture
def store_path(tmp_path: Path) -> Iterator[Path]:
    """Where the test may make a store; when the test is over the store is checked as a whole."""
    path = tmp_path / "test.uniqdb"
    yield path
    if (path / "MANIFEST").exists():
        assert_sound(path)
