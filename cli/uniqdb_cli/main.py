"""The ``uniqdb`` command: its commands, and how each way to fail ends."""

import errno
import gc
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from uniqdb import __version__
from uniqdb.errors import CannotWrite, UniqdbError
from uniqdb.platforms import assert_supported
from uniqdb_cli.backup import backup
from uniqdb_cli.check import check
from uniqdb_cli.clock import clock_app
from uniqdb_cli.cohorts import cohorts
from uniqdb_cli.compact import compact
from uniqdb_cli.completion import completion, prepare_completion
from uniqdb_cli.config import config_app
from uniqdb_cli.demo import demo
from uniqdb_cli.dev_broker import dev_broker_app
from uniqdb_cli.dump import dump
from uniqdb_cli.exists import exists
from uniqdb_cli.export import export_app
from uniqdb_cli.forget import forget
from uniqdb_cli.generate import generate
from uniqdb_cli.info import info
from uniqdb_cli.ingest import ingest
from uniqdb_cli.init import init
from uniqdb_cli.load import load
from uniqdb_cli.members import members
from uniqdb_cli.merge import merge
from uniqdb_cli.migrate import migrate
from uniqdb_cli.output import discard_stdout, error_line, say
from uniqdb_cli.produce import produce
from uniqdb_cli.publish_trailing import publish_trailing
from uniqdb_cli.quarantine import quarantine_app
from uniqdb_cli.query import query
from uniqdb_cli.restore import restore
from uniqdb_cli.serve_http import serve_http
from uniqdb_cli.serve_stream import serve_stream
from uniqdb_cli.stickiness import stickiness
from uniqdb_cli.subscribe import subscribe
from uniqdb_cli.sum import sum_stores
from uniqdb_cli.sweep import sweep
from uniqdb_cli.top import top
from uniqdb_cli.topics import topics_app
from uniqdb_cli.verify import verify

INTERRUPTED = 130
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class Commands(TyperGroup):
    """The commands, with one end for every error that is not a bug: a line on standard error and its exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
            return result
        except UniqdbError as error:
            return _end(error)
        except BrokenPipeError:
            # The reader (`| head`) has seen enough.
            discard_stdout()
            raise typer.Exit(0) from None
        except KeyboardInterrupt:
            say("uniqdb: interrupted.")
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise
            discard_stdout()
            return _end(CannotWrite(f"cannot write: {error.strerror}", hint="check the space on the disk"))


def _end(error: UniqdbError) -> None:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:  # there is worse to say
        discard_stdout()
    say(error_line(error))
    raise typer.Exit(error.exit_code)


# Plain help: rich's would take as long to load as all the rest, and help must come at once.
app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for command in (
    init,
    ingest,
    query,
    cohorts,
    stickiness,
    exists,
    members,
    info,
    top,
    check,
    verify,
    generate,
    demo,
    completion,
):
    app.command()(command)
app.command("serve-stream")(serve_stream)
app.command("publish-trailing")(publish_trailing)
app.command("serve-http")(serve_http)
app.command()(sweep)
app.command()(forget)
app.command()(compact)
app.command()(migrate)
app.command()(backup)
app.command()(restore)
app.command()(dump)
app.command()(load)
app.command()(merge)
app.command("sum")(sum_stores)
app.add_typer(export_app, name="export")
app.command()(produce)
app.command()(subscribe)
app.add_typer(topics_app, name="topics")
app.add_typer(dev_broker_app, name="dev-broker")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(clock_app, name="clock")
app.add_typer(config_app, name="config")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"uniqdb {__version__}")
        raise typer.Exit()


@app.callback()
def commands(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Exact unique visitors for any time window.

    \b
      uniqdb ingest visits.jsonl            count a file of JSON lines
      uniqdb query --window 30d             different visitors of the last 30 days
      uniqdb query --by day                 ... of each day
      uniqdb query --window 30d --new       ... of whom had not been seen before
      uniqdb exists fbfcbfc80d60cb19266     was this visitor here?
      uniqdb members --period 2016-07-11    who was here
      uniqdb verify --against visits.jsonl  is every count what the file says?

    The store is ./visits.uniqdb unless --store, UNIQDB_STORE or the settings file names another.

    Exit codes: 0 fine, 1 "no" (exists, verify, forget), 2 usage, 65 input refused, 66 no such input or store, 70 a
    bucket that was swept or lost is needed, 71 not on this system, 73 cannot write, 74 the store is damaged, 75 another
    process writes, 130 and 143 interrupted.
    """


def _replace_closed_streams() -> None:
    """A stream that was closed (``>&-``) is as good as none: nothing comes from it and nothing arrives.

    Otherwise the store's files would get its number, and an error would be printed among the answers.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open until the end


def run(platform: str = sys.platform) -> None:
    """Entry point of the ``uniqdb`` script."""
    _replace_closed_streams()
    try:
        assert_supported(platform)
    except UniqdbError as error:
        say(error_line(error))
        sys.exit(error.exit_code)
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's encoding lacks is escaped; a name must not end a command.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    prepare_completion()
    # Nothing here does linear algebra; its threads would look for some for a tenth of a second.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        app(prog_name="uniqdb")
    finally:
        gc.freeze()  # the process ends: to look for garbage among all that was loaded would take 30 ms
