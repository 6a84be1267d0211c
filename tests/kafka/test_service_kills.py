"""kill -9 of the service, at named steps and at random: in the end store and topics are as true as without."""

import signal
import time
from datetime import date, timedelta
from pathlib import Path
from random import Random

import pytest

from kafka.cluster import Cluster
from kafka.serving import Served, line
from kafka.test_service import WINDOWS, forty_days, spread
from model import Model

STEPS = [
    *("after consume", "before commit", "after commit", "after produce"),
    *("after the acknowledgement", "at a day's close"),
]


@pytest.fixture
def served(cluster: Cluster, topic: str, tmp_path: Path) -> Served:
    return Served(cluster, topic, tmp_path)


def die(served: Served, step: str, times: int) -> bool:
    """A run that kills itself; False if it came to its end before."""
    served.environment["UNIQDB_COMMIT_VISITS"] = "100"
    with served.start_dying(step, times, "--until-caught-up") as child:
        said = child.communicate(timeout=120)[1]
    assert child.returncode in (0, -signal.SIGKILL), said
    return child.returncode != 0


def assert_true(served: Served, model: Model, last_closed: date) -> None:
    found = served.assert_true(model)
    day = date(2016, 7, 11)
    windows = {key for key in found.highest if key.startswith("window")}
    expected = {
        f"window|UTC|{days}d|{day + timedelta(ahead)}"
        for ahead in range((last_closed - day).days + 1)
        for days in WINDOWS
    }
    assert windows == expected
    for key in windows:
        record = found.highest[key]
        assert record["count"] == len(model.union(record["start_ts"], record["end_ts"])), key


def kill_at(served: Served, step: str, times: list[int]) -> None:
    visits, model = forty_days()
    spread(served.cluster, served.topic, [line(*one) for one in visits], 1)
    died = sum(die(served, step, one) for one in times)
    print(step, "died", died, "times of", len(times), flush=True)
    assert died, "no run came to that step"
    assert_true(served, model, date(2016, 8, 18))


# A short history may well be published in one transaction: none comes second.
@pytest.mark.parametrize(("step", "times"), [("after produce", 1), ("at a day's close", 2)])
def test_a_kill_at_a_step_changes_nothing(served: Served, step: str, times: int) -> None:
    kill_at(served, step, [times])


@pytest.mark.soak
@pytest.mark.parametrize("step", STEPS)
def test_kills_at_every_step_change_nothing(served: Served, step: str) -> None:
    kill_at(served, step, [1, 2, 3, 5])


@pytest.mark.soak
@pytest.mark.parametrize("number", range(10))
def test_kills_at_random_change_nothing(served: Served, number: int) -> None:
    visits, model = forty_days()
    spread(served.cluster, served.topic, [line(*one) for one in visits], 1)
    served.environment["UNIQDB_COMMIT_VISITS"] = "20"
    rng = Random(number)
    midway = 0
    for _ in range(10):
        with served.start_dying("slowly", 0) as child:
            time.sleep(rng.uniform(0.7, 3.0))
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
        midway += 0 < served.visits() < len(visits)
    print(number, "kills 10, of these between the first and the last commit of visits:", midway, flush=True)
    assert_true(served, model, date(2016, 8, 18))
