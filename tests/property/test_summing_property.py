"""Counts of stores that share nobody, added, are those of the store that has everything; any other sum is refused."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

import uniqdb
from model import GRANULARITIES, Model
from uniqdb.summing import open_sum

T = 1_477_785_600
"""2016-10-30T00:00:00Z: clocks go back in Zurich, and forward in Sao Paulo two weeks before."""
DAY_S = 86_400
ZONES = ("UTC", "Europe/Zurich", "America/Sao_Paulo", "Australia/Lord_Howe")
VISITS = st.lists(st.tuples(st.integers(-40 * DAY_S, 40 * DAY_S), st.integers(0, 30)), max_size=60)


def fill(folder: Path, name: str, zone: str, visits: list[tuple[int, str]]) -> Path:
    path = folder / name
    with uniqdb.open(path, timezone=zone) as db:
        for first in range(0, len(visits), 7):
            part = visits[first : first + 7]
            db.add_many([ts for ts, _ in part], [uid for _, uid in part])
            db.commit()
        assert db.check().problems == []
    return path


@given(visits=VISITS, stores=st.integers(2, 4), zone=st.sampled_from(ZONES), days=st.integers(1, 60))
def test_disjoint_stores_add_up(visits: list[tuple[int, int]], stores: int, zone: str, days: int) -> None:
    named = [(T + offset_s, f"v{number}") for offset_s, number in visits]
    model = Model(zone)
    model.add([ts for ts, _ in named], [uid for _, uid in named])
    with TemporaryDirectory() as name:
        folder = Path(name)
        parts = [[one for one in named if int(one[1][1:]) % stores == share] for share in range(stores)]
        paths = [fill(folder, f"{share}.uniqdb", zone, part) for share, part in enumerate(parts)]
        with open_sum(paths) as total:
            assert total.assert_disjoint(folder) == len({uid for _, uid in named})
            found = {
                (kind, one.start_ts): (one.count, one.visits) for kind in GRANULARITIES for one in total.series(kind)
            }
            assert found == model.rows()
            window = total.count(f"{days}d", as_of=T)
            assert window.count == len(model.union(window.start_ts, window.end_ts))
            between = total.count_between(T - days * DAY_S, T)
            assert between.count == len(model.union(T - days * DAY_S, T))
            assert (window.revision, window.epoch) == (0, stores)


@given(st.integers(2, 200), st.integers(0, 199), st.booleans())
def test_one_visitor_of_two_stores_is_found(uids: int, which: int, is_late: bool) -> None:
    shared = f"v{which % uids}"
    with TemporaryDirectory() as name:
        folder = Path(name)
        left = fill(folder, "left", "UTC", [(T, f"v{number}") for number in range(uids)])
        others = [(T + DAY_S * number, f"w{number}") for number in range(20)]
        others.insert(len(others) if is_late else 0, (T, shared))
        right = fill(folder, "right", "UTC", others)
        with open_sum([left, right]) as total:
            with pytest.raises(uniqdb.SharedVisitors) as refused:
                total.assert_disjoint(folder)
            assert "1 visitor is in more than one of" in refused.value.message
            assert shared not in refused.value.message.replace(str(folder), "")
