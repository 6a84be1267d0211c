"""The stream that an export is written to."""

import io
from typing import Any, BinaryIO

import typer

from uniqdb_cli.output import say
from uniqdb_cli.stopping import StopRequest


class Out(io.RawIOBase):
    """A stream that counts its bytes, so that a position can be asked for on a pipe, too; and where a run is stopped.

    A signal only asks to stop. It is looked at where something is written, so that no half-made file escapes tidying.
    """

    def __init__(self, stream: BinaryIO, stop: StopRequest) -> None:
        self._stream, self._stop = stream, stop
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def discard(self) -> None:
        """What is written from now on goes nowhere."""
        self._stream, self._stop = io.BytesIO(), StopRequest()

    def write(self, data: Any) -> int:
        if self._stop.is_made():
            exit_code = self._stop.exit_code
            self.discard()  # what is flushed on the way out
            say("uniqdb: interrupted.")
            raise typer.Exit(exit_code)
        self._stream.write(data)
        size_bytes = memoryview(data).nbytes
        self.size_bytes += size_bytes
        return size_bytes

    def tell(self) -> int:
        return self.size_bytes
