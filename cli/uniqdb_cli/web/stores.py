"""What is asked: one store; or several that share no visitor, whose answers are added."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Protocol

from uniqdb.engine import Engine
from uniqdb.parts import add_up, uids_given
from uniqdb.snapshot import Snapshot
from uniqdb.summing import origin_of
from uniqdb_cli.web.adding import added
from uniqdb_cli.web.endpoints import Endpoint
from uniqdb_cli.web.parameters import Query
from uniqdb_cli.web.proofs import Proofs
from uniqdb_cli.web.questions import Patience

Version = tuple[int, ...]


class State(Protocol):
    """What is asked, as it is at one moment."""

    @property
    def version(self) -> Version:
        """Names the state; a later one is larger."""

    def ask(self, endpoint: Endpoint, query: Query) -> object:
        """The answer. Raises what the question raises."""


class Stores(Protocol):
    """One or several, open."""

    @property
    def uuid(self) -> str:
        """Whose answers they are."""

    def read(self) -> AbstractContextManager[State]:
        """The newest state. Raises SharedVisitors, InputRefused: several stores that cannot be added any more."""

    def keep_up(self) -> None:
        """Do what is to be done now and then, also when nobody asks."""

    def close(self) -> None:
        """End what was begun. The handles are the caller's."""


class OneStore:
    """A store by itself."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def uuid(self) -> str:
        """The store's."""
        return self._engine.store_uuid

    def read(self) -> AbstractContextManager[State]:
        """Its newest commit."""
        return _OneState(self._engine.snapshot())

    def keep_up(self) -> None:
        """There is nothing to do."""

    def close(self) -> None:
        """Nothing was begun."""


class _OneState:
    """A class, not a generator: an answer that is kept takes 9 us, and a generator 1.5 us."""

    __slots__ = ("_snapshot",)

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def __enter__(self) -> "_OneState":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._snapshot.close()

    @property
    def version(self) -> Version:
        return self._snapshot.version

    def ask(self, endpoint: Endpoint, query: Query) -> object:
        # Questions look into the rows as well as at the snapshot's own answers: all of it is one call on the handle.
        with self._snapshot.answers.facts.lock:
            return endpoint.ask(self._snapshot, query, Patience())


class SumOfStores:
    """Several stores. Each answer is of one commit of each, taken one after the other."""

    def __init__(self, engines: Sequence[Engine], proofs: Proofs) -> None:
        """The engines, in the order of the proofs' names."""
        self._engines, self._proofs = engines, proofs

    @property
    def uuid(self) -> str:
        """That of the sum."""
        return origin_of([one.store_uuid for one in self._engines])

    @contextmanager
    def read(self) -> Iterator[State]:
        """The newest commits. Raises what the last proof raised."""
        self._proofs.assert_proved()
        with ExitStack() as stack:
            snapshots = [stack.enter_context(one.snapshot()) for one in self._engines]
            yield _AddedState(snapshots, self._proofs.names)

    def keep_up(self) -> None:
        """Have it proved again when it is time."""
        with ExitStack() as stack:
            snapshots = [stack.enter_context(one.snapshot()) for one in self._engines]
            self._proofs.keep_up([uids_given(one.answers) for one in snapshots])

    def close(self) -> None:
        """End a proof that is being made."""
        self._proofs.close()


class _AddedState:
    def __init__(self, snapshots: Sequence[Snapshot], names: Sequence[str]) -> None:
        self._snapshots, self._names = snapshots, names

    @property
    def version(self) -> Version:
        return tuple(number for one in self._snapshots for number in one.version)

    def ask(self, endpoint: Endpoint, query: Query) -> object:
        patience = Patience()  # one for all of them
        with ExitStack() as stack:
            for one in self._snapshots:  # always in this order, so that two threads never wait for each other
                stack.enter_context(one.answers.facts.lock)
            add_up(self._snapshots, self._names)
            return added([endpoint.ask(one, query, patience) for one in self._snapshots])
