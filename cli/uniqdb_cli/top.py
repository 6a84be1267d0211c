"""``uniqdb top``: a store and its service, live."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from uniqdb_cli.address import parse_address
from uniqdb_cli.output import is_terminal
from uniqdb_cli.reading import open_reader
from uniqdb_cli.settings import load_settings
from uniqdb_cli.stopping import stop_on_signals
from uniqdb_cli.words import ConfigOption, MetricsAddressOption, StoreOption

if TYPE_CHECKING:
    from uniqdb_cli.top_view import TopView

KEY_PAUSE_S = 0.1
IntervalOption = Annotated[
    float, typer.Option("--interval", min=0.1, max=3_600, metavar="SECONDS", help="How often to look.")
]
OnceOption = Annotated[bool, typer.Option("--once", help="Look once and print it, as in a pipe.")]


def top(
    interval: IntervalOption = 1.0,
    once: OnceOption = False,
    store: StoreOption = None,
    metrics_address: MetricsAddressOption = None,
    config: ConfigOption = None,
) -> None:
    """Watch a store, live.

    Reads it as any reader does, whoever writes it. With the address of a service's metrics it shows lag and latencies,
    too. q, Ctrl-C or SIGTERM ends it. Without a terminal it looks once.

    \b
      uniqdb top
      uniqdb top --metrics-address 127.0.0.1:9464
      uniqdb top --once
    """
    from uniqdb_cli.top_view import TopView

    settings = load_settings(config, store=store, metrics_address=metrics_address)
    address = None if settings.metrics_address is None else parse_address(settings.metrics_address)
    with open_reader(settings.store) as engine:
        view = TopView(engine, address)
        if once or not is_terminal(sys.stdout):
            _print(view)
            return
        with stop_on_signals() as stop:
            _watch(view, interval, stop.is_made)


def _print(view: "TopView") -> None:
    """As wide as it needs to be: nothing is cut off."""
    from rich.console import Console
    from rich.measure import Measurement

    frame = view.frame()
    console = Console(highlight=False, markup=False, emoji=False)
    needed = Measurement.get(console, console.options.update(width=10_000), frame).maximum
    console = Console(highlight=False, markup=False, emoji=False, width=max(console.width, needed))
    with console.capture() as captured:
        console.print(frame)
    sys.stdout.write("\n".join(line.rstrip() for line in captured.get().splitlines()).rstrip() + "\n")


def _watch(view: "TopView", interval_s: float, should_stop: Callable[[], bool]) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False, markup=False, emoji=False)
    with _keys() as key, Live(view.frame(), console=console, screen=True, auto_refresh=False) as live:
        shown_at_s = time.monotonic()
        while not should_stop() and key() not in ("q", "Q", "\x03"):
            if time.monotonic() - shown_at_s >= interval_s:
                live.update(view.frame(), refresh=True)
                shown_at_s = time.monotonic()


@contextmanager
def _keys() -> Iterator[Callable[[], str]]:
    """A function that waits a moment for a key and returns it, or an empty text."""
    if not is_terminal(sys.stdin):

        def wait() -> str:
            time.sleep(KEY_PAUSE_S)
            return ""

        yield wait
        return
    import os
    import select
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def read() -> str:
        ready, _, _ = select.select([descriptor], [], [], KEY_PAUSE_S)
        return os.read(descriptor, 1).decode("latin-1") if ready else ""

    try:
        tty.setcbreak(descriptor)  # keys come at once; Ctrl-C is still a signal
        yield read
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
