"""What the tests of bench/ share."""

import sys
from collections.abc import Iterator

import pytest

from bench_programs import BENCH


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder of the programs is on the path, as it is when one of them is run."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCH))
    yield
    for name in set(sys.modules) - before:
        if str(BENCH) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
