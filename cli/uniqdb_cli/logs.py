"""What a service says on standard error: lines for people, or one JSON object in each line for programs.

No line holds a uid or a part of a record; what comes from outside (Kafka's words) is escaped.
"""

import datetime
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from uniqdb.errors import UniqdbError
from uniqdb_cli.output import json_text, say
from uniqdb_cli.words import LogFormat


class Log:
    """Writes in one of the formats."""

    def __init__(self, form: str) -> None:
        """``form``: a word of `LogFormat`."""
        self.is_json = form == LogFormat.JSON

    def tell(self, event: str, message: str, **fields: object) -> None:
        """All is well. ``fields`` are the figures of the message, for programs."""
        self._write("info", event, message, fields)

    def trouble(self, message: str) -> None:
        """What the service tells of Kafka: it goes on, but somebody may want to look."""
        self._write("warning", "kafka", message, {})

    def _write(self, level: str, event: str, message: str, fields: dict[str, object]) -> None:
        if not self.is_json:
            say(message)
            return
        import msgspec

        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = {"time": now, "level": level, "event": event, "message": json_text(message), **fields}
        print(msgspec.json.encode(line).decode(), file=sys.stderr, flush=True)

    @contextmanager
    def ends_with_errors(self) -> Iterator[None]:
        """Whatever ends the block for a reason of its own is told in the format of the log; exit code as ever."""
        try:
            yield
        except UniqdbError as error:
            if not self.is_json:
                raise
            how = {"kind": type(error).__name__, "hint": json_text(error.hint), "exit_code": error.exit_code}
            self._write("error", "failed", error.message, how)
            raise typer.Exit(error.exit_code) from None
