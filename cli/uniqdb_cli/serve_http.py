"""``uniqdb serve-http``: the page, and the API that it is made with."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uniqdb.errors import UsageError
from uniqdb_cli.address import Address
from uniqdb_cli.output import progress_line, say
from uniqdb_cli.reading import open_reader
from uniqdb_cli.service_manager import ServiceManager
from uniqdb_cli.settings import Settings, load_settings
from uniqdb_cli.stopping import StopRequest, stop_on_signals
from uniqdb_cli.words import ConfigOption, StoresOption

if TYPE_CHECKING:
    from uniqdb_cli.web.stores import Stores

PACKAGES = ("plotly", "starlette", "uvicorn")


def serve_http(
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Where to listen [default: 127.0.0.1].")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65_535, metavar="PORT", help="The port; 0 takes a free one [default: 8321]."),
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option("--token-file", metavar="FILE", help="Only whoever has the token in this file is answered."),
    ] = None,
    allow_remote: Annotated[
        bool,
        typer.Option("--allow-remote", help="With --host: let other machines in, who need the token of --token-file."),
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-host",
            metavar="NAME",
            help="A further name that requests may come under, as a browser sends it: stats.example:8321. Repeatable.",
        ),
    ] = None,
    store: StoresOption = None,
    config: ConfigOption = None,
) -> None:
    """Serve a page with the counts, and an API, read-only.

    The page shows today and the trailing windows, each against the one before, a chart of any range, new against
    returning visitors, who comes back, and the running minutes. It needs no internet. /api/openapi.json describes the
    API. A writer may go on meanwhile, and the store may be compacted or restored. Ctrl-C or SIGTERM ends it, with 0.

    Of several stores that share no visitor, such as the shards of a topic, it shows the sum. That they share none is
    proved at the start, as `sum` does, and refused otherwise (65); and again while somebody new comes, at most every 15
    minutes. Should that fail, nothing is answered any more but why.

    \b
      uniqdb serve-http
      uniqdb serve-http --store shard1.uniqdb --store shard2.uniqdb
      uniqdb serve-http --port 0 --store visits.uniqdb
      uniqdb serve-http --host 0.0.0.0 --allow-remote --token-file token --allowed-host stats.example:8321
    """
    settings = load_settings(
        config, store=store[0] if store else None, http_host=host, http_port=port, http_token_file=token_file
    )
    _assert_packages()
    address = Address(settings.http_host, settings.http_port)
    _assert_allowed(address, settings, allow_remote=allow_remote)
    names = store or [settings.store]
    with _opened(names) as stores, stop_on_signals() as stop:
        shown = settings.store if len(names) == 1 else f"the sum of {', '.join(names)}"
        _serve(stores, address, (settings, allowed_host or [], shown), stop)


@contextmanager
def _opened(names: list[str]) -> Iterator["Stores"]:
    """The store; or several, once it is proved that their counts can be added."""
    from uniqdb_cli.web.stores import OneStore, SumOfStores

    with ExitStack() as stack:
        if len(names) == 1:
            yield OneStore(stack.enter_context(open_reader(names[0])))
            return
        from uniqdb_cli.web.proofs import Proofs, prove

        with progress_line("Comparing visitors.") as show, tempfile.TemporaryDirectory(prefix="uniqdb-sum-") as folder:
            if show is not None:
                show(", ".join(names), 0)
            uids = prove(names, folder)
        yield SumOfStores([stack.enter_context(open_reader(name)) for name in names], Proofs(names, uids, say))


def _serve(stores: "Stores", address: Address, asked: tuple[Settings, list[str], str], stop: StopRequest) -> None:
    from uniqdb_cli.web.app import application
    from uniqdb_cli.web.assets import load_assets
    from uniqdb_cli.web.gate import Rules, names_of, read_token
    from uniqdb_cli.web.reader import StoreReader
    from uniqdb_cli.web.server import listening, serve

    settings, more_names, shown = asked
    token = None if settings.http_token_file is None else read_token(Path(settings.http_token_file))
    with listening(address) as (listener, taken):
        manager, reader = ServiceManager(), StoreReader(stores)
        app = application(reader, load_assets(), Rules(names_of(taken, more_names), token))
        say(f"The page is at http://{taken.text}/ and shows {shown}. Ctrl-C ends it.")
        reader.warm_up()
        manager.ready(f"serving http://{taken.text}/")

        def should_stop() -> bool:
            is_stopping = stop.is_made()
            if not is_stopping:
                reader.keep_up()
            manager.alive(f"serving http://{taken.text}/", is_stopping=is_stopping)
            return is_stopping

        try:
            serve(app, listener, should_stop)
        finally:
            reader.close()


def _assert_packages() -> None:
    import importlib.util

    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the page needs packages that are not there: {', '.join(missing)}",
            hint="run python -m pip install uniqdb[http]",
        )


def _assert_allowed(address: Address, settings: Settings, *, allow_remote: bool) -> None:
    if address.is_loopback:
        return
    if not allow_remote:
        raise UsageError(
            f"at {address.text} other machines could read the counts", hint="give --allow-remote if they may"
        )
    if settings.http_token_file is None:
        raise UsageError("other machines are let in only with a token", hint="name a file with one: --token-file FILE")
