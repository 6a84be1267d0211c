"""Requests to the process that writes a store: files in ``STORE/requests/`` that it carries out between commits.

::

    NAME.request     handed in: JSON with the kind and its arguments
    NAME.claimed     the same file: the writer has taken it up, and nobody else will
    NAME.answer      the writer's: JSON with the result, or with the error
    NAME.*.new       being written; it is synced, and then renamed

NAME is the time of the request in nanoseconds (20 digits) and a UUID, so names sort by age. A request belongs to
whoever renames or removes its file; so one that was withdrawn is never carried out, and none is carried out twice. If
the writer is killed while it carries one out, nobody knows how far it came, and the request is made again: whatever a
handler does must be right to do once more.

The wall clock gives names and tells what is left over; no count depends on it.
"""

import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from uniqdb.errors import CannotWrite, StoreBusy, UniqdbError, UsageError
from uniqdb.limits import REQUEST_BYTES_MAX, REQUEST_LEFTOVER_S, REQUEST_POLL_S, REQUEST_SERVE_S
from uniqdb.manifest import REQUESTS_NAME, cannot_write, no_writer, sync_directory, writer_process

Handler: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
"""Carries out one kind of request: takes its arguments, returns its result, both as JSON has them.

Raises UniqdbError, which is raised again where the request came from.
"""
_REQUEST, _CLAIMED, _ANSWER, _NEW = ".request", ".claimed", ".answer", ".new"


class WriterGone(Exception):
    """Internal: no writer is left to carry the request out, and it is withdrawn. Whoever made it does it himself."""


class WaitStopped(Exception):
    """Internal: asked to stop, `hand_in` has withdrawn the request; or, if ``is_begun``, could not any more."""

    def __init__(self, *, is_begun: bool) -> None:
        super().__init__()
        self.is_begun = is_begun


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    arguments: dict[str, Any]


class _Failure(msgspec.Struct):
    error: str
    exit_code: int
    message: str
    hint: str


class _Answer(msgspec.Struct, omit_defaults=True):
    result: dict[str, Any] | None = None
    failure: _Failure | None = None


class _Unreadable(Exception):
    """A file that is not to be trusted or makes no sense; the text says why."""


