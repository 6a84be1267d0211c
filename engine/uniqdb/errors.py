"""Every error uniqdb raises on purpose, in one tree, each with its cause and its remedy.

::

    UniqdbError                     exit code
    ├── UsageError                   2   the call or the command line is wrong
    │   └── HandleClosed             2   the handle was closed, is read-only, or crossed a fork
    ├── InputRefused                65   the input is not what it was said to be
    ├── NotFound                    66   no such input, no store, no visits to answer from
    ├── WindowNotKept               70   a bucket that the answer needs was swept
    ├── CannotWrite                 73   a directory, file or disk refused the write
    │   └── CommitFailed            73   a transaction was undone; nothing of it is stored
    ├── StoreCorrupt                74   a checksum, a directory or an invariant does not hold
    │   └── FormatUnsupported       74   the store was written by another format version
    └── StoreBusy                   75   another process is the store's writer

The message is one line that says what is wrong; ``hint`` is one line that says what to do.
"""


class UniqdbError(Exception):
    """Root of the tree. ``exit_code`` is what the command line ends with."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})"


class UsageError(UniqdbError):
    """The call or the command line is wrong: an unknown option, a window that cannot be read, another zone."""

    exit_code = 2


class HandleClosed(UsageError):
    """The handle cannot do this: it was closed, opened read-only, or inherited through a fork."""


class InputRefused(UniqdbError):
    """The input was read but is refused as a whole: no visit in it, changed under us, other field settings."""

    exit_code = 65


class NotFound(UniqdbError):
    """There is no such input or store, or the store has no visits to answer from."""

    exit_code = 66


class WindowNotKept(UniqdbError):
    """The answer needs the members of a bucket that was swept; a number would be wrong."""

    exit_code = 70


class CannotWrite(UniqdbError):
    """A directory, a file or the disk refused the write."""

    exit_code = 73


class CommitFailed(CannotWrite):
    """A transaction was undone as a whole. The visits of the batch are still pending in the handle."""


class StoreCorrupt(UniqdbError):
    """A checksum, a directory or an invariant does not hold. No number is returned from damaged data."""

    exit_code = 74


class FormatUnsupported(StoreCorrupt):
    """The store was written in a format version that this version of uniqdb does not read."""


class StoreBusy(UniqdbError):
    """Another process holds the store's WRITER lock; the message names its process id."""

    exit_code = 75
