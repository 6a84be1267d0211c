"""The system's Chromium for tests that look at the page. Without one they are skipped, and the last line says so."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVERS = ("chromedriver", "chromium.chromedriver")
HOW = "install chromium and chromium-driver (Debian: apt-get install chromium chromium-driver)"


def first_of(names: tuple[str, ...]) -> str | None:
    """The program of these that is there."""
    return next((found for name in names if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium that writes down what it asks for and what it complains of."""
    program, driver = first_of(BROWSERS), first_of(DRIVERS)
    if program is None or driver is None:
        if os.environ.get("CI"):
            pytest.fail(f"no browser: {HOW}", pytrace=False)
        pytest.skip(f"no browser: {HOW}")
    from web.looking import chromium_driver  # noqa: PLC0415 - only where there is something to drive

    with chromium_driver(program, driver, tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


@pytest.fixture
def browser(chromium: Any) -> Any:
    """The same, with nothing left of an earlier test."""
    from web.looking import fresh  # noqa: PLC0415 - as above

    fresh(chromium)
    return chromium
