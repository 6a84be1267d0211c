"""A sweep that another process asks of the writer: a turn of it with each request, between two commits."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import uniqdb
from swept import BRIEF, DAY_S, T, brief_options, set_clock
from uniqdb import UsageError
from uniqdb.request_handlers import SweepTurn, request_handlers, understood
from uniqdb.requests import RequestDesk, hand_in
from uniqdb.stream.hourly_sweep import HourlySweep
from uniqdb.sweeping import SWEEP

WALL_S = T + 900 * DAY_S


def asked(db: uniqdb.Engine, arguments: dict[str, Any], meanwhile: Callable[[], None]) -> SweepTurn:
    """What the writer answers; ``meanwhile`` is what it does otherwise."""
    desk = RequestDesk(db.path, HANDLERS[id(db)])
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(hand_in, db.path, SWEEP, arguments, timeout_s=60, should_stop=lambda: False)
        while not answer.done():
            meanwhile()
            desk.serve()
            time.sleep(0.05)
        return understood(answer.result(), SweepTurn)


HANDLERS: dict[int, Any] = {}


def filled(path: Path) -> uniqdb.Engine:
    db = uniqdb.open(path, options=replace(brief_options(), wall_clock=lambda: float(WALL_S)))
    HANDLERS[id(db)] = request_handlers(db)
    for day in range(6):
        db.add_many([T + day * DAY_S + 60 * at for at in range(50)], [f"day {day} {at}" for at in range(50)])
        db.commit()
    set_clock(db, T + 900 * DAY_S)
    return db


def test_a_run_goes_on_with_each_request_until_it_is_over(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniqdb.request_handlers.SWEEP_TURN_S", 0.0)  # one step a turn
    with filled(store_path) as db:
        added = 0

        def add() -> None:
            nonlocal added
            db.add_many([T + 899 * DAY_S + added], [f"new {added}"])
            db.commit()
            added += 1

        turn, turns = asked(db, {"forced": True}, add), 1
        while not turn.report.is_over:
            before = turn.run
            turn, turns = asked(db, {"forced": True, "run": turn.run}, add), turns + 1
            assert turn.run == before
        assert turns > 6
        assert turn.report.swept["minute"] == 300
        assert turn.report.uids == 300
        assert added > 0
        assert db.info().uids == added
        assert db.info().audit[-1].removed["minute"] == 300
        again = asked(db, {"run": turn.run}, lambda: None)
        assert again.run != turn.run, "a run that is over is not known any more"
        with pytest.raises(UsageError):
            asked(db, {"forced": True, "unknown": 1}, lambda: None)


def test_a_service_sweeps_a_step_a_turn_once_an_hour(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with filled(store_path) as db:
        hourly = HourlySweep(db, lambda: WALL_S, said.append)
        hourly.turn(may_begin=False)
        assert db.info().audit == ()
        for _ in range(200):
            hourly.turn()
        assert len(said) == 1
        assert said[0].startswith("Swept: minute 30, ")
        assert "more are due" in said[0]
        assert db.info().audit[-1].removed["minute"] == 30
        for _ in range(50):
            hourly.turn()
        assert len(said) == 1, "the next run is an hour away"
        monkeypatch.setattr("uniqdb.stream.hourly_sweep.ORDINAL_MAX", 300)
        monkeypatch.setattr("uniqdb.info.ORDINAL_MAX", 300)
        second = HourlySweep(db, lambda: WALL_S, said.append)
        second.turn()
        assert "300 of 300 uid ordinals are used" in said[1]
    assert BRIEF.members_s("minute") == DAY_S
