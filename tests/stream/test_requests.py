"""Requests to a running writer: carried out once or not at all, whoever of the two ends at whatever moment."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

import uniqdb
from engines import options, rows_of
from uniqdb.errors import (
    CommitFailed,
    HandleClosed,
    InputRefused,
    NotFound,
    OffsetsLost,
    StoreBusy,
    UniqdbError,
    UsageError,
    WindowNotKept,
)
from uniqdb.intake import read_held, read_judge_state
from uniqdb.manifest import WriterLock, is_written_here, no_writer
from uniqdb.meta import read_sources
from uniqdb.quarantine import read_quarantine
from uniqdb.quarantine_review import QuarantineFilter
from uniqdb.request_handlers import (
    CLOCK_RESET,
    QUARANTINE_ACCEPT,
    QUARANTINE_DISCARD,
    filter_arguments,
    request_handlers,
    reset_arguments,
    reset_name,
    review_of,
)
from uniqdb.requests import RequestDesk, WaitStopped, WriterGone, hand_in
from uniqdb.source_clocks import reset_clock
from uniqdb.stream.driver import ingest_file
from uniqdb.stream.follow import Watch, follow_files
from uniqdb.stream.ingest_options import IngestOptions

T, DAY_S = 1_468_244_340, 86_400
PATIENCE_S = 60.0
Ask = Callable[..., "Future[dict[str, Any]]"]


def until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, "it does not come true"
        time.sleep(0.005)


def never() -> bool:
    return False


@pytest.fixture
def store(store_path: Path) -> Path:
    uniqdb.create(store_path)
    return store_path


@pytest.fixture
def folder(store: Path) -> Iterator[Path]:
    """The folder of requests, which is empty when the test is over."""
    yield store / "requests"
    assert sorted((store / "requests").iterdir()) == []


@contextmanager
def writing(store: Path) -> Iterator[None]:
    lock = WriterLock(store)
    try:
        yield
    finally:
        lock.release()


@pytest.fixture
def ask(store: Path) -> Iterator[Ask]:
    """Hand a request in from another thread; it lies in the folder when this returns."""
    with ThreadPoolExecutor() as pool:

        def call(kind: str, should_stop: Callable[[], bool] = never, **arguments: Any) -> "Future[dict[str, Any]]":
            before = set((store / "requests").glob("*.request"))
            future = pool.submit(hand_in, store, kind, arguments, timeout_s=PATIENCE_S, should_stop=should_stop)
            until(lambda: set((store / "requests").glob("*.request")) - before)
            return future

        yield call


def serve(desk: RequestDesk) -> int:
    """It looks at most every 0.2 s."""
    time.sleep(0.21)
    return desk.serve()


# ---------------------------------------------------------------- the folder
@pytest.mark.usefixtures("folder")
def test_requests_are_answered_oldest_first(store: Path, ask: Ask) -> None:
    order: list[int] = []

    def double(arguments: dict[str, Any]) -> dict[str, Any]:
        order.append(arguments["number"])
        return {"twice": 2 * arguments["number"]}

    with writing(store):
        desk = RequestDesk(store, {"double": double})
        assert desk.serve() == 0
        asked = [ask("double", number=number) for number in (5, 3, 4)]
        assert desk.serve() == 0, "it has just looked"
        assert serve(desk) == 3
        assert [one.result() for one in asked] == [{"twice": 10}, {"twice": 6}, {"twice": 8}]
        assert serve(desk) == 0
    assert order == [5, 3, 4]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (NotFound("no such source", hint="look"), NotFound),
        (HandleClosed("closed", hint="open"), HandleClosed),
        (CommitFailed("disk full", hint="make room"), CommitFailed),
        (WindowNotKept("swept", hint="ask for less"), WindowNotKept),
        (OffsetsLost("topic", 1, 5, (7, 9)), InputRefused),  # it is made of other things than a message
    ],
)
def test_an_error_is_the_same_error_for_whoever_asked(
    store: Path, ask: Ask, raised: UniqdbError, expected: type[UniqdbError]
) -> None:
    def fail(_: dict[str, Any]) -> dict[str, Any]:
        raise raised

    with writing(store):
        desk = RequestDesk(store, {"fail": fail})
        asked = ask("fail")
        assert serve(desk) == 1
        error = asked.exception()
    assert type(error) is expected
    assert (error.message, error.hint, error.exit_code) == (raised.message, raised.hint, raised.exit_code)


@pytest.mark.usefixtures("folder")
def test_what_the_writer_cannot_do_is_said_and_does_not_end_it(store: Path, ask: Ask) -> None:
    def bug(_: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError("by zero")

    with writing(store):
        desk = RequestDesk(store, {"bug": bug})
        asked = [ask("bug"), ask("publish-everything")]
        assert serve(desk) == 2
        assert "ZeroDivisionError: by zero" in str(asked[0].exception())
        assert "does not serve 'publish-everything'" in str(asked[1].exception())


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no request"),
    "no JSON": (b"\xff\x00", "no request"),
    "no object": (b"[]", "no request"),
    "a part is missing": (b'{"kind":"note"}', "no request"),
    "a part too many": (b'{"kind":"note","arguments":{},"dry_run":true}', "no request"),
    "deep": (b'{"kind":"note","arguments":' + b'{"a":' * 200_000, "no request"),
    "large": (b'{"kind":"note","arguments":{"a":"' + b"a" * 1_000_000 + b'"}}', "larger than 1,000,000 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_are_answered_with_an_error(store: Path, folder: Path, name: str) -> None:
    content, says = BAD[name]
    noted: list[dict[str, Any]] = []
    (folder / "1.request").write_bytes(content)
    with writing(store):
        assert RequestDesk(store, {"note": lambda arguments: noted.append(arguments) or {}}).serve() == 1
    answer = json.loads((folder / "1.answer").read_bytes())
    assert answer["failure"]["error"] == "UsageError"
    assert says in answer["failure"]["message"]
    assert noted == []
    assert [one.name for one in folder.iterdir()] == ["1.answer"]
    assert (folder / "1.answer").stat().st_mode & 0o777 == 0o600
    (folder / "1.answer").unlink()


def test_what_is_no_file_is_left_alone(store: Path, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text('{"kind":"note","arguments":{}}')
    (folder / "1.request").symlink_to(outside)
    (folder / "2.request").symlink_to(tmp_path / "nowhere")
    (folder / "3.request").mkdir()
    os.mkfifo(folder / "4.request")
    (folder / "notes.txt").write_text("mine")
    with writing(store):
        assert RequestDesk(store, {"note": lambda _: {}}).serve() == 0
    assert len(list(folder.iterdir())) == 5
    assert outside.read_text() == '{"kind":"note","arguments":{}}'
    for one in folder.iterdir():
        one.rmdir() if one.name == "3.request" else one.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_request_of_another_user_is_refused(store: Path, folder: Path) -> None:
    (folder / "1.request").write_text('{"kind":"note","arguments":{}}')
    os.chown(folder / "1.request", 12_345, -1)
    with writing(store):
        assert RequestDesk(store, {"note": lambda _: {}}).serve() == 1
    assert "it belongs to user 12345" in json.loads((folder / "1.answer").read_bytes())["failure"]["message"]
    (folder / "1.answer").unlink()


def test_leftovers_are_removed(store: Path, folder: Path) -> None:
    for name in ("1.request", "2.answer", "3.request.new", "4.answer.new", "5.request", "6.answer", "7.claimed"):
        (folder / name).write_text('{"kind":"note","arguments":{}}')
        if name[0] in "1234":
            os.utime(folder / name, (time.time() - 3_700,) * 2)
    noted: list[dict[str, Any]] = []
    with writing(store):
        assert RequestDesk(store, {"note": lambda arguments: noted.append(arguments) or {}}).serve() == 1
    assert len(noted) == 1, "a claim is never carried out again, an old request not at all"
    assert sorted(one.name for one in folder.iterdir()) == ["5.answer", "6.answer"]
    (folder / "5.answer").unlink()
    (folder / "6.answer").unlink()


@pytest.mark.usefixtures("folder")
def test_what_cannot_be_committed_before_a_request_leaves_it_there(store: Path, ask: Ask) -> None:
    @contextmanager
    def full_disk() -> Iterator[None]:
        raise CommitFailed("disk full", hint="make room")
        yield

    with writing(store):
        asked = ask("note")
        with pytest.raises(CommitFailed):
            RequestDesk(store, {"note": lambda _: {}}, around=full_disk).serve()
        assert not asked.done()
    assert isinstance(asked.exception(), WriterGone)


# ---------------------------------------------------------------- whoever asks
@pytest.mark.usefixtures("folder")
def test_without_a_writer_nothing_is_handed_in(store: Path) -> None:
    with pytest.raises(WriterGone):
        hand_in(store, "note", {}, timeout_s=9, should_stop=never)
    with writing(store):
        pass
    with pytest.raises(WriterGone):
        hand_in(store, "note", {}, timeout_s=9, should_stop=never)


@pytest.mark.usefixtures("folder")
def test_a_writer_that_does_not_serve_is_named(store: Path) -> None:
    with writing(store), pytest.raises(StoreBusy, match=f"process {os.getpid()}, which does not serve requests"):
        hand_in(store, "note", {}, timeout_s=0.1, should_stop=never)


@pytest.mark.usefixtures("folder")
def test_a_request_that_is_too_large_is_refused_before_it_is_written(store: Path) -> None:
    with writing(store), pytest.raises(UsageError, match="larger than 1,000,000 bytes"):
        hand_in(store, "note", {"ids": list(range(200_000))}, timeout_s=9, should_stop=never)


def test_a_store_without_the_folder_gets_one(store: Path) -> None:
    (store / "requests").rmdir()
    with writing(store):
        assert RequestDesk(store, {}).serve() == 0
        with pytest.raises(StoreBusy):
            hand_in(store, "note", {}, timeout_s=0, should_stop=never)
    assert (store / "requests").stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("folder")
def test_a_withdrawn_request_is_never_carried_out(store: Path, ask: Ask) -> None:
    noted: list[dict[str, Any]] = []
    stop = threading.Event()
    with writing(store):
        desk = RequestDesk(store, {"note": lambda arguments: noted.append(arguments) or {}})
        asked = ask("note", stop.is_set)
        stop.set()
        error = asked.exception()
        assert isinstance(error, WaitStopped)
        assert not error.is_begun
        assert serve(desk) == 0
    assert noted == []


def test_what_is_begun_cannot_be_withdrawn(store: Path, folder: Path, ask: Ask) -> None:
    stop = threading.Event()
    seen: list[BaseException | None] = []

    def slow(_: dict[str, Any]) -> dict[str, Any]:
        stop.set()
        seen.append(asked.exception())
        return {}

    with writing(store):
        desk = RequestDesk(store, {"slow": slow})
        asked = ask("slow", stop.is_set)
        assert serve(desk) == 1
    (error,) = seen
    assert isinstance(error, WaitStopped)
    assert error.is_begun
    (left,) = folder.iterdir()  # the next writer removes it, an hour later
    left.unlink()


@pytest.mark.usefixtures("folder")
def test_withdrawing_and_claiming_at_the_same_moment(store: Path, ask: Ask) -> None:
    noted: list[int] = []

    def note(arguments: dict[str, Any]) -> dict[str, Any]:
        noted.append(arguments["number"])
        return {}

    with writing(store):
        desk = RequestDesk(store, {"note": note})
        withdrawn = []
        for number in range(5):
            stop = threading.Event()
            asked = ask("note", stop.is_set, number=number)
            threading.Timer(0.06 * number, stop.set).start()
            serve(desk)
            try:
                asked.result()
            except WaitStopped as error:
                if not error.is_begun:
                    withdrawn.append(number)
                    continue
                (left,) = (store / "requests").glob("*.answer")  # nobody waits for it any more
                left.unlink()
    assert sorted(noted + withdrawn) == list(range(5))


CHILD = """
import sys, time
from pathlib import Path
from uniqdb.manifest import WriterLock
from uniqdb.requests import RequestDesk

