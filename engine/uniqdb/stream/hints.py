"""What to tell a user whose input holds no visit: the keys that were seen, and the flags to try, ready to be typed."""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from uniqdb.errors import InputRefused
from uniqdb.field_settings import FieldSettings
from uniqdb.limits import EVENT_TIME_S_MAX, EVENT_TIME_S_MIN
from uniqdb.quarantine import Quarantined

_KEYS_SHOWN = 12
_EXAMINED = 100
_DEPTH = 3
_TIME_WORDS = ("ts", "time", "timestamp", "datetime", "date", "at", "when", "epoch")
_UID_WORDS = ("uid", "user_id", "userid", "user", "visitor_id", "visitor", "id", "client_id", "cookie")


def explain_no_visit(source: str, refused: Sequence[Quarantined], fields: FieldSettings) -> InputRefused:
    """The error for an input whose first records hold no visit."""
    reasons = Counter(one.reason for one in refused).most_common(3)
    cause = ", ".join(f"{reason} {count:,}" for reason, count in reasons)
    message = f"{source} holds no visit in its first {len(refused):,} records ({cause})"
    records = [dict(_leaves(record, "", _DEPTH)) for record in _objects(refused)]
    if not records:
        return InputRefused(message, hint="uniqdb reads one JSON object per line; nothing was stored")
    keys = Counter(key for record in records for key in record)
    seen = ", ".join(_printable(key) for key, _ in keys.most_common(_KEYS_SHOWN))
    return InputRefused(message, hint=f"keys seen: {seen}; {_advice(records, keys, fields)}; nothing was stored")


def _objects(refused: Sequence[Quarantined]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for one in refused[:_EXAMINED]:
        try:
            record = msgspec.json.decode(one.record)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def _leaves(record: dict[str, object], above: str, depth: int) -> Iterator[tuple[str, object]]:
    """The keys as `--ts-field` takes them: those of objects within objects with dots."""
    for key, value in record.items():
        if isinstance(value, dict) and value and depth > 1:
            yield from _leaves(value, f"{above}{key}.", depth - 1)
        else:
            yield above + key, value


def _advice(records: list[dict[str, object]], keys: Counter[str], fields: FieldSettings) -> str:
    """What is odd, then all flags to try in one piece, then what only the user can know."""
    flags: list[str] = []
    unknown: list[str] = []
    ts_field: str | None = fields.ts_field
    if fields.ts_field not in keys:
        ts_field = _likely(keys, _TIME_WORDS)
        if ts_field is None:
            unknown.append("name the time with --ts-field")
        else:
            flags.append(f"--ts-field {shlex.quote(ts_field)}")
    unit, why = _unit([record[ts_field] for record in records if ts_field in record], fields) if ts_field else ("", "")
    if unit:
        flags.append(f"--ts-unit {unit}")
    if fields.uid_field not in keys:
        uid_field = _likely(keys, _UID_WORDS)
        if uid_field is None:
            unknown.append("name the uid with --uid-field")
        else:
            flags.append(f"--uid-field {shlex.quote(uid_field)}")
    tried = [f"{why}try {' '.join(flags)}"] if flags else []
    return "; ".join([*tried, *unknown]) or "check the values of the time and the uid"


def _likely(keys: Counter[str], words: Sequence[str]) -> str | None:
    """The key that is called by one of the words, the first of them first; one that can be typed as it is shown."""
    lowered = {key.lower().replace(".", "_"): key for key in keys if _printable(key) == key}
    for word in words:
        if word in lowered:
            return lowered[word]
    # `created_at` and `site_user`; but `page_id` is no visitor's.
    for word in (word for word in words if word != "id"):
        for name, key in lowered.items():
            if name.endswith(f"_{word}"):
                return key
    return next((lowered[key] for word in words[:3] for key in lowered if word in key), None)


def _unit(values: Sequence[object], fields: FieldSettings) -> tuple[str, str]:
    """Another unit than the one that was used, if the values look like it, and why; else two empty texts."""
    numbers = [number for value in values if (number := _number(value)) is not None]
    if numbers:
        middle = sorted(numbers)[len(numbers) // 2]
        for unit, per_s, words in (
            ("s", 1, "seconds"),
            ("ms", 10**3, "milliseconds"),
            ("us", 10**6, "microseconds"),
            ("ns", 10**9, "nanoseconds"),
        ):
            if EVENT_TIME_S_MIN <= middle / per_s < EVENT_TIME_S_MAX // 40 and unit != fields.ts_unit:
                return unit, f"values around {middle:.2g} look like {words}: "
    texts = [value for value in values if isinstance(value, str)]
    if texts and fields.ts_unit != "iso8601" and texts[0][:4].isdigit() and "-" in texts[0]:
        return "iso8601", f"values like {_printable(texts[0])} look like ISO 8601: "
    return "", ""


def _number(value: object) -> float | None:
    """The number that a value is, or, as text, holds."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _printable(text: str) -> str:
    """Control characters of the input must not reach a terminal."""
    shown = "".join(char if char.isprintable() else "?" for char in text)
    return shown[:40]