# ---------------------------------------------------------------- whoever wants something
def hand_in(
    store_path: Path, kind: str, arguments: dict[str, Any], *, timeout_s: float, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Have the store's writer carry out a request; returns its result, or raises the error that it met.

    The writer has ``timeout_s`` seconds to take it up; then it may take as long as it needs. ``should_stop`` is asked
    20 times a second. Raises StoreBusy if the writer does not take it up, UsageError if it is larger than 1 MB,
    CannotWrite, WriterGone, WaitStopped; whenever it raises, the request is withdrawn unless it was begun.
    """
    pending = _Pending.begin(store_path, _Request(kind, arguments))
    until_s = time.monotonic() + timeout_s
    try:
        while (answer := pending.answer()) is None:
            if should_stop():
                raise WaitStopped(is_begun=not pending.withdraw())
            if pending.is_lost():
                raise WriterGone
            if time.monotonic() >= until_s and pending.withdraw():
                raise StoreBusy(
                    f"{store_path} is being written by process {writer_process(store_path)}, which does not serve "
                    "requests: it has not taken this one up",
                    hint="run the command again when that process has ended",
                )
            time.sleep(REQUEST_POLL_S)
    except BaseException:
        pending.withdraw()
        raise
    return _result(answer)


class _Pending:
    """One request on its way."""

    def __init__(self, store_path: Path, path: Path) -> None:
        self._store_path, self._path = store_path, path

    @staticmethod
    def begin(store_path: Path, request: _Request) -> "_Pending":
        """Hand the request in, durably."""
        content = msgspec.json.encode(request)
        if len(content) > REQUEST_BYTES_MAX:
            raise UsageError(
                f"the request is larger than {REQUEST_BYTES_MAX:,} bytes, more than the writer takes at once",
                hint="ask for it in smaller parts",
            )
        folder = store_path / REQUESTS_NAME
        path = folder / f"{time.time_ns():020}-{uuid.uuid4().hex}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            _write(path.with_name(path.name + _REQUEST), content)
        except OSError as error:
            raise cannot_write(folder, error) from None
        return _Pending(store_path, path)

    def _named(self, ending: str) -> Path:
        return self._path.with_name(self._path.name + ending)

    def answer(self) -> _Answer | None:
        """The answer, which is taken away; None while there is none."""
        path = self._named(_ANSWER)
        try:
            found = msgspec.json.decode(_read(path, owner=None), type=_Answer)
            if found.result is None and found.failure is None:
                raise _Unreadable("nothing is in it")
        except FileNotFoundError:
            return None
        except (_Unreadable, OSError, ValueError, RecursionError) as error:
            found = _refusal(
                StoreBusy(
                    f"the answer of process {writer_process(self._store_path)} cannot be read: {error}",
                    hint="use the same version of uniqdb for both, or run the command again when it has ended",
                )
            )
        with suppress(OSError):
            path.unlink()
        return found

    def is_lost(self) -> bool:
        """Whether nobody will answer: the writer has ended, or the next one has cleared its claims away."""
        with no_writer(self._store_path) as is_free:
            if not is_free:
                is_there = self._named(_REQUEST).exists() or self._named(_CLAIMED).exists()
                return not is_there and not self._named(_ANSWER).exists()
            if self._named(_ANSWER).exists():
                return False
            # While nobody else can become the writer: a claim is the dead one's. Not for long, one may want to begin.
            for ending in (_REQUEST, _CLAIMED):
                _remove(self._named(ending))
        sync_directory(self._path.parent)
        return True

    def withdraw(self) -> bool:
        """Take the request back, durably; False if the writer had it already."""
        try:
            self._named(_REQUEST).unlink()
        except FileNotFoundError:
            return False
        sync_directory(self._path.parent)
        return True


def _result(answer: _Answer) -> dict[str, Any]:
    if answer.failure is not None:
        raise _error(answer.failure)
    return answer.result or {}


def _error(failure: _Failure) -> UniqdbError:
    """The same error here: of the class of this name, or else of the first in the tree with this exit code."""
    tree = list(_family(UniqdbError))
    named = [one for one in tree if one.__name__ == failure.error]
    alike = [one for one in tree if one.exit_code == failure.exit_code]
    for kind in named + alike:
        if kind.__init__ is UniqdbError.__init__:  # others are made of other things than a message
            return kind(failure.message, hint=failure.hint)
    error = UniqdbError(failure.message, hint=failure.hint)
    error.exit_code = failure.exit_code
    return error


def _family(kind: type[UniqdbError]) -> Iterator[type[UniqdbError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _family(child)


# ---------------------------------------------------------------- the writer
class RequestDesk:
    """Where the store's writer carries out what others have handed in. Not thread-safe; one per writer."""

    def __init__(
        self,
        store_path: Path,
        handlers: Mapping[str, Handler],
        *,
        around: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """To be made while the WRITER lock is held: claims that are there are a dead writer's, and removed.

        So is what has lost its owner (see `serve`): requests may name visitors.

        ``around`` is entered before requests are taken up, and left after them: what it raises is raised by `serve`,
        and the requests stay where they are.
        """
        self._folder, self._handlers, self._around = store_path / REQUESTS_NAME, handlers, around
        self._served_at_s = time.monotonic() - REQUEST_SERVE_S
        for name in self._names():
            if name.endswith(_CLAIMED):
                _remove(self._folder / name)
            else:
                self._is_waiting(name)

    def serve(self, only: str | None = None) -> int:
        """Carry out what waits, oldest first, and answer; returns how many requests were answered.

        At most every 0.2 s it looks into the folder; if that is empty, this is all it costs. A request that fails, or
        is none, is answered with its error, and raises nothing here. What is neither a file nor ours is left alone.
        ``only``: requests of this kind, without entering ``around``: the writer has something that it cannot commit.
        """
        if time.monotonic() - self._served_at_s < REQUEST_SERVE_S:
            return 0
        waiting = sorted(name for name in self._names() if self._is_waiting(name))
        answered = 0
        if only is not None:
            wanted = [self._folder / name.removesuffix(_REQUEST) for name in waiting if self._is_of_kind(name, only)]
            answered = sum(map(self._carry_out, wanted))
        elif waiting:
            with self._around():
                answered = sum(self._carry_out(self._folder / name.removesuffix(_REQUEST)) for name in waiting)
        self._served_at_s = time.monotonic()
        return answered

    def _names(self) -> list[str]:
        try:
            with os.scandir(self._folder) as entries:
                return [entry.name for entry in entries]
        except OSError:  # no folder, no requests
            return []

    def _is_waiting(self, name: str) -> bool:
        """Whether it is a request to be taken up. What its owner has left behind for an hour is removed."""
        path = self._folder / name
        try:
            status = path.lstat()
        except OSError:  # withdrawn in this very moment
            return False
        is_old = time.time() - status.st_mtime > REQUEST_LEFTOVER_S
        if is_old and name.endswith((_REQUEST, _ANSWER, _NEW)) and not stat.S_ISDIR(status.st_mode):
            _remove(path)
            return False
        return name.endswith(_REQUEST) and stat.S_ISREG(status.st_mode)

    def _is_of_kind(self, name: str, kind: str) -> bool:
        try:
            content = _read(self._folder / name, owner=os.geteuid())
            return msgspec.json.decode(content, type=_Request).kind == kind
        except (_Unreadable, OSError, ValueError, RecursionError):
            return False

    def _carry_out(self, path: Path) -> bool:
        """Claim the request, carry it out, answer. Whether there is an answer now."""
        claimed = path.with_name(path.name + _CLAIMED)
        try:
            path.with_name(path.name + _REQUEST).rename(claimed)
        except OSError:  # withdrawn, or not ours to take
            return False
        answer = self._answer(claimed)
        try:
            # The claim goes last: whoever finds neither knows that nobody will answer.
            _write(path.with_name(path.name + _ANSWER), msgspec.json.encode(answer))
        except OSError:  # such as a full disk: who waits will notice
            return False
        finally:
            _remove(claimed)
        return True

    def _answer(self, claimed: Path) -> _Answer:
        try:
            request = msgspec.json.decode(_read(claimed, owner=os.geteuid()), type=_Request)
        except (_Unreadable, OSError, ValueError, RecursionError) as error:
            return _refusal(
                UsageError(f"this is no request: {error}", hint="use the writer's version of uniqdb, and its user")
            )
        handler = self._handlers.get(request.kind)
        if handler is None:
            return _refusal(
                UsageError(
                    f"the store's writer, process {os.getpid()}, does not serve {request.kind!r}",
                    hint="run the command again when that process has ended",
                )
            )
        try:
            return _Answer(result=handler(request.arguments))
        except UniqdbError as error:
            return _refusal(error)
        except Exception as error:  # a bug that a request brings to light must not end the service
            return _refusal(
                CannotWrite(
                    f"the store's writer failed with {type(error).__name__}: {error}",
                    hint="run the command again when that process has ended",
                )
            )


def _refusal(error: UniqdbError) -> _Answer:
    return _Answer(failure=_Failure(type(error).__name__, error.exit_code, error.message, error.hint))


# ---------------------------------------------------------------- files
def _write(path: Path, content: bytes) -> None:
    """A new file with this content, whole and durable under its name, or not there."""
    new = path.with_name(path.name + _NEW)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
    except BaseException:
        _remove(new)
        raise
    sync_directory(path.parent)


def _read(path: Path, *, owner: int | None) -> bytes:
    """The content of a regular file of at most 1 MB that belongs to this user (None: to anyone). No link is followed.

    Raises _Unreadable, OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _Unreadable("it is not a regular file")
        if owner is not None and status.st_uid != owner:
            raise _Unreadable(f"it belongs to user {status.st_uid}, and the writer runs as user {owner}")
        content = file.read(REQUEST_BYTES_MAX + 1)
    if len(content) > REQUEST_BYTES_MAX:
        raise _Unreadable(f"it is larger than {REQUEST_BYTES_MAX:,} bytes")
    return content


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
