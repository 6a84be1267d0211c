"""Where a record holds its event time and its uid. Imports nothing that takes long to load."""

from dataclasses import dataclass

from uniqdb.errors import UsageError
from uniqdb.limits import LINE_BYTES_LIMIT, LINE_BYTES_MAX

UNITS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""How many of a unit of event time make a second."""


@dataclass(frozen=True, slots=True)
class FieldSettings:
    """Where a record holds its event time and its uid. Changes results; stored with each source.

    ``ts_unit`` is ``s``, ``ms``, ``us``, ``ns`` or ``iso8601``. A field is a literal top-level key, else a dotted path.
    A record of more than ``line_bytes_max`` bytes is refused undecoded.
    """

    ts_field: str = "ts"
    uid_field: str = "uid"
    ts_unit: str = "s"
    line_bytes_max: int = LINE_BYTES_MAX

    def __post_init__(self) -> None:
        if self.ts_unit not in UNITS_PER_S and self.ts_unit != "iso8601":
            raise UsageError(f"unknown time unit {self.ts_unit!r}", hint="use one of s, ms, us, ns, iso8601")
        if not self.ts_field or not self.uid_field or self.ts_field == self.uid_field:
            raise UsageError(
                "the time field and the uid field must be two different names",
                hint="give --ts-field and --uid-field",
            )
        if not 1 <= self.line_bytes_max <= LINE_BYTES_LIMIT:
            raise UsageError(
                f"records of at most {self.line_bytes_max:,} bytes", hint=f"give 1 to {LINE_BYTES_LIMIT:,} bytes"
            )


DEFAULT_FIELDS = FieldSettings()
"""``ts`` in seconds, and ``uid``."""
