"""The whole service against Python sets, seed by seed; and what seeds have found, each as a script of its own.

More seeds: `make soak SEEDS=20000 STEPS=1000`.
"""

import datetime
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("confluent_kafka", reason="confluent_kafka cannot be had here")

from event_time_oracle import Oracle
from event_time_streams import KINDS, Stream
from simulation.judge import HeldVisit, Judge
from simulation.run import outcomes, repeat_command, run_seed
from simulation.world import DAY_S, INPUT, Seen, World, a_backup_is_made, send, visit
from uniqdb.options import Retention
from uniqdb.request_handlers import FORGET, PUBLISH_TRAILING

Step = Callable[[World], None]
STEPS = 400


@pytest.mark.parametrize("seed", range(1, 25))
def test_a_seed_ends_in_the_truth(seed: int) -> None:
    outcome = run_seed((seed, STEPS))
    assert not outcome.failure, f"{repeat_command(seed, STEPS)}\n{outcome.failure}"


def test_seeds_do_what_they_are_for() -> None:
    """Together a few seeds come through everything that can go wrong."""
    total = dict.fromkeys(Seen.__dataclass_fields__, 0)
    for outcome in outcomes(100, 12, 1_000, 1):
        assert not outcome.failure, outcome.failure
        for word, count in outcome.seen.items():
            total[word] += count
    print(total)
    assert [word for word, count in total.items() if not count] == []


def test_the_same_seed_does_the_same() -> None:
    first, second = run_seed((77, 300)), run_seed((77, 300))
    assert (first.seen, first.failure) == (second.seen, "")


# ---------------------------------------------------------------- the oracle of event time
def decided_by_the_slow_oracle(stream: Stream) -> dict[int, str]:
    oracle = Oracle()
    for time_s in stream.times_s.tolist():
        oracle.visit(time_s, stream.reference_s)
    oracle.end()
    return dict(enumerate(oracle.verdicts))


