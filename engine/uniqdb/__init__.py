"""uniqdb counts different visitors exactly: per minute, hour, day, ISO week, month, year and trailing window, on disk.

A *visit* is an event time and a *uid*; a *bucket* is one calendar interval in the store's time zone; a *window* is any
other interval. One commit writes the sets, the new uids and the positions of the sources together or not at all.
"""

import sys as _sys
from importlib import import_module as _import_module

__version__ = "0.1.0"

TYPE_CHECKING = False  # of `typing`: see `__getattr__`
if TYPE_CHECKING:
    from uniqdb.cohorts import Cohorts
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
        PlatformUnsupported,
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
    from uniqdb.field_settings import FieldSettings
    from uniqdb.granularity import Granularity
    from uniqdb.options import CacheSizes, CommitRule, DictionarySizes, OpenOptions
    from uniqdb.record import CountRecord
    from uniqdb.snapshot import Snapshot
    from uniqdb.stickiness import Stickiness
    from uniqdb.stream.ingest_options import IngestOptions, IngestSummary
    from uniqdb.stream.ingesting import ingest
    from uniqdb.uid_set import UidSet
    from uniqdb.visit import Verdict
    from uniqdb.visitor_questions import NewAndReturning, Overlap

__all__ = [
    "CacheSizes",
    "CannotWrite",
    "Cohorts",
    "CommitFailed",
    "CommitRule",
    "CountRecord",
    "DictionarySizes",
    "Engine",
    "FieldSettings",
    "ForeignOutput",
    "FormatUnsupported",
    "Granularity",
    "HandleClosed",
    "IngestOptions",
    "IngestSummary",
    "InputRefused",
    "KafkaUnreachable",
    "NewAndReturning",
    "NoLocalBroker",
    "NotFetched",
    "NotFound",
    "NotPublished",
    "OffsetsLost",
    "OpenOptions",
    "OtherCluster",
    "Overlap",
    "PartitionsChanged",
    "PlatformUnsupported",
    "PublishRefused",
    "PublisherFenced",
    "SharedVisitors",
    "Snapshot",
    "Stickiness",
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
    "ingest",
    "open",
]

_HOMES = {
    "CacheSizes": "options",
    "Cohorts": "cohorts",
    "CommitRule": "options",
    "CountRecord": "record",
    "DictionarySizes": "options",
    "Engine": "engine",
    "FieldSettings": "field_settings",
    "Granularity": "granularity",
    "IngestOptions": "stream.ingest_options",
    "IngestSummary": "stream.ingest_options",
    "NewAndReturning": "visitor_questions",
    "OpenOptions": "options",
    "Overlap": "visitor_questions",
    "Snapshot": "snapshot",
    "Stickiness": "stickiness",
    "UidSet": "uid_set",
    "Verdict": "visit",
    "create": "creation",
    "ingest": "stream.ingesting",
    "open": "engine",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use: the command line's ``--help`` must not import numpy and LMDB."""
    if name not in __all__:
        raise AttributeError(f"module 'uniqdb' has no attribute {name!r}")
    home = _HOMES.get(name, "errors")
    if home != "errors":
        _import_module("uniqdb.platforms").assert_supported(_sys.platform)
    value: object = getattr(_import_module(f"uniqdb.{home}"), name)
    globals()[name] = value
    return value
