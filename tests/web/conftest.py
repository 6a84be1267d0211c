"""A store to serve, and the browser to look at it with."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

import uniqdb
from engines import options
from model import Model
from web.browsers import browser, chromium  # noqa: F401 - fixtures of the tests here
from web.web_server import DAY_S, Served, T, served


@pytest.fixture
def model(store_path: Path) -> Model:
    """Seventy days of visits in a zone with offsets, and what sets say of them; the store is made of them."""
    rng, model = Random(3), Model("Europe/Zurich")
    with uniqdb.open(store_path, timezone="Europe/Zurich", options=options()) as db:
        for day in range(70):
            times = sorted(T + (day - 70) * DAY_S + rng.randrange(DAY_S) for _ in range(60))
            uids = [f"v{rng.randrange(40 + 2 * day)}" for _ in times]
            db.add_many(times, uids, source="web")
            model.add(times, uids)
        late, who = [T - 5 * DAY_S], ["somebody who comes late"]
        db.add_many(late, who, source="web")
        model.add(late, who)
        db.add_many(["noon", T], ["x", ""], source="web")
    return model


@pytest.fixture
def site(store_path: Path, model: Model) -> Iterator[Served]:  # noqa: ARG001 - it makes the store
    with served(store_path) as running:
        yield running