def decided_by_the_fast_one(stream: Stream) -> dict[int, str]:
    judge, found = Judge(), {}
    for at, time_s in enumerate(stream.times_s.tolist()):
        found.update(
            {one.offset: verdict for verdict, one in judge.visit(HeldVisit(time_s, "", at), stream.reference_s)}
        )
    found.update({one.offset: verdict for verdict, one in judge.end()})
    return dict(sorted(found.items()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_fast_judge_judges_as_the_slow_one(kind: str) -> None:
    for stream in list(KINDS[kind](1_300, np.random.default_rng(3)))[::9]:
        assert decided_by_the_fast_one(stream) == decided_by_the_slow_oracle(stream), stream.name


# ---------------------------------------------------------------- found by seeds
def played(tmp_path: Path, script: list[Step]) -> World:
    """A run of these steps alone, one before each turn, in a world without other faults; everything is compared."""
    world = World(1, len(script), tmp_path)
    calm(world, script)
    world.run()
    return world


def calm(world: World, script: list[Step]) -> None:
    world.cluster.trouble, world.steps_per_turn, world.script = 0.0, (1,), script
    world.cluster.leaves_out, world.cluster.rng.random = False, lambda: 0.99  # type: ignore[method-assign]


def wait(seconds: float) -> Step:
    return lambda world: world.time.pass_by(seconds)


def visits(count: int, partition: int = 0, ago_s: int = 0, uid: str = "visitor") -> Step:
    """So many visits, a second apart; of one that came long ago only the record is new."""

    def sent(world: World) -> None:
        for number in range(count):
            world.time.pass_by(1)
            send(world, partition, visit(int(world.time.wall_s) - ago_s, f"{uid}-{number}"))

    return sent


def add_partition(world: World) -> None:
    world.cluster.topics[INPUT].append(type(world.cluster.topics[INPUT][0])())
    world.sent.append([])


def test_the_first_records_of_a_new_partition_come_with_the_news_of_it(tmp_path: Path) -> None:
    """The service ended with KeyError, and a commit could have skipped them."""

    def added(world: World) -> None:
        add_partition(world)
        visits(3, partition=len(world.cluster.topics[INPUT]) - 1, uid="new")(world)

    world = played(tmp_path, [visits(30), wait(6), added, *[wait(3)] * 6])
    assert world.truth.positions[len(world.cluster.topics[INPUT]) - 1] == 3


def published_minute(world: World, start_s: int) -> dict[str, object]:
    return world.highest["visits_per_minute", f"minute|{world.zone}|{start_s}".encode()]


def test_an_older_first_visit_makes_what_was_published_complete(tmp_path: Path) -> None:
    """The record of the minute of the first visit said for ever that it is not complete."""
    world = played(tmp_path, [visits(40), visits(200), *[wait(1)] * 4, visits(1, ago_s=3_600), *[wait(2)] * 5])
    first_s = min(one.time_s for one in world.sent[0][:40]) // 60 * 60
    assert published_minute(world, first_s)["complete"] is True
    oldest_s = min(one.time_s for one in world.sent[0]) // 60 * 60
    assert published_minute(world, oldest_s)["complete"] is False


def test_a_gap_makes_what_was_published_incomplete(tmp_path: Path) -> None:
    """Counts that were closed while a partition was silent said for ever that they are complete."""

    def lose_some(world: World) -> None:
        visits(20)(world)
        log = world.cluster.topics[INPUT][0]
        log.first, log.records = log.end, []

    seen: list[int] = []

    def others(world: World) -> None:
        add_partition(world)
        visits(50, partition=len(world.cluster.topics[INPUT]) - 1)(world)

    def later(world: World) -> None:
        seen.append(int(world.time.wall_s) // 60 * 60)
        visits(300, partition=len(world.cluster.topics[INPUT]) - 1)(world)

    script = [visits(60), others, *[wait(7)] * 3, wait(90), later, *[wait(1)] * 4, lose_some, *[wait(1)] * 4]
    world = played(tmp_path, [*script, visits(5), *[wait(2)] * 3])
    assert world.seen.lost_offsets == 1
    assert published_minute(world, seen[0] + 60)["complete"] is False


def test_a_provisional_window_is_not_final_after_a_restore(tmp_path: Path) -> None:
    """The window of a day that was not over was told to be final, and stayed so until the day was."""

    def publish(world: World) -> None:
        world.ask("publish-trailing", {})

    def back_up(world: World) -> None:
        a_backup_is_made(world)
        world.wants_stop = True

    def restored(world: World) -> None:
        assert world.saved is not None
        world._restore(*world.saved)

    world = World(1, 12, tmp_path)
    calm(world, [visits(60), publish, *[wait(2)] * 3, back_up, *[wait(2)] * 6])
    world._between_lives = lambda: restored(world)  # type: ignore[method-assign]  # each time
    world.run()
    windows = [one for one in world.highest.values() if one["granularity"] == "window"]
    assert len(windows) == 5
    assert {(one["epoch"] > 1, one["status"]) for one in windows} == {(True, "provisional")}


def test_a_window_that_is_switched_off_but_was_asked_for_is_amended(tmp_path: Path) -> None:
    """Published windows longer than days are kept stayed as they were after late visits and erasures."""

    def publish(world: World) -> None:
        assert world.db is not None
        day = datetime.datetime.fromtimestamp(world.time.wall_s - DAY_S, datetime.UTC).date()
        world.ask(PUBLISH_TRAILING, {"as_of": day.isoformat()})

    def forget(world: World) -> None:
        world.ask(FORGET, {"uids": ["late-1", "visitor-3"], "keep_counts": False})

    later = [visits(300, uid="next"), *[wait(2)] * 4, publish, *[wait(2)] * 4]
    script = [visits(60), wait(DAY_S), *later, visits(3, ago_s=DAY_S, uid="late"), *[wait(1_900)] * 6]
    world = World(1, len(script) + 8, tmp_path)
    calm(world, [*script, forget, *[wait(1_900)] * 7])
    world.zone = world.truth.zone = "UTC"
    world.options = replace(world.options, retention=Retention(minute_days=1, hour_days=2, day_days=8))
    world.run()
    windows = [one for one in world.highest.values() if one["granularity"] == "window" and one["window"] == "365d"]
    assert [(one["status"], one["revision"], one["count"]) for one in windows] == [("amended", 3, 61)]


def published_week(world: World, ends_ago: int) -> tuple[str, int, bool]:
    """Status, revision and completeness of the window of seven days that ended so many days ago."""
    day = datetime.datetime.fromtimestamp(world.time.wall_s - ends_ago * DAY_S, datetime.UTC).date()
    found = world.highest["unique_visitors_trailing", f"window|{world.zone}|7d|{day.isoformat()}".encode()]
    return str(found["status"]), int(found["revision"]), bool(found["complete"])


def weeks_in(tmp_path: Path, *later: Step, partitions: int = 1) -> World:
    """Nine days with visits in each of the partitions, then these steps, then hours in which little comes."""
    day: list[Step] = [visits(40, partition=one, uid=f"p{one}") for one in range(partitions)]
    last = partitions - 1
    script = [*[*day, wait(5), wait(DAY_S)] * 9, *day, *[wait(5)] * 3, *later]
    script += [visits(30, partition=last), *[wait(1_900)] * 6]
    world = World(1, len(script), tmp_path)
    calm(world, script)
    world.zone = world.truth.zone = "UTC"
    world.options = replace(world.options, retention=Retention())
    while len(world.cluster.topics[INPUT]) < partitions:
        add_partition(world)
    world.run()
    return world


def test_a_gap_makes_published_windows_incomplete(tmp_path: Path) -> None:
    """Trailing windows were published as complete, and a gap that was found later left them so."""

    def lose_some(world: World) -> None:
        visits(20)(world)
        log = world.cluster.topics[INPUT][0]
        log.first, log.records = log.end, []

    world = weeks_in(tmp_path / "without", partitions=2)
    assert published_week(world, 1) == ("final", 1, True)
    quiet: list[Step] = [visits(40, partition=1, uid="p1"), wait(5), wait(DAY_S)] * 2
    world = weeks_in(tmp_path / "with", *quiet, lose_some, *[wait(1)] * 4, visits(5), partitions=2)
    assert world.seen.lost_offsets == 1
    assert published_week(world, 1)[::2] == ("amended", False)
    assert published_week(world, 4) == ("final", 1, True)


def test_an_older_first_visit_makes_published_windows_complete(tmp_path: Path) -> None:
    """A trailing window that began on the day of the first visit was never complete, also when older ones came."""
    older = visits(40, ago_s=10 * DAY_S, uid="older")
    assert published_week(weeks_in(tmp_path / "without"), 3) == ("final", 1, False)
    assert published_week(weeks_in(tmp_path / "with", older), 3) == ("amended", 2, True)
    assert published_week(weeks_in(tmp_path / "again", older), 2) == ("final", 1, True)
