"""Every error uniqdb raises on purpose, in one tree, each with its cause and its remedy.

::

    UniqdbError                     exit code
    ├── UsageError                   2   the call or the command line is wrong
    │   └── HandleClosed             2   the handle was closed, is read-only, or crossed a fork
    ├── InputRefused                65   the input is not what it was said to be
    │   ├── TopicRecreated          65   a topic of the same name, but another one than was read
    │   ├── OtherCluster            65   a Kafka cluster other than the one that was read
    │   ├── OffsetsLost             65   Kafka no longer has the records at the stored position
    │   ├── PartitionsChanged       65   a topic that is counted in shards was given more partitions
    │   ├── SharedVisitors          65   stores whose counts were to be added have visitors in common
    │   └── ForeignOutput           65   an output topic holds records that are not this store's
    ├── NotFound                    66   no such input, no store, no visits to answer from
    ├── KafkaUnreachable            69   no broker answers, or refuses to talk to us
    │   ├── TopicMissing            69   the broker answers, but has no such topic
    │   └── NotPublished            69   a transaction was undone; the same records may be published again
    ├── NoLocalBroker               69   a broker of our own cannot be brought up on this machine
    ├── NotFetched                  69   jars or packages are neither in the cache nor to be had from the network
    ├── WindowNotKept               70   a bucket that the answer needs was swept or lost
    ├── PlatformUnsupported         71   this operating system has not what a store needs
    ├── CannotWrite                 73   a directory, file or disk refused the write
    │   ├── CommitFailed            73   a transaction was undone; nothing of it is stored
    │   └── PublishRefused          73   Kafka refuses the records for good, as too large or for want of a right
    ├── StoreCorrupt                74   a checksum, a directory or an invariant does not hold
    │   └── FormatUnsupported       74   the store was written by another format version
    └── StoreBusy                   75   another process is the store's writer
        └── PublisherFenced         75   another process has begun to publish for the store

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


class TopicRecreated(InputRefused):
    """The topic was deleted and made anew: the stored offsets mean other records there."""


class OtherCluster(InputRefused):
    """The broker belongs to another Kafka cluster than the one whose positions are stored."""


class OffsetsLost(InputRefused):
    """The records at a stored offset are gone: retention, deleted records, or a topic that was cut back.

    ``partition``, the ``expected`` next offset, and the range that Kafka has now: ``first`` (inclusive) to ``end``
    (exclusive).
    """

    def __init__(self, topic: str, partition: int, expected: int, kept: tuple[int, int]) -> None:
        self.topic, self.partition, self.expected = topic, partition, expected
        self.first, self.end = kept
        super().__init__(
            f"topic {topic}, partition {partition}: offset {expected:,} is to be read next, but Kafka has "
            f"{self.first:,} to {self.end:,}",
            hint="--accept-lost-offsets goes on with what is there, and records the gap",
        )


class PartitionsChanged(InputRefused):
    """The topic has another number of partitions than when its shards were begun: a uid may be in another one now."""


class SharedVisitors(InputRefused):
    """Some visitors are in more than one of the stores: the sum would count them more than once."""


class ForeignOutput(InputRefused):
    """An output topic holds records of another store, or of something else: ours would mix with them."""


class NotFound(UniqdbError):
    """There is no such input or store, or the store has no visits to answer from."""

    exit_code = 66


class KafkaUnreachable(UniqdbError):
    """No broker answers in time, or the brokers refuse to talk to us (authentication, encryption)."""

    exit_code = 69


class TopicMissing(KafkaUnreachable):
    """The broker answers, but has no such topic. uniqdb never makes a topic that it is to read."""


class NotPublished(KafkaUnreachable):
    """A transaction was undone: nothing of it can be read. Publishing the same records again is right."""


class NoLocalBroker(UniqdbError):
    """A Kafka broker of our own cannot be brought up: its packages cannot be fetched, or it does not start."""

    exit_code = 69


class NotFetched(UniqdbError):
    """What a program of ours needs is not in the cache, and cannot be fetched from the network."""

    exit_code = 69


class WindowNotKept(UniqdbError):
    """The answer needs a bucket that was swept, or lost to damage; a number would be wrong."""

    exit_code = 70


class PlatformUnsupported(UniqdbError):
    """The operating system has not what a store needs: locks and signals as POSIX has them."""

    exit_code = 71


class CannotWrite(UniqdbError):
    """A directory, a file or the disk refused the write."""

    exit_code = 73


class CommitFailed(CannotWrite):
    """A transaction was undone as a whole. The visits of the batch are still pending in the handle."""


class PublishRefused(CannotWrite):
    """Kafka refuses the records, and will again: too large, no right to write, no such topic."""


class StoreCorrupt(UniqdbError):
    """A checksum, a directory or an invariant does not hold. No number is returned from damaged data."""

    exit_code = 74


class FormatUnsupported(StoreCorrupt):
    """The store was written in a format version that this version of uniqdb does not read."""


class StoreBusy(UniqdbError):
    """Another process holds the store's WRITER lock; the message names its process id."""

    exit_code = 75


class PublisherFenced(StoreBusy):
    """Another process has begun to publish for this store; what we send is no longer accepted."""