def hang(_):
    time.sleep(60)

lock = WriterLock(Path(sys.argv[1]))
print("writing", flush=True)
if sys.argv[2] == "claims":
    desk = RequestDesk(Path(sys.argv[1]), {"note": hang})
    while True:
        desk.serve()
        time.sleep(0.01)
time.sleep(60)
"""


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("what", ["only writes", "claims"])
def test_a_killed_writer_leaves_the_request_to_whoever_made_it(store: Path, ask: Ask, what: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(store), what],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"writing\n"
            asked = ask("note")
            if what == "claims":
                until(lambda: list((store / "requests").glob("*.claimed")))
            assert not asked.done()
        finally:
            child.kill()
        assert isinstance(asked.exception(), WriterGone)
    with writing(store):
        assert RequestDesk(store, {}).serve() == 0


@pytest.mark.usefixtures("folder")
def test_the_next_writer_clears_a_dead_ones_claim_away(store: Path, ask: Ask) -> None:
    with writing(store):
        asked = ask("note")
        (request,) = (store / "requests").glob("*.request")
        request.rename(request.with_suffix(".claimed"))
        time.sleep(0.1)
        assert not asked.done()
        assert RequestDesk(store, {"note": lambda _: {}}).serve() == 0
        assert isinstance(asked.exception(), WriterGone), "it is to be made again"


@pytest.mark.usefixtures("folder")
def test_an_answer_that_makes_no_sense(store: Path, ask: Ask) -> None:
    with writing(store):
        for content in ("what?", "{}"):
            asked = ask("note")
            (request,) = (store / "requests").glob("*.request")
            request.write_text(content)
            request.rename(request.with_suffix(".answer"))
            error = asked.exception()
            assert isinstance(error, StoreBusy)
            assert "cannot be read" in error.message


def test_to_look_for_a_writer_keeps_none_from_beginning(store: Path) -> None:
    done = threading.Event()

    def look() -> int:
        looks = 0
        while not done.is_set():
            with no_writer(store):
                looks += 1
            time.sleep(0.002)
        return looks

    with ThreadPoolExecutor() as pool:
        lookers = [pool.submit(look) for _ in range(2)]
        try:
            for _ in range(300):
                with writing(store):
                    assert is_written_here(store)
        finally:
            done.set()
        assert all(one.result() for one in lookers)
    assert not is_written_here(store)


# ---------------------------------------------------------------- a store
def line(time_s: int, uid: str) -> str:
    return json.dumps({"ts": time_s, "uid": uid}) + "\n"


def steady(start_s: int, seconds: int) -> str:
    return "".join(line(start_s + at, f"v{at % 50}") for at in range(seconds))


def everything(db: uniqdb.Engine) -> dict[str, Any]:
    """All that the order of visits decides: counts with their status, quarantine, what the sources remember."""
    with db.snapshot() as snapshot:
        view = snapshot.answers.view
        sources = []
        for key, row in read_sources(view):
            state = read_judge_state(view, key)
            held = [(ticket, one.event_time_s, one.uid) for ticket, one in read_held(view, key)]
            facts = (row.name, row.visits, row.refused, row.held, row.clock_s, row.position_bytes, row.is_open)
            sources.append((facts, None if state is None else msgspec.to_builtins(state), held))
        return {
            "rows": rows_of(db),
            "status": [(one.start_ts, one.status) for one in snapshot.series("minute")],
            "quarantine": sorted((row.reason, row.line, row.uid or "") for _, row in read_quarantine(view)),
            "sources": sources,
        }


class Following:
    """A thread that follows a file and serves requests."""

    def __init__(self, db: uniqdb.Engine, path: Path) -> None:
        self._path, self._stop, self._at = path, threading.Event(), 0
        watch = Watch(self._stop.is_set, on_progress=lambda progress: setattr(self, "_at", progress.position_bytes))
        self._thread = threading.Thread(
            target=follow_files, args=(db, [path], watch, IngestOptions(serve_requests=True))
        )

    def __enter__(self) -> "Following":
        self._thread.start()
        return self

    def read_all(self) -> None:
        """Everything that the file has by now is read, though not necessarily committed."""
        until(lambda: self._at == self._path.stat().st_size)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


LONE = "".join(line(T + number * 40 * DAY_S, f"lone{number}") for number in (-3, -2, 2)) + "no record\n"
FIRST = steady(T, 400) + LONE + line(T - 40 * DAY_S, "pair") + line(T - 40 * DAY_S + 5, "pair") + steady(T + 400, 30)
REST = steady(T + 30 * DAY_S, 300) + line(T - 9 * DAY_S, "late") + steady(T + 30 * DAY_S + 300, 1_200)


@pytest.mark.parametrize("end", [False, True])
def test_a_followed_files_clock_is_reset_as_if_the_file_were_not_read_just_then(
    store: Path, tmp_path: Path, end: bool
) -> None:
    path, aside = tmp_path / "visits.jsonl", tmp_path / "aside.uniqdb"
    with uniqdb.open(aside, options=options()) as db:
        path.write_text(FIRST)
        rounds = iter(range(3))
        follow_files(db, [path], Watch(lambda: next(rounds, None) is None))
        reset_clock(db, "visits.jsonl", end=end)
        reset = everything(db)
        path.write_text(FIRST + REST)
        rounds = iter(range(3))
        follow_files(db, [path], Watch(lambda: next(rounds, None) is None))
        expected = everything(db)
    path.write_text(FIRST)
    with uniqdb.open(store, options=options()) as db, Following(db, path) as following:
        following.read_all()
        arguments = reset_arguments("visits.jsonl", end=end)
        result = hand_in(store, CLOCK_RESET, arguments, timeout_s=PATIENCE_S, should_stop=never)
        assert reset_name(result) == "visits.jsonl"
        assert everything(db) == reset, "what was read is committed, and nothing is held any more"
        assert sum(name == "v7" for name in db.members("minute", T)) == 1
        with path.open("a") as file:
            file.write(REST)
        following.read_all()
        following.__exit__()
        assert everything(db) == expected


def test_a_reset_between_two_parts_of_one_run_counts_no_held_visit_twice(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    path.write_text(FIRST)
    with uniqdb.open(store, options=options()) as db, Following(db, path) as following:
        following.read_all()
        for _ in range(2):  # doing it again does nothing
            hand_in(store, CLOCK_RESET, reset_arguments("visits.jsonl", end=False), timeout_s=9, should_stop=never)
        with path.open("a") as file:
            file.write(REST)
        following.read_all()
        following.__exit__()
        assert db.count("2016-06-01").visits == 2
        completeness = db.info()
        assert completeness.visits + sum(completeness.quarantined.values()) == (FIRST + REST).count("\n")


def test_quarantine_is_reviewed_while_a_file_is_followed(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "visits.jsonl"
    path.write_text(steady(T, 100) + LONE + steady(T + 100, 1_100))
    with uniqdb.open(store, options=options()) as db, Following(db, path) as following:
        following.read_all()

        def review(kind: str, wanted: QuarantineFilter) -> tuple[int, dict[str, int]]:
            arguments = filter_arguments(wanted)
            done = review_of(hand_in(store, kind, arguments, timeout_s=PATIENCE_S, should_stop=never))
            return done.done, dict(done.left)

        late = QuarantineFilter(frozenset({"too_late"}), end_s=T - 100 * DAY_S)
        assert review(QUARANTINE_ACCEPT, late) == (1, {})
        assert db.check_if_uid_exists("lone-3")
        assert review(QUARANTINE_ACCEPT, late) == (0, {})
        assert review(QUARANTINE_ACCEPT, QuarantineFilter()) == (2, {"malformed": 1})
        assert review(QUARANTINE_DISCARD, QuarantineFilter(origin="visits.jsonl")) == (1, {})
        with pytest.raises(NotFound, match="no source 'other'"):
            hand_in(store, CLOCK_RESET, reset_arguments("other", end=True), timeout_s=9, should_stop=never)


@pytest.mark.parametrize(
    ("kind", "arguments", "says"),
    [
        (QUARANTINE_ACCEPT, {"newer_than_s": 5}, "it names newer_than_s"),
        (QUARANTINE_DISCARD, {"ids": "all"}, "not understood"),
        (CLOCK_RESET, {"source": "a"}, "not understood"),
        (CLOCK_RESET, {"source": "a", "end": True, "force": True}, "not understood"),
    ],
)
def test_arguments_that_are_not_known_are_refused(store: Path, kind: str, arguments: dict[str, Any], says: str) -> None:
    with uniqdb.open(store) as db, pytest.raises(UsageError, match=says):
        request_handlers(db)[kind](arguments)


def test_a_file_that_is_read_to_its_end_serves_too(store: Path, tmp_path: Path, ask: Ask) -> None:
    path = tmp_path / "visits.jsonl"
    path.write_text(steady(T, 100) + "no record\n" + steady(T + 100, 1_000))
    with uniqdb.open(store, options=options()) as db:
        asked = ask(QUARANTINE_DISCARD, **filter_arguments(QuarantineFilter(frozenset({"malformed"}))))
        summary = ingest_file(db, path, IngestOptions(commit_visits=300, serve_requests=True))
        assert review_of(asked.result()).done == 1
        assert (summary.visits, summary.refused) == (1_100, {"malformed": 1})
        ended = ask(CLOCK_RESET, source="visits.jsonl", end=True)
        assert ingest_file(db, path).finished_before, "nobody serves unless asked to"
        assert not ended.done()
        again = ingest_file(db, path, IngestOptions(commit_visits=300, serve_requests=True, again=True))
        assert reset_name(ended.result()) == "visits.jsonl", "of two readings the open one is meant"
        assert (again.records, db.info().visits) == (1_101, 2_200)


def test_nothing_of_what_may_be_no_visits_is_committed_for_a_request(store: Path, tmp_path: Path, ask: Ask) -> None:
    path = tmp_path / "visits.jsonl"
    path.write_text("no record\n" * 900)
    with uniqdb.open(store, options=options()) as db:
        asked = ask(QUARANTINE_ACCEPT, **filter_arguments(QuarantineFilter()))
        with pytest.raises(InputRefused, match="no visit"):
            ingest_file(db, path, IngestOptions(commit_visits=300, serve_requests=True))
        assert review_of(asked.result()).done == 0
        assert db.info().quarantined == {}
