"""uniqdb counts different visitors exactly: per minute, hour, day, ISO week, month, year and trailing window, on disk.

A *visit* is an event time and a *uid*; a *bucket* is one calendar interval in the store's time zone; a *window* is any
other interval. One commit writes the sets, the new uids and the positions of the sources together or not at all.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from uniqdb.answers import UidSet
    from uniqdb.creation import create
    from uniqdb.engine import Engine, open
    from uniqdb.errors import (
        CannotWrite,
        CommitFailed,
        ForeignOutput,
        FormatUnsupported,
        HandleClosed,
        InputRefused,
        KafkaUnreachable,
        NoLocalBroker,
        NotFetched,
        NotFound,
        NotPublished,
        OffsetsLost,
        OtherCluster,
        PartitionsChanged,
        PublisherFenced,
        PublishRefused,
        SharedVisitors,
        StoreBusy,
        StoreCorrupt,
        TopicMissing,
        TopicRecreated,
        UniqdbError,
        UsageError,
        WindowNotKept,
    )
    from uniqdb.granularity import Granularity
    from uniqdb.options import CacheSizes, CommitRule, DictionarySizes, OpenOptions
    from uniqdb.reading import Snapshot
    from uniqdb.record import CountRecord
    from uniqdb.visit import Verdict

__all__ = [
    "CacheSizes",
    "CannotWrite",
    "CommitFailed",
    "CommitRule",
    "CountRecord",
    "DictionarySizes",
    "Engine",
    "ForeignOutput",
    "FormatUnsupported",
    "Granularity",
    "HandleClosed",
    "InputRefused",
    "KafkaUnreachable",
    "NoLocalBroker",
    "NotFetched",
    "NotFound",
    "NotPublished",
    "OffsetsLost",
    "OpenOptions",
    "OtherCluster",
    "PartitionsChanged",
    "PublishRefused",
    "PublisherFenced",
    "SharedVisitors",
    "Snapshot",
    "StoreBusy",
    "StoreCorrupt",
    "TopicMissing",
    "TopicRecreated",
    "UidSet",
    "UniqdbError",
    "UsageError",
    "Verdict",
    "WindowNotKept",
    "create",
    "open",
]

_HOMES = {
    "CacheSizes": "options",
    "CommitRule": "options",
    "CountRecord": "record",
    "DictionarySizes": "options",
    "Engine": "engine",
    "Granularity": "granularity",
    "OpenOptions": "options",
    "Snapshot": "reading",
    "UidSet": "answers",
    "Verdict": "visit",
    "create": "creation",
    "open": "engine",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use: the command line's ``--help`` must not import numpy and LMDB."""
    if name not in __all__:
        raise AttributeError(f"module 'uniqdb' has no attribute {name!r}")
    value: object = getattr(_import_module(f"uniqdb.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value
