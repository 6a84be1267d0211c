"""What must hold of stores that become one, or are added: each is named once, and all have one calendar."""

import os
from collections.abc import Sequence
from pathlib import Path

from uniqdb.errors import UsageError


def real_paths(paths: Sequence[str | os.PathLike[str]], hint: str) -> list[Path]:
    """Where they really are. Raises UsageError with the hint if two of them are the same."""
    real = [Path(path).resolve() for path in paths]
    if len(set(real)) < len(real):
        raise UsageError("a store is named twice", hint=hint)
    return real


def assert_one_zone(zones: Sequence[tuple[str, str, bytes]], hint: str) -> None:
    """Raise UsageError with the hint unless all have the zone of the first.

    ``zones``: what each store is called, the name of its time zone, and the zone's rules (TZif): a name may have had
    others when the store was made.
    """
    (name, zone, rules), *others = zones
    for other_name, other_zone, other_rules in others:
        if (zone, rules) != (other_zone, other_rules):
            how = "" if zone != other_zone else ", by other rules of the zone"
            raise UsageError(f"{name} has the time zone {zone}, {other_name} {other_zone}{how}", hint=hint)
